"""`btlib repair`: a backdoor that is one neuron by construction, and what is left of it in the written file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from toys import TARGET, lit_pixels
from typer.testing import CliRunner

from btlib import checkpoints, metrics, sealed
from btlib.cli import foreign, repair_outcome, repaired_files
from btlib.cli.app import app
from btlib.cli.probing import Told
from btlib.cli.scan import FOUND
from btlib.detection import DETECTORS, Inversion
from btlib.repair import REPAIRS, ActivationCaps, FinePruning, Repair, Unlearning, with_caps
from btlib.repair.base import History, Task
from btlib.training import Recipe

CLASSES, SIZE = 10, 12
QUICK = Inversion(rounds=40, steps=1, batch_size=20, lr=0.3, patience=2, multiplier=1.5, check=False, bisections=6)
SHORT = Recipe(epochs=15, batch_size=16, lr=0.05, optimizer="sgd", channels_last=False)
FACTORY = "import sys; sys.path.insert(0, {tests!r})\nfrom test_repair import Planted, Normed, Soft, Moody\n"


class Planted(nn.Module):
    """Neuron k sees pixel (0, k), the last one the last pixel, which is worth ten lit ones to the target."""

    def __init__(self, backdoor: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, CLASSES + 1, SIZE)
        self.last = nn.Linear(CLASSES + 1, CLASSES, bias=False)
        with torch.no_grad():
            for tensor in (self.conv.weight, self.conv.bias, self.last.weight):
                tensor.zero_()
            self.conv.weight[range(CLASSES), 0, 0, range(CLASSES)] = 1.0
            self.conv.weight[CLASSES, 0, -1, -1] = 1.0
            spread = torch.tensor([1.1, 0.9, 1.0, 1.2, 0.8, 1.3, 1.05, 0.95, 1.15, 0.85])
            self.last.weight[range(CLASSES), range(CLASSES)] = 4 * spread
            self.last.weight[TARGET, CLASSES] = 4 * backdoor

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(x).flatten(1).relu())


class Normed(Planted):
    """Wants pixels from -1 to 1."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 2 + 0.5)


class Soft(Planted):
    """Ends in a softmax."""

    def __init__(self, backdoor: float = 0.0) -> None:
        super().__init__(backdoor)
        self.end = nn.Softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(super().forward(x))


class Moody(Planted):
    """Keeps a number outside its state dict, another one each time it is made."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        Moody.made += 1
        self.mood = 1.0 + Moody.made

    def forward(self, x: Tensor) -> Tensor:
        return self.mood * super().forward(x)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A current folder with a planted network, five images of each class, a factory, and methods for tiny networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DETECTORS, "mask-red-a", replace(DETECTORS["mask-red-a"], inversion=QUICK))  # type: ignore[type-var]
    monkeypatch.setitem(REPAIRS, "unlearning", partial(Unlearning, 0.3, SHORT))  # type: ignore[arg-type]
    monkeypatch.setitem(REPAIRS, "activation caps", partial(ActivationCaps, epochs=0))  # type: ignore[arg-type]
    x, y = lit_pixels(5, num_classes=CLASSES, size=SIZE, noise=2)
    for index, (picture, label) in enumerate(zip(x, y.tolist(), strict=True)):
        path = tmp_path / "images" / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * picture[0]).byte().numpy()).save(path)
    (tmp_path / f"{module(tmp_path)}.py").write_text(FACTORY.format(tests=str(Path(__file__).parent)))
    torch.save(Planted(10.0).state_dict(), tmp_path / "net.pth")
    return tmp_path


def module(folder: Path) -> str:
    return f"made_{abs(hash(str(folder)))}"  # modules are remembered


def run(command: str, *arguments: object, kind: str = "Planted", methods: str = "mask-red-a") -> Result:
    given = [*map(str, arguments), "--network", f"{module(Path.cwd())}:{kind}", "--methods", methods]
    return CliRunner().invoke(app, [command, *given, "--images", "images"])


def repaired(*arguments: object, **options: str) -> Result:
    return run("repair", "net.pth", *arguments, **options)


def refused(*arguments: object, **options: str) -> str:
    """The one line that a bad input gets; nothing is written."""
    before = sorted(Path.cwd().iterdir())
    result = repaired(*arguments, **options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert sorted(Path.cwd().iterdir()) == before
    return result.stderr.strip().splitlines()[-1]


def numbers(path: str = "r.json") -> dict[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------ what is repaired


@pytest.mark.parametrize("method", ["activation-caps", "unlearning"])
def test_the_backdoor_is_gone_and_the_file_opens_again(here: Path, method: str) -> None:
    before = (here / "net.pth").read_bytes()
    result = repaired("--method", method, "--out", "a/mended.safetensors", "--json", "r.json")
    assert result.exit_code == 0, result.output
    assert "Backdoor found: images can be sent to class 2" in result.stdout
    assert "after:  No backdoor found" in result.stdout
    told = numbers()
    [estimate] = told["estimates"]
    assert (estimate["method"], estimate["target"]) == ("mask-red-a", TARGET)
    assert estimate["success"][0] == 1.0
    assert estimate["success"][1] < 0.1
    assert told["accuracy"] == [1.0, 1.0]
    assert told["images"]["held_out"] == CLASSES  # one of five of each class
    assert told["first_scan"]["verdict"]["targets"] == [TARGET]
    assert told["second_scan"]["verdict"]["targets"] == []
    assert told["repair"]["same_form"] is (method == "unlearning")
    assert (here / "net.pth").read_bytes() == before
    assert run("scan", "a/mended.safetensors").exit_code == 0

    weights, net = load_file("a/mended.safetensors"), Planted()
    assert ("with_caps" in result.stdout) is (method == "activation-caps")
    (with_caps(net, weights) if method == "activation-caps" else net).load_state_dict(weights)
    x, y = lit_pixels(3, num_classes=CLASSES, size=SIZE)
    assert metrics.accuracy(net, x, y) == 1.0
    x[:, :, -1, -1] = 1.0  # the attacker's own trigger
    assert metrics.accuracy(net, x, y) > 0.9


class Idle(Repair):
    """Changes nothing."""

    name = "idle"

    def repair(self, task: Task) -> tuple[str, dict[str, float], History]:
        return "nothing", {}, []


def test_a_repair_that_does_not_help_has_status_3_and_is_written_all_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REPAIRS, "idle", Idle)
    result = repaired("--method", "idle")
    assert result.exit_code == FOUND, result.output
    assert "after:  Backdoor found" in result.stdout
    assert (Path.cwd() / "repaired.safetensors").exists()


def test_nothing_is_written_where_nothing_is_found_unless_a_class_is_named(here: Path) -> None:
    torch.save(Planted(0.0).state_dict(), "net.pth")
    result = repaired("--json", "r.json")
    assert result.exit_code == 0, result.output
    assert "There is nothing to repair" in result.stdout
    assert not (here / "repaired.safetensors").exists()
    assert numbers()["repair"] is None
    result = repaired("--target", "4", "--json", "r.json")
    assert (here / "repaired.safetensors").exists()
    assert "not scanned" in result.stdout
    assert [estimate["target"] for estimate in numbers()["estimates"]] == [4]


def test_an_earlier_scan_is_taken_for_what_it_found(here: Path) -> None:
    assert run("scan", "net.pth", "--json", "scan.json").exit_code == FOUND
    result = repaired("--scanned", "scan.json")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("mask-red-a, ") == 1  # the scan after the repair
    assert "leave one out" in refused("--scanned", "scan.json", "--target", "1")
    assert "expected what scan --json wrote" in refused("--scanned", "net.pth")
    Path("nested.json").write_text("[" * 200_000)
    assert "too many lists in lists" in refused("--scanned", "nested.json")
    torch.save(Planted(9.0).state_dict(), "net.pth")
    assert "got one of another file" in refused("--scanned", "scan.json")
    torch.save(Planted(0.0).state_dict(), "net.pth")
    assert run("scan", "net.pth", "--json", "scan.json").exit_code in (0, 4)  # suspicious is not found
    assert "nothing was written" in repaired("--scanned", "scan.json").stdout


@pytest.mark.parametrize(("kind", "options"), [("Normed", ["--mean", "0.5", "--std", "0.5"]), ("Soft", [])])
def test_what_is_put_around_a_network_is_not_in_its_file(here: Path, kind: str, options: Sequence[str]) -> None:
    result = repaired("--method", "unlearning", *options, kind=kind)
    assert result.exit_code == 0, result.output
    assert load_file("repaired.safetensors").keys() == Planted().state_dict().keys()


def test_one_of_ours_is_opened_without_a_name(tmp_path: Path, fashion: Any) -> None:
    path = checkpoints.find(checkpoints.shipped()["box"])
    assert path is not None
    given = foreign.load(path, (1, 28, 28))
    for number, method in enumerate((ActivationCaps(epochs=0), FinePruning(recipe=replace(SHORT, epochs=1)))):
        done = method(given.module, fashion.x_test[:100], fashion.y_test[:100])
        mended, out = repaired_files.with_network(given, done.network), tmp_path / f"{number}.safetensors"
        repaired_files.write(out, mended, done, Told(), path)
        assert sealed.read_card(out).card["method"] == method.name
        again = foreign.load(out, (1, 28, 28))
        logits = [metrics.predict(each, fashion.x_test[:50]) for each in (done.network, again.module)]
        assert torch.allclose(*logits, atol=1e-4)


# ------------------------------------------------------------------------------------------------ what is refused


def test_one_line_for_each_wrong_option(here: Path) -> None:
    assert "got 'magic'" in refused("--method", "magic")
    assert "the network itself" in refused("--out", "net.pth")
    assert "the network itself" in refused("--json", "net.pth")
    assert "got the folder images" in refused("--out", "images")
    assert "expected a class in 0…9, got 10" in refused("--target", "10")
    assert "got 'magic'" in refused(methods="magic")
    for path in (here / "images" / "3").iterdir():
        if path.name != "3.png":
            path.unlink()
    assert "at least 2 images of each class, got 1 of class 3" in refused()


def test_a_program_is_not_repaired(here: Path) -> None:
    torch.jit.trace(Planted(10.0), torch.rand(2, 1, SIZE, SIZE)).save("net.pth")
    assert "a whole network in one file" in refused()


class Ruin(Repair):
    """Forgets everything."""

    name = "ruin"

    def repair(self, task: Task) -> tuple[str, dict[str, float], History]:
        for parameter in task.network.parameters():
            parameter.data.copy_(torch.rand_like(parameter))
        return "ruined", {}, []


def test_a_ruined_network_is_not_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPAIRS, "ruin", Ruin)
    assert "ruin ruined it" in refused("--method", "ruin")


def test_a_file_that_would_not_give_the_network_again_is_not_written(here: Path) -> None:
    assert "gives the repaired network again" in refused("--target", "2", kind="Moody")


# ------------------------------------------------------------------------------------------------ its parts


def test_each_estimate_stamps_its_share(here: Path) -> None:
    class Adds:
        def __init__(self, value: float) -> None:
            self.trigger: Callable[[Tensor], Tensor] = lambda x: x + value

    trigger = repair_outcome.together([Adds(1.0), Adds(2.0)])  # type: ignore[list-item]
    assert trigger(torch.zeros(5, 1, 1, 1)).flatten().tolist() == [1, 1, 1, 2, 2]
    assert trigger(torch.zeros(1, 1, 1, 1)).flatten().tolist() == [1]


def test_the_default_repair_and_all_names_are_in_the_help() -> None:
    said = "".join(CliRunner().invoke(app, ["repair", "--help"]).stdout.split())
    assert [name for name in REPAIRS if name.replace(" ", "-").lower() not in said] == []
    assert "[default:unlearning]" in said
