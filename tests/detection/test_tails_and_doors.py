"""Tails far out, and doors that take images or none."""

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from btlib import detection
from btlib.detection import gamma


@pytest.mark.parametrize(("shape", "value"), [(50, 1200.0), (300, 1800.0), (1000, 3600.0)])
def test_a_tail_too_small_for_a_double(shape: int, value: float) -> None:
    # Γ of a whole shape: exp(-x) times the sum of x^k / k! for k below the shape
    terms = np.arange(shape) * np.log(value) - special.gammaln(np.arange(shape) + 1)
    assert special.gammaincc(shape, value) < 1e-280  # the continued fraction is asked
    assert gamma.log_survival(value, float(shape), 1.0) == pytest.approx(special.logsumexp(terms) - value, abs=1e-8)


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
