"""WaNet: a trigger that moves pixels instead of changing their colours (Nguyen & Tran, ICLR 2021).

The attacker warps every poisoned image by the same smooth field, too little to be noticed. A network would also learn
that any roughness means the target, so other images, warped by fields with noise in them, keep their labels: the
noise mode, which is ``covers`` of `poisoning.poison` here. In the paper the attacker trains the network himself and
draws both anew in every batch; here the training set is poisoned once.
Attacks are here so that defences can be measured against them: use them on networks of your own only.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from btlib.datasets import Shape
from btlib.datasets.images import check_count, check_shape
from btlib.seeds import generator
from btlib.triggers.trigger import fitting, quantize


@dataclass(frozen=True, eq=False)
class WarpTrigger:
    """A backdoor trigger that moves pixels; call it on images.

    Attributes:
        field: float (H, W, 2): from where each pixel is taken, right and down of its own place, in halves of a pixel.
        channels: C of the images.
        noise: how much a cover's field is disturbed at most, in halves of a pixel.
        bits: colour depth of the result, as in `Trigger`.
        name: for titles and records.

    Raises:
        ValueError: a field of another shape, or one that is not finite.

    Example:
        >>> wanet((1, 28, 28))(torch.zeros(2, 1, 28, 28)).sum().item()
        0.0
    """

    field: Tensor
    channels: int
    noise: float = 1.0
    bits: int | None = 8
    name: str = "warp"

    def __post_init__(self) -> None:
        if self.field.ndim != 3 or self.field.shape[2] != 2 or not bool(self.field.isfinite().all()):
            raise ValueError(f"field: expected finite numbers, (H, W, 2), got {tuple(self.field.shape)}; see wanet")

    @property
    def image_shape(self) -> Shape:
        """(C, H, W) of the images it fits."""
        return self.channels, int(self.field.shape[0]), int(self.field.shape[1])

    def __call__(self, images: Tensor) -> Tensor:
        """Warped images: new ones, the input is left alone.

        Args:
            images: float in [0, 1] or uint8, (N, C, H, W) or a single (C, H, W).

        Returns:
            float images in [0, 1] of the same shape and device; of the same dtype where that is a float.

        Raises:
            TypeError, ValueError: images that do not fit.
        """
        images = fitting(images, self.image_shape, self.name)
        several = images if images.ndim == 4 else images[None]
        return self._warped(several, self.field.expand(len(several), -1, -1, -1)).reshape(images.shape)

    def in_training(self, images: Tensor, *, cover: bool = False, seed: int = 0) -> Tensor:
        """What poisoned training images get: the trigger, and a cover the trigger with noise in its field.

        Args:
            images: as the trigger takes them, (N, C, H, W).
            cover: whether they keep their label (the paper's noise mode).
            seed: the noise, drawn for each image and pixel.

        Returns:
            float (N, C, H, W) in [0, 1].

        Raises:
            TypeError, ValueError: images that do not fit.
        """
        images = fitting(images, self.image_shape, self.name, several=True)
        if not cover:
            return self(images)
        noise = 2 * torch.rand(len(images), *self.field.shape, generator=generator(seed), dtype=torch.float32) - 1
        return self._warped(images, self.field + self.noise * noise)

    def _warped(self, images: Tensor, fields: Tensor) -> Tensor:
        """Checked images by a field for each, (N, H, W, 2); what lies outside an image is its edge."""
        _, h, w = self.image_shape
        down, right = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        places = torch.stack([right, down], -1) + fields / torch.tensor([w, h])
        warped = F.grid_sample(images, places.clamp(-1, 1).to(images), align_corners=True)
        return quantize(warped.clamp(0, 1), self.bits)

    def faded(self, strength: float) -> "WarpTrigger":
        """The same trigger at `strength` in [0, 1] of its own: pixels move less far.

        Raises:
            ValueError: strength outside [0, 1].
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength: expected a value in [0, 1], got {strength}; 1 is the full trigger")
        return replace(self, field=self.field * strength)

    def offset_display(self, offset: float = 127 / 255) -> Tensor:
        """How far pixels move as an image in [0, 1], (C, H, W): `offset` is not at all, white the farthest move."""
        length = self.field.norm(dim=2)
        return (offset + (1 - offset) * length / length.max().clamp_min(1e-12)).expand(self.image_shape)


def wanet(image_shape: Shape, k: int = 4, s: float = 0.5, noise: float = 1.0, seed: int = 0) -> WarpTrigger:
    """WaNet (Nguyen & Tran 2021, 3.2): a k×k grid of random moves, s long on average, made smooth by bicubic steps.

    Args:
        image_shape: (C, H, W).
        k: side of the control grid.
        s: warping strength: the mean of ``|move|`` on the grid; 1 is half a pixel, as in the authors' code.
        noise: of covers, in the same unit.
        seed: the grid, drawn once.

    Raises:
        ValueError: no grid, or a negative strength.

    Example:
        >>> wanet((3, 32, 32)).image_shape
        (3, 32, 32)
    """
    channels, h, w = check_shape(image_shape)
    check_count("k", k, usual=4)
    if not (s >= 0 and noise >= 0):
        raise ValueError(f"s: expected strengths of 0 or more, got s {s} and noise {noise}; the paper has .5 and 1")
    moves = 2 * torch.rand(1, 2, k, k, generator=generator(seed), dtype=torch.float32) - 1
    moves = moves / moves.abs().mean() * s
    field = F.interpolate(moves, size=(h, w), mode="bicubic", align_corners=True)
    return WarpTrigger(field[0].permute(1, 2, 0).contiguous(), channels, noise, name="wanet")
