"""Settings of a training, and what the papers and the course train with (floor 2)."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from btlib.datasets.images import check_count
from btlib.training.device import Precision

#: Part of every checkpoint's key: raised when a change to this package changes what a recipe trains.
VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """How to train. Frozen, so that it can be hashed, recorded and compared.

    Attributes:
        epochs: passes over the training set.
        batch_size: images per step.
        lr: learning rate (the peak for ``one_cycle``).
        optimizer: ``"adam"``, ``"sgd"`` (with `momentum`) or ``"nesterov"`` (SGD with Nesterov's).
        momentum: of SGD; not 0 with Nesterov's.
        weight_decay: L2 penalty.
        schedule: ``"constant"``; ``"step"``: × `gamma` every `step_epochs`; ``"one_cycle"``: linear up over the
            first quarter of all steps, linear down to nothing after.
        step_epochs: epochs between two steps of ``"step"``.
        gamma: its factor.
        augment: ``"none"``, ``"crop"`` (4 pixels of zero padding), ``"crop+flip"`` or ``"shift+flip"`` (2 pixels,
            mirrored border). It acts on clean and poisoned images alike, after poisoning: a trainer does not know
            which is which, and a trigger moves with its image.
        precision: ``"float32"``, ``"bf16"`` (autocast), or ``"auto"``: bf16 where the hardware is faster in it.
        channels_last: memory layout; None: where it pays (`networks.layout`).

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> Recipe(epochs=2).batch_size
        128
    """

    epochs: int
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: Literal["adam", "sgd", "nesterov"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "step", "one_cycle"] = "constant"
    step_epochs: int = 50
    gamma: float = 0.5
    augment: Literal["none", "crop", "crop+flip", "shift+flip"] = "none"
    precision: Precision = "float32"
    channels_last: bool | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "step_epochs"):
            check_count(name, getattr(self, name), usual={"batch_size": 128}.get(name, 50))
        for name, fine in (
            ("lr", 0 < self.lr < math.inf), ("gamma", 0 < self.gamma <= 1),
            ("momentum", 0 <= self.momentum < 1 and (self.momentum > 0 or self.optimizer != "nesterov")),
            ("weight_decay", 0 <= self.weight_decay < math.inf),
        ):  # fmt: skip
            if not fine:
                raise ValueError(f"{name}: expected one in its range, got {getattr(self, name)}; see Recipe's docs")
        allowed = {
            "optimizer": ("adam", "sgd", "nesterov"), "schedule": ("constant", "step", "one_cycle"),
            "augment": ("none", "crop", "crop+flip", "shift+flip"), "precision": get_args(Precision),
        }  # fmt: skip
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}: expected one of {', '.join(values)}, got {getattr(self, name)!r}")


_SMALL_RESNET = Recipe(
    epochs=12, batch_size=512, lr=0.4, optimizer="nesterov", weight_decay=1e-3, schedule="one_cycle",
    augment="shift+flip",
)  # fmt: skip

#: The papers' settings by name, and the course's own small ones. Optimisers the papers do not name: docs/choices.md.
RECIPES: dict[str, Recipe] = {
    "lenet5": Recipe(epochs=8, batch_size=256, lr=4e-3, schedule="one_cycle"),
    "lenet5-quick": Recipe(epochs=4, batch_size=256, lr=4e-3, schedule="one_cycle"),
    "lenet5-large-batch": Recipe(epochs=8, batch_size=512, lr=8e-3, schedule="one_cycle"),
    "littlenet": Recipe(epochs=6, batch_size=256, lr=2e-3, schedule="one_cycle"),
    "small-resnet": _SMALL_RESNET,
    "small-resnet-bf16": replace(_SMALL_RESNET, precision="auto"),
    "l-red-cifar10": Recipe(epochs=100, batch_size=32, lr=1e-3, augment="crop+flip", precision="auto"),
    "l-red-cifar100": Recipe(epochs=120, batch_size=32, lr=1e-3, augment="crop+flip", precision="auto"),
    "l-red-mnist": Recipe(epochs=60, batch_size=256, lr=1e-2, optimizer="sgd"),
    "l-red-fmnist": Recipe(epochs=60, batch_size=256, lr=1e-2, optimizer="sgd"),
    "l-red-gtsrb": Recipe(epochs=100, batch_size=64, lr=1e-3),
    "in-flight-cifar10": Recipe(
        epochs=150, batch_size=32, lr=0.1, optimizer="sgd", schedule="step", weight_decay=5e-4,
        augment="crop+flip", precision="auto",
    ),
    # not a paper's: a ResNet-18 on CIFAR-10 within minutes of a GPU
    "minutes": Recipe(
        epochs=20, batch_size=512, lr=0.4, optimizer="sgd", schedule="one_cycle", weight_decay=5e-4,
        augment="crop+flip", precision="auto",
    ),
}  # fmt: skip


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate at a step, counted from 0 over the whole training: a pure function.

    Example:
        >>> learning_rate(Recipe(epochs=2, lr=0.1, schedule="step", step_epochs=1), step=10, steps_per_epoch=10)
        0.05
    """
    if recipe.schedule == "step":
        return recipe.lr * recipe.gamma ** (step // steps_per_epoch // recipe.step_epochs)
    if recipe.schedule == "one_cycle":
        total = recipe.epochs * steps_per_epoch
        rise = max(1, total // 4)
        return recipe.lr * min((step + 1) / rise, (total - step) / max(1, total - rise))
    return recipe.lr
