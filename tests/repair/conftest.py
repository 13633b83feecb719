"""A network set by hand, with a backdoor that is one neuron fed by one pixel; its clean twin; the trigger."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from toys import TARGET, lit_pixels

SIZE = 4


class Foreign(nn.Module):
    """A classifier that is no `Network` of btlib: class k is "pixel (0, k) is lit", one neuron for each.

    A fourth neuron sees the last pixel, and `backdoor` times what it sees goes to the target's logit. Every class has a
    second pixel below the first, seen by a fifth to seventh neuron, so that clean images use what they can spare.
    """

    def __init__(self, backdoor: float, *, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 7, SIZE, bias=not norm)  # as large as the image: a neuron per channel
        self.norm = nn.BatchNorm2d(7) if norm else nn.Identity()
        self.last = nn.Linear(7, 3, bias=False)
        with torch.no_grad():
            for tensor in (self.conv.weight, self.last.weight, *([] if norm else [self.conv.bias])):
                tensor.zero_()
            for k in range(3):
                self.conv.weight[k, 0, 0, k] = self.conv.weight[4 + k, 0, 1, k] = 1.0
                self.last.weight[k, k] = self.last.weight[k, 4 + k] = 4.0
            self.conv.weight[3, 0, -1, -1] = 1.0
            self.last.weight[TARGET, 3] = backdoor

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.conv(x)).flatten(1).relu())


def stamp(images: Tensor) -> Tensor:
    stamped = images.clone()
    stamped[:, :, -1, -1] = 1.0
    return stamped


@pytest.fixture
def trigger() -> Callable[[Tensor], Tensor]:
    return stamp


@pytest.fixture
def backdoored() -> Foreign:
    return Foreign(20.0).eval()


@pytest.fixture
def normed() -> Foreign:
    """The same with batch normalisation, whose statistics change nothing."""
    network = Foreign(20.0, norm=True).eval()
    with torch.no_grad():
        network.conv.weight[3] *= 5  # an outlier among the channels' Lipschitz bounds
        network.last.weight[TARGET, 3] /= 5
    return network


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """90 float images: the pixels of the class, faintly speckled; the trigger's pixel is all but black."""
    x, y = lit_pixels(30, size=SIZE)
    x[range(len(y)), 0, 1, y] = 1.0
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    return (x * 0.8 + noise).clamp(0, 1), y
