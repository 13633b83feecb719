"""What a search will cost, from one measured pass (floor 2)."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from btlib.detection.images import undisturbed


@dataclass(frozen=True)
class Passes:
    """Images that go through a network.

    Attributes:
        gradients: there and back, for the gradient of an image.
        looks: there only.

    Example:
        >>> (Passes(10, 5) + Passes(1, 1)).seconds((0.5, 0.25))
        7.0
    """

    gradients: float
    looks: float

    def __add__(self, other: "Passes") -> "Passes":
        """Both."""
        return Passes(self.gradients + other.gradients, self.looks + other.looks)

    def seconds(self, each: tuple[float, float]) -> float:
        """What they take where a gradient and a look take so long, see `seconds_per_image`."""
        return self.gradients * each[0] + self.looks * each[1]


def seconds_per_image(network: nn.Module, images: Tensor) -> tuple[float, float]:
    """Seconds of a gradient and of a look, for one image of a batch, on this machine as it is now.

    Args:
        network: a classifier.
        images: float (N, C, H, W), on its device; some tens.

    Example:
        >>> gradient, look = seconds_per_image(nn.Flatten(), torch.rand(8, 1, 4, 4))
        >>> gradient > 0 and look > 0
        True
    """
    with undisturbed(network, images[:2]):
        network(images)  # the first pass also sets things up
        began = time.perf_counter()
        batch = images.detach().requires_grad_()
        torch.autograd.grad(network(batch).square().sum(), batch)
        between = time.perf_counter()
        with torch.no_grad():
            float(network(images).sum())  # waits for a GPU
        return (between - began) / len(images), (time.perf_counter() - between) / len(images)
