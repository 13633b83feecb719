"""Where a pattern's pixels lie: maps of an image that are true where something is changed."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from btlib.datasets import Shape
from btlib.datasets.images import check_count, check_shape
from btlib.seeds import generator
from btlib.triggers.trigger import Trigger


def even(shape: Shape) -> Tensor:
    """bool (H, W), true where row + column is even.

    Example:
        >>> even((1, 2, 2)).int().tolist()
        [[1, 0], [0, 1]]
    """
    _, h, w = check_shape(shape)
    return (torch.arange(h)[:, None] + torch.arange(w)) % 2 == 0


def at(shape: Shape, cells: Iterable[tuple[int, int]]) -> Tensor:
    """bool (H, W), true at the given (row, column) places; negative ones count from the end.

    Example:
        >>> at((1, 2, 2), [(0, -1)]).int().tolist()
        [[0, 1], [0, 0]]
    """
    _, h, w = check_shape(shape)
    grid = torch.zeros(h, w, dtype=torch.bool)
    for row, column in cells:
        if not (-h <= row < h and -w <= column < w):
            raise ValueError(f"position: expected a pixel inside {h}×{w}, got ({row}, {column}); count from 0")
        grid[row, column] = True
    return grid


def in_corner(shape: Shape, size: int, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the size×size square at the bottom right, `margin` pixels from the edges."""
    _, h, w = check_shape(shape)
    check_count("size", size, usual=3)
    check_count("margin", margin, usual=0, least=0)
    if not size <= min(h, w) - margin:
        raise ValueError(f"size: expected 1…{min(h, w) - margin} in an image of {h}×{w} with margin {margin}, "
                         f"got {size}; choose a smaller square")  # fmt: skip
    return slice(h - margin - size, h - margin), slice(w - margin - size, w - margin)


def anywhere(shape: Shape, form: Sequence[tuple[int, int]], seed: int) -> Tensor:
    """bool (H, W), true where the cells of `form` come to lie at a place drawn once from `seed`.

    Example:
        >>> int(anywhere((1, 8, 8), [(0, 0), (1, 1)], seed=0).sum())
        2
    """
    _, h, w = check_shape(shape)
    height, width = (1 + max(cell[axis] for cell in form) for axis in (0, 1)) if form else (0, 0)
    if not (1 <= height <= h and 1 <= width <= w):
        raise ValueError(f"size: expected a pattern that fits into {h}×{w} pixels, got {height}×{width}; "
                         "choose a smaller pattern or larger images")  # fmt: skip
    draws = generator(seed)
    row = int(torch.randint(h - height + 1, (1,), generator=draws))
    column = int(torch.randint(w - width + 1, (1,), generator=draws))
    return at(shape, ((row + i, column + j) for i, j in form))


def additive(
    shape: Shape, cells: Tensor, amplitude: float, name: str, channels: Sequence[int] | None = None
) -> Trigger:
    """+amplitude at every true cell of `cells` (H, W), in all channels or in those named.

    Example:
        >>> additive((1, 2, 2), even((1, 2, 2)), 0.5, "two pixels").pattern.sum().item()
        1.0
    """
    pattern = torch.zeros(shape, dtype=torch.float32)  # whatever the default is
    chosen = list(range(shape[0])) if channels is None else list(channels)
    if not all(0 <= c < shape[0] for c in chosen):
        raise ValueError(f"channel: expected 0…{shape[0] - 1}, got {chosen}; this image has {shape[0]} channels")
    if not cells.any():
        raise ValueError(f"size: expected room for at least one pixel of the {name}, got none; choose a larger one, or "
                         "another margin")  # fmt: skip
    pattern[chosen] = amplitude * cells.float()
    return Trigger("additive", pattern, (pattern != 0).any(0, keepdim=True).float(), name=name)


def patch(pattern: Tensor, where: tuple[slice, slice], name: str) -> Trigger:
    """`pattern` (C, H, W) in place of the pixels of a square, given by its rows and columns.

    Example:
        >>> int(patch(torch.ones(1, 4, 4), in_corner((1, 4, 4), 2, 0), "corner").mask.sum())
        4
    """
    mask = torch.zeros(1, *pattern.shape[1:], dtype=torch.float32)
    mask[(0, *where)] = 1
    return Trigger("patch", pattern * mask, mask, name=name)
