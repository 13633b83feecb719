"""The input-aware dynamic attack: a visible trigger of its own for each image (floor 4).

Nguyen & Tran, "Input-aware dynamic backdoor attack", NeurIPS 2020; a baseline in the stealthy attack's Table 1. One
network learns where an image's trigger goes (its mask) and is then frozen; another learns what it shows (its
pattern), together with the classifier.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.attacks.attack import Attack, AttackRecipe, door
from btlib.attacks.patterns import MaskedTrigger, embed, rounded, sharp
from btlib.datasets import ImageDataset, Shape, to_float
from btlib.networks import Network
from btlib.networks.generator import Generator
from btlib.training import Precision, Stage, in_precision, placed, seeded, shuffled

_WIDTH = 16  # filters of the first layer of both generators, as in the original for MNIST


@dataclass(frozen=True)
class InputAwareRecipe(AttackRecipe):
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
        precision: of all three networks, as in `training.Recipe`; the losses are float32.

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
    precision: Precision = "auto"

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
        in_precision(self.precision, torch.device("cpu"))

    def fresh_trigger(self, image_shape: Shape, seed: int = 0) -> MaskedTrigger:
        """Two generators, of masks and of patterns."""
        masker = Generator(image_shape[0], _WIDTH, out=1, seed=seed)
        return MaskedTrigger(Generator(image_shape[0], _WIDTH, seed=seed + 1), masker)

    def attack(self, data: ImageDataset, clean: Network, seed: int, device: torch.device) -> "_InputAware":
        """The masks first, then classifier and patterns together."""
        return _InputAware(data, self, clean, seed, device)


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
    """
    return (_rms(images - others) / (_rms(made - made_for_others) + 1e-7)).mean()


def _rms(difference: Tensor) -> Tensor:
    """Of each image; unlike the root of a mean square it has a gradient at 0."""
    flat = difference.flatten(1)
    return torch.linalg.vector_norm(flat, dim=1) / math.sqrt(flat.shape[1])


#: The attack (Nguyen & Tran 2020): `attacks.run`, whose recipe may be left out.
run = door(InputAwareRecipe)


class _Masks(Stage):
    """The mask network alone: small masks that differ where images do."""

    prefix = "mask_"

    def __init__(self, x: Tensor, y: Tensor, masker: nn.Module, recipe: InputAwareRecipe) -> None:
        self.x, self.y, self.masker, self.recipe = x, y, masker, recipe
        self.epochs, self.steps = recipe.mask_epochs, len(y) // recipe.batch_size
        self.optimizer = torch.optim.Adam(masker.parameters(), lr=recipe.lr_generator, betas=(0.5, 0.9))
        self.state = {"masker": masker, "of_masker": self.optimizer}

    def start(self, epoch: int) -> list[tuple[Tensor, Tensor]]:
        """Pairs of batches, and the epoch's learning rate."""
        _set_rate(self.optimizer, self.recipe.lr_generator, self.recipe.mask_drops, epoch)
        return _pairs(self.y, self.recipe.batch_size)

    def step(self, batch: tuple[Tensor, Tensor], taken: int) -> Tensor:
        """Smaller masks, further apart."""
        recipe, (images, others) = self.recipe, (to_float(self.x[chosen]) for chosen in batch)
        self.masker.train()
        with in_precision(recipe.precision, images.device):
            made = [self.masker(x) for x in (images, others)]
        masks, of_others = (sharp(raw.float()) for raw in made)
        covered = (masks - recipe.density).relu().mean()
        loss = recipe.mask_norm * covered + recipe.diversity * diversity_loss(images, others, masks, of_others)
        _descend(loss, self.optimizer)
        return loss.detach()


class _InputAware(Attack):
    """Classifier and generator: own triggers mean the target, other images' triggers mean nothing."""

    trigger: MaskedTrigger

    def __init__(
        self, data: ImageDataset, recipe: InputAwareRecipe, clean: Network, seed: int, device: torch.device
    ) -> None:  # fmt: skip
        super().__init__(data, recipe, clean, seed, device)
        self.recipe, self.epochs, self.steps = recipe, recipe.epochs, len(self.y) // recipe.batch_size
        if self.steps == 0:
            raise ValueError(f"data: expected at least one batch of {recipe.batch_size} training images, got "
                             f"{len(self.y)}; lower batch_size")  # fmt: skip
        if recipe.scratch:
            _forget(self.network, seed)
        self.masker, self.generator = self.trigger.masker, self.trigger.generator
        for module in (self.network, self.masker, self.generator):
            placed(module, device)
        self.before = (_Masks(self.x, self.y, self.masker, recipe),)
        self.of_generator = torch.optim.Adam(self.generator.parameters(), lr=recipe.lr_generator, betas=(0.5, 0.9))
        self.of_network = torch.optim.SGD(
            self.network.parameters(), lr=recipe.lr_network, momentum=0.9, weight_decay=5e-4
        )
        self.state = {"network": self.network, "generator": self.generator, "of_network": self.of_network,
                      "of_generator": self.of_generator}  # fmt: skip

    def start(self, epoch: int) -> list[tuple[Tensor, Tensor]]:
        """Pairs of batches, and the epoch's learning rates."""
        _set_rate(self.of_network, self.recipe.lr_network, self.recipe.network_drops, epoch)
        _set_rate(self.of_generator, self.recipe.lr_generator, self.recipe.generator_drops, epoch)
        return _pairs(self.y, self.recipe.batch_size)

    def step(self, batch: tuple[Tensor, Tensor], taken: int) -> Tensor:
        """One step of both on a batch."""
        recipe, labels = self.recipe, self.y[batch[0]]
        images, others = (to_float(self.x[chosen]) for chosen in batch)
        attacked, crossed = (int(rate * len(images)) for rate in (recipe.attack_rate, recipe.cross_rate))
        both = attacked + crossed
        owners = torch.cat([images[:attacked], others[attacked:both]])  # whose triggers the first images get
        self.network.train()
        self.generator.train()
        half = in_precision(recipe.precision, labels.device)
        with half:
            patterns = (self.generator(owners).float() + 1) / 2
        with metrics.evaluating(self.masker), half:
            masks = sharp(self.masker(owners).float())
        triggered = rounded(embed(images[:both], masks.clone(), patterns))
        wanted = torch.cat([torch.full_like(labels[:attacked], recipe.target), labels[attacked:]])
        with half:
            logits = self.network(torch.cat([triggered, images[both:]]))
        loss = nn.functional.cross_entropy(logits.float(), wanted)
        pairs = min(attacked, crossed)
        of_own, of_others = patterns[:pairs], patterns[attacked : attacked + pairs]
        far = diversity_loss(owners[:pairs], owners[attacked : attacked + pairs], of_own, of_others)
        loss = loss + recipe.diversity * far
        _descend(loss, self.of_network, self.of_generator)  # public copies forget to clear the generator's gradients
        return loss.detach()


def _pairs(labels: Tensor, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of images, each beside a batch of others; a last, smaller one is left out."""
    order, other = (shuffled(len(labels), batch_size, labels.device) for _ in range(2))
    whole = len(labels) // batch_size
    return list(zip(order[:whole], other[:whole], strict=True))


def _set_rate(optimizer: torch.optim.Optimizer, lr: float, drops: tuple[int, ...], epoch: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * 0.1 ** sum(epoch > drop for drop in drops)


def _descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def _forget(network: Network, seed: int) -> None:
    """Give it new weights; architecture and pixel statistics stay."""
    with seeded(seed, torch.device("cpu")):
        for module in network.cpu().modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
