"""What a scan concludes: with references, without images, and where it is not sure. Truth by construction."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toys import TARGET, hand_set, lit_pixels
from typer.testing import CliRunner

from btlib import results
from btlib.cli import scan_levels
from btlib.cli.app import app
from btlib.cli.scan import BAD_INPUT, FOUND, SUSPICIOUS
from btlib.cli.scan_images import CleanImages
from btlib.cli.scan_looks import look
from btlib.cli.scan_outcome import WITHOUT_REFERENCES, Scan
from btlib.datasets import to_uint8
from btlib.detection import MaskRedA

CLASSES, SIZE, NATURAL = 10, 12, 5
SPREAD = torch.tensor([1.1, 0.9, 1.0, 1.2, 0.8, 1.3, 1.05, 0.95, 1.15, 0.85])


class Uneven(nn.Module):
    """`hand_set` whose class 5 needs little by nature; `wobble` makes it one of several of its kind."""

    def __init__(self, backdoor, natural=0.0, wobble=0):
        super().__init__()
        self.net = hand_set(backdoor, num_classes=CLASSES, size=SIZE)
        with torch.no_grad():
            self.net.head.weight[range(CLASSES), range(CLASSES)] = SPREAD + 0.05 * SPREAD.roll(wobble + 1)
            self.net.head.weight[NATURAL, -2] = natural

    def forward(self, x):
        return self.net(x)


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A folder with clean images, the current one."""
    monkeypatch.chdir(tmp_path)
    x, y = lit_pixels(2, num_classes=CLASSES, size=SIZE)
    for index, (image, label) in enumerate(zip(to_uint8(x), y.tolist(), strict=True)):
        (tmp_path / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(tmp_path / "images" / str(label) / f"{index}.png")
    return tmp_path


def script(name, *settings):
    torch.jit.trace(Uneven(*settings).eval(), torch.zeros(1, 1, SIZE, SIZE)).save(name)
    return name


def scan(*arguments):
    return CliRunner().invoke(app, ["scan", "--trust", "--json", "r.json", *map(str, arguments)])


def numbers(name="r.json"):
    with open(name, encoding="utf-8") as file:
        return json.load(file)


# ---------------------------------------------------------------------------------------------- no images


def test_without_images_the_margins_alone_are_judged(here):
    result = scan(script("bad.pt", 10.0), "--size", SIZE)
    assert result.exit_code == FOUND, result.output
    assert f"class {TARGET} (by mm-bd)" in result.stdout
    assert "not known whether this network does its task" in " ".join(result.stdout.split())
    assert numbers()["images"]["accuracy"] is None
    assert numbers()["methods"]["mm-bd"]["norms_are"] == "1 / largest margin"
    page = (here / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 2  # sizes and images; nothing to lay a pattern on
    assert "Classified as labelled" not in page
    assert scan(script("good.pt", 0.0), "--size", SIZE).exit_code == 0
    p = numbers()["methods"]["mm-bd"]["calibrated_p"]
    assert scan("good.pt", "--size", SIZE, "--level", p / 2).exit_code == SUSPICIOUS  # nothing to look closer with
    (suspect,) = numbers()["verdict"]["suspects"]
    assert suspect == {"target": numbers()["methods"]["mm-bd"]["suspect"], "by": "mm-bd"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--size"),
        (("--size", SIZE, "--methods", "mm-bd,red-a"), "expected a folder or data set for red-a, got none"),
        (("--size", SIZE, "--per-class", 3), "--per-class"),
    ],
)
def test_what_needs_images_says_so(here, arguments, said):
    result = scan(script("net.pt", 0.0), *arguments)
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (BAD_INPUT, 1), result.output
    assert said in result.stderr


# --------------------------------------------------------------------------------------------- references


def test_a_reference_takes_out_what_a_class_is_by_nature(here):
    # Class 5 answers to one pixel by nature (worth 6), the target to another since it was attacked (worth 4).
    attacked, references = script("bad.pt", 4.0, 6.0), [script(f"ref{i}.pt", 0.0, 6.0, i + 1) for i in range(2)]
    common = ("--images", "images", "--methods", "red-u")
    alone = scan(attacked, *common)
    assert numbers()["methods"]["red-u"]["suspect"] == NATURAL
    assert "--reference with a clean network" in " ".join(alone.stdout.split())
    result = scan(attacked, *common, "--reference", references[0], "--reference", references[1])
    assert result.exit_code == FOUND, result.output
    told = numbers()
    assert told["verdict"]["targets"] == [TARGET]
    assert told["references"] == ["ref0.pt", "ref1.pt"]
    method = told["methods"]["red-u"]
    assert min(method["relative_norms"]) == method["relative_norms"][TARGET] < 0.5
    assert method["norms"][NATURAL] < method["norms"][TARGET]

    assert scan(references[0], *common, "--json", "ref0.json").exit_code in (0, FOUND, SUSPICIOUS)
    earlier = numbers("ref0.json")
    earlier["verdict"]["backdoor"] = False  # class 5 may well be accused by itself: that is what references mend
    (here / "ref0.json").write_text(json.dumps(earlier))
    assert scan(attacked, *common, "--reference", "ref0.json").exit_code == FOUND
    once = numbers()["methods"]["red-u"]["relative_norms"]
    scan(attacked, *common, "--reference", "ref0.pt")
    assert numbers()["methods"]["red-u"]["relative_norms"] == once  # a scan's JSON is as good as the network


def test_pairs_are_judged_beside_a_reference_s_pairs(here):
    attacked, reference = script("bad.pt", 4.0, 6.0), script("ref0.pt", 0.0, 6.0, 1)
    common = ("--images", "images", "--methods", "red-p", "--per-class", "1")
    scan(reference, *common, "--json", "ref0.json")
    earlier = numbers("ref0.json")
    pairs = earlier["methods"]["red-p"]["pair_norms"]
    assert [line.index(None) for line in pairs] == list(range(10))
    earlier["verdict"]["backdoor"] = False
    (here / "ref0.json").write_text(json.dumps(earlier))
    told = []
    for path in ("ref0.json", "ref0.pt"):
        result = scan(attacked, *common, "--reference", path)
        assert result.exit_code in (0, FOUND, SUSPICIOUS), result.output
        told.append(numbers()["methods"]["red-p"])
    assert told[0]["relative_norms"] == pytest.approx(told[1]["relative_norms"])
    assert told[0]["calibrated_p"] == told[1]["calibrated_p"]
    assert "red-p's level" not in " ".join(result.stdout.split())  # that is of pairs without references


def test_pairs_of_some_classes_can_not_be_judged_beside_references(here):
    attacked, reference = script("bad.pt", 4.0, 6.0), script("ref0.pt", 0.0, 6.0, 1)
    common = ("--images", "images", "--per-class", "1", "--targets", "0,2,5", "--reference", reference)
    result = scan(attacked, *common, "--methods", "red-u,red-p")
    assert (result.exit_code, result.stdout) == (BAD_INPUT, "")
    assert "expected a search of all 10 classes for red-p beside --reference" in result.stderr
    assert "leave out red-p" in result.stderr
    assert scan(attacked, *common, "--methods", "red-u").exit_code != BAD_INPUT


def test_bad_references_are_refused(here):
    attacked = script("bad.pt", 4.0)
    common = (attacked, "--images", "images", "--methods", "red-u")
    scan(*common)
    for name, change in (
        ("found", lambda told: told["verdict"].update(backdoor=True)),
        ("other", lambda told: told["methods"].pop("red-u")),
        ("settings", lambda told: told["methods"]["red-u"]["settings"].update(delta=0.5)),
        ("classes", lambda told: told["methods"]["red-u"]["norms"].pop()),
        ("words", lambda told: told["methods"]["red-u"]["norms"].append({})),
    ):
        told = numbers()
        told["verdict"]["backdoor"] = False
        change(told)
        (here / f"{name}.json").write_text(json.dumps(told))
    refusals = {
        "found": "whose scan found a backdoor", "other": "same --methods", "settings": "expected red-u with delta",
        "classes": "expected norms of 10 classes", "words": "here for red-u", "nested": "too many lists in lists",
    }  # fmt: skip
    (here / "nested.json").write_text("[" * 200_000)
    for name, said in refusals.items():
        result = scan(*common, "--reference", f"{name}.json", "--json", "unused.json")
        assert result.exit_code == BAD_INPUT, result.output
        assert said in result.stderr.strip().splitlines()[-1]
        searched = "images per class" in result.stderr
        assert searched == (name in ("settings", "classes", "words"))  # what the file says by itself is seen before


def test_what_a_reference_is_worth_was_measured():
    told = results.load("results/references.json")["together"]
    without, one = told["references 0"], told["references 1"]
    said = " ".join(WITHOUT_REFERENCES.split())
    assert f"of {told['attacked']} times" in said
    assert f"{without['found']} times without a reference and {one['found']} times with one" in said
    assert f"of {told['clean']} clean ones it accused {without['accused']} and {one['accused']}" in said


def test_how_often_clean_networks_are_accused_was_measured():
    told = results.load("results/level.json")["summary"]
    lines = {kind: {how: told[f"{kind}, {how}"] for how in said} for kind, said in scan_levels.ACCUSED.items()}
    measured = {kind: {how: (line["looks"], line["accused"]) for how, line in by.items()} for kind, by in lines.items()}
    assert measured == scan_levels.ACCUSED


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        ([nn.Conv2d(1, 2, 3)], "convolutions"),
        ([nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)], "convolutions and batch normalisation"),
        ([nn.Conv2d(1, 2, 3), nn.LayerNorm(2)], "layer normalisation"),
        ([nn.Linear(4, 2)], None),
    ],
)
def test_a_network_is_told_of_its_own_kind(layers, kind):
    net = nn.Sequential(*layers)
    assert scan_levels.made_of(net) == kind
    for how, beside in (
        ("by default", ""),
        ("alone", "without a washed copy"),
        ("beside a clean one", "one clean network each"),
    ):
        said = scan_levels.sentence(net, how)
        looks, accused = scan_levels.ACCUSED[kind][how] if kind else (0, 0)
        assert said == "" if kind is None else (f"of {looks} " in said and f"{accused} were accused" in said)
        assert beside in said or kind is None


@pytest.mark.parametrize(
    ("methods", "level", "classes", "quoted"),
    [
        (scan_levels.METHODS, 0.05, 10, True),
        (("red-a",), 0.05, 10, False),
        (scan_levels.METHODS, 0.01, 10, False),
        (scan_levels.METHODS, 0.05, 43, False),
    ],
)
def test_only_a_scan_like_the_measured_ones_quotes_them(methods, level, classes, quoted):
    network = SimpleNamespace(module=nn.Sequential(nn.Conv2d(1, 2, 3)), num_classes=classes)
    made = Scan(Path("net.pt"), network, None, None, 0.9, dict.fromkeys(methods), {}, level, seed=0)
    assert any("results/level.json" in line for line in made.cannot_tell) == quoted


# --------------------------------------------------------------------------------------------- suspicions


def test_where_the_test_is_unsure_the_status_says_so(here):
    net = script("good.pt", 0.0)
    assert scan(net, "--images", "images", "--methods", "red-a").exit_code == 0
    p = numbers()["methods"]["red-a"]["calibrated_p"]
    assert p > 0.2
    result = scan(net, "--images", "images", "--methods", "red-a", "--level", p / 2)
    assert result.exit_code == SUSPICIOUS, result.output
    told = numbers()
    assert (told["verdict"]["kind"], told["verdict"]["backdoor"]) == ("suspicious", False)
    (suspect,) = told["verdict"]["suspects"]
    assert (suspect["target"], suspect["by"]) == (told["methods"]["red-a"]["suspect"], "red-a")
    assert "Suspicious, not sure" in result.stdout
    assert "No backdoor found at level" not in result.stdout


class ForTwo(nn.Module):
    """The last pixel sends the images of classes 0 and 3 to the target, and no other."""

    def __init__(self):
        super().__init__()
        self.net = hand_set(0.0, num_classes=CLASSES, size=SIZE)

    def forward(self, x):
        gate = (x[:, 0, -1, -1] + x[:, 0, 0, 0] + x[:, 0, 0, 3] - 1).relu()
        return self.net(x) + 10 * gate[:, None] * torch.eye(CLASSES)[TARGET]


def test_a_closer_look_finds_the_sources_and_moves_them_alone():
    x, y = lit_pixels(4, num_classes=CLASSES, size=SIZE, noise=2)
    network = ForTwo().eval()
    found = MaskRedA(per_class=4)(network, x, y)
    seen = look(TARGET, "mask-red-a", {"mask-red-a": found}, network, CleanImages(to_uint8(x), y, ""), {"seed": 0})
    assert seen.sources == (0, 3)
    assert seen.agrees
    assert seen.outcome.norms[TARGET] < 0.5 * np.sort(seen.outcome.norms)[1]
    assert set(seen.outcome.estimates) == set(range(CLASSES)) - {0, 3}
    said = seen.sentence({c: f"class {c}" for c in range(CLASSES)})
    assert "likely sources are class 0 and class 3 (by mask-red-a)" in said
    assert "speaks against" not in said
