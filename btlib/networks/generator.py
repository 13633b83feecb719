"""The generator of the stealthy and the input-aware attack: an image in, a pattern in [-1, 1] out (floor 1)."""

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """Two convolutions down, two transposed ones up, tanh (stealthy attack 2.1).

    The paper gives no sizes; 4×4 kernels of stride 2 with 32 and 64 filters, batch normalisation between, are the
    usual form of such a network (docs/choices.md).

    Args:
        channels: of the images.
        width: filters of the first layer.
        out: channels of the pattern; None: those of the images. A mask has one.
        seed: of the initial weights; the caller's random state is left alone.

    Example:
        >>> Generator(1, seed=0)(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(self, channels: int, width: int = 32, out: int | None = None, *, seed: int | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(inplace=True),
                nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(width, out or channels, 4, stride=2, padding=1), nn.Tanh(),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1], H and W multiples of 4 → patterns in [-1, 1], (N, out, H, W)."""
        if x.shape[-1] % 4 or x.shape[-2] % 4:
            raise ValueError(f"images: expected height and width that are multiples of 4, got {tuple(x.shape[-2:])}; "
                             "load the data set with size=32")  # fmt: skip
        return self.layers(2 * x - 1)
