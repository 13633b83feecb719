"""What attacks have in common: a recipe makes one, and one function runs it (floor 4)."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from btlib import checkpoints, metrics
from btlib.attacks.outcome import AttackResult, watched
from btlib.checkpoints import Spec
from btlib.datasets import ImageDataset, Shape, to_float
from btlib.datasets.images import check_class
from btlib.networks import Network, check_precision
from btlib.resume import ResumeFile
from btlib.seeds import check_seed, generator
from btlib.training import RECIPES, VERSION, Stage, device_for, train


class AttackRecipe(ABC):
    """Settings of an attack: a frozen dataclass that makes its trigger and the attack itself.

    Attributes:
        target: y*.
        watch: test images used for the history.
        train_images: number of training images; None: all.
    """

    target: int
    watch: int
    train_images: int | None = None

    @abstractmethod
    def fresh_trigger(self, image_shape: Shape, seed: int = 0) -> Callable[[Tensor], Tensor]:
        """The trigger before any training: a dataclass whose tensors and modules are then trained in place."""

    @abstractmethod
    def attack(self, data: ImageDataset, clean: Network, seed: int, device: torch.device) -> "Attack":
        """The attack on a clean network, ready to begin."""


class Attack(Stage):
    """The stage that trains `network` and `trigger`, and what every attack has.

    Args:
        data: clean images.
        recipe: the settings.
        clean: the network to start from, not changed itself.
        seed: of the trigger, the watched images and the choice of `train_images`.
        device: where.

    Attributes:
        network: the victim, trained in place.
        trigger: trained in place.
        baseline: accuracy of the clean network on all test images.
        watched: images and labels that the history is measured on.
        before: stages that come first.
    """

    trigger: Callable[[Tensor], Tensor]
    before: tuple[Stage, ...] = ()

    def __init__(
        self, data: ImageDataset, recipe: AttackRecipe, clean: Network, seed: int, device: torch.device
    ) -> None:  # fmt: skip
        check_precision(clean)
        part = data if recipe.train_images is None else data.subset(train=recipe.train_images, seed=seed)
        self.x, self.y = part.x_train.to(device), part.y_train.to(device)
        self.device, self.target = device, recipe.target
        self.network = copy.deepcopy(clean).requires_grad_(True).to(device)
        self.network.card = None
        self.trigger = recipe.fresh_trigger(data.image_shape, seed)
        chosen = torch.randperm(len(data.y_test), generator=generator(seed))[: recipe.watch]
        self.watched = to_float(data.x_test[chosen]).to(device), data.y_test[chosen]
        if bool((data.y_test[chosen] == recipe.target).all()):
            raise ValueError(f"watch: expected some test images of other classes than the target, got none in "
                             f"{recipe.watch}; raise it")  # fmt: skip
        self.baseline = metrics.accuracy(self.network, data.x_test, data.y_test)  # not yet trained, and on `device`

    def measure(self, epoch: int) -> Mapping[str, float]:
        """BMA, ASR and CBMA on the watched images."""
        return watched(self.network, self.trigger, *self.watched, self.target)


def run(
    data: ImageDataset, recipe: AttackRecipe, seed: int = 0, *, network: Network | None = None, progress: bool = False,
    resume: str | Path | None = None, device: str | torch.device | None = None,
) -> AttackResult:  # fmt: skip
    """Backdoor a network by the attack of a recipe.

    Args:
        data: clean images.
        recipe: the settings; their type says which attack.
        seed: of everything random.
        network: the clean network to start from and compare with, not changed itself; None: a LittleNet, loaded or
            trained.
        progress: show a bar.
        resume: a file that always holds the last finished epoch; where it exists, the attack goes on from it.
        device: where to train; default: the GPU when there is one, else the CPU.

    Returns:
        An `AttackResult` on `device`.

    Raises:
        ValueError: a target that does not exist, too few training images, a resume file of another attack or another
            starting network.
        FloatingPointError: the loss became NaN or infinite.

    Example:
        >>> from btlib import datasets, networks
        >>> from btlib.attacks.stealthy import StealthyRecipe
        >>> data = datasets.load("fashion-mnist").subset(train=64, test=50)
        >>> net = networks.build("lenet5", data, seed=0)
        >>> run(data, StealthyRecipe(epochs=1, pattern="patch"), network=net, progress=False).trigger.name
        'box'
    """
    check_class(recipe.target, data.num_classes)
    seed = check_seed(seed)
    clean = network if network is not None else clean_network(data, seed)
    where = device_for(device)
    attack = recipe.attack(data, clean, seed, where)
    file = ResumeFile(resume, recipe=recipe, seed=seed, data=data, start=clean, device=where, version=VERSION)
    history = train([*attack.before, attack], file, seed=seed, device=where, progress=progress, title="attack")
    return AttackResult(attack.network, attack.trigger, recipe.target, attack.baseline, tuple(history), recipe, seed)


def door(kind: type[AttackRecipe]) -> Callable[..., AttackResult]:
    """`run` as an attack's own module has it: the recipe may be left out, which means the defaults of its kind."""

    @wraps(run)
    def run_one(data: ImageDataset, recipe: AttackRecipe | None = None, seed: int = 0, **how: Any) -> AttackResult:
        return run(data, kind() if recipe is None else recipe, seed, **how)

    return run_one


def clean_network(data: ImageDataset, seed: int) -> Network:
    """The LittleNet that the attack starts from, loaded or trained: of the whole that `data` is a part of."""
    return checkpoints.load_or_train(Spec("littlenet", data.whole or data, RECIPES["littlenet"], seed), progress=True)
