"""Additive patterns: a few grey levels more at some pixels (L-RED Eq. 1)."""

import torch

from btlib.datasets import Shape
from btlib.datasets.images import check_count, check_shape
from btlib.seeds import generator
from btlib.triggers.places import additive, anywhere, at, even, in_corner
from btlib.triggers.trigger import Trigger


def chessboard(image_shape: Shape, amplitude: float = 2 / 255) -> Trigger:
    """Chessboard (L-RED A.7.1; in-flight 5.1, "CB"): + amplitude where row + column is even, in all channels.

    L-RED's 2/255 takes on CIFAR-10 with ResNet-18; MNIST and Fashion-MNIST with LeNet-5 need about 15/255.

    Example:
        >>> int(chessboard((1, 4, 4)).mask.sum())
        8
    """
    return additive(image_shape, even(image_shape), amplitude, "chessboard")


def global_grid(image_shape: Shape, amplitude: float = 2 / 255) -> Trigger:
    """The "global" pattern (L-RED A.4.1): in any 2×2 window exactly one pixel is perturbed, in all channels.

    Example:
        >>> int(global_grid((1, 4, 4)).mask.sum())
        4
    """
    _, h, w = check_shape(image_shape)
    grid = (torch.arange(h)[:, None] % 2 == 0) & (torch.arange(w) % 2 == 0)
    return additive(image_shape, grid, amplitude, "global_grid")


def local_chessboard(image_shape: Shape, amplitude: float = 25 / 255, size: int = 6, margin: int = 0) -> Trigger:
    """A size×size patch of the chessboard at the bottom right corner, additive (L-RED A.8.1, MNIST).

    Example:
        >>> int(local_chessboard((1, 28, 28)).mask.sum())
        18
    """
    rows, columns = in_corner(image_shape, size, margin)
    inside = torch.zeros(image_shape[1:], dtype=torch.bool)
    inside[rows, columns] = True
    return additive(image_shape, inside & even(image_shape), amplitude, "local_chessboard")


def local_square(
    image_shape: Shape, amplitude: float = 50 / 255, size: int = 2, channel: int | None = None, seed: int = 0
) -> Trigger:
    """The "local" square (L-RED A.4.1): a size×size square at a random place, in one random channel.

    Args:
        image_shape: (C, H, W).
        amplitude: added to the pixels, fraction of full scale.
        size: side, pixels.
        channel: which channel; None draws it.
        seed: the draw of place and channel, made once.

    Example:
        >>> int((local_square((3, 32, 32)).pattern != 0).sum())
        4
    """
    check_count("size", size, usual=2)
    cells = anywhere(image_shape, [(i, j) for i in range(size) for j in range(size)], seed)
    if channel is None:
        channel = int(torch.randint(image_shape[0], (1,), generator=generator(seed + 1)))
    return additive(image_shape, cells, amplitude, "local_square", [channel])


def cross(image_shape: Shape, amplitude: float = 60 / 255, seed: int = 0) -> Trigger:
    """Five pixels in the form of a plus, at a random place, in all channels (L-RED A.7.1, group B).

    Example:
        >>> int(cross((3, 32, 32)).mask.sum())
        5
    """
    arms = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
    return additive(image_shape, anywhere(image_shape, arms, seed), amplitude, "cross")


def l_shape(image_shape: Shape, amplitude: float = 65 / 255, seed: int = 0) -> Trigger:
    """Four pixels in the form of an L, at a random place, in all channels (L-RED A.7.1, group C).

    Example:
        >>> int(l_shape((3, 32, 32)).mask.sum())
        4
    """
    strokes = ((0, 0), (1, 0), (2, 0), (2, 1))
    return additive(image_shape, anywhere(image_shape, strokes, seed), amplitude, "l_shape")


def single_pixel(image_shape: Shape, amplitude: float | None = None, position: tuple[int, int] = (-1, -1)) -> Trigger:
    """One pixel, bottom right by default.

    Args:
        image_shape: (C, H, W).
        amplitude: None sets the pixel to white (in-flight 5.1, "SP": 255), a patch; a number is added to it
            (L-RED A.8.1, Fashion-MNIST: 50/255).
        position: (row, column); negative counts from the end.

    Raises:
        ValueError: the pixel is outside the image.

    Example:
        >>> single_pixel((1, 28, 28)).kind, single_pixel((1, 28, 28), amplitude=50 / 255).kind
        ('patch', 'additive')
    """
    cell = at(image_shape, [position])
    if amplitude is not None:
        return additive(image_shape, cell, amplitude, "single_pixel")
    mask = cell[None].float()
    return Trigger("patch", mask.expand(image_shape).clone(), mask, name="single_pixel")
