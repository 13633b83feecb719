"""Plain fine-tuning, and unlearning of an estimated trigger (floor 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from btlib import training
from btlib.datasets import ImageDataset, check_images, to_uint8
from btlib.repair.base import History, Repair, Task, require
from btlib.training import Recipe

#: In the usual order of memory, which some foreign networks need. How the rest was chosen: docs/choices.md.
TUNING = Recipe(epochs=20, batch_size=256, lr=5e-3, optimizer="sgd", schedule="one_cycle", channels_last=False)


def tune(task: Task, recipe: Recipe, images: Tensor | None = None) -> History:
    """Train the task's network on its images, or on changed ones in their place; returns the history.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> len(tune(Task(net, torch.rand(8, 1, 2, 2), torch.arange(8) % 2, num_classes=2), Recipe(epochs=2)))
        2
    """
    x = to_uint8(task.images if images is None else images)
    names = tuple(map(str, range(task.num_classes)))
    data = ImageDataset("clean images", x, task.labels, x[:0], task.labels[:0], names)
    return training.fit(task.network, data, recipe, task.seed, task.progress, device=task.labels.device).history


@dataclass(frozen=True)
class FineTuning(Repair):
    """Go on training with clean images: the control that every other repair must beat.

    Liu et al., "Fine-Pruning", RAID 2018, 4.3: it hardly touches a backdoor, whose neurons sleep on clean images and
    so get no gradient.

    Attributes:
        recipe: how to train.

    Example:
        >>> FineTuning().recipe.epochs
        20
    """

    name: ClassVar[str] = "fine-tuning"
    recipe: Recipe = TUNING

    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Train on the clean images."""
        history = tune(task, self.recipe)
        return f"{len(history)} epochs on {len(task.labels)} images", {"epochs": len(history)}, history


@dataclass(frozen=True)
class Unlearning(Repair):
    """Train on clean images, some of them with an estimated trigger, all with their true labels.

    Wang et al., "Neural Cleanse", IEEE S&P 2019, VI-C: one epoch over a tenth of the training set, a fifth of it with
    the trigger. Here images are fewer and epochs more, and a twentieth is enough (docs/choices.md).

    Attributes:
        share: of the images that get the trigger, in [0, 1].
        recipe: how to train.

    Raises:
        ValueError: a share outside its range.

    Example:
        >>> Unlearning(share=0.2).share
        0.2
    """

    name: ClassVar[str] = "unlearning"
    share: float = 0.05
    recipe: Recipe = TUNING

    def __post_init__(self) -> None:
        require(self, share=(0, 1))

    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Train on clean and triggered images; ValueError without an estimated trigger."""
        if task.trigger is None:
            raise ValueError("trigger: expected an estimated trigger, got None; "
                             "pass detection.neural_cleanse(…).estimates[target].trigger")  # fmt: skip
        chosen = torch.randperm(len(task.labels))[: round(self.share * len(task.labels))]
        images = task.images.clone()
        stamped = task.trigger(images[chosen].cpu())
        check_images(stamped, name="trigger(images)")
        images[chosen] = stamped.to(images)
        history = tune(task, self.recipe, images)
        summary = f"{len(history)} epochs on {len(images)} images, {len(chosen)} of them with the estimated trigger"
        return summary, {"epochs": len(history), "triggered": len(chosen)}, history
