"""What a trigger is: a pattern, a mask and one pure function g(x, Δ)."""

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from btlib.datasets import Shape, as_float

Kind = Literal["additive", "patch", "blend"]


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
        >>> from btlib.triggers import box
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
            images: float in [0, 1] or uint8, (N, C, H, W) or a single (C, H, W).

        Returns:
            float images in [0, 1] of the same shape and device; of the same dtype where that is a float.

        Raises:
            TypeError: images are neither float nor uint8.
            ValueError: wrong shape or range.
        """
        return self._embedded(fitting(images, self.image_shape, self.name))

    def _embedded(self, images: Tensor, share: Tensor | float = 1.0) -> Tensor:
        """Checked images with a share in [0, 1] of the pattern, a number or (N, 1, H, W)."""
        pattern, mask = self.pattern.to(images), self.mask.to(images) * share
        additive = self.kind == "additive"
        stamped = images + pattern * share if additive else images * (1 - mask) + pattern * mask  # Eq. 1, Eq. 12
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


def fitting(images: Tensor, shape: Shape, name: str, *, several: bool = False) -> Tensor:
    """Images as a trigger takes them, as floats.

    Args:
        images: float in [0, 1] or uint8, (N, C, H, W) or a single (C, H, W).
        shape: (C, H, W) that they must have.
        name: the trigger's, for the message.
        several: refuse a single one without a batch.

    Raises:
        TypeError, ValueError: they are something else.

    Example:
        >>> import torch
        >>> fitting(torch.zeros(1, 8, 8, dtype=torch.uint8), (1, 8, 8), "box").dtype
        torch.float32
    """
    images = as_float(images, ndim=4 if several else None)
    if images.ndim not in (3, 4) or tuple(images.shape[-3:]) != shape:
        raise ValueError(f"images: expected shape (N, {', '.join(map(str, shape))}) for trigger {name!r}, got "
                         f"{tuple(images.shape)}; make the trigger with the data set's image_shape")  # fmt: skip
    return images


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
