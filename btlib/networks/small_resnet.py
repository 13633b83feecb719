"""A residual network that a CPU trains on CIFAR-10 in under an hour (L-RED 4.2, in-flight 5.1 have ResNet-18)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from btlib.networks.layers import sequential

# Standard deviations of what a whitening layer sees on CIFAR-10's normalised training images, measured: rows are the
# colour's frequencies (all together, red against blue, green against both), columns those of a 2×2 square (mean,
# across, down, diagonal).
_DEVIATIONS = ((3.19, 0.59, 0.64, 0.24), (0.88, 0.063, 0.076, 0.015), (0.42, 0.041, 0.047, 0.012))
# Added to them in quadrature: the finest colours of a JPEG are the noise of its rounding, not to be amplified to one.
_NOISE = 0.1


class Whitening(nn.Module):
    """A frozen 2×2 convolution whose outputs, on photographs, are hardly correlated, and none much larger than 1.

    Its filters are the cosine basis of a square of 2×2 pixels and all its colours, each divided by its deviation on
    CIFAR-10 (no less than .1), and the same with the opposite sign. They are close to the eigenvectors of the patches'
    covariance, and the same for every training set, poisoned or not.

    Args:
        channels: of the images.

    Example:
        >>> Whitening(3)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 24, 31, 31])
    """

    filters: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        basis = torch.kron(_cosines(channels), torch.kron(_cosines(2), _cosines(2))).view(channels * 4, channels, 2, 2)
        deviations = torch.tensor([_DEVIATIONS[min(colour, 2)] for colour in range(channels)])
        deviations = deviations.hypot(torch.tensor(_NOISE)).view(-1, 1, 1, 1)
        self.register_buffer("filters", torch.cat([basis / deviations, -basis / deviations]))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) → (N, 8C, H - 1, W - 1)."""
        return F.conv2d(x, self.filters)


def _cosines(n: int) -> Tensor:
    """The orthonormal cosine basis of n numbers (DCT-II), a frequency a row."""
    k = torch.arange(n)
    basis = torch.cos(torch.pi * k[:, None] * (k + 0.5) / n)
    return basis / basis.norm(dim=1, keepdim=True)


class Block(nn.Module):
    """Two 3×3 convolutions, 2×2 pooling after the first, the second's input added to its output.

    Args:
        channels, filters: of the input and the output; a convolution starts as the identity of its first `channels`.

    Example:
        >>> Block(24, 64)(torch.zeros(2, 24, 31, 31)).shape
        torch.Size([2, 64, 15, 15])
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.pool, self.norm1 = nn.MaxPool2d(2), nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels, H, W) → (N, filters, H//2, W//2)."""
        x = F.gelu(self.norm1(self.pool(self.conv1(x))))
        return F.gelu(x + self.norm2(self.conv2(x)))


class Scaled(nn.Module):
    """Its input, times a number."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.by * x


def small_resnet(channels: int, size: int) -> tuple[nn.Sequential, int, dict[str, str]]:
    """Whitening and three residual blocks of 64, 128 and 128 filters: 569,354 weights for 32×32 in colour.

    The course's own stand-in for ResNet-18 at a tenth of its cost, after Keller Jordan's "94 % on CIFAR-10 in 3.29
    seconds on a single GPU" (2024): its frozen first layer, widths, identity start and scaled output, but a residual
    second half of each block and a whitening that needs no images. `conv-1` … `conv-4` count from the end.

    Example:
        >>> small_resnet(3, 32)[0][:-2](torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 128, 1, 1])
    """
    body = sequential(
        whitening=Whitening(channels), gelu=nn.GELU(),
        block1=Block(8 * channels, 64), block2=Block(64, 128), block3=Block(128, 128),
        pool=nn.AdaptiveMaxPool2d(1), flatten=nn.Flatten(), scaled=Scaled(1 / 9),
    )  # fmt: skip
    places = [f"block{block}.norm{part}" for block in (3, 2) for part in (2, 1)]
    return body, 128, {f"conv-{i}": place for i, place in enumerate(places, 1)}
