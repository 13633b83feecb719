"""Triggers that training images get a part of only: the adaptive attacks (Qi et al., ICLR 2023).

A network that sees the whole trigger in training learns one direction for it, apart from all clean images, and
latent-space defences look for just that. So the attacker shows every training image other pieces, fainter, and lets
covers carry them with their true labels (``covers`` of `poisoning.poison`); the whole trigger comes at test time.
Attacks are here so that defences can be measured against them: use them on networks of your own only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from btlib.datasets import Shape
from btlib.datasets.images import check_count, check_shape
from btlib.seeds import generator
from btlib.triggers.trigger import Trigger, fitting, quantize
from btlib.triggers.visible import blend


@dataclass(frozen=True, eq=False)
class PartialTrigger(Trigger):
    """A `Trigger` that is whole on test images; poisoned training images each get some pieces of it.

    Attributes:
        grid: the image is cut into grid×grid pieces.
        shown: each training image gets so many of them, drawn for it.
        opacity: in training, as a share in [0, 1] of the trigger's own.

    Raises:
        ValueError: what `Trigger` refuses, more pieces than there are, an opacity outside [0, 1].

    Example:
        >>> trigger = adaptive_blend((1, 28, 28))
        >>> x = torch.zeros(2, 1, 28, 28)
        >>> bool((trigger.in_training(x) <= trigger(x)).all())
        True
    """

    grid: int = 4
    shown: int = 8
    opacity: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("grid", self.grid, usual=4)
        check_count("shown", self.shown, usual=8)
        if self.shown > self.grid**2:
            raise ValueError(f"shown: expected at most {self.grid**2} pieces, grid times grid, got {self.shown}")
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"opacity: expected a share in [0, 1] of the trigger's own, got {self.opacity}")

    def in_training(self, images: Tensor, *, cover: bool = False, seed: int = 0) -> Tensor:
        """What poisoned training images get: `shown` of the pieces, drawn for each image, at `opacity`.

        Args:
            images: as the trigger takes them, (N, C, H, W).
            cover: whether they keep their label; both get the same here.
            seed: the draw.

        Returns:
            float (N, C, H, W) in [0, 1].

        Raises:
            TypeError, ValueError: images that do not fit.
        """
        images = fitting(images, self.image_shape, self.name, several=True)
        rows, columns = (torch.arange(side) * self.grid // side for side in self.image_shape[1:])
        piece = rows[:, None] * self.grid + columns  # which one each pixel lies in
        order = torch.rand(len(images), self.grid**2, generator=generator(seed)).argsort(1)
        drawn = (order < self.shown)[:, None, piece]  # (N, 1, H, W)
        return self._embedded(images, self.opacity * drawn.to(images))


def adaptive_blend(
    image_shape: Shape, alpha: float = 0.2, grid: int = 4, shown: int = 8, opacity: float = 0.75, seed: int = 0
) -> PartialTrigger:  # fmt: skip
    """Adap-Blend: blended noise; training images get half of 16 pieces, at .15 instead of .2 (Qi et al. 2023).

    Args:
        image_shape: (C, H, W).
        alpha: opacity at test time.
        grid, shown, opacity: as in `PartialTrigger`.
        seed: the noise, drawn once. (The paper blends a picture; ours needs no file.)

    Example:
        >>> adaptive_blend((3, 32, 32)).kind
        'blend'
    """
    whole = blend(image_shape, alpha, seed)
    return PartialTrigger("blend", whole.pattern, whole.mask, name="adaptive_blend", grid=grid, shown=shown,
                          opacity=opacity)  # fmt: skip


def adaptive_patch(
    image_shape: Shape, size: int = 4, shown: int = 1, opacity: float = 0.5, seed: int = 0
) -> PartialTrigger:
    """Adap-Patch: four patches, one near each corner; a training image gets one, half transparent (Qi et al. 2023).

    Args:
        image_shape: (C, H, W).
        size: side of a patch, pixels. They hold noise, so that each is another one.
        shown: patches on a training image, of four.
        opacity: in training.
        seed: the noise, drawn once.

    Raises:
        ValueError: patches that do not fit into a quarter of the image.

    Example:
        >>> int(adaptive_patch((1, 28, 28)).mask.sum())
        64
    """
    _, h, w = check_shape(image_shape)
    check_count("size", size, usual=4)
    margin = 1
    if size + margin > min(h, w) // 2:
        raise ValueError(f"size: expected 1…{min(h, w) // 2 - margin} in an image of {h}×{w}, got {size}")
    mask = torch.zeros(1, h, w, dtype=torch.float32)
    for rows in (slice(margin, margin + size), slice(h - margin - size, h - margin)):
        for columns in (slice(margin, margin + size), slice(w - margin - size, w - margin)):
            mask[0, rows, columns] = 1
    noise = quantize(torch.rand(image_shape, generator=generator(seed), dtype=torch.float32))
    return PartialTrigger("patch", noise * mask, mask, name="adaptive_patch", grid=2, shown=shown, opacity=opacity)
