"""What networks of other programs have in common: a package that reads them, an order of axes, what their file says."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from btlib.cli.adapting import ForeignError
from btlib.cli.preprocessing import Convention


@dataclass(frozen=True, eq=False)
class Other:
    """A network read from another program's file, and what that file says of its images.

    Attributes:
        module: images (N, C, H, W) → what it returns.
        what: what kind of network it is, in words.
        size: (C, H, W) of its input, None for each that is not said.
        convention: what is done to images in [0, 1] before it; None: not said.
        classes: names of its outputs; empty: not said.
        notes: what was done to it, in words.
    """

    module: nn.Module
    what: str
    size: tuple[int | None, int | None, int | None]
    convention: Convention | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def needed(package: str, extra: str, name: str, kind: str) -> Any:
    """A package that an extra brings.

    Args:
        package: what is imported.
        extra: of btlib, that brings it.
        name: of the file that needs it.
        kind: of file, in words.

    Raises:
        ForeignError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ForeignError(
            f"packages: expected those of btlib[{extra}] to read {name}, {kind}, got no {error.name or package}; "
            f"python -m pip install 'btlib[{extra}]'"
        ) from None


def axes_of(size: Sequence[int | None], name: str, kind: str) -> tuple[str, tuple[int | None, int | None, int | None]]:
    """In which order an input without its batch has its axes ("CHW", "HWC" or "HW"), and its (C, H, W).

    Raises:
        ForeignError: it is no image.

    Example:
        >>> axes_of((28, 28, 1), "net.keras", "a Keras file")
        ('HWC', (1, 28, 28))
    """
    if len(size) == 2:
        return "HW", (1, size[0], size[1])
    if len(size) == 3 and size[0] not in (1, 3) and size[2] in (1, 3):
        return "HWC", (size[2], size[0], size[1])
    if len(size) == 3:
        return "CHW", (size[0], size[1], size[2])
    raise ForeignError(
        f"WEIGHTS: expected a network of images (N, C, H, W) or (N, H, W, C) in {name}, {kind}, got one whose input "
        f"has {len(size) + 1} axes, batch included; let it begin with the layer that takes images"
    )


class Reordered(nn.Module):
    """A network whose images have their axes in another order."""

    def __init__(self, network: nn.Module, axes: str) -> None:
        super().__init__()
        self.network, self.axes = network, axes

    def forward(self, x: Tensor) -> Any:
        """Images (N, C, H, W) → what the network returns."""
        return self.network(x[:, 0] if self.axes == "HW" else x.movedim(1, -1).contiguous())


def reordered(network: nn.Module, axes: str) -> nn.Module:
    """The network for images (N, C, H, W)."""
    return network if axes == "CHW" else Reordered(network, axes)
