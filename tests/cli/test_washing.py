"""A doubtful verdict is judged again beside a washed copy of the network: what that is, and what it decides."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from toys import lit_pixels

from btlib import checkpoints, datasets, metrics, training
from btlib.cli import scan_levels, scanning
from btlib.cli.probing import Told
from btlib.cli.scan_images import CleanImages
from btlib.cli.scan_json import as_json
from btlib.cli.scan_outcome import CLEAR, DOUBTFUL, UNSURE, Judgement, Scan
from btlib.cli.scan_report import page
from btlib.cli.scan_text import as_text
from btlib.cli.trainable import NotTrainedError, divided
from btlib.cli.washing import KEPT, Washed, Washing, mix_with_fresh, washed_copy
from btlib.datasets import to_uint8
from btlib.detection import Detection, RedU

CLASSES, SIZE, SMALL, SECOND = 10, 12, 3, 7
SPREAD = [1.1, 0.9, 1.0, 1.2, 0.8, 1.3, 1.05, 0.95, 1.15, 0.85]
OTHER = [1.16, 0.87, 1.02, 1.15, 0.82, 1.29, 1.06, 0.9, 1.2, 0.83]  # as those of a clean network of another seed
QUICK = RedU(per_class=1, seed=0)


# ------------------------------------------------------------------------------------------------- the copy


def test_half_of_each_weight_stays_and_half_is_fresh() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    network[1].running_mean.fill_(7.0)
    old = [each.detach().clone() for each in network.parameters()]
    state = torch.random.get_rng_state()
    mix_with_fresh(network, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    fresh = [2 * now - was for now, was in zip(network.parameters(), old, strict=True)]
    assert KEPT == 0.5
    bound = 1 / 3  # PyTorch's convolution of 3×3 pixels: uniform within 1 / sqrt(9)
    assert 0.1 < float(fresh[0].detach().abs().max()) <= bound + 1e-6
    assert torch.equal(fresh[2], torch.ones(2))  # a batch norm's
    assert not torch.allclose(fresh[0], old[0], atol=0.05)
    assert torch.equal(network[1].running_mean, torch.zeros(2))
    again = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    with torch.no_grad():
        for each, was in zip(again.parameters(), old, strict=True):
            each.copy_(was)
    mix_with_fresh(again, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


@pytest.fixture(scope="module")
def defender() -> CleanImages:
    x, y = datasets.load("fashion-mnist").clean_images(100, seed=0)
    return CleanImages(to_uint8(x), y, "")


def test_a_washed_copy_forgets_the_trigger_and_not_the_task(defender: CleanImages) -> None:
    spec = checkpoints.shipped()["box"]
    network, trigger, data = checkpoints.load_or_train(spec), spec.make_trigger(), datasets.load("fashion-mnist")
    assert trigger is not None
    before = {key: value.clone() for key, value in network.state_dict().items()}
    washed = washed_copy(network, defender, seed=0)

    def success(net: nn.Module) -> float:
        return metrics.attack_success_rate(net, trigger, data.x_test, data.y_test, spec.target)

    assert success(network) > 0.95
    assert success(washed.network) < 0.3  # a box of nine pixels moves some images of a clean network, too
    assert washed.after > washed.before - 0.06
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_fresh_weights_are_not_those_that_the_network_began_with() -> None:
    torch.manual_seed(0)  # as in many a training; a scan's seed is 0, too
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(72, 10))
    began = torch.cat([each.detach().flatten() for each in network.parameters()])
    mix_with_fresh(network, seed=0)
    fresh = 2 * torch.cat([each.detach().flatten() for each in network.parameters()]) - began
    # 810 independent numbers: 1 / sqrt(810) is a standard deviation, and this is more than five
    assert abs(float(torch.corrcoef(torch.stack([began, fresh]))[0, 1])) < 0.2


class EvaluationOnly(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        assert not self.training, "evaluation only"
        return super().forward(x)


class Attentive(nn.Module):
    """Most of its weights are made by a method with an underscore, and one of them is no floating-point number."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.order = nn.Parameter(torch.arange(3), requires_grad=False)


def test_an_attention_s_weights_are_fresh_and_whole_numbers_stay() -> None:
    network = Attentive()
    old = network.attention.in_proj_weight.detach().clone()
    mix_with_fresh(network, seed=0)
    assert not torch.allclose(network.attention.in_proj_weight, old, atol=0.05)
    assert network.order.tolist() == [0, 1, 2]


def test_the_given_network_and_the_random_state_stay_and_a_seed_says_it_all() -> None:
    x, y = lit_pixels(6, num_classes=CLASSES, size=SIZE)
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 9), nn.BatchNorm1d(9), nn.Dropout(), nn.Linear(9, CLASSES))
    network[1].requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state, images = torch.random.get_rng_state(), CleanImages(to_uint8(x), y, "")
    first, again, other = (washed_copy(network, images, seed).network.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["1.weight"], other["1.weight"])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert [each.requires_grad for each in network.parameters()] == [False, False, True, True, True, True]
    assert all(each.grad is None for each in network.parameters())


class Contrary(nn.Module):
    """What it learns is the opposite of what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, CLASSES, bias=False))
        nn.init.eye_(self.net[1].weight)  # class k is that pixel k of the first row is lit

    def forward(self, x: Tensor) -> Tensor:
        return -self.net(x) if self.training else self.net(x)


def test_a_copy_that_did_not_learn_is_none() -> None:
    x, y = lit_pixels(10, num_classes=CLASSES, size=SIZE)
    network = Contrary().eval()
    assert metrics.accuracy(network, x, y) == 1
    with pytest.raises(NotTrainedError, match=r"did not learn from the clean images .accuracy 1.00 before, 0"):
        washed_copy(network, CleanImages(to_uint8(x), y, ""))


class Moody(nn.Linear):
    def reset_parameters(self) -> None:
        if hasattr(self, "built"):
            raise LookupError
        super().reset_parameters()
        self.built = True


def test_no_image_is_left_alone_in_a_batch() -> None:
    x, y = lit_pixels(9, num_classes=CLASSES, size=SIZE)
    keep = torch.cat([(y == label).nonzero().flatten()[: 8 if label < 9 else 9] for label in range(CLASSES)])
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
    images = CleanImages(to_uint8(x[keep]), y[keep], "")
    assert len(divided(images).y_train) % 32 == 1
    assert washed_copy(network, images).after >= 0


@pytest.mark.parametrize(
    ("network", "images", "said"),
    [
        (nn.Sequential(nn.Flatten()), 10, "weights in such a file can't be changed"),
        (nn.ParameterList([nn.Parameter(torch.ones(2))]), 10, "no layer of this network says how fresh weights"),
        (nn.Sequential(nn.Flatten(), Moody(SIZE**2, CLASSES)), 10, "a layer can't make fresh weights .LookupError"),
        (nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, CLASSES)), 2, "it needs 5 clean images of each class"),
        (nn.Sequential(nn.Flatten(), EvaluationOnly(SIZE**2, CLASSES)), 10, "training failed .* .evaluation only"),
        (nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(SIZE**2, CLASSES))), 10, "make 1 % of the weights afresh"),
    ],
)
def test_what_can_not_be_washed_is_said(network: nn.Module, images: int, said: str) -> None:
    x, y = lit_pixels(images, num_classes=CLASSES, size=SIZE)
    with pytest.raises(NotTrainedError, match=said):
        washed_copy(network, CleanImages(to_uint8(x), y, ""))


# ---------------------------------------------------------------------------------------------- the verdict


@pytest.mark.parametrize(
    ("alone", "washed", "says"),
    [
        (0.001, None, "backdoor"), (0.02, 0.001, "backdoor"), (0.15, 0.04, "backdoor"), (0.02, 0.1, "suspicious"),
        (0.02, 0.9, "suspicious"), (0.15, 0.1, "suspicious"), (0.15, 0.9, "nothing found"),
        (0.3, None, "nothing found"),
    ],
)  # fmt: skip
def test_the_copy_decides_where_it_was_asked(alone: float, washed: float | None, says: str) -> None:
    judged = Judgement("mine", SMALL, (), alone, -1.0, 3.0, 0.05, washed)
    assert judged.says == says
    assert (judged.clear, judged.doubtful) == (alone < CLEAR * 0.05, CLEAR * 0.05 <= alone < DOUBTFUL)
    assert judged.explained == (alone < 0.05 and washed == 0.9)


def small() -> nn.Sequential:
    """A network that washes and is searched in a fraction of LeNet-5's time."""
    return nn.Sequential(nn.Conv2d(1, 8, 7, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))


@cache
def made() -> dict[str, Tensor]:
    """Weights of `small`, trained on 3,000 images (accuracy .80)."""
    torch.manual_seed(0)
    network, data = small(), datasets.load("fashion-mnist").subset(train=3000, seed=0)
    training.fit(network, data, training.Recipe(4, 32, 3e-3, schedule="one_cycle"), seed=0, progress=False)
    return network.state_dict()


def fixed() -> nn.Module:
    """The same, but its weights are no parameters, as in a file that brings its own code."""
    network = small()
    network.load_state_dict(made())
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, weight.detach())
    return network


def detector(small: float, small_washed: float, at: int = SMALL) -> Callable[..., Detection]:
    """A detector that finds these sizes for one class, in the network that is scanned and in any other."""

    def detect(network: nn.Module, images: Tensor, labels: Tensor, targets: Any = None) -> Detection:
        found = QUICK(network, images, labels, targets=targets)
        own = all(torch.equal(value, made()[key]) for key, value in network.state_dict().items())
        sizes = np.array(SPREAD if own else OTHER)
        sizes[at] = small if own else small_washed
        return replace(found, estimates={k: replace(e, norm=float(sizes[k])) for k, e in found.estimates.items()})

    return detect


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Scan]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "plain", SimpleNamespace(small=small, fixed=fixed))
    torch.save(made(), "net.pth")

    def run(
        *sizes: float, other: float | None = None, at: int = SMALL, network: str = "plain:small",
        names: tuple[str, str] = ("mine", "other"), **settings: Any,
    ) -> Scan:  # fmt: skip
        detectors: dict[str, Any] = {names[0]: detector(*sizes)}
        if other is not None:
            detectors[names[1]] = detector(other, other, at)
        return scanning.run_scan(Path("net.pth"), "fashion-mnist", Told(network), detectors, per_class=40, **settings)

    return run


def test_what_is_small_in_the_copy_too_is_no_find(scan: Callable[..., Scan]) -> None:
    found = scan(0.5, 0.52)
    (judged,) = found.judgements
    assert judged.calibrated_p < 0.05
    assert judged.washed_p is not None
    assert judged.washed_p > 0.5
    assert (found.targets, found.suspects) == ((), {SMALL: "mine"})
    assert "class 3 (Dress) (by mine) is small, though no smaller than in a washed copy" in found.verdict
    assert "as small in the copy, by nature or since a backdoor outlives the washing" in found.washed_sentence
    told, said = as_json(found, "0"), as_text(found)
    assert told["verdict"]["kind"] == "suspicious"
    assert told["methods"]["mine"]["washed_p"] == judged.washed_p
    assert told["washed_copy"]["norms"]["mine"][SMALL] == 0.52
    assert f"{judged.washed_p:.4f}" in said
    assert " ".join(found.washed_sentence.split()) in " ".join(said.split())
    assert json.dumps(told)
    assert "p beside a washed copy" in page(found)


def test_what_was_only_suspected_becomes_a_find_where_the_copy_needs_more(scan: Callable[..., Scan]) -> None:
    alone = scan(0.6, 1.2, wash=False)
    assert (alone.kind, alone.washing, alone.washed_sentence) == ("found", None, "")
    assert scan(0.65, 1.2, wash=False).kind == "suspicious"
    found = scan(0.65, 1.2)
    assert found.targets == (SMALL,)
    assert "the class needs less than its like in the copy" in found.washed_sentence
    assert found.decisive("mine").relative_norms[SMALL] == pytest.approx(0.65 / 1.2)
    assert found.detections["mine"].references is None


def test_what_was_only_suspected_is_nothing_where_the_copy_needs_no_more(scan: Callable[..., Scan]) -> None:
    found = scan(0.65, 0.66)
    assert (found.kind, found.verdict) == ("nothing found", "No backdoor found at level 0.05.")
    assert found.washing is not None


def test_it_is_asked_only_in_doubt(scan: Callable[..., Scan]) -> None:
    assert scan(0.3, 0.3).washing is None  # p 0.0002: clear
    assert scan(0.3, 0.3).targets == (SMALL,)
    assert scan(0.55, 0.55, other=0.3).washing is None  # one method is clear, the other need not be
    assert scan(0.8, 0.8).washing is None
    assert scan(0.5, 0.5, minutes=10.0).washing is None
    assert scan(0.5, 0.5, references=[Path("net.pth")]).washing is None


def test_beside_a_clear_find_an_accusation_of_another_class_is_asked(
    scan: Callable[..., Scan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert scan(0.3, 0.3, other=0.5, at=SECOND, wash=False).targets == (SMALL, SECOND)
    capsys.readouterr()
    found = scan(0.3, 0.3, other=0.5, at=SECOND)
    said = capsys.readouterr().err
    assert (said.count("net.pth: mine, 40"), said.count("net.pth: other, 40")) == (1, 2)
    assert found.washing is not None
    assert list(found.washing.beside) == ["other"]
    assert (found.targets, found.suspects) == ((SMALL,), {})
    assert "(by mine)" in found.verdict
    assert scan(0.3, 0.3, other=0.8, at=SECOND).washing is None  # which accuses none


def test_words_and_suspect_belong_to_the_class_that_each_p_value_is_of(scan: Callable[..., Scan]) -> None:
    alone = scan(0.5, 0.5, other=0.8, wash=False)
    ps = []
    for times in (1.0, 1.16, 1.17, 1.18, 1.2, 2.0):  # what the second class needs in the copy, beside its like
        sizes = np.array(OTHER)
        sizes[[SMALL, SECOND]] = 0.52, times * OTHER[SECOND]
        beside = alone.detections["mine"].against(sizes[None])
        copy = Washed(alone.network.module, 0.9, 0.85, 1.0)
        found = replace(alone, washing=Washing(copy, "", {"mine": beside}))
        judged, other = found.judgements
        assert judged.washed_p is not None
        ps.append(judged.washed_p)
        assert judged.suspect == (beside.suspect if judged.washed_p < UNSURE * judged.level else SMALL)
        assert other.washed_p is None
    assert any(UNSURE * 0.025 <= p < UNSURE * 0.05 for p in ps)  # two methods share the level
    assert any(0.025 <= p < UNSURE * 0.025 for p in ps)
    assert (beside.suspect, found.targets) == (SECOND, (SECOND,))
    assert f"for class 7 (Sneaker) (alone {judged.calibrated_p:.2g} for class 3 (Dress): " in found.washed_sentence


def test_the_surest_method_speaks_and_what_is_not_explained_is_not_called_so(scan: Callable[..., Scan]) -> None:
    alone, beside = scan(0.5, 0.5, other=0.8, wash=False), {}
    for name, small in (("mine", 0.52), ("other", 0.91)):  # as small in the copy; a tenth smaller than in the copy
        sizes = np.array(OTHER)
        sizes[SMALL] = small
        beside[name] = alone.detections[name].against(sizes[None])
    copy = Washed(alone.network.module, 0.9, 0.85, 1.0)
    found = replace(alone, washing=Washing(copy, "", beside))
    assert [each.explained for each in found.judgements] == [True, False]
    assert found.suspects == {SMALL: "other"}
    assert "though not small enough for level 0.05" in found.verdict
    assert "still unusual, not sure" in found.washed_sentence


def test_a_copy_that_can_not_be_searched_leaves_the_verdict(scan: Callable[..., Scan]) -> None:
    found = scan(0.5, 0.0, other=0.8, names=scan_levels.METHODS)  # a size that nothing can be divided by
    assert found.targets == (SMALL,)
    assert found.washed_sentence.startswith("There is no washed copy to compare with: it could not be searched (norms")
    assert any("were accused without a washed copy" in said for said in found.cannot_tell)
    assert any("up to 25 % are at least suspicious" in said for said in found.cannot_tell)


def test_power_is_measured_with_the_same_rule(scan: Callable[..., Scan], capsys: pytest.CaptureFixture[str]) -> None:
    scan(0.8, 0.5, power=True)  # nothing stands out, but something in the copy with a box does
    assert capsys.readouterr().err.count("once more, beside a washed copy") == 1
    scan(0.8, 0.5, power=True, wash=False)
    assert "washed" not in capsys.readouterr().err


def test_a_network_that_can_not_be_washed_is_judged_alone(scan: Callable[..., Scan]) -> None:
    found = scan(0.5, 0.5, network="plain:fixed")
    assert found.targets == (SMALL,)
    assert found.washed_sentence == (
        "There is no washed copy to compare with: the weights in such a file can't be changed."
    )
    assert as_json(found, "0")["washed_copy"] == {
        "made": False, "sentence": found.washed_sentence, "norms": {}
    }  # fmt: skip
