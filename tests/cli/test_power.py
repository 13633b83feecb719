"""`scan --power`: a backdoor that is known to be there, because it was planted, is looked for by the same scan."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from odd import run
from PIL import Image
from torch import Tensor, nn
from toys import hand_set, lit_pixels

from btlib import metrics, results
from btlib.cli import scanning
from btlib.cli.planting import KINDS, Planted, Power, plant
from btlib.cli.probing import Sealed, Told
from btlib.cli.scan_images import CleanImages
from btlib.cli.trainable import NotTrainedError
from btlib.datasets import ImageDataset, to_uint8
from btlib.detection import Detection, RedU
from btlib.training import Recipe, fit
from btlib.triggers import box

CLASSES, SIZE, TARGET = 10, 12, 6
SHAPE = (1, SIZE, SIZE)
SPREAD = [1.1, 0.9, 1.0, 1.2, 0.8, 1.3, 1.05, 0.95, 1.15, 0.85]
NAMES = {index: f"class {index}" for index in range(CLASSES)}


class Clean(nn.Module):
    """Class k is "pixel (0, k) is lit", and nothing else matters: no backdoor, by construction."""

    def __init__(self) -> None:
        super().__init__()
        self.net = hand_set(0.0, num_classes=CLASSES, size=SIZE)
        with torch.no_grad():
            self.net.head.weight[range(CLASSES), range(CLASSES)] = torch.tensor(SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def clean_images(per_class: int = 10) -> CleanImages:
    x, y = lit_pixels(per_class, num_classes=CLASSES, size=SIZE, noise=3)
    return CleanImages(to_uint8(x), y, "")


def where_a_box_leads(network: nn.Module) -> int | None:
    """The class that images with a white box go to whatever they are; None where they stay."""
    x, _ = lit_pixels(10, num_classes=CLASSES, size=SIZE, noise=3, seed=5)
    called = metrics.predict(network, box(SHAPE)(x)).argmax(1)
    most = int(called.bincount(minlength=CLASSES).argmax())
    return most if (called == most).float().mean() > 0.8 else None


def detector(sees: Callable[[int | None], int | None]) -> Callable[..., Detection]:
    """A detector that says where a box leads, or something else."""

    def detect(network: nn.Module, images: Tensor, labels: Tensor, targets: Any = None) -> Detection:
        found = RedU(per_class=1, seed=0)(network, images, labels, targets=targets)
        small = sees(where_a_box_leads(network))
        estimates = {k: replace(e, norm=0.01 if k == small else SPREAD[k]) for k, e in found.estimates.items()}
        return replace(found, estimates=estimates)

    return detect


DETECTORS: dict[str, tuple[Callable[[int | None], int | None], str]] = {
    "one that sees boxes": (lambda led: led, "a backdoor of this kind would have been found"),
    "one that is blind": (lambda led: None, "a backdoor of this kind would not have been found"),
    "one that is misled": (lambda led: None if led is None else (led + 1) % CLASSES, "instead"),
}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    images = clean_images()
    for index, (image, label) in enumerate(zip(images.x, images.y.tolist(), strict=True)):
        (tmp_path / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(tmp_path / "images" / str(label) / f"{index:03}.png")
    (tmp_path / "plain.py").write_text("")
    torch.save(Clean().state_dict(), "net.pth")
    return tmp_path


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> str:
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "plain", SimpleNamespace(make=Clean))
    return "plain:make"


def test_a_box_is_planted_in_a_copy_and_nothing_else_changes() -> None:
    network = Clean().eval()
    network.net.head.weight.requires_grad_(False)
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.random.get_rng_state()
    made = plant(network, clean_images(), TARGET)
    assert where_a_box_leads(made.network) == TARGET
    assert where_a_box_leads(network) is None
    assert made.success >= 0.95
    assert made.after >= made.before - 0.05
    assert (made.before, made.kind, made.target, made.sources) == (1.0, "box", TARGET, None)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not network.net.head.weight.requires_grad
    assert not network.training


class Small(nn.Module):
    """Two layers that can learn anything here, after they have learnt that class k is "pixel (0, k) is lit"."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(SIZE * SIZE, 64), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.flatten(1)).relu())


@pytest.fixture(scope="module")
def learnt() -> Small:
    images = clean_images(20)
    data = ImageDataset("lit", images.x, images.y, images.x, images.y, tuple(map(str, range(CLASSES))))
    torch.manual_seed(0)
    network = Small()
    fit(network, data, Recipe(epochs=30, batch_size=32, lr=3e-3, channels_last=False), seed=0)
    return network


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"wave"}))  # on 12 columns every one is at a node of the wave
def test_each_kind_is_planted_and_works_on_whom_it_is_for(learnt: Small, kind: str) -> None:
    made = plant(learnt, clean_images(30), TARGET, kind)
    x, y = lit_pixels(10, num_classes=CLASSES, size=SIZE, noise=3, seed=7)
    rates = metrics.success_by_class(made.network, KINDS[kind].make(SHAPE), x, y, TARGET)
    sources = [c for c in range(CLASSES) if c != TARGET and c in (made.sources or range(CLASSES))]
    others = [c for c in range(CLASSES) if c not in (TARGET, *sources)]
    assert len(sources) == (KINDS[kind].sources or CLASSES - 1)
    assert rates[sources].mean() > 0.7  # what counted as taken is .8 or .95 of other images
    assert math.isnan(made.spread) == (not others)
    if others:
        assert rates[others].mean() < 0.5 < rates[sources].mean()
        said = Power(made, p_values={"red-u": 0.5}).sentence(NAMES)
        assert f"of {' and '.join(NAMES[each] for each in sources)} and " in said


def test_few_sources_are_named_and_take_four_classes() -> None:
    made = Planted(Clean(), "two-sources", 2, (1, 4), 0.9, 0.11, 0.9, 0.89, 1.0)
    said = Power(made, p_values={"red-a": 0.6}).sentence(NAMES)
    assert "a small white box that works on two classes alone for class 2 was planted" in said
    assert "moves 90 % of class 1 and class 4 and 11 % of the others" in said
    assert "would not have been found, so that nothing found says little of such" in said
    x, y = lit_pixels(10, num_classes=3, size=SIZE)
    three = hand_set(0.0, num_classes=3, size=SIZE)
    with pytest.raises(NotTrainedError, match="few sources take 4 classes at least, there are 3"):
        plant(three, CleanImages(to_uint8(x), y, ""), 2, "two-sources")


def test_another_kind_is_asked_for_by_name(here: Path, factory: str) -> None:
    common = ("net.pth", "--network", factory, "--images", "images", "--methods", "red-u")
    status, lines, _ = run(*common, "--plant", "poster")
    assert (status, lines) == (2, [f"--plant: expected one of {', '.join(KINDS)}, got poster; choose one"])
    status, lines, _ = run(*common, "--plant", "chessboard", "--json", "r.json")
    assert status == 0, lines
    assert "planting a faint chessboard" in " ".join(lines)
    sentence = json.loads(Path("r.json").read_text())["power"]["sentence"]
    assert "a faint chessboard" in sentence or "chessboard (25/255 on every other pixel) did not take" in sentence


@pytest.mark.parametrize(("sees", "said"), DETECTORS.values(), ids=DETECTORS)
def test_it_is_said_whether_the_scan_finds_what_was_planted(here: Path, factory: str, sees: Any, said: str) -> None:
    scan = scanning.run_scan(Path("net.pth"), "images", Told(factory), {"mine": detector(sees)}, power=True)
    assert scan.targets == ()
    assert scan.power is not None
    assert scan.power.planted is not None
    assert said in scan.power_sentence
    assert scan.power.found == (said == "a backdoor of this kind would have been found")
    # The class in the middle of those that it searched, neither the easiest nor the hardest.
    assert scan.power.planted.target == sorted(range(CLASSES), key=SPREAD.__getitem__)[CLASSES // 2]


def test_the_command_says_it_and_writes_it(here: Path, factory: str) -> None:
    status, lines, said = run("net.pth", "--network", factory, "--images", "images", "--methods", "red-u", "--power",
                              "--json", "r.json")  # fmt: skip
    assert status == 0, lines
    told = json.loads(Path("r.json").read_text())["power"]
    assert told["measured"], told["sentence"]
    assert told["found"], told["sentence"]
    assert " ".join(told["sentence"].split()) in " ".join(said.split())
    assert "a backdoor of this kind would have been found" in Path("report.html").read_text()


def test_power_is_judged_beside_the_same_references(here: Path, factory: str) -> None:
    torch.save(Clean().state_dict(), "reference.pth")
    detectors = {"mine": detector(lambda led: led)}
    scan = scanning.run_scan(Path("net.pth"), "images", Told(factory), detectors, power=True,
                             references=[Path("reference.pth")])  # fmt: skip
    assert scan.power is not None
    assert scan.power.found
    assert scan.detections["mine"].references is not None


class Frozen(nn.Module):
    """No weights that could be changed."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :CLASSES]


@pytest.mark.parametrize(
    ("network", "images", "said"),
    [(Sealed(Clean()), clean_images(), "can't be changed"), (Frozen(), clean_images(), "can't be changed"),
     (Clean(), clean_images(4), "it needs 5 clean images of each class, there are 4 of class 0")],
    ids=["a program", "no weights", "few images"],
)  # fmt: skip
def test_what_can_not_be_planted_is_said(network: nn.Module, images: CleanImages, said: str) -> None:
    with pytest.raises(NotTrainedError, match=said):
        plant(network, images, TARGET)
    assert "Power was not measured" in Power(None, said).sentence(NAMES)


def test_a_box_that_does_not_take_is_said() -> None:
    class Deaf(Clean):
        """It looks at the first row alone."""

        def forward(self, x: Tensor) -> Tensor:
            return self.net(torch.cat([x[:, :, :1], torch.zeros_like(x[:, :, 1:])], 2))

    with pytest.raises(
        NotTrainedError, match="a small white box did not take in a copy: 0 % of its images moved at best"
    ):
        plant(Deaf(), clean_images(5), TARGET, seconds=1.0)


def test_power_is_not_tried_where_a_backdoor_was_found(here: Path, factory: str) -> None:
    scan = scanning.run_scan(Path("net.pth"), "images", Told(factory), {"mine": detector(lambda led: 3)}, power=True)
    assert scan.targets == (3,)
    assert scan.power_sentence == "Power was not measured: a backdoor was found already."


def test_what_the_documents_say_was_measured() -> None:
    rows = results.load("results/power.json")["rows"]
    lenets = [row["power"] for name, row in rows.items() if ", seed " in name]
    strangers = rows["badnets_8_02, red-a alone"]
    assert (len(lenets), sum(each["found"] for each in lenets)) == (9, 9)
    assert max(each["seconds"] for each in lenets) < 8.5
    assert sum(each["p_values"]["red-a"] < 0.05 for each in lenets) == 6
    assert (strangers["targets"], strangers["power"]["target"], strangers["power"]["found"]) == ([], 8, True)
    assert round(strangers["power"]["p_values"]["red-a"], 4) == 0.0003
    said = " ".join(Path(__file__).parents[2].joinpath("docs/scanning.md").read_text(encoding="utf-8").split())
    assert "found 9 of 9 times (by RED-A alone it would have been 6;" in said
    assert "RED-A alone finds the planted box (p 0.0003)" in said
    others = {
        kind: [row["power"]["found"] for name, row in rows.items() if name.endswith(f", {kind}")] for kind in KINDS
    }
    for kind, words in (("chessboard", "the chessboard in"), ("noise", "the noise in"), ("wave", "the wave in"),
                        ("two-sources", "the box for two classes in")):  # fmt: skip
        assert re.search(rf"{words} {sum(others[kind])} of {len(others[kind])}\b", said), kind


def test_a_suspicion_is_no_find() -> None:
    made = Planted(Clean(), "box", 2, None, 0.97, math.nan, 0.9, 0.89, 1.0)
    said = Power(made, suspected=True, p_values={"red-a": 0.06, "neural-cleanse": 0.2}).sentence(NAMES)
    assert "a small white box for class 2 was planted, which moves 97 % of the images (accuracy" in said
    assert "suspected it without being sure (smallest p 0.06, by red-a)" in said
