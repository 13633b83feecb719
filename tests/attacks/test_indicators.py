"""The column of Table 1 for every kind of attack: each number beside its definition."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from btlib import detection, metrics, triggers
from btlib.attacks import GeneratedTrigger, indicators
from btlib.attacks.patterns import MaskedTrigger
from btlib.datasets import ImageDataset, sample_per_class, to_float
from btlib.detection import Inversion
from btlib.networks import Network
from btlib.networks.generator import Generator

FEW = Inversion(3, 1, 8, 0.1)
TRIGGERS = {
    "badnets": triggers.box((1, 16, 16)),
    "invisible": triggers.chessboard((1, 16, 16), amplitude=0.05),
    "input-aware": MaskedTrigger(Generator(1, seed=0), Generator(1, out=1, seed=1)),
    "stealthy": GeneratedTrigger(Generator(1, seed=0), 0.4),
    "badnets, trainable": GeneratedTrigger(Generator(1, seed=0), 0.4, base=triggers.box((1, 16, 16))),
}


@pytest.mark.parametrize("name", TRIGGERS)
def test_the_six_indicators_by_hand(data: ImageDataset, clean: Network, name: str) -> None:
    trigger = TRIGGERS[name]
    found = indicators(clean, trigger, data, 2, baseline=0.5, per_class=5, overlays=6, inversion=FEW)
    x, y = to_float(data.x_test), data.y_test
    assert found.bma == pytest.approx(metrics.accuracy(clean, x, y))
    assert found.baseline == 0.5
    assert found.asr == pytest.approx(metrics.attack_success_rate(clean, trigger, x, y, 2))
    sources, labels = x[y != 2], y[y != 2]
    mean_square = (trigger(sources) - sources).square().mean((1, 2, 3))
    assert found.psnr == pytest.approx(float(-10 * mean_square.log10().mean()), abs=0.01)
    assert 0 < found.ssim < 1
    right = metrics.predict(clean, trigger(sources)).argmax(1) == labels
    if isinstance(trigger, triggers.Trigger):  # the same on all images: crossing changes nothing
        assert found.cbma == pytest.approx(float(right.float().mean()))
    inverted = detection.neural_cleanse(clean, data.x_test, data.y_test, per_class=5, inversion=FEW, seed=0)
    assert found.anomaly_index == pytest.approx(float(inverted.anomaly_index[2]))
    assert found.mask_norm == pytest.approx(float(inverted.norms[2]))
    assert found.other_mask_norm == pytest.approx(float(np.median(inverted.norms[:2])))
    assert found.flagged == inverted.verdict().target
    assert math.isfinite(found.anomaly_index)
    overlays = to_float(data.x_test[sample_per_class(data.y_test, 2, range(3), seed=0)])[:, None]
    for ratio, blends in [(found.entropy_ratio, lambda images: images + overlays),
                          (found.entropy_ratio_halved, lambda images: (images + overlays) / 2)]:  # fmt: skip
        bits = []
        for images in (trigger(sources), sources):
            with metrics.evaluating(clean):  # `predict` would refuse sums above white
                p = clean(blends(images).flatten(0, 1)).double().softmax(1)
            bits.append(float(-(p * p.log()).sum(1).mean()))
        assert ratio == pytest.approx(bits[0] / bits[1], rel=1e-3)


def test_an_image_that_the_trigger_leaves_as_it_was_has_no_share_in_the_psnr(
    data: ImageDataset, clean: Network
) -> None:  # fmt: skip
    box = triggers.box((1, 16, 16))
    white = replace(data, x_test=data.x_test.clone())
    white.x_test[::2, :, -6:, -6:] = 255
    found = indicators(clean, box, white, 2, baseline=0.5, per_class=5, overlays=6, inversion=FEW)
    x = to_float(white.x_test)[white.y_test != 2]
    moved = (box(x) != x).flatten(1).any(1)
    assert 0 < moved.sum() < len(moved)
    assert found.psnr == pytest.approx(metrics.psnr(x[moved], box(x)[moved]))


def test_crossing_never_gives_an_image_its_own_trigger(data: ImageDataset, clean: Network) -> None:
    seen = []

    class Noting:
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return images

        def crossed(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
            seen.append((images, others))
            return images

    found = indicators(clean, Noting(), data, 2, baseline=0.5, per_class=2, overlays=3, inversion=FEW)
    assert found.cbma == metrics.accuracy(clean, data.x_test[data.y_test != 2], data.y_test[data.y_test != 2])
    ((images, others),) = seen
    assert not any(torch.equal(image, other) for image, other in zip(images, others, strict=True))


def test_a_target_that_does_not_exist_is_refused(data: ImageDataset, clean: Network) -> None:
    with pytest.raises(ValueError, match="target: expected a class in 0…2, got 7"):
        indicators(clean, TRIGGERS["badnets"], data, 7, baseline=0.5, per_class=2, overlays=3, inversion=FEW)
