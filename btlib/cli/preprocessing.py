"""What a network wants done to images before it sees them, and whether another convention would suit it better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from btlib import metrics
from btlib.datasets import to_float

#: Mean and standard deviation that public networks are trained with, by name.
USUAL = {
    "-1…1": ((0.5,), (0.5,)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST's": ((0.1307,), (0.3081,)),
    "Fashion-MNIST's": ((0.2860,), (0.3530,)),
}
_CLEARLY = 0.05  # of accuracy: another convention must be better by that, and by three standard errors
_FEW = 200  # images that every convention is tried on; those not clearly worse there are tried on all of them


@dataclass(frozen=True)
class Convention:
    """How images in [0, 1] become what a network was trained on.

    Attributes:
        scale: they are multiplied by it: 255 for networks that take 0…255.
        invert: white for black, before that.
        bgr: blue, green, red in place of red, green, blue.
        mean, std: subtracted and divided by, per channel or one for all; empty: not.

    Raises:
        ValueError: numbers that can't be.

    Example:
        >>> Convention(scale=255).options
        '--scale 255'
    """

    scale: float = 1.0
    invert: bool = False
    bgr: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"--scale: expected a positive number, got {self.scale:g}; 255 is usual")
        finite = all(map(math.isfinite, self.mean + self.std))
        if bool(self.mean) != bool(self.std) or not finite or any(each <= 0 for each in self.std):
            raise ValueError(
                f"--mean, --std: expected numbers for both, deviations above 0, got {self.mean} and {self.std}; "
                "ImageNet's are 0.485,0.456,0.406 and 0.229,0.224,0.225"
            )

    def check(self, channels: int) -> None:
        """Whether it can be used on images of so many channels.

        Raises:
            ValueError: it can't.
        """
        if {len(self.mean), len(self.std)} - {0, 1, channels}:
            raise ValueError(f"--mean, --std: expected one number or {channels}, one per channel, got "
                             f"{len(self.mean)} and {len(self.std)}; separate them by commas")  # fmt: skip
        if self.bgr and channels != 3:
            raise ValueError(f"--bgr: expected a network for colour images, got {channels} channel; leave --bgr out")

    @property
    def options(self) -> str:
        """As it is said on the command line."""
        said = []
        if self.scale != 1:
            said.append(f"--scale {self.scale:g}")
        if self.invert:
            said.append("--invert")
        if self.bgr:
            said.append("--bgr")
        if self.mean:
            said.append(f"--mean {_listed(self.mean)} --std {_listed(self.std)}")
        return " ".join(said) or "none of --scale, --invert, --bgr, --mean and --std"

    def of(self, images: Tensor) -> Tensor:
        """Images in [0, 1], float (N, C, H, W), as the network was trained on them."""
        x = 1 - images if self.invert else images
        x = (x.flip(1) if self.bgr else x) * self.scale
        if not self.mean:
            return x
        mean, std = (x.new_tensor(values).reshape(-1, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std

    def before(self, network: nn.Module) -> nn.Module:
        """The network with this in front of it: images in [0, 1] → logits."""
        return network if self == Convention() else _Converted(network, self).eval()


class _Converted(nn.Module):
    """A network behind a convention."""

    def __init__(self, network: nn.Module, convention: Convention) -> None:
        super().__init__()
        self.network, self.convention = network, convention

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] → logits."""
        return self.network(self.convention.of(x))


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def alternatives(used: Convention, channels: int) -> list[Convention]:
    """Conventions that public networks are trained with, each one step or two from the one in use."""
    plain = replace(used, mean=(), std=(), scale=1.0)
    found = [plain, replace(plain, scale=255.0), replace(used, invert=not used.invert)]
    found += [replace(plain, mean=mean, std=std) for mean, std in USUAL.values() if len(mean) in (1, channels)]
    found += [replace(used, bgr=not used.bgr)] if channels == 3 else []
    return [each for each in dict.fromkeys(found) if each != used]


def better(network: nn.Module, used: Convention, images: Tensor, labels: Tensor) -> tuple[Convention, float] | None:
    """A usual convention under which a network is clearly more accurate than under the one in use.

    Args:
        network: without any convention before it.
        used: the one in use.
        images: uint8 (N, C, H, W), clean.
        labels: int64 (N,).

    Returns:
        the best one and its accuracy, or None where the one in use is as good.

    Example:
        >>> import torch
        >>> class Bright(nn.Module):
        ...     def forward(self, x):
        ...         return torch.cat([torch.full_like(x, 9.0), x], 1).flatten(1)
        >>> x = torch.tensor([0, 255]).to(torch.uint8).repeat(50).reshape(100, 1, 1, 1)
        >>> better(Bright(), Convention(), x, torch.arange(100) % 2)[0].options
        '--scale 255'
    """

    def shares(conventions: Sequence[Convention], x: Tensor, y: Tensor) -> dict[Convention, float]:
        return {each: metrics.accuracy(each.before(network), to_float(x), y) for each in conventions}

    few = slice(None, None, max(1, len(labels) // _FEW))
    tried = shares([used, *alternatives(used, images.shape[1])], images[few], labels[few])
    likely = [each for each, share in tried.items() if each != used and share > tried[used] - _CLEARLY]
    if not likely:
        return None
    tried = shares([used, *likely], images, labels)
    now = tried.pop(used)
    best = max(tried, key=tried.__getitem__)
    noise = (max(now * (1 - now), 0.25 / len(labels)) / len(labels)) ** 0.5
    return (best, tried[best]) if tried[best] > now + max(_CLEARLY, 3 * noise) else None
