"""The guard says what its detector says, from one pass and from a file that holds no code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.exceptions import NotFittedError
from torch import nn
from toys import TARGET as TOY_TARGET
from toys import hand_set, lit_pixels

from btlib import checkpoints, sealed, triggers
from btlib.inflight import B3DDetector, Guard, LikelihoodDetector

TARGET = 9


def fitted(planted: Any, **settings: Any) -> LikelihoodDetector:
    return LikelihoodDetector(**settings).fit(planted.net, planted.x, planted.y, target=TARGET, trigger=planted.trigger)


def mixed(planted: Any) -> torch.Tensor:
    return torch.cat([planted.other_x[::10], planted.trigger(planted.other_x[::10])])


@pytest.mark.parametrize(
    "settings",
    [{}, {"components": 3}, {"covariance": "full"}, {"covariance": "tied", "components": 2}, {"covariance": "diag"},
     {"covariance": "spherical"}, {"layer": "conv2"}, {"layer": "conv1", "covariance": "full"}, {"fpr": 0.3}],
    ids=str,
)  # fmt: skip
def test_the_guard_and_its_file_say_what_the_detector_says(box: Any, tmp_path: Path, settings: Any) -> None:
    detector = fitted(box, **settings)
    guard = Guard(box.net, detector)
    images = mixed(box)
    report = detector.inspect(images)
    assert 0.3 < report.is_trigger.float().mean() < 0.6
    loaded = Guard.load(guard.save(tmp_path / "guard.safetensors"))
    assert {name.split(".")[0] for name in guard.state_dict()} == {"network", "scorer"}  # all else is made from them
    for one in (guard, loaded):
        answer = one(images)
        assert torch.equal(answer.predicted, report.predicted)
        assert torch.equal(answer.is_trigger, report.is_trigger)
        assert torch.equal(answer.label, report.source)
        judged = report.predicted == TARGET
        torch.testing.assert_close(answer.scores[judged], report.scores[judged], rtol=1e-3, atol=1e-2)
        assert bool((answer.scores[~judged] == -torch.inf).all())
    assert loaded.settings == guard.settings


@pytest.mark.parametrize("settings", [{}, {"covariance": "full"}, {"layer": "conv2"}])
def test_features_are_computed_once(box: Any, settings: Any) -> None:
    guard = Guard(box.net, fitted(box, **settings))
    calls = []
    guard.network.body[0].register_forward_hook(lambda *_: calls.append(1))
    guard(mixed(box))
    assert len(calls) == 1


def test_a_joined_head_has_the_networks_bias() -> None:
    net, (x, y) = hand_set(10), lit_pixels(12, noise=3)
    net.head.bias = torch.nn.Parameter(torch.tensor([0.3, 0.0, -0.3]))
    detector = LikelihoodDetector().fit(net, x, y, target=TOY_TARGET, trigger=triggers.single_pixel((1, 8, 8)))
    blank = torch.zeros(1, 1, 8, 8)
    assert Guard(net, detector)(blank).predicted.tolist() == detector.inspect(blank).predicted.tolist() == [0]
    net.head.bias.data = net.head.bias.data.flip(0)
    other = LikelihoodDetector().fit(net, x, y, target=TOY_TARGET, trigger=triggers.single_pixel((1, 8, 8)))
    assert Guard(net, other)(blank).predicted.tolist() == [2]


@pytest.mark.parametrize("settings", [{}, {"covariance": "full"}], ids=str)
def test_classes_without_images_are_never_inferred(box: Any, settings: Any) -> None:
    there = (box.y != 0) & (box.y != 4)
    detector = LikelihoodDetector(**settings).fit(
        box.net, box.x[there], box.y[there], target=TARGET, trigger=box.trigger
    )
    answer, report = Guard(box.net, detector)(images := mixed(box)), detector.inspect(images)
    assert set(answer.label[answer.is_trigger].tolist()) == {1, 2, 3, 5, 6, 7, 8}
    assert torch.equal(answer.label, report.source)


def test_the_guard_keeps_its_own_network_in_evaluation_mode(box: Any) -> None:
    guard = Guard(box.net, fitted(box)).train()
    assert not guard.training
    assert not guard.network.training
    images = mixed(box)
    before = guard(images)
    assert not any(parameter.requires_grad for parameter in guard.parameters())
    assert all(parameter.requires_grad for parameter in box.net.parameters())
    weight = box.net.head.weight.data.clone()
    try:
        box.net.head.weight.data.zero_()
        assert torch.equal(guard(images).label, before.label)
    finally:
        box.net.head.weight.data.copy_(weight)
    assert guard(images[:0]).label.shape == (0,)
    assert torch.equal(guard(images[:1]).label, before.label[:1])


def test_a_guard_needs_a_fitted_detector_of_its_network(box: Any, chessboard: Any) -> None:
    with pytest.raises(TypeError, match="got B3DDetector"):
        Guard(box.net, B3DDetector())  # type: ignore[arg-type]
    with pytest.raises(NotFittedError, match="expected a fitted one"):
        Guard(box.net, LikelihoodDetector())
    with pytest.raises(ValueError, match="fitted to other weights"):
        Guard(chessboard.net, fitted(box))


def test_bad_images_are_named(box: Any) -> None:
    guard = Guard(box.net, fitted(box))
    for images, error, words in [
        (torch.full((1, 1, 28, 28), 255.0), ValueError, "got 255…255"),
        (torch.full((1, 1, 28, 28), torch.nan), ValueError, "got nan"),
        (torch.zeros(1, 3, 28, 28), ValueError, r"got \(1, 3, 28, 28\)"),
        (torch.zeros(28, 28), ValueError, r"got \(28, 28\)"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.int64), TypeError, "got torch.int64"),
    ]:
        with pytest.raises(error, match=words):
            guard(images)
    bytes_ = (mixed(box) * 255).round().to(torch.uint8)
    assert torch.equal(guard(bytes_).label, guard(bytes_ / 255).label)


def test_a_network_of_ones_own_comes_back_too(tmp_path: Path) -> None:
    """Its architecture has no name that networks.build knows, and its head no bias."""
    net, pixel = hand_set(10), triggers.single_pixel((1, 8, 8))
    x, y = lit_pixels(12)
    detector = LikelihoodDetector().fit(net, x, y, target=TOY_TARGET, trigger=pixel)
    guard = Guard(net, detector)
    answer = guard(pixel(x))
    assert torch.equal(answer.label[y != TOY_TARGET], y[y != TOY_TARGET])
    assert bool(answer.is_trigger[y != TOY_TARGET].all())
    path = guard.save(tmp_path / "guard.safetensors")
    with pytest.raises(ValueError, match="got None; its name was not saved"):
        Guard.load(path)
    empty = hand_set(0)
    loaded = Guard.load(path, empty)
    assert torch.equal(loaded(pixel(x)).label, answer.label)
    assert empty.head.weight[TOY_TARGET, -1].item() == 0, "the network that was passed is copied"
    with pytest.raises(ValueError, match="architecture saved in .*got another"):
        Guard.load(path, hand_set(0, num_classes=4))
    with pytest.raises(ValueError, match="got 'lenet9' for a Network"):
        guard.save(path, network_name="lenet9")


class Foreign(nn.Module):
    """A network of someone else, with tied weights; the last pixel sends everything to the target."""

    def __init__(self, backdoor: float = 10) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.mix = nn.Linear(64, 64, bias=False)
        self.again = self.mix
        self.out = nn.Linear(64, 3)
        self.mix.weight.data.copy_(torch.eye(64))
        self.out.load_state_dict({"weight": hand_set(backdoor).head.weight, "bias": torch.zeros(3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.mix(self.flat(x)).relu())


@pytest.mark.parametrize("settings", [{}, {"layer": "mix", "covariance": "diag"}, {"layer": "again"}], ids=str)
def test_a_guard_of_any_module_comes_back_from_its_file(tmp_path: Path, settings: Any) -> None:
    pixel = triggers.single_pixel((1, 8, 8))
    x, y = lit_pixels(12)
    detector = LikelihoodDetector(**settings).fit(Foreign(), x, y, target=TOY_TARGET, trigger=pixel)
    guard = Guard(detector.network_, detector)
    path = guard.save(tmp_path / "guard.safetensors")
    empty = Foreign(0)
    for one in (guard, Guard.load(path, empty)):
        answer, report = one(pixel(x)), detector.inspect(pixel(x))
        assert torch.equal(answer.label[y != TOY_TARGET], y[y != TOY_TARGET])
        assert torch.equal(answer.is_trigger, report.is_trigger)
        torch.testing.assert_close(answer.scores, report.scores)
        assert not bool(one(x).is_trigger.any())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in one.modules())
    assert empty.out.weight[TOY_TARGET, -1].item() == 0, "the network that was passed is copied"
    with pytest.raises(ValueError, match="got None; its name was not saved"):
        Guard.load(path)
    with pytest.raises(ValueError, match="got 'lenet5' for a Foreign"):
        guard.save(path, network_name="lenet5")


def test_weights_of_another_guard_are_refused(box: Any, chessboard: Any) -> None:
    """They used to be taken, with the old head, classes and threshold inside."""
    guard, other = Guard(box.net, fitted(box)), Guard(chessboard.net, fitted(chessboard))
    images = mixed(box)
    before = guard(images)
    for owner in (guard, nn.Sequential(guard)):
        with pytest.raises(ValueError, match="tensors alone, which lack its settings; use Guard.load"):
            owner.load_state_dict(other.state_dict() if owner is guard else nn.Sequential(other).state_dict())
    assert torch.equal(guard(images).scores, before.scores)


def test_a_file_that_is_not_as_it_was_written_is_refused(box: Any, tmp_path: Path) -> None:
    path = Guard(box.net, fitted(box)).save(tmp_path / "guard.safetensors")
    found = sealed.read(path, "guard")
    assert found.card["network"] == "lenet5"
    foreign = checkpoints.find(checkpoints.shipped()["box"])
    assert foreign is not None
    changed = dict(found.tensors, **{"scorer.constant": found.tensors["scorer.constant"] + 1})
    save_file(changed, tmp_path / "changed", metadata=safe_open(str(path), "pt").metadata())
    (tmp_path / "text").write_text("no tensors", encoding="utf-8")
    for file, words in {
        tmp_path / "changed": "do not match its digest", tmp_path / "text": "not a whole safetensors file",
        tmp_path / "none": "not a whole safetensors file", foreign: "of kind guard, got checkpoint",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"expected a guard's file as it was written, .*{words}"):
            Guard.load(file)


@pytest.mark.parametrize(
    "odd",
    [{"threshold": float("nan")}, {"threshold": "0"}, {"target": 3.5}, {"target": 10}, {"classes": [1, 2]},
     {"classes": 9}, {"classes": [[9], [1]]}, {"covariance": "round"}, {"image_shape": [28, 28]}, {"layer": 3},
     {"num_classes": 2}, {"num_classes": None}, {"network": "payload:go"}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_odd_settings_in_a_sealed_file_are_refused(tmp_path: Path, odd: dict[str, Any]) -> None:
    """Sealed by someone who knows how: a NaN threshold used to load, and never flags."""
    pixel = triggers.single_pixel((1, 8, 8))
    x, y = lit_pixels(12)
    detector = LikelihoodDetector().fit(hand_set(10), x, y, target=TOY_TARGET, trigger=pixel)
    found = sealed.read(Guard(detector.network_, detector).save(tmp_path / "guard"), "guard")
    sealed.write(tmp_path / "odd", "guard", found.card | odd, found.tensors)
    with pytest.raises(ValueError, match="expected a guard's file as it was written"):
        Guard.load(tmp_path / "odd", None if "network" in odd else hand_set(0))
