"""The protocol of all repairs: a network and clean images in, a repaired copy out (floor 3)."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.datasets import as_float, as_labels
from btlib.memory import enough_memory
from btlib.metrics.prediction import logits_of
from btlib.networks import check_precision, reference
from btlib.seeds import generator
from btlib.training import seeded

Trigger = Callable[[Tensor], Tensor]
History = Sequence[Mapping[str, float]]

#: Every fifth image of each class is held out where a threshold must be chosen.
_HELD_OUT = 5


@dataclass(frozen=True, eq=False)
class Repaired:
    """A repaired network, and what was done to it.

    Attributes:
        network: a changed copy, in evaluation mode; the given network is as it was.
        method: the repair, with its settings.
        summary: what was changed, in words.
        changed: the same in numbers, such as ``pruned``, ``threshold`` or ``steps``.
        history: what was watched on the way, by epoch, round or threshold.
        seconds: wall time.
    """

    network: nn.Module
    method: "Repair"
    summary: str
    changed: Mapping[str, float]
    history: History = field(repr=False)
    seconds: float


@dataclass(frozen=True, eq=False)
class Task:
    """What a repair works with: a copy of the network, and the clean images that it classifies as labelled.

    The other images would be learned by heart, and would come right by chance when thresholds are chosen.

    Attributes:
        network: a copy that may be changed, in evaluation mode.
        images: float (N, C, H, W) in [0, 1], on the network's device.
        labels: int64 (N,), likewise.
        num_classes: K, the number of the network's outputs.
        trigger: an estimated trigger, or None.
        seed: of everything random; the random state is set by it already.
        progress: show a bar.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    num_classes: int
    trigger: Trigger | None = None
    seed: int = 0
    progress: bool = False

    def split(self) -> tuple["Task", "Task"]:
        """A part to learn from and one to choose thresholds by, every fifth image of each class; drawn by the seed."""
        order = torch.randperm(len(self.labels), generator=generator(self.seed))
        order = order[self.labels.cpu()[order].argsort(stable=True)].to(self.labels.device)  # class by class
        held = torch.arange(len(order)) % _HELD_OUT == _HELD_OUT // 2
        return self._part(order[~held]), self._part(order[held])

    def accuracy(self) -> float:
        """Of the network as it is now, on images that it knew, in [0, 1]."""
        return metrics.accuracy(self.network, self.images, self.labels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in random order."""
        for chosen in torch.randperm(len(self.labels)).to(self.labels.device).split(size):
            yield self.images[chosen], self.labels[chosen]

    def _part(self, chosen: Tensor) -> "Task":
        x, y = self.images[chosen], self.labels[chosen]
        return Task(self.network, x, y, self.num_classes, self.trigger, self.seed, self.progress)


_BROKEN = (
    "network: expected finite weights after {}, got others: its steps were too long for it; pass a recipe with "
    "a lower lr, or take another repair"
)


class Repair(ABC):
    """A way to take a backdoor out of a network with clean images only.

    The settings are the fields of a frozen dataclass. Every threshold is chosen from the clean images.
    """

    name: ClassVar[str]

    @torch.inference_mode(False)  # what is made in inference mode can't be trained
    @enough_memory("a repair")
    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor, *, trigger: Trigger | None = None, seed: int = 0,
        progress: bool = False,
    ) -> Repaired:  # fmt: skip
        """Repair a copy of the network; the given one and the caller's random state stay as they are.

        Args:
            network: images in [0, 1] → logits (N, K).
            images, labels: clean images, uint8 or float in [0, 1], (N, C, H, W), and their classes, int64 (N,). Those
                that the network classifies as labelled are used.
            trigger: an estimate of the attacker's trigger, images in, images out; only `Unlearning` looks at it.
            seed: of everything random.
            progress: show a bar.

        Returns:
            A `Repaired`.

        Raises:
            TypeError, ValueError: bad images, labels or network, or one that this repair can't work on or breaks.
        """
        began = time.perf_counter()
        x, y, classes = _checked(network, images, labels)
        copy = deepcopy(network).eval()
        learns = [parameter.requires_grad for parameter in copy.parameters()]
        with seeded(seed, x.device), torch.enable_grad():
            task = Task(copy.requires_grad_(True), x, y, classes, trigger, seed, progress)
            try:
                summary, changed, history = self.repair(task)
            except FloatingPointError:  # training's
                raise ValueError(_BROKEN.format(self.name)) from None
        if not all(bool(parameter.isfinite().all()) for parameter in copy.parameters()):
            raise ValueError(_BROKEN.format(self.name))
        for parameter, learned in zip(copy.parameters(), learns, strict=True):
            parameter.requires_grad_(learned).grad = None
        return Repaired(copy.eval(), self, summary, changed, tuple(history), time.perf_counter() - began)

    @abstractmethod
    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Change `task.network` in place; returns summary, numbers and history of a `Repaired`."""


def require(repair: Repair, **ranges: tuple[float, float]) -> None:
    """Refuse settings outside their ranges, ends included.

    Raises:
        ValueError: the first that is outside.
    """
    for name, (low, high) in ranges.items():
        value = getattr(repair, name)
        if not low <= value <= high:
            raise ValueError(f"{name}: expected {low:g}…{high:g}, got {value}; see the docs of {type(repair).__name__}")


def _checked(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
    """The images and labels that the network knows, on its device, and the number of its outputs."""
    check_precision(network)
    if next(network.parameters(), None) is None:
        raise ValueError("network: expected a network with parameters, got none; there is nothing to repair")
    x = as_float(images)
    y = as_labels(labels, x)
    logits_of(network, x[:1])
    logits = metrics.predict(network, x)
    y = as_labels(y, x, logits.shape[1])
    known = logits.argmax(1) == y
    if known.sum() < _HELD_OUT:
        raise ValueError(f"labels: expected at least {_HELD_OUT} images that the network classifies as labelled, got "
                         f"{int(known.sum())} of {len(y)}; check labels and network, or pass more images")  # fmt: skip
    like = reference(network)
    return x.detach()[known.to(x.device)].to(like), y[known].to(like.device), logits.shape[1]
