"""The invisible attack with an L2-regularised trigger: one faint pattern for all images (floor 4).

Li et al., "Invisible backdoor attacks on deep neural networks via steganography and regularization" (2020), its
universal attack; a baseline in the stealthy attack's Table 1. There is no public code: docs/choices.md says what was
chosen. A pattern of small L2 norm is sought that excites, in a clean network, the neurons that speak for the target;
the network is then fine-tuned on images with that pattern.
"""

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from btlib import metrics, poisoning
from btlib.attacks.attack import Attack, AttackRecipe, door
from btlib.datasets import ImageDataset, Shape, to_float
from btlib.datasets.images import check_class
from btlib.networks import Network
from btlib.training import Fitting, Recipe, Stage
from btlib.triggers import Trigger


@dataclass(frozen=True)
class InvisibleRecipe(AttackRecipe):
    """Settings of the attack (docs/choices.md).

    Attributes:
        target: y*.
        psnr: how faint the pattern is, in dB: its L2 norm is at most 10^(-psnr/20)·√(C·H·W).
        anchors: neurons of the penultimate layer to excite.
        scale: they shall reach so many times what images of the target class excite in them.
        steps: Adam steps for the pattern.
        batch_size: images per step.
        per_class: images of every other class that get the pattern and the target's label; the originals stay.
        training: fine-tuning of the clean network.
        watch: test images used for the history.

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> InvisibleRecipe().psnr
        30.0
    """

    target: int = 8
    psnr: float = 30.0
    anchors: int = 8
    scale: float = 2.0
    steps: int = 300
    batch_size: int = 128
    per_class: int = 600
    training: Recipe = field(default_factory=lambda: Recipe(epochs=5, batch_size=256, lr=2e-3, schedule="one_cycle"))
    watch: int = 2000

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("psnr", "anchors", "scale", "steps", "batch_size", "per_class", "watch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}; see InvisibleRecipe")

    def fresh_trigger(self, image_shape: Shape, seed: int = 0) -> Trigger:
        """No pattern yet: zero everywhere."""
        return Trigger("additive", torch.zeros(image_shape), torch.ones(1, *image_shape[1:]), name="invisible")

    def attack(self, data: ImageDataset, clean: Network, seed: int, device: torch.device) -> "_Invisible":
        """The pattern first, then the network; TypeError without a linear head to look at."""
        if not isinstance(clean, Network):
            raise TypeError(f"network: expected one of btlib.networks, got {type(clean).__name__}; its head says which "
                            "neurons speak for the target")  # fmt: skip
        return _Invisible(data, self, clean, seed, device)


#: The attack (Li et al. 2020): `attacks.run`, whose recipe may be left out.
run = door(InvisibleRecipe)


class PatternSearch(Stage):
    """The pattern: faint noise that excites the target's neurons in a clean network, on all images alike.

    Minimises the mean of (a(x + Δ) - scale·a*)² over images and anchors by Adam, where a are the activations of the
    anchors and a* those of the target's images, with ‖Δ‖₂ held below its limit.

    Args:
        network: the clean network, left as it is.
        data: clean images; training images are used.
        recipe: the settings.
        pattern: float (C, H, W), filled in place, in [-1, 1].

    Raises:
        ValueError: a target that does not exist, or without training images.
    """

    prefix = "pattern_"
    epochs = 1

    def __init__(self, network: Network, data: ImageDataset, recipe: InvisibleRecipe, pattern: Tensor) -> None:
        self.of_target = data.x_train[data.y_train == recipe.target]
        if len(self.of_target) == 0:
            raise ValueError(f"target: expected a class with training images, got {recipe.target}; the data set has "
                             f"classes 0…{data.num_classes - 1}")  # fmt: skip
        self.network, self.recipe, self.steps = network, recipe, recipe.steps
        self.pattern, self.state = pattern, {"pattern": pattern}
        self.device = network.head.weight.device
        self.x = data.x_train.to(self.device)
        self.anchors = find_anchors(network, recipe.target, recipe.anchors)
        self.limit = 10 ** (-recipe.psnr / 20) * math.sqrt(pattern.numel())

    def start(self, epoch: int) -> list[Tensor]:
        """Noise to begin with, and images for each step."""
        excited = metrics.predict(self.network, self.of_target, layer="penultimate")[:, self.anchors.cpu()]
        self.wished = self.recipe.scale * excited.mean(0).to(self.device)
        noise = torch.randn(self.pattern.shape).to(self.device)
        self.noise = (noise * self.limit / noise.norm()).requires_grad_()
        self.optimizer = torch.optim.Adam([self.noise], lr=0.1 * self.limit / math.sqrt(noise.numel()))
        size = (self.recipe.batch_size,)
        return [torch.randint(len(self.x), size).to(self.device) for _ in range(self.steps)]

    def step(self, batch: Tensor, taken: int) -> Tensor:
        """One step of Adam, and back onto the ball."""
        with metrics.frozen(self.network):
            images = (to_float(self.x[batch]) + self.noise).clamp(0, 1)
            loss = (self.network.features(images)[:, self.anchors] - self.wished).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.noise.mul_((self.limit / self.noise.norm()).clamp(max=1))
            self.pattern.copy_(self.noise.clamp(-1, 1))
        return loss.detach()


class _Invisible(Attack):
    """Fine-tuning on images with the pattern that the search before has found."""

    trigger: Trigger

    def __init__(
        self, data: ImageDataset, recipe: InvisibleRecipe, clean: Network, seed: int, device: torch.device
    ) -> None:  # fmt: skip
        super().__init__(data, recipe, clean, seed, device)
        self.before = (PatternSearch(self.network, data, recipe, self.trigger.pattern),)
        self.poisoned = partial(
            poisoning.poison, data, self.trigger, recipe.target, per_class=recipe.per_class, originals="add", seed=seed
        )
        # Poisoned at once, with no pattern yet: are there images enough?
        self.tuning = Fitting(self.network, self.poisoned(), recipe.training, seed=seed, device=device)
        self.epochs, self.steps, self.state = self.tuning.epochs, self.tuning.steps, self.tuning.state

    def start(self, epoch: int) -> tuple[Tensor, ...]:
        """All images, with the pattern found now or kept in a resume file."""
        self.tuning.feed(self.poisoned())
        return self.tuning.start(epoch)

    def step(self, batch: Tensor, taken: int) -> Tensor:
        """As in `fit`."""
        return self.tuning.step(batch, taken)

    def summary(self, losses: list[Tensor]) -> dict[str, float]:
        """As in `fit`."""
        return self.tuning.summary(losses)


def find_anchors(network: Network, target: int, count: int) -> Tensor:
    """The neurons of the penultimate layer that speak most for a class: weight to it, less the mean to the others.

    Args:
        network: a classifier with a linear head.
        target: the class.
        count: how many; at most all.

    Returns:
        int64 (count,), the strongest first.

    Raises:
        ValueError: a target that does not exist.
    """
    weight = network.head.weight.detach()
    check_class(target, len(weight))
    others = (weight.sum(0) - weight[target]) / (len(weight) - 1)
    return (weight[target] - others).argsort(descending=True)[:count]
