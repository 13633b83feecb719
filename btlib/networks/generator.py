"""The generator of the stealthy and the input-aware attack: an image in, a pattern in [-1, 1] out (floor 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from btlib.seeds import check_seed


class _LastLayer(nn.ConvTranspose2d):
    """A transposed convolution, 4×4 with stride 2 and padding 1, as a 2×2 convolution in two thirds of the time.

    It makes the four pixels of each 2×2 square as four channels: the same sums, for which libraries have a fast way
    also where there is one filter only.
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__(channels, filters, 4, stride=2, padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps (N, C, H, W) → (N, filters, 2H, 2W)."""
        channels, filters = self.weight.shape[:2]
        apart = self.weight.view(channels, filters, 2, 2, 2, 2)  # row 2j + p of a kernel adds to row p of a square
        kernels = apart.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(4 * filters, channels, 2, 2)
        squares = F.conv2d(x, kernels, self.bias.repeat_interleave(4), padding=1)  # type: ignore[union-attr]
        return F.pixel_shuffle(squares, 2)[..., 1:-1, 1:-1]


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

    any_layout = True

    def __init__(self, channels: int, width: int = 32, out: int | None = None, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(check_seed(seed))
            self.layers = nn.Sequential(
                nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(inplace=True),
                nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                _LastLayer(width, out or channels), nn.Tanh(),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1], H and W multiples of 4 → patterns in [-1, 1], (N, out, H, W)."""
        if x.shape[-1] % 4 or x.shape[-2] % 4:
            raise ValueError(f"images: expected height and width that are multiples of 4, got {tuple(x.shape[-2:])}; "
                             "load the data set with size=32")  # fmt: skip
        return self.layers(2 * x - 1)
