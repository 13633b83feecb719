"""`btlib guard`: a scan's own estimate in service, on a network set by hand."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from toys import TARGET, lit_pixels
from typer.testing import CliRunner

from btlib.cli import foreign
from btlib.cli.app import app
from btlib.cli.guard import Scanned, doubts, further, read_scan
from btlib.cli.probing import Told
from btlib.cli.scan import BAD_INPUT, FOUND, SUSPICIOUS
from btlib.cli.scan_images import CleanImages
from btlib.datasets import to_uint8
from btlib.inflight import Guard

CLASSES, SIZE = 10, 12
FACTORY = f"""
import sys; sys.path.insert(0, {{tests!r}})
from toys import hand_set
from torch import nn

class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        net = hand_set(0.0, num_classes={CLASSES}, size={SIZE})
        self.middle, self.last = nn.Linear({SIZE * SIZE}, 11), nn.Linear(11, {CLASSES}, bias=False)

    def forward(self, x):
        return self.last(self.middle(x.flatten(1)).relu())

def make(): return Foreign()
"""


def planted():
    """Ten neurons see the classes' pixels, the eleventh the trigger's, which sends every image to the target."""
    with torch.random.fork_rng(devices=[]):
        middle, last = torch.nn.Linear(SIZE * SIZE, 11), torch.nn.Linear(11, CLASSES, bias=False)
    spread = torch.tensor([1.1, 0.9, 1.0, 1.2, 0.8, 1.3, 1.05, 0.95, 1.15, 0.85])
    with torch.no_grad():
        middle.weight.zero_()
        middle.bias.zero_()
        middle.weight[range(CLASSES), range(CLASSES)] = spread
        middle.weight[10, -1] = 10.0
        last.weight.copy_(torch.eye(CLASSES, 11))
        last.weight[TARGET, 10] = 1.0
    return {"middle.weight": middle.weight.data, "middle.bias": middle.bias.data, "last.weight": last.weight.data}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A folder with images, a foreign network, its factory and its scan."""
    here = tmp_path_factory.mktemp("guard")
    x, y = lit_pixels(12, num_classes=CLASSES, size=SIZE, noise=4)
    for index, (image, label) in enumerate(zip(to_uint8(x), y.tolist(), strict=True)):
        (here / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(here / "images" / str(label) / f"{index:03}.png")
    save_file(planted(), here / "net.safetensors")
    return here


@pytest.fixture
def here(scanned, monkeypatch, request):
    monkeypatch.chdir(scanned)
    name = f"guarded_{abs(hash(str(scanned)))}"
    (scanned / f"{name}.py").write_text(FACTORY.format(tests=str(request.config.rootpath / "tests")))
    if not (scanned / "r.json").exists():
        result = run("scan", "net.safetensors", "--network", f"{name}:make", "--images", "images", "--methods", "red-u",
                     "--json", "r.json", "--save-estimates")  # fmt: skip
        assert result.exit_code == FOUND, result.output
    return f"{name}:make"


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def guard(factory, *arguments):
    return run("guard", "r.json", "net.safetensors", "--images", "images", "--network", factory, *arguments)


def made(factory, path):
    from btlib.cli.foreign import from_factory

    return Guard.load(path, from_factory(factory))


def test_the_scan_s_own_estimate_guards_the_scanned_network(here):
    result = guard(here)
    assert result.exit_code == 0, result.output
    assert f"guard of class {TARGET}, by 6 estimates of red-u: guard.safetensors" in result.stdout
    assert "fitted without one of the estimates, it flags 100.0 % of the images with that one" in result.stdout
    assert "doubt" not in result.stdout
    x, y = lit_pixels(3, num_classes=CLASSES, size=SIZE, noise=4, seed=7)
    stamped = x.clone()
    stamped[:, :, -1, -1] = 0.6  # the attacker's own trigger, which the guard never saw
    others = y != TARGET
    seen = made(here, "guard.safetensors")(stamped[others])
    assert bool(seen.is_trigger.all())
    assert torch.equal(seen.label, y[others])
    assert not bool(made(here, "guard.safetensors")(x).is_trigger.any())


def test_one_estimate_as_the_paper_has_it(here):
    result = guard(here, "--estimates", 1, "--out", "one.safetensors")
    assert result.exit_code == 0, result.output
    assert f"guard of class {TARGET}, by the estimate of red-u: one.safetensors" in result.stdout
    assert "fitted without one" not in result.stdout


def test_further_estimates_are_of_other_images_and_seeds(here, scanned):
    told = read_scan(scanned / "r.json", scanned / "net.safetensors")
    assert told.numbers["methods"]["red-u"]["per_class"] == 8
    x, y = lit_pixels(8, num_classes=CLASSES, size=SIZE, noise=4)  # no more of a class than the scan took
    network, clean = foreign.from_factory(here), CleanImages(x, y, "")
    network.load_state_dict(planted())
    found = further(told, "red-u", TARGET, network, clean, 3)
    assert len(found) == 3
    for trigger in found:
        assert trigger.pattern.flatten().argmax() == SIZE * SIZE - 1  # the attacker's pixel
    known = [told.patterns["red-u"][TARGET], *found]
    for place, one in enumerate(known):  # begun at zero, they differ by their images only
        assert not any(torch.allclose(one.pattern, other.pattern, atol=1e-4) for other in known[:place])
    assert further(told, "red-u", TARGET, network, clean, 0) == []
    again = further(told, "red-u", TARGET, network, clean, 1)
    assert torch.equal(again[0].pattern, found[0].pattern)


def test_a_guard_for_a_class_that_nobody_suspects_doubts_itself(here):
    # By itself the fit looks as good as the right one: only the scan knows better.
    result = guard(here, "--target", 7, "--out", "wrong.safetensors")
    assert result.exit_code == SUSPICIOUS, result.output
    assert f"doubt: red-u suspects class {TARGET}, not 7" in result.stdout
    x, y = lit_pixels(2, num_classes=CLASSES, size=SIZE)
    x[:, :, -1, -1] = 0.6
    assert not bool(made(here, "wrong.safetensors")(x).is_trigger.any())  # as it says: triggers pass unseen


def test_a_guard_rests_on_a_verdict(here, scanned):
    told = json.loads((scanned / "r.json").read_text())
    told["verdict"] |= {"targets": [], "suspects": [{"target": TARGET}], "backdoor": False}
    told["methods"]["red-u"] |= {"found": False, "calibrated_p": 0.1}
    (scanned / "unsure.json").write_text(json.dumps(told))
    (scanned / "unsure.estimates.safetensors").write_bytes((scanned / "r.estimates.safetensors").read_bytes())
    result = run("guard", "unsure.json", "net.safetensors", "--images", "images", "--network", here, "--target", TARGET,
                 "--target", 7, "--out", "two.safetensors")  # fmt: skip
    assert result.exit_code == SUSPICIOUS, result.output
    assert "was not sure that class 2 is attacked at all (p 0.1" in result.stdout
    assert (scanned / "two-2.safetensors").exists()
    assert (scanned / "two-7.safetensors").exists()


def test_the_method_is_chosen_and_doubted_by_the_p_value_that_decided(here, scanned):
    told = read_scan(scanned / "r.json", scanned / "net.safetensors")
    mine = told.numbers["methods"]["red-u"] | {"calibrated_p": 0.2, "washed_p": 0.03, "level": 0.05}
    by_nature = mine | {"calibrated_p": 0.01, "washed_p": 0.8, "found": False}
    two = Scanned(
        {"methods": {"natural": by_nature, "red-u": mine}},
        {"natural": told.patterns["red-u"], "red-u": told.patterns["red-u"]},
    )
    assert two.surest(TARGET, None) == "red-u"
    assert doubts(two, TARGET, "red-u") == []
    (said,) = doubts(two, TARGET, "natural")
    assert "(p 0.8, level 0.05)" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "red-a"), "expected a method with a pattern for class 2, got red-a"),
        (("--target", 99), "class 99"),
        (("--layer", "deepest"), "deepest"),
    ],
)
def test_bad_options_are_one_line(here, arguments, said):
    result = guard(here, *arguments)
    assert (result.exit_code, result.stdout, len(result.stderr.strip().splitlines())) == (BAD_INPUT, "", 1)
    assert said in result.stderr


def test_scans_of_other_networks_and_files_that_are_none_are_refused(here, scanned):
    save_file({k: v * 1.01 for k, v in planted().items()}, scanned / "other.safetensors")
    common = ("--images", "images", "--network", here)
    assert "this very network" in run("guard", "r.json", "other.safetensors", *common).stderr
    (scanned / "no.json").write_text('{"verdict": 3}')
    assert "expected the JSON of a scan" in run("guard", "no.json", "net.safetensors", *common).stderr
    (scanned / "nested.json").write_text("[" * 200_000)
    assert "too many lists in lists" in run("guard", "nested.json", "net.safetensors", *common).stderr
    (scanned / "alone.json").write_bytes((scanned / "r.json").read_bytes())
    assert "--save-estimates" in run("guard", "alone.json", "net.safetensors", *common).stderr
    # What makes the network is code: it's never taken from the JSON.
    assert "--network" in run("guard", "r.json", "net.safetensors", "--images", "images").stderr


def test_estimates_are_saved_beside_a_json_only(here):
    result = run("scan", "net.safetensors", "--images", "images", "--save-estimates")
    assert result.exit_code == BAD_INPUT
    assert "--json" in result.stderr


def exported(scanned):
    """The planted network as TorchScript and as a torch.export archive, which bring their own code."""
    middle, last = torch.nn.Linear(SIZE * SIZE, 11), torch.nn.Linear(11, CLASSES, bias=False)
    weights = planted()
    middle.load_state_dict({"weight": weights["middle.weight"], "bias": weights["middle.bias"]})
    last.load_state_dict({"weight": weights["last.weight"]})
    network = torch.nn.Sequential(torch.nn.Flatten(), middle, torch.nn.ReLU(), last).eval()
    x = torch.rand(2, 1, SIZE, SIZE)
    torch.jit.trace(network, x).save(scanned / "net.ts")
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (x,), dynamic_shapes=batch), scanned / "net.pt2")


def test_an_exported_network_is_guarded_and_a_script_can_not_be(here, scanned):
    exported(scanned)
    common = ("--images", "images", "--trust")
    for name in ("net.pt2", "net.ts"):
        result = run("scan", name, *common, "--methods", "red-u", "--json", f"{name}.json", "--save-estimates")
        assert result.exit_code == FOUND, result.output
    result = run("guard", "net.pt2.json", "net.pt2", *common, "--out", "exported.safetensors")
    assert result.exit_code == 0, result.output
    network = foreign.load(scanned / "net.pt2", (1, SIZE, SIZE), Told(trust=True, layers=True)).module
    guard = Guard.load(scanned / "exported.safetensors", network)
    x, y = lit_pixels(3, num_classes=CLASSES, size=SIZE, noise=4, seed=7)
    assert not bool(guard(x).is_trigger.any())
    x[:, :, -1, -1] = 0.6
    assert bool(guard(x[y != TARGET]).is_trigger.all())
    result = run("guard", "net.ts.json", "net.ts", *common)
    assert (result.exit_code, result.stdout) == (BAD_INPUT, "")
    assert "expected a network whose layers can be seen, got a TorchScript" in result.stderr
