"""The stealthy attack: a generator makes an invisible trigger for each image, adversarial training hides it (floor 4).

Feng et al., "Stealthy backdoor attack with adversarial training". Two steps alternate, batch by batch: invert the
target class's trigger on the frozen network (Eq. 8), then train network and generator together (Eq. 10).
"""

import copy
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib import checkpoints, metrics, triggers
from btlib.attacks.outcome import AttackResult
from btlib.attacks.patterns import GeneratedTrigger, attach, rounded
from btlib.checkpoints import Spec
from btlib.datasets import ImageDataset, to_float
from btlib.detection.descent import Inversion, Inversions, adjust_cost, descend, squash, stamp
from btlib.detection.images import DefenseSet
from btlib.detection.neural_cleanse import neural_cleanse
from btlib.networks import Network, layout
from btlib.networks.generator import Generator
from btlib.resume import Part, ResumeFile
from btlib.training import RECIPES, place, seeded
from btlib.triggers import Trigger

Pattern = Literal["generated", "patch", "patch+generated"]
#: λ of Eq. 8 is moved at every step, as in `detection.QUICK`.
_STEP_1 = Inversion(rounds=1, steps=1, batch_size=1, lr=0.1, patience=1, multiplier=1.15, fall=2.6, check=False)


@dataclass(frozen=True)
class StealthyRecipe:
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


#: For two cores: fewer images, more and larger steps that shrink to nothing (docs/choices.md).
QUICK = StealthyRecipe(epochs=6, batch_size=32, train_images=20_000, lr_network=1e-3, decay=True)
#: For LeNet-5 and Fashion-MNIST, which the course ships: a larger ε, and L_a once the trigger works, against one
#: inversion after the other (docs/choices.md).
COURSE = replace(QUICK, epsilon=0.02, epochs=10, hide_from=7, inversion_lr=0.2, restart=100, watch_mask=True)


def run(
    data: ImageDataset, recipe: StealthyRecipe | None = None, seed: int = 0, *, network: Network | None = None,
    progress: bool = True, resume: str | Path | None = None, device: str | torch.device | None = None,
) -> AttackResult:  # fmt: skip
    """Backdoor a network (stealthy attack 2.3).

    Args:
        data: clean images.
        recipe: the settings.
        seed: of generator, batches and first inversion.
        network: the clean network to start from, not changed itself; None: a LittleNet, loaded or trained.
        progress: show a bar.
        resume: a file that always holds the last finished epoch; where it exists, the attack goes on from it.
        device: where to train; default: the GPU when there is one, else the CPU.

    Returns:
        An `AttackResult`, on `device`.

    Raises:
        ValueError: a target that does not exist, a resume file of another attack.

    Example:
        >>> from btlib import datasets, networks
        >>> data = datasets.load("fashion-mnist").subset(train=256, test=100)
        >>> net = networks.build("lenet5", data, seed=0)
        >>> result = run(data, StealthyRecipe(epochs=1, watch=50), network=net, progress=False)
        >>> sorted(result.history[0])
        ['asr', 'baseline', 'bma', 'cbma', 'epoch', 'loss', 'mask_norm', 'seconds']
    """
    recipe = recipe or StealthyRecipe()
    if not 0 <= recipe.target < data.num_classes:
        raise ValueError(f"target: expected a class in 0…{data.num_classes - 1}, got {recipe.target}; see data.classes")
    clean = network if network is not None else clean_network(data, seed)
    where = place(device)
    attack, file = _Attack(data, recipe, seed, clean, where), ResumeFile(resume, recipe, seed, data, where)
    with seeded(seed, where):
        history = file.restore(**attack.state)
        steps = math.ceil(len(attack.y) / recipe.batch_size)
        with tqdm(total=recipe.epochs * steps, initial=len(history) * steps, desc="attack", unit="step",
                  leave=False, disable=not progress) as bar:  # fmt: skip
            while len(history) < recipe.epochs and not attack.satisfied(history):
                history.append(attack.epoch(len(history) + 1, bar))
                file.save(history, **attack.state)
    for module in (attack.network, attack.generator):
        module.eval().to(memory_format=torch.contiguous_format)
    return AttackResult(attack.network, attack.trigger, recipe.target, attack.baseline, tuple(history), recipe, seed)


def _copy(network: Network) -> Network:
    twin = copy.deepcopy(network)
    twin.card = None
    return twin.requires_grad_(True)


def clean_network(data: ImageDataset, seed: int) -> Network:
    """The LittleNet that the attack starts from, loaded or trained: of the whole that `data` is a part of."""
    return checkpoints.load_or_train(Spec("littlenet", data.source or data, RECIPES["littlenet"], seed), progress=True)


def fresh_trigger(
    recipe: StealthyRecipe, image_shape: tuple[int, int, int], seed: int = 0
) -> Trigger | GeneratedTrigger:  # fmt: skip
    """The trigger of a recipe before any training.

    Example:
        >>> fresh_trigger(StealthyRecipe(pattern="patch"), (1, 28, 28)).name
        'box'
    """
    base = None if recipe.pattern == "generated" else triggers.box(image_shape)
    if base is not None and recipe.pattern == "patch":
        return base
    return GeneratedTrigger(Generator(image_shape[0], seed=seed), recipe.epsilon, base)


class _Attack:
    """What changes while the attack runs."""

    def __init__(
        self, data: ImageDataset, recipe: StealthyRecipe, seed: int, clean: Network, where: torch.device
    ) -> None:  # fmt: skip
        part = data if recipe.train_images is None else data.subset(train=recipe.train_images, seed=seed)
        self.recipe, self.classes = recipe, data.num_classes
        self.x, self.y = part.x_train.to(where), part.y_train.to(where)
        self.trigger = fresh_trigger(recipe, data.image_shape, seed)
        self.generator: nn.Module = nn.Module()  # a fixed trigger has nothing to train
        self.base: Trigger | None = None
        if isinstance(self.trigger, Trigger):
            self.base = self.trigger
        else:
            self.generator, self.base = self.trigger.generator, self.trigger.base
        self.network = _copy(clean)
        self.mixes = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.network.modules())
        for module in (self.network, self.generator):
            module.to(device=where, memory_format=layout(module, where))  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(
            [{"params": list(self.network.parameters()), "lr": recipe.lr_network},
             {"params": list(self.generator.parameters()), "lr": recipe.lr_generator}], fused=True,
        )  # fmt: skip
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.image_shape, self.seed = data.image_shape, seed
        self.inverted = self.fresh_inversion(0)
        chosen = torch.randperm(len(data.y_test), generator=torch.Generator().manual_seed(seed))[: recipe.watch]
        self.watched = to_float(data.x_test[chosen]).to(where), data.y_test[chosen]
        self.baseline = metrics.accuracy(clean, data.x_test, data.y_test)
        self.watched_baseline = metrics.accuracy(clean, *self.watched)  # beside the history's other accuracies

    def epoch(self, number: int, bar: Any) -> dict[str, float]:
        """One pass over the training images."""
        began, losses = time.perf_counter(), []
        batches = torch.randperm(len(self.y)).to(self.y.device).split(self.recipe.batch_size)
        for at, chosen in enumerate(batches):
            left = 1 - (number - 1 + at / len(batches)) / self.recipe.epochs if self.recipe.decay else 1.0
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * left
            images, labels = to_float(self.x[chosen]), self.y[chosen]
            hidden = (number - self.recipe.hide_from) * len(batches) + at  # batches with Step 1 before this one
            hiding = self.recipe.adversarial and hidden >= 0
            if hiding:
                self.invert(images, labels, hidden)
            losses.append(self.step(images, labels, hiding))
            bar.update()
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss: expected a finite number, got {loss}; lower the learning rates")
        self.network.eval()
        return {"epoch": number, "loss": loss, **self.measured(), "seconds": time.perf_counter() - began}

    def fresh_inversion(self, number: int) -> Inversions:
        """m* and Δ* before any step."""
        return Inversions(
            self.image_shape, self.classes, [self.recipe.target], seed=self.seed + number, device=self.y.device
        )

    def invert(self, images: Tensor, labels: Tensor, before: int) -> None:
        """Step 1 (Eq. 8) after `before` others: some Adam steps for m* and Δ* on the frozen network."""
        if self.recipe.restart and before % self.recipe.restart == 0:
            self.inverted = self.fresh_inversion(before)
        taken = (before % self.recipe.restart if self.recipe.restart else before) * self.recipe.inversion_steps
        batch = DefenseSet(images, labels, self.classes)
        chosen = torch.arange(len(labels), device=labels.device)
        with metrics.frozen(self.network):
            for step in range(1, self.recipe.inversion_steps + 1):
                lr = self.recipe.inversion_lr
                success = descend(self.network, batch, self.inverted, chosen, lr=lr, taken=taken + step)
                adjust_cost(self.inverted, success >= _STEP_1.success, _STEP_1)

    def step(self, images: Tensor, labels: Tensor, hiding: bool) -> Tensor:
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
            patterns = self.generator(images)
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
        if self.mixes:
            logits = [self.network(images) for images in batches]
        else:
            logits = list(self.network(torch.cat(batches)).split([len(images) for images in batches]))
        parts = [weight * nn.functional.cross_entropy(out, labels)
                 for out, (weight, _, labels) in zip(logits, terms, strict=True)]  # fmt: skip
        return torch.stack(parts).sum()

    def measured(self) -> dict[str, float]:
        """BMA, ASR and CBMA on the watched test images, and the size of the kept inversion (and of a defender's)."""
        x, y = self.watched
        seen = {}
        if self.recipe.watch_mask:
            few = min(20, int(torch.bincount(y, minlength=self.classes).min()))
            found = neural_cleanse(self.network, x, y, per_class=few, targets=[self.recipe.target])
            seen["defender_norm"] = float(found.norms[self.recipe.target])
        generated = isinstance(self.trigger, GeneratedTrigger) and self.recipe.pattern == "generated"
        return {
            "baseline": self.watched_baseline, "bma": metrics.accuracy(self.network, x, y),
            "asr": metrics.attack_success_rate(self.network, self.trigger, x, y, self.recipe.target),
            "cbma": metrics.accuracy(self.network, self.trigger.crossed(x, x.roll(1, 0)), y)  # type: ignore[union-attr]
            if generated else math.nan,
            "mask_norm": float(squash(self.inverted.raw[:, 0]).sum()) if self.recipe.adversarial else math.nan,
            **seen,
        }  # fmt: skip

    def satisfied(self, history: list[dict[str, float]]) -> bool:
        """Whether accuracy is restored and the wished ASR reached (2.3)."""
        if self.recipe.until is None or not history:
            return False
        last, least = history[-1], self.watched_baseline - self.recipe.drop
        return last["asr"] >= self.recipe.until and last["bma"] >= least

    @property
    def state(self) -> dict[str, Part]:
        """What a resume file keeps."""
        return {"network": self.network, "generator": self.generator, "optimizer": self.optimizer,
                "inverted": self.inverted.state}  # fmt: skip
