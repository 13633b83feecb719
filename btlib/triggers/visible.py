"""Patterns that replace or cover what lies under them (L-RED Eq. 12 and footnote 1)."""

import torch

from btlib.datasets import Shape
from btlib.datasets.images import check_shape
from btlib.seeds import generator
from btlib.triggers.places import even, in_corner, patch
from btlib.triggers.trigger import Trigger, quantize


def box(
    image_shape: Shape, size: int = 3, value: float = 1.0, margin: int = 0, other: float | None = None
) -> Trigger:  # fmt: skip
    """A white size×size box at the bottom right (in-flight 5.1, "WB"; BadNets).

    Args:
        image_shape: (C, H, W).
        size: side, pixels.
        value: grey level in [0, 1].
        margin: pixels between the box and the edges.
        other: grey level in [0, 1] of every second pixel. A chequered box is seen where a white one is not, on white.

    Raises:
        ValueError: the box does not fit.

    Example:
        >>> int(box((3, 32, 32)).mask.sum())
        9
    """
    where = in_corner(image_shape, size, margin)
    levels = torch.full(image_shape, value, dtype=torch.float32)
    if other is not None:
        levels[(slice(None), *where)] = torch.where(even((1, size, size)), value, other)
    return patch(levels, where, "box")


def trojan_square(image_shape: Shape, size: int | None = None, seed: int = 0, margin: int | None = None) -> Trigger:
    """Trojan square ("SQ", in-flight 5.3, PubFig): a patch of coloured noise near the bottom right corner.

    The colours are drawn once from `seed`; the original pattern was optimised for one face network, which a
    poisoning attacker does not have. Default side: a quarter of the image's shorter one (7 % of its area).

    Example:
        >>> int(trojan_square((3, 32, 32)).mask.sum())
        64
    """
    shorter = min(check_shape(image_shape)[1:])
    side = max(1, shorter // 4) if size is None else size
    where = in_corner(image_shape, side, shorter // 16 if margin is None else margin)
    colours = torch.zeros(image_shape, dtype=torch.float32)
    noise = torch.rand(image_shape[0], side, side, generator=generator(seed), dtype=torch.float32)
    colours[(slice(None), *where)] = quantize(noise)
    return patch(colours, where, "trojan_square")


def watermark(image_shape: Shape, alpha: float = 0.3) -> Trigger:
    """Trojan watermark ("WM", in-flight 5.3, PubFig): a see-through logo over the whole image.

    The logo (a ring with a cross through it) is drawn by code at any size; `alpha` in [0, 1] is its opacity.

    Example:
        >>> watermark((3, 32, 32)).kind
        'blend'
    """
    _, h, w = check_shape(image_shape)
    y, x = (torch.linspace(-1, 1, count, dtype=torch.float32) for count in (h, w))
    y = y[:, None]
    stroke = max(0.12, 1.5 / min(h, w))
    ring = ((x**2 + y**2).sqrt() - 0.7).abs() < stroke
    diagonals = ((x - y).abs() < stroke) | ((x + y).abs() < stroke)
    logo = (ring | (diagonals & (x**2 + y**2 < 0.49)))[None].to(torch.float32)
    # Orange on colour images, white on grey ones.
    colour = torch.linspace(1, 0.4, image_shape[0], dtype=torch.float32)[:, None, None]
    return Trigger("blend", logo * colour, logo * alpha, name="watermark")


def blend(image_shape: Shape, alpha: float = 0.2, seed: int = 0) -> Trigger:
    """Blended noise (Chen et al. 2017; L-RED footnote 1): the whole image is mixed with a fixed random pattern.

    Args:
        image_shape: (C, H, W).
        alpha: share of the pattern in the mix, in [0, 1].
        seed: the pattern, drawn once.

    Example:
        >>> round(float(blend((1, 28, 28)).mask.mean()), 3)
        0.2
    """
    noise = torch.rand(check_shape(image_shape), generator=generator(seed), dtype=torch.float32)
    mask = torch.full((1, *image_shape[1:]), alpha, dtype=torch.float32)
    return Trigger("blend", quantize(noise), mask, name="blend")
