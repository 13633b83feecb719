"""Backdoor patterns and how they are embedded in an image (floor 1).

A trigger is data (pattern, mask) and one pure function g(x, Δ). Who is poisoned and how labels change
is another matter: `btlib.poisoning`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from btlib.datasets import check_images

Kind = Literal["additive", "patch", "blend"]
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Trigger:
    """A backdoor pattern Δ with its embedding g(·, Δ); call it on images.

    * ``additive``: L-RED Eq. 1, ``[x + pattern]_c``, clipped to [0, 1];
    * ``patch``: L-RED Eq. 12, ``x·(1-mask) + pattern·mask`` with a binary mask;
    * ``blend``: the same with a mask anywhere in [0, 1] (L-RED, footnote 1).

    Attributes:
        kind: one of the three above.
        pattern: float (C, H, W); in [-1, 1] when additive (a perturbation), else in [0, 1] (pixel values).
        mask: float (1, H, W) in [0, 1]; when additive, 1 where the pattern is not zero.
        bits: colour depth of the result; 8 rounds to multiples of 1/255 (L-RED A.4), None does not round.
        name: for titles and records.

    Raises:
        ValueError: unknown kind, or pattern and mask that do not fit together.

    Example:
        >>> import torch
        >>> box((1, 28, 28))(torch.zeros(2, 1, 28, 28)).sum().item()
        18.0
    """

    kind: Kind
    pattern: Tensor
    mask: Tensor
    bits: int | None = 8
    name: str = "trigger"

    def __post_init__(self) -> None:
        if self.kind not in ("additive", "patch", "blend"):
            raise ValueError(f"kind: expected 'additive', 'patch' or 'blend', got {self.kind!r}; see Trigger's docs")
        if self.pattern.ndim != 3 or self.mask.shape != (1, *self.pattern.shape[1:]):
            raise ValueError(
                f"mask: expected shape (1, H, W) beside a pattern (C, H, W), got mask {tuple(self.mask.shape)} and "
                f"pattern {tuple(self.pattern.shape)}; one mask serves all channels"
            )
        low = -1.0 if self.kind == "additive" else 0.0
        for name, tensor, least in (("pattern", self.pattern, low), ("mask", self.mask, 0.0)):
            smallest, largest = (float(v) for v in tensor.aminmax())
            if not (smallest >= least - 1e-6 and largest <= 1 + 1e-6):
                raise ValueError(
                    f"{name}: expected values in [{least:g}, 1] for kind {self.kind!r}, got {smallest:g}…{largest:g}; "
                    "give amplitudes as fractions of full scale, such as 25/255"
                )
        if self.kind == "patch" and not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ValueError("mask: expected 0 and 1 only for kind 'patch', got values between; use kind 'blend'")
        if self.bits is not None and not 1 <= self.bits <= 16:
            raise ValueError(f"bits: expected 1 to 16, or None for no rounding, got {self.bits}; 8 is usual")

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of the images it fits."""
        c, h, w = self.pattern.shape
        return int(c), int(h), int(w)

    def __call__(self, images: Tensor) -> Tensor:
        """Embed the pattern: new images, the input is left alone.

        Args:
            images: float in [0, 1], (N, C, H, W) or a single (C, H, W).

        Returns:
            float images of the same shape, dtype and device, in [0, 1].

        Raises:
            TypeError: images are not float.
            ValueError: wrong shape or range.
        """
        check_images(images, ndim=None)
        if images.ndim not in (3, 4) or tuple(images.shape[-3:]) != self.image_shape:
            raise ValueError(
                f"images: expected shape (N, {', '.join(map(str, self.image_shape))}) for trigger {self.name!r}, "
                f"got {tuple(images.shape)}; make the trigger with the data set's image_shape"
            )
        pattern, mask = self.pattern.to(images), self.mask.to(images)
        added = images + pattern  # Eq. 1
        replaced = images * (1 - mask) + pattern * mask  # Eq. 12
        stamped = added if self.kind == "additive" else replaced
        return quantize(stamped.clamp(0, 1), self.bits)

    def faded(self, strength: float) -> "Trigger":
        """The same trigger at `strength` in [0, 1] of its own: 0 changes nothing, 1 is the trigger itself.

        An additive pattern is scaled; a patch becomes a blend with a scaled mask.

        Raises:
            ValueError: strength outside [0, 1].
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength: expected a value in [0, 1], got {strength}; 1 is the full trigger")
        if self.kind == "additive":
            return replace(self, pattern=self.pattern * strength)
        return replace(self, kind=self.kind if strength == 1 else "blend", mask=self.mask * strength)

    def moved(self, down: int = 0, right: int = 0) -> "Trigger":
        """The same trigger shifted by whole pixels; what leaves one edge comes in at the opposite one."""
        shift = {"shifts": (down, right), "dims": (-2, -1)}
        return replace(self, pattern=self.pattern.roll(**shift), mask=self.mask.roll(**shift))

    def offset_display(self, offset: float = 127 / 255) -> Tensor:
        """The pattern as an image in [0, 1], (C, H, W), the way L-RED's Figures 1 and 4 show it.

        An additive pattern is shown on a grey of `offset`, so that negative values are seen; a patch or
        blend is shown through its mask on the same grey.
        """
        if self.kind == "additive":
            return (self.pattern + offset).clamp(0, 1)
        return self.pattern * self.mask + offset * (1 - self.mask)


def quantize(images: Tensor, bits: int | None = 8) -> Tensor:
    """Round images in [0, 1] to the levels of a colour depth of `bits` (L-RED A.4); None returns them as they are.

    Example:
        >>> import torch
        >>> quantize(torch.tensor([0.3]), bits=1).item()
        0.0
    """
    if bits is None:
        return images
    top = 2**bits - 1
    return (images * top).round() / top


# ---------------------------------------------------------------------------------------------- helpers


def _additive(
    shape: Shape, cells: Tensor, amplitude: float, name: str, channels: Sequence[int] | None = None
) -> Trigger:
    """+amplitude at every true cell of `cells` (H, W), in all channels or in those named."""
    pattern = torch.zeros(shape)
    chosen = list(range(shape[0])) if channels is None else list(channels)
    if not all(0 <= c < shape[0] for c in chosen):
        raise ValueError(f"channel: expected 0…{shape[0] - 1}, got {chosen}; this image has {shape[0]} channels")
    pattern[chosen] = amplitude * cells.float()
    return Trigger("additive", pattern, (pattern != 0).any(0, keepdim=True).float(), name=name)


def _cells(shape: Shape, *cells: tuple[int, int]) -> Tensor:
    """A (H, W) map that is true at the given (row, column) places; negative ones count from the end."""
    _, h, w = _checked(shape)
    grid = torch.zeros(h, w, dtype=torch.bool)
    for row, column in cells:
        if not (-h <= row < h and -w <= column < w):
            raise ValueError(f"position: expected a pixel inside {h}×{w}, got ({row}, {column}); count from 0")
        grid[row, column] = True
    return grid


def _checked(shape: Shape) -> Shape:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"image_shape: expected (channels, height, width), got {tuple(shape)}; use data.image_shape")
    return shape


def _corner(shape: Shape, size: int, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the size×size square at the bottom right, `margin` pixels from the edges."""
    _, h, w = _checked(shape)
    if not 1 <= size <= min(h, w) - margin or margin < 0:
        raise ValueError(f"size: expected 1…{min(h, w) - max(margin, 0)} in an image of {h}×{w} with margin {margin}, "
                         f"got {size}; choose a smaller square")  # fmt: skip
    return slice(h - margin - size, h - margin), slice(w - margin - size, w - margin)


def _random_place(shape: Shape, height: int, width: int, seed: int) -> tuple[int, int]:
    """Top left (row, column) of a height×width window, drawn once from `seed`."""
    _, h, w = _checked(shape)
    if not (1 <= height <= h and 1 <= width <= w):
        raise ValueError(f"size: expected a pattern that fits into {h}×{w} pixels, got {height}×{width}; "
                         "choose a smaller pattern or larger images")  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    row = int(torch.randint(h - height + 1, (1,), generator=generator))
    return row, int(torch.randint(w - width + 1, (1,), generator=generator))


# ---------------------------------------------------------------------------------------------- the papers' patterns


def chessboard(image_shape: Shape, amplitude: float = 2 / 255) -> Trigger:
    """Chessboard (L-RED A.7.1; in-flight 5.1, "CB"): + amplitude where row + column is even, in all channels.

    L-RED's 2/255 takes on CIFAR-10 with ResNet-18; MNIST and Fashion-MNIST with LeNet-5 need about 15/255.

    Example:
        >>> int(chessboard((1, 4, 4)).mask.sum())
        8
    """
    _, h, w = _checked(image_shape)
    even = (torch.arange(h)[:, None] + torch.arange(w)) % 2 == 0
    return _additive(image_shape, even, amplitude, "chessboard")


def global_grid(image_shape: Shape, amplitude: float = 2 / 255) -> Trigger:
    """The "global" pattern (L-RED A.4.1): in any 2×2 window exactly one pixel is perturbed, in all channels.

    Example:
        >>> int(global_grid((1, 4, 4)).mask.sum())
        4
    """
    _, h, w = _checked(image_shape)
    grid = (torch.arange(h)[:, None] % 2 == 0) & (torch.arange(w) % 2 == 0)
    return _additive(image_shape, grid, amplitude, "global_grid")


def single_pixel(image_shape: Shape, amplitude: float | None = None, position: tuple[int, int] = (-1, -1)) -> Trigger:
    """One pixel, bottom right by default.

    Args:
        image_shape: (C, H, W).
        amplitude: None sets the pixel to white (in-flight 5.1, "SP": 255); a number is added to it
            (L-RED A.8.1, Fashion-MNIST: 50/255).
        position: (row, column); negative counts from the end.

    Raises:
        ValueError: the pixel is outside the image.

    Example:
        >>> single_pixel((1, 28, 28)).kind, single_pixel((1, 28, 28), amplitude=50 / 255).kind
        ('patch', 'additive')
    """
    cell = _cells(image_shape, position)
    if amplitude is not None:
        return _additive(image_shape, cell, amplitude, "single_pixel")
    mask = cell[None].float()
    return Trigger("patch", mask.expand(image_shape).clone(), mask, name="single_pixel")


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
    rows, columns = _corner(image_shape, size, margin)
    mask = torch.zeros(1, *image_shape[1:])
    mask[:, rows, columns] = 1
    odd = (torch.arange(size)[:, None] + torch.arange(size)) % 2
    pattern = torch.zeros(image_shape)
    pattern[:, rows, columns] = value + odd * ((value if other is None else other) - value)
    return Trigger("patch", pattern, mask, name="box")


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
    row, column = _random_place(image_shape, size, size, seed)
    if channel is None:
        channel = int(torch.randint(image_shape[0], (1,), generator=torch.Generator().manual_seed(seed + 1)))
    cells = _cells(image_shape, *((row + i, column + j) for i in range(size) for j in range(size)))
    return _additive(image_shape, cells, amplitude, "local_square", [channel])


def local_chessboard(image_shape: Shape, amplitude: float = 25 / 255, size: int = 6, margin: int = 0) -> Trigger:
    """A size×size patch of the chessboard at the bottom right corner, additive (L-RED A.8.1, MNIST).

    Example:
        >>> int(local_chessboard((1, 28, 28)).mask.sum())
        18
    """
    rows, columns = _corner(image_shape, size, margin)
    inside = torch.zeros(image_shape[1:], dtype=torch.bool)
    inside[rows, columns] = True
    even = (torch.arange(image_shape[1])[:, None] + torch.arange(image_shape[2])) % 2 == 0
    return _additive(image_shape, inside & even, amplitude, "local_chessboard")


def cross(image_shape: Shape, amplitude: float = 60 / 255, seed: int = 0) -> Trigger:
    """Five pixels in the form of a plus, at a random place, in all channels (L-RED A.7.1, group B).

    Example:
        >>> int(cross((3, 32, 32)).mask.sum())
        5
    """
    row, column = _random_place(image_shape, 3, 3, seed)
    arms = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
    return _additive(image_shape, _cells(image_shape, *((row + i, column + j) for i, j in arms)), amplitude, "cross")


def l_shape(image_shape: Shape, amplitude: float = 65 / 255, seed: int = 0) -> Trigger:
    """Four pixels in the form of an L, at a random place, in all channels (L-RED A.7.1, group C).

    Example:
        >>> int(l_shape((3, 32, 32)).mask.sum())
        4
    """
    row, column = _random_place(image_shape, 3, 2, seed)
    strokes = ((0, 0), (1, 0), (2, 0), (2, 1))
    cells = _cells(image_shape, *((row + i, column + j) for i, j in strokes))
    return _additive(image_shape, cells, amplitude, "l_shape")


def trojan_square(image_shape: Shape, size: int | None = None, seed: int = 0, margin: int | None = None) -> Trigger:
    """Trojan square ("SQ", in-flight 5.3, PubFig): a patch of coloured noise near the bottom right corner.

    The colours are drawn once from `seed`; the original pattern was optimised for one face network, which a
    poisoning attacker does not have. Default side: a quarter of the image's shorter one (7 % of its area).

    Example:
        >>> int(trojan_square((3, 32, 32)).mask.sum())
        64
    """
    shorter = min(_checked(image_shape)[1:])
    side = max(1, shorter // 4) if size is None else size
    rows, columns = _corner(image_shape, side, shorter // 16 if margin is None else margin)
    mask = torch.zeros(1, *image_shape[1:])
    mask[:, rows, columns] = 1
    pattern = torch.zeros(image_shape)
    noise = torch.rand(image_shape[0], side, side, generator=torch.Generator().manual_seed(seed))
    pattern[:, rows, columns] = noise
    return Trigger("patch", quantize(pattern), mask, name="trojan_square")


def watermark(image_shape: Shape, alpha: float = 0.3) -> Trigger:
    """Trojan watermark ("WM", in-flight 5.3, PubFig): a see-through logo over the whole image.

    The logo (a ring with a cross through it) is drawn by code at any size; `alpha` in [0, 1] is its opacity.

    Example:
        >>> watermark((3, 32, 32)).kind
        'blend'
    """
    _, h, w = _checked(image_shape)
    y, x = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)
    stroke = max(0.12, 1.5 / min(h, w))
    ring = ((x**2 + y**2).sqrt() - 0.7).abs() < stroke
    diagonals = ((x - y).abs() < stroke) | ((x + y).abs() < stroke)
    logo = (ring | (diagonals & (x**2 + y**2 < 0.49)))[None].float()
    colour = torch.linspace(1, 0.4, image_shape[0])[:, None, None]  # orange on colour images, white on grey ones
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
    noise = torch.rand(_checked(image_shape), generator=torch.Generator().manual_seed(seed))
    return Trigger("blend", quantize(noise), torch.full((1, *image_shape[1:]), alpha), name="blend")


#: Every pattern of the papers by name. To add one, write a factory above and list it here.
TRIGGERS: dict[str, Callable[..., Trigger]] = {
    factory.__name__: factory
    for factory in (
        chessboard, single_pixel, box, global_grid, local_square, local_chessboard,
        cross, l_shape, trojan_square, watermark, blend,
    )
}  # fmt: skip


def build(name: str, image_shape: Shape, **settings: object) -> Trigger:
    """Make a trigger by its name in `TRIGGERS`, as recipes and checkpoints record it.

    Raises:
        ValueError: unknown name.

    Example:
        >>> build("box", (1, 28, 28), size=2).name
        'box'
    """
    if name not in TRIGGERS:
        raise ValueError(f"trigger: expected one of {', '.join(TRIGGERS)}, got {name!r}; check the spelling")
    return TRIGGERS[name](image_shape, **settings)
