"""The stealthy attack: a generator makes an invisible trigger for each image, adversarial training hides it (floor 4).

Feng et al., "Stealthy backdoor attack with adversarial training". Two steps alternate, batch by batch: invert the
target class's trigger on the frozen network (Eq. 8), then train network and generator together (Eq. 10).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from btlib import metrics, triggers
from btlib.attacks.attack import Attack, AttackRecipe, door
from btlib.attacks.patterns import GeneratedTrigger, attach, rounded
from btlib.datasets import ImageDataset, Shape, to_float
from btlib.detection.descent import Inversion, Inversions, adjust_cost, descend, squash, stamp
from btlib.detection.images import DefenseSet
from btlib.detection.neural_cleanse import neural_cleanse
from btlib.networks import Network
from btlib.networks.generator import Generator
from btlib.resume import History
from btlib.training import Precision, in_precision, placed, shuffled
from btlib.triggers import Trigger

Pattern = Literal["generated", "patch", "patch+generated"]
#: λ of Eq. 8 is moved at every step, as in `detection.QUICK`.
_STEP_1 = Inversion(rounds=1, steps=1, batch_size=1, lr=0.1, patience=1, multiplier=1.15, fall=2.6, check=False)


@dataclass(frozen=True)
class StealthyRecipe(AttackRecipe):
    """Settings of the attack; defaults are the paper's where it gives them.

    Attributes:
        target: y*; 8 for MNIST (3).
        epsilon: ε.
        adversarial: Step 1 and L_a; without them it is "our scheme*".
        hide_from: first epoch with Step 1 and L_a; the paper has them from the first.
        pattern: "generated" (the scheme), "patch" (BadNets) or "patch+generated" (BadNets with a trainable pattern).
        lambdas: λ1 … λ4 of L_o, L_b, L_a and L_c (Eq. 10).
        lr_network, lr_generator: Adam's (2.3).
        decay: lower both evenly to zero over all epochs; the paper keeps them.
        epochs: at most so many.
        batch_size: images per step, all of them in all four losses.
        inversion_steps: Adam steps of Eq. 8 per batch.
        inversion_lr: Adam's, for Step 1.
        restart: batches after which Step 1 begins anew, from another random mask, as a defender's does; 0: never, mask
            and pattern are kept from batch to batch.
        train_images: number of training images; None: all.
        until: stop after an epoch with at least this ASR and a BMA within `drop` of the baseline; None: all epochs.
        drop: see until.
        watch: test images used for the history.
        watch_mask: after every epoch invert the target's trigger as a defender would (`detection.neural_cleanse`).
        precision: of network and generator in the joint step, as in `training.Recipe`; the rest is float32.
    """

    target: int = 8
    epsilon: float = 0.01
    adversarial: bool = True
    hide_from: int = 1
    pattern: Pattern = "generated"
    lambdas: tuple[float, float, float, float] = (1.0, 1.0, 0.1, 1.0)
    lr_network: float = 1e-4
    lr_generator: float = 1e-3
    decay: bool = False
    epochs: int = 20
    batch_size: int = 128
    inversion_steps: int = 2
    inversion_lr: float = 0.1
    restart: int = 0
    train_images: int | None = None
    until: float | None = None
    drop: float = 0.01
    watch: int = 2000
    watch_mask: bool = False
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon: expected a value in (0, 1], got {self.epsilon}; the paper uses 0.005 to 0.02")
        if len(self.lambdas) != 4 or min(self.lambdas) < 0:
            raise ValueError(
                f"lambdas: expected four values of at least 0, got {self.lambdas}; the paper's are 1, 1, .1, 1"
            )
        if self.pattern not in ("generated", "patch", "patch+generated"):
            raise ValueError(f"pattern: expected 'generated', 'patch' or 'patch+generated', got {self.pattern!r}")
        in_precision(self.precision, torch.device("cpu"))

    def fresh_trigger(self, image_shape: Shape, seed: int = 0) -> Trigger | GeneratedTrigger:
        """A box, a generator's patterns, or both; see `pattern`."""
        base = None if self.pattern == "generated" else triggers.box(image_shape)
        if base is not None and self.pattern == "patch":
            return base
        return GeneratedTrigger(Generator(image_shape[0], seed=seed), self.epsilon, base)

    def attack(self, data: ImageDataset, clean: Network, seed: int, device: torch.device) -> "_Stealthy":
        """Network and generator, trained together."""
        return _Stealthy(data, self, clean, seed, device)


#: For two cores: fewer images, more and larger steps that shrink to nothing (docs/choices.md).
QUICK = StealthyRecipe(epochs=6, batch_size=32, train_images=20_000, lr_network=1e-3, decay=True)
#: For LeNet-5 and Fashion-MNIST, which the course ships: a larger ε, and L_a once the trigger works, against one
#: inversion after the other (docs/choices.md).
COURSE = replace(QUICK, epsilon=0.02, epochs=10, hide_from=7, inversion_lr=0.2, restart=100, watch_mask=True)


#: The attack (stealthy attack 2.3): `attacks.run`, whose recipe may be left out.
run = door(StealthyRecipe)


class _Stealthy(Attack):
    """Both steps for every batch, and what changes while they are made."""

    trigger: Trigger | GeneratedTrigger

    def __init__(
        self, data: ImageDataset, recipe: StealthyRecipe, clean: Network, seed: int, device: torch.device
    ) -> None:  # fmt: skip
        super().__init__(data, recipe, clean, seed, device)
        self.recipe, self.seed, self.image_shape, self.classes = recipe, seed, data.image_shape, data.num_classes
        self.epochs, self.steps = recipe.epochs, math.ceil(len(self.y) / recipe.batch_size)
        self.generator: nn.Module = nn.Module()  # a fixed trigger has nothing to train
        self.base: Trigger | None = None
        if isinstance(self.trigger, GeneratedTrigger):
            self.generator, self.base = self.trigger.generator, self.trigger.base
        self.watched_baseline = metrics.accuracy(self.network, *self.watched)  # beside the history's other accuracies
        self.mixes = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.network.modules())
        for module in (self.network, self.generator):
            placed(module, device)
        self.optimizer = torch.optim.Adam(
            [{"params": list(self.network.parameters()), "lr": recipe.lr_network},
             {"params": list(self.generator.parameters()), "lr": recipe.lr_generator}], fused=True,
        )  # fmt: skip
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.inverted = self.fresh_inversion(0)
        self.state = {"network": self.network, "generator": self.generator, "optimizer": self.optimizer,
                      "inverted": self.inverted.state}  # fmt: skip
        self.defenders = _defenders_images(data, *self.watched) if recipe.watch_mask else None

    def start(self, epoch: int) -> tuple[Tensor, ...]:
        """All training images, in another order in each epoch."""
        return shuffled(len(self.y), self.recipe.batch_size, self.device)

    def step(self, batch: Tensor, taken: int) -> Tensor:
        """Step 1, once hiding has begun, and step 2."""
        epoch, at = divmod(taken, self.steps)
        left = 1 - (epoch + at / self.steps) / self.recipe.epochs if self.recipe.decay else 1.0
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * left
        images, labels = to_float(self.x[batch]), self.y[batch]
        hidden = taken - (self.recipe.hide_from - 1) * self.steps  # batches with Step 1 before this one
        hiding = self.recipe.adversarial and hidden >= 0
        if hiding:
            self.invert(images, labels, hidden)
        return self.descend(images, labels, hiding)

    def fresh_inversion(self, number: int) -> Inversions:
        """m* and Δ* before any step."""
        return Inversions(
            self.image_shape, self.classes, [self.recipe.target], seed=self.seed + number, device=self.y.device
        )

    def invert(self, images: Tensor, labels: Tensor, before: int) -> None:
        """Step 1 (Eq. 8) after `before` others: some Adam steps for m* and Δ* on the frozen network."""
        if self.recipe.restart and before % self.recipe.restart == 0:
            self.inverted.state.update(self.fresh_inversion(before).state)
        taken = (before % self.recipe.restart if self.recipe.restart else before) * self.recipe.inversion_steps
        batch = DefenseSet(images, labels, self.classes)
        chosen = torch.arange(len(labels), device=labels.device)
        with metrics.frozen(self.network):
            for step in range(1, self.recipe.inversion_steps + 1):
                lr = self.recipe.inversion_lr
                success = descend(self.network, batch, self.inverted, chosen, lr=lr, taken=taken + step)
                adjust_cost(self.inverted, success >= _STEP_1.success, _STEP_1)

    def descend(self, images: Tensor, labels: Tensor, hiding: bool) -> Tensor:
        """Step 2 (Eq. 10): one step of network and generator on the four losses, L_a only while `hiding`."""
        recipe, target = self.recipe, torch.full_like(labels, self.recipe.target)
        one, two, three, four = recipe.lambdas
        self.network.train()
        self.generator.train()
        given = [(one, images, labels)]  # L_o, Eq. 1
        if hiding:
            given.append((three, stamp(images, self.inverted.raw.detach()), labels))  # L_a, Eq. 9
        if recipe.pattern == "patch":
            made = [(two, self.trigger(images), target)]  # L_b, Eq. 3
        else:
            with in_precision(recipe.precision, images.device):
                patterns = self.generator(images).float()
            based = images if self.base is None else self.base(images)
            made = [(two, rounded(attach(based, patterns, recipe.epsilon)), target)]
            if recipe.pattern == "generated" and len(images) > 1:
                crossed = rounded(attach(images, patterns.roll(1, 0), recipe.epsilon))  # p_v on x_u
                made.append((four, crossed, labels))  # L_c, Eq. 4
        loss = self.losses(given) + self.losses(made)  # apart: only the second part wants gradients for its images
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def losses(self, terms: list[tuple[float, Tensor, Tensor]]) -> Tensor:
        """Weighted sum of the cross-entropies of (λ, images, labels), in one pass where no layer mixes images."""
        batches = [images for _, images, _ in terms]
        with in_precision(self.recipe.precision, self.device):
            if self.mixes:
                logits = [self.network(images) for images in batches]
            else:
                logits = list(self.network(torch.cat(batches)).split([len(images) for images in batches]))
        parts = [weight * nn.functional.cross_entropy(out.float(), labels)
                 for out, (weight, _, labels) in zip(logits, terms, strict=True)]  # fmt: skip
        return torch.stack(parts).sum()

    def measure(self, epoch: int) -> Mapping[str, float]:
        """The watched numbers, and the size of the kept inversion (and of a defender's)."""
        seen = {"baseline": self.watched_baseline, **super().measure(epoch)}
        seen["mask_norm"] = float(squash(self.inverted.raw[:, 0]).sum()) if self.recipe.adversarial else math.nan
        if self.defenders is not None:
            x, y, few = self.defenders
            found = neural_cleanse(self.network, x, y, per_class=few, targets=[self.target])
            seen["defender_norm"] = found.estimates[self.target].norm
        return seen

    def done(self, history: History) -> bool:
        """Whether accuracy is restored and the wished ASR reached (2.3)."""
        if self.recipe.until is None or not history:
            return False
        last, least = history[-1], self.watched_baseline - self.recipe.drop
        return last["asr"] >= self.recipe.until and last["bma"] >= least


def _defenders_images(data: ImageDataset, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
    """What a defender inverts with: test images, labels and how many of each class; the watched ones where they do."""
    fewest = int(torch.bincount(labels, minlength=data.num_classes).min())
    if fewest == 0:
        images, labels = data.x_test, data.y_test
        fewest = int(torch.bincount(labels, minlength=data.num_classes).min())
    if fewest == 0:
        raise ValueError("watch_mask: expected test images of every class, got none of some; set watch_mask=False")
    return images, labels, min(20, fewest)
