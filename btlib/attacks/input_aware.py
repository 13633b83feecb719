"""The input-aware dynamic attack: a visible trigger of its own for each image (floor 4).

Nguyen & Tran, "Input-aware dynamic backdoor attack", NeurIPS 2020; a baseline in the stealthy attack's Table 1. One
network learns where an image's trigger goes (its mask) and is then frozen; another learns what it shows (its
pattern), together with the classifier.
"""

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib import metrics
from btlib.attacks.outcome import AttackResult, watched
from btlib.attacks.patterns import MaskedTrigger, embed, rounded, sharp
from btlib.attacks.stealthy import clean_network
from btlib.datasets import ImageDataset, to_float
from btlib.networks import Network, layout
from btlib.networks.generator import Generator
from btlib.resume import Part, ResumeFile
from btlib.training import place, seeded

_WIDTH = 16  # filters of the first layer of both generators, as in the original for MNIST


@dataclass(frozen=True)
class InputAwareRecipe:
    """Settings of the attack. Rates and weights are the original's; epochs are for two cores (docs/choices.md).

    Attributes:
        target: y*.
        mask_epochs: passes for the mask network.
        epochs: passes for classifier and pattern generator after that.
        scratch: train the classifier from fresh weights; else from the clean network's.
        batch_size: images per step; a last, smaller batch is left out.
        attack_rate, cross_rate: parts of a batch that get their own trigger, and another image's.
        density: how opaque a mask may be at each pixel for nothing.
        mask_norm: weight of what is more opaque than that, the mean over pixels.
        diversity: weight of the diversity loss, for masks and for patterns.
        lr_network, lr_generator: of SGD (momentum 0.9, weight decay 5e-4) and of Adam (0.5, 0.9).
        mask_drops, network_drops, generator_drops: epochs after which the learning rate is divided by ten.
        train_images: number of training images; None: all.
        watch: test images used for the history.

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> ORIGINAL.epochs, InputAwareRecipe().attack_rate
        (600, 0.1)
    """

    target: int = 8
    mask_epochs: int = 1
    epochs: int = 6
    scratch: bool = False
    batch_size: int = 128
    attack_rate: float = 0.1
    cross_rate: float = 0.1
    density: float = 0.032
    mask_norm: float = 100.0
    diversity: float = 1.0
    lr_network: float = 1e-2
    lr_generator: float = 1e-2
    mask_drops: tuple[int, ...] = ()
    network_drops: tuple[int, ...] = (5,)
    generator_drops: tuple[int, ...] = (4,)
    train_images: int | None = None
    watch: int = 2000

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("mask_epochs", "epochs", "lr_network", "lr_generator", "watch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}; see InputAwareRecipe")
        counts = [int(rate * self.batch_size) for rate in (self.attack_rate, self.cross_rate)]
        if min(counts) < 1 or sum(counts) >= self.batch_size:
            raise ValueError(
                f"attack_rate, cross_rate: expected at least one image of a batch each, and less than all together, "
                f"got {counts} of {self.batch_size}; the original has 0.1 and 0.1 of 128"
            )


#: The original's settings for MNIST. Its images lie in [-1, 1] there, which doubles the diversity loss of the masks:
#: half its weight of 100 on their size is the same ratio for ours in [0, 1].
ORIGINAL = InputAwareRecipe(
    mask_epochs=25, epochs=600, scratch=True, mask_norm=50.0, mask_drops=(10, 20),
    network_drops=(100, 200, 300, 400), generator_drops=(200, 300, 400, 500),
)  # fmt: skip


def diversity_loss(images: Tensor, others: Tensor, made: Tensor, made_for_others: Tensor) -> Tensor:
    """rms(x₁ - x₂) / (rms(g(x₁) - g(x₂)) + 10⁻⁷), the mean over pairs: other images shall get other triggers.

    Args:
        images, others: float (N, C, H, W) in [0, 1].
        made, made_for_others: float (N, C', H, W), their masks or patterns.

    Returns:
        float scalar, at least 0.

    Example:
        >>> x = torch.rand(3, 1, 4, 4)
        >>> round(diversity_loss(x, x.roll(1, 0), 2 * x, 2 * x.roll(1, 0)).item(), 3)
        0.5
    """
    return (_rms(images - others) / (_rms(made - made_for_others) + 1e-7)).mean()


def _rms(difference: Tensor) -> Tensor:
    """Of each image; unlike the root of a mean square it has a gradient at 0."""
    flat = difference.flatten(1)
    return torch.linalg.vector_norm(flat, dim=1) / math.sqrt(flat.shape[1])


def run(
    data: ImageDataset, recipe: InputAwareRecipe | None = None, seed: int = 0, *, network: Network | None = None,
    progress: bool = True, resume: str | Path | None = None, device: str | torch.device | None = None,
) -> AttackResult:  # fmt: skip
    """Backdoor a network with triggers that depend on the image (Nguyen & Tran 2020).

    Args:
        data: clean images.
        recipe: the settings; None: `InputAwareRecipe()`, for two cores; `ORIGINAL` is the published one.
        seed: of weights and batches.
        network: the clean network to start from and compare with, not changed itself; None: a LittleNet, loaded or
            trained.
        progress: show a bar.
        resume: a file that always holds the last finished epoch; where it exists, the attack goes on from it.
        device: where to train; default: the GPU when there is one, else the CPU.

    Returns:
        An `AttackResult` on `device`; its trigger is a `MaskedTrigger`.

    Raises:
        ValueError: a target that does not exist, fewer training images than a batch, a resume file of another attack.
        FloatingPointError: the loss became NaN or infinite.

    Example:
        >>> from btlib import datasets, networks
        >>> data = datasets.load("fashion-mnist").subset(train=256, test=100)
        >>> net = networks.build("lenet5", data, seed=0)
        >>> result = run(data, InputAwareRecipe(mask_epochs=1, epochs=1), network=net, progress=False)
        >>> sorted(result.history[0])
        ['asr', 'bma', 'cbma', 'epoch', 'loss', 'seconds']
    """
    recipe = recipe or InputAwareRecipe()
    if not 0 <= recipe.target < data.num_classes:
        raise ValueError(f"target: expected a class in 0…{data.num_classes - 1}, got {recipe.target}; see data.classes")
    where = place(device)
    attack = _Attack(data, recipe, seed, network if network is not None else clean_network(data, seed), where)
    file = ResumeFile(resume, recipe, seed, data, where)
    with seeded(seed, where):
        history = file.restore(**attack.state)
        total = recipe.mask_epochs + recipe.epochs
        with tqdm(total=total * attack.steps, initial=len(history) * attack.steps, desc="attack", unit="step",
                  leave=False, disable=not progress) as bar:  # fmt: skip
            while len(history) < total:
                history.append(attack.epoch(len(history) + 1, bar))
                file.save(history, **attack.state)
    shown = tuple(history[recipe.mask_epochs :])
    attack.network.eval().to(memory_format=torch.contiguous_format)
    return AttackResult(attack.network, attack.trigger, recipe.target, attack.baseline, shown, recipe, seed)


def fresh_trigger(recipe: InputAwareRecipe, image_shape: tuple[int, int, int], seed: int = 0) -> MaskedTrigger:
    """The trigger of a recipe before any training.

    Example:
        >>> fresh_trigger(InputAwareRecipe(), (1, 28, 28)).name
        'input-aware'
    """
    masker = Generator(image_shape[0], _WIDTH, out=1, seed=seed)
    return MaskedTrigger(Generator(image_shape[0], _WIDTH, seed=seed + 1), masker)


class _Attack:
    """What changes while the attack runs."""

    def __init__(
        self, data: ImageDataset, recipe: InputAwareRecipe, seed: int, clean: Network, where: torch.device
    ) -> None:  # fmt: skip
        part = data if recipe.train_images is None else data.subset(train=recipe.train_images, seed=seed)
        self.recipe, self.steps = recipe, len(part.y_train) // recipe.batch_size
        if self.steps == 0:
            raise ValueError(f"data: expected at least one batch of {recipe.batch_size} training images, got "
                             f"{len(part.y_train)}; lower batch_size")  # fmt: skip
        self.x, self.y = part.x_train.to(where), part.y_train.to(where)
        self.network = _fresh(clean, seed) if recipe.scratch else copy.deepcopy(clean)
        self.network.card = None
        self.network.requires_grad_(True)
        self.trigger = fresh_trigger(recipe, data.image_shape, seed)
        self.masker, self.generator = self.trigger.masker, self.trigger.generator
        for module in (self.network, self.masker, self.generator):
            module.to(device=where, memory_format=layout(module, where))  # type: ignore[call-overload]
        adam: dict[str, Any] = {"lr": recipe.lr_generator, "betas": (0.5, 0.9)}
        self.of_masker = torch.optim.Adam(self.masker.parameters(), **adam)
        self.of_generator = torch.optim.Adam(self.generator.parameters(), **adam)
        self.of_network = torch.optim.SGD(
            self.network.parameters(), lr=recipe.lr_network, momentum=0.9, weight_decay=5e-4
        )
        chosen = torch.randperm(len(data.y_test), generator=torch.Generator().manual_seed(seed))[: recipe.watch]
        self.watched = to_float(data.x_test[chosen]).to(where), data.y_test[chosen]
        self.baseline = metrics.accuracy(clean, data.x_test, data.y_test)

    @property
    def state(self) -> dict[str, Part]:
        """What a resume file keeps."""
        names = ("network", "masker", "generator", "of_network", "of_masker", "of_generator")
        return {name: getattr(self, name) for name in names}

    def epoch(self, number: int, bar: Any) -> dict[str, float]:
        """One pass over the training images, for the masks at first, then for the attack."""
        began, losses, recipe = time.perf_counter(), [], self.recipe
        number -= recipe.mask_epochs
        self.set_rates(number)
        order, other = (torch.randperm(len(self.y)).to(self.y.device).split(recipe.batch_size) for _ in range(2))
        for chosen, paired in zip(order[: self.steps], other[: self.steps], strict=True):
            images, others = to_float(self.x[chosen]), to_float(self.x[paired])
            losses.append(self.step(images, self.y[chosen], others) if number > 0 else self.mask_step(images, others))
            bar.update()
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss: expected a finite number, got {loss}; lower the learning rates")
        seen = watched(self.network, self.trigger, *self.watched, recipe.target) if number > 0 else {}
        return {"epoch": number, "loss": loss, **seen, "seconds": time.perf_counter() - began}

    def set_rates(self, number: int) -> None:
        """Learning rates of an epoch; those of the mask network have numbers up to 0."""
        recipe = self.recipe
        for optimizer, lr, drops, epoch in (
            (self.of_masker, recipe.lr_generator, recipe.mask_drops, number + recipe.mask_epochs),
            (self.of_network, recipe.lr_network, recipe.network_drops, number),
            (self.of_generator, recipe.lr_generator, recipe.generator_drops, number),
        ):
            for group in optimizer.param_groups:
                group["lr"] = lr * 0.1 ** sum(epoch > drop for drop in drops)

    def mask_step(self, images: Tensor, others: Tensor) -> Tensor:
        """The mask network alone: small masks that differ where images do."""
        recipe = self.recipe
        self.masker.train()
        masks, of_others = (sharp(self.masker(x)) for x in (images, others))
        covered = (masks - recipe.density).relu().mean()
        loss = recipe.mask_norm * covered + recipe.diversity * diversity_loss(images, others, masks, of_others)
        _descend(loss, self.of_masker)
        return loss.detach()

    def step(self, images: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        """Classifier and generator: own triggers mean the target, other images' triggers mean nothing."""
        recipe = self.recipe
        attacked, crossed = (int(rate * len(images)) for rate in (recipe.attack_rate, recipe.cross_rate))
        both = attacked + crossed
        owners = torch.cat([images[:attacked], others[attacked:both]])  # whose triggers the first images get
        self.network.train()
        self.generator.train()
        patterns = (self.generator(owners) + 1) / 2
        with metrics.evaluating(self.masker):
            masks = sharp(self.masker(owners))
        triggered = rounded(embed(images[:both], masks.clone(), patterns))
        wanted = torch.cat([torch.full_like(labels[:attacked], recipe.target), labels[attacked:]])
        loss = nn.functional.cross_entropy(self.network(torch.cat([triggered, images[both:]])), wanted)
        pairs = min(attacked, crossed)
        of_own, of_others = patterns[:pairs], patterns[attacked : attacked + pairs]
        far = diversity_loss(owners[:pairs], owners[attacked : attacked + pairs], of_own, of_others)
        loss = loss + recipe.diversity * far
        _descend(loss, self.of_network, self.of_generator)  # public copies forget to clear the generator's gradients
        return loss.detach()


def _descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def _fresh(network: Network, seed: int) -> Network:
    """The same architecture and pixel statistics with new weights."""
    fresh = copy.deepcopy(network)
    with seeded(seed, torch.device("cpu")):
        for module in fresh.cpu().modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
    return fresh
