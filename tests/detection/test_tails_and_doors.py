"""Tails far out, doors that take images or none, and settings as printed."""

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from btlib import detection, inflight, metrics, repair
from btlib.attacks import input_aware, stealthy
from btlib.detection import gamma


@pytest.mark.parametrize(("shape", "value"), [(50, 1200.0), (300, 1800.0), (1000, 3600.0)])
def test_a_tail_too_small_for_a_double(shape: int, value: float) -> None:
    # Γ of a whole shape: exp(-x) times the sum of x^k / k! for k below the shape
    terms = np.arange(shape) * np.log(value) - special.gammaln(np.arange(shape) + 1)
    assert special.gammaincc(shape, value) < 1e-280  # the continued fraction is asked
    assert gamma.log_survival(value, float(shape), 1.0) == pytest.approx(special.logsumexp(terms) - value, abs=1e-8)


def test_ones_and_zeros_alone_are_no_probabilities() -> None:
    assert metrics.prediction.probabilities(torch.tensor([[0.25, 0.75], [0.0, 1.0]]))
    assert not metrics.prediction.probabilities(torch.eye(3))


class Lit(nn.Module):
    """Class k is pixel k; it says how large its images are."""

    image_shape = (1, 1, 3)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.flatten(1)


def test_margins_want_images_and_labels_or_neither() -> None:
    images, mmbd = torch.rand(3, 1, 1, 3), detection.MMBD(starts=2, steps=5)
    assert np.array_equal(mmbd(Lit(), images).norms, mmbd(Lit()).norms)  # images without labels say nothing


def test_factors_of_brightness_are_checked() -> None:
    with pytest.raises(ValueError, match="factors: expected"):
        inflight.scale_up.scaled_consistency(Lit(), torch.rand(2, 1, 1, 3), factors=(0.0,))


def test_a_strength_above_the_whole_range_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon: expected"):
        stealthy.StealthyRecipe(target=0, epsilon=1.5)


def test_batches_beside_batches_leave_out_a_smaller_last_one() -> None:
    pairs = input_aware._pairs(torch.arange(10), 4)
    assert [(len(first), len(second)) for first, second in pairs] == [(4, 4), (4, 4)]


def test_settings_as_printed() -> None:
    whole = input_aware.ORIGINAL  # rates drop by ten after these epochs
    assert (whole.network_drops, whole.generator_drops) == ((100, 200, 300, 400), (200, 300, 400, 500))
    public = detection.PUBLIC
    assert (public.lr, public.batch_size, public.steps) == (0.1, 64, None)


def test_a_repair_says_how_long_it_took() -> None:
    images = torch.eye(3).reshape(3, 1, 1, 3).repeat(10, 1, 1, 1)
    repaired = repair.FineTuning()(Lit(), images, torch.arange(30) % 3)
    assert 0 < repaired.seconds < 600
