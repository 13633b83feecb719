"""Triggers that differ from image to image: what generators make, attached and crossed (floor 4)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from btlib import metrics
from btlib.datasets import as_float
from btlib.triggers import Trigger, quantize


def attach(images: Tensor, patterns: Tensor, epsilon: float) -> Tensor:
    """x ∘ εp = clip(ε·p + (1 - ε)·x, 0, 1) (stealthy attack 2.1).

    Args:
        images: float in [0, 1], (N, C, H, W).
        patterns: float in [-1, 1], same shape.
        epsilon: ε in (0, 1].

    Returns:
        float in [0, 1], same shape; differentiable in both.

    Example:
        >>> import torch
        >>> attach(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), 0.1).max().item()
        1.0
    """
    return (epsilon * patterns + (1 - epsilon) * images).clamp(0, 1)


def rounded(images: Tensor, bits: int | None = 8) -> Tensor:
    """Rounded to `bits` in the forward pass, the identity in the backward pass: trained on what will be shown.

    Example:
        >>> import torch
        >>> x = torch.tensor([0.3], requires_grad=True)
        >>> y = rounded(x, bits=1)
        >>> y.item(), torch.autograd.grad(y, x)[0].item()
        (0.0, 1.0)
    """
    return images + (quantize(images, bits) - images).detach()


class PerImageTrigger(ABC):
    """A trigger that differs from image to image; call it on images."""

    bits: int | None

    def __call__(self, images: Tensor) -> Tensor:
        """Every image with its own pattern: float (N, C, H, W) in [0, 1] → the same shape.

        Raises:
            TypeError, ValueError: images that are not float in [0, 1], (N, C, H, W).
        """
        return self.crossed(images, images)

    def crossed(self, images: Tensor, others: Tensor) -> Tensor:
        """Every image with the pattern of one of `others`: a pattern on an image it was not made for.

        Raises:
            TypeError, ValueError: images that are not float in [0, 1], (N, C, H, W).
        """
        images, others = as_float(images), as_float(others, name="others")
        return quantize(self._embedded(images, others), self.bits) if len(images) else images

    @abstractmethod
    def _embedded(self, images: Tensor, others: Tensor) -> Tensor:
        """Checked images with the patterns of `others`, not yet rounded."""


@dataclass(frozen=True, eq=False)
class GeneratedTrigger(PerImageTrigger):
    """A trigger made for each image: base trigger, if any, then x ∘ εG(x); call it on images.

    Attributes:
        generator: images → patterns in [-1, 1].
        epsilon: ε, how visible it is, in (0, 1].
        base: a fixed trigger under the generated pattern (BadNets with a trainable pattern, Figure 5b); None: none.
        bits: colour depth of the result, as in `Trigger`.
        name: for titles.
    """

    generator: nn.Module
    epsilon: float
    base: Trigger | None = None
    bits: int | None = 8
    name: str = "generated"

    def _embedded(self, images: Tensor, others: Tensor) -> Tensor:
        based = images if self.base is None else self.base(images)
        return attach(based, self.patterns(others), self.epsilon)

    def patterns(self, images: Tensor) -> Tensor:
        """G(x) for many images, float (N, C, H, W) in [-1, 1]."""
        return metrics.predict(self.generator, images).to(images)


@dataclass(frozen=True, eq=False)
class MaskedTrigger(PerImageTrigger):
    """A mask and a pattern made for each image, x·(1 - m(x)) + p(x)·m(x) (input-aware attack); call it on images.

    Attributes:
        generator: images → patterns in [-1, 1], shown as (p + 1) / 2.
        masker: images → (N, 1, H, W) in [-1, 1], made into masks by `sharp`.
        bits: colour depth of the result, as in `Trigger`.
        name: for titles.
    """

    generator: nn.Module
    masker: nn.Module
    bits: int | None = 8
    name: str = "input-aware"

    def _embedded(self, images: Tensor, others: Tensor) -> Tensor:
        return embed(images, self.masks(others), self.patterns(others))

    def patterns(self, images: Tensor) -> Tensor:
        """p(x) for many images, float (N, C, H, W) in [0, 1]."""
        return (metrics.predict(self.generator, images).to(images.device) + 1) / 2

    def masks(self, images: Tensor) -> Tensor:
        """m(x) for many images, float (N, 1, H, W) in [0, 1]."""
        return sharp(metrics.predict(self.masker, images).to(images.device))


def embed(images: Tensor, masks: Tensor, patterns: Tensor) -> Tensor:
    """x·(1 - m) + p·m, with a mask and a pattern for each image; differentiable.

    Args:
        images, patterns: float (N, C, H, W) in [0, 1].
        masks: float (N, 1, H, W) in [0, 1].

    Returns:
        float (N, C, H, W) in [0, 1].

    Example:
        >>> import torch
        >>> embed(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1, 2, 2)).sum().item()
        2.0
    """
    return images + masks * (patterns - images)


def sharp(raw: Tensor) -> Tensor:
    """A mask from a generator's output: [-1, 1] → [0, 1], almost all of it close to 0 or 1.

    Example:
        >>> import torch
        >>> sharp(torch.tensor([-1.0, 0.0, 1.0])).round().tolist()
        [0.0, 0.0, 1.0]
    """
    return (10 * raw).tanh() / 2 + 0.5
