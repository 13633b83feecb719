"""The guard says what its detector says, from one pass and from a file that holds no code."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.exceptions import NotFittedError
from toys import TARGET as TOY_TARGET
from toys import hand_set, lit_pixels

from btlib import checkpoints, triggers
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
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), TypeError, "got torch.uint8"),
    ]:
        with pytest.raises(error, match=words):
            guard(images)


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
    with pytest.raises(ValueError, match="got 'lenet9'"):
        guard.save(path, network="lenet9")


def test_a_changed_file_is_refused_and_a_failed_write_leaves_the_old_one(
    box: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Guard(box.net, fitted(box)).save(tmp_path / "guard.safetensors")
    tensors, metadata = load_file(path), safe_open(str(path), "pt").metadata()
    assert json.loads(metadata["guard"])["network"] == "lenet5"

    changed = dict(tensors, **{"scorer.constant": tensors["scorer.constant"] + 1})
    save_file(changed, tmp_path / "changed", metadata=metadata)
    header = dict(metadata, guard=metadata["guard"].replace('"threshold": 0.0', '"threshold": 9.0'))
    save_file(tensors, tmp_path / "header", metadata=header)
    for name in ("changed", "header"):
        with pytest.raises(ValueError, match=f"expected .*{name} as it was written"):
            Guard.load(tmp_path / name)
    (tmp_path / "text").write_text("no tensors", encoding="utf-8")
    with pytest.raises(ValueError, match="is no safetensors file"):
        Guard.load(tmp_path / "text")
    foreign = checkpoints.find(checkpoints.shipped()["box"])
    assert foreign is not None
    with pytest.raises(ValueError, match="format 1, got None"):
        Guard.load(foreign)

    def fail(_: Any, target: Path, **__: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    whole = path.read_bytes()
    monkeypatch.setitem(Guard.save.__globals__, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        Guard(box.net, fitted(box)).save(path)
    assert path.read_bytes() == whole
    assert len(list(tmp_path.iterdir())) == 4
