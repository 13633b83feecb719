"""Cross-entropy on a training set, clean or poisoned alike; only the data differ (floor 2)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from btlib.datasets import ImageDataset, to_float
from btlib.memory import enough_memory
from btlib.metrics.prediction import logits_of
from btlib.networks import check_precision, layout
from btlib.resume import ResumeFile
from btlib.seeds import check_seed
from btlib.training.device import device_for, in_precision, placed
from btlib.training.images import augmented
from btlib.training.loop import Stage, curve, shuffled, train
from btlib.training.recipe import VERSION, Recipe, learning_rate

OnEpoch = Callable[[int, nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class TrainingRun:
    """What a training did.

    Attributes:
        recipe: the settings.
        seed: of batches, dropout and augmentation.
        history: one mapping per epoch: ``epoch`` (from 1), ``loss`` (mean cross-entropy, nats), ``train_accuracy``
            (while training), whatever `on_epoch` returned, and ``seconds``, `on_epoch`'s included.
        seconds: wall time of all epochs.
    """

    recipe: Recipe
    seed: int
    history: tuple[Mapping[str, float], ...]
    seconds: float

    def curve(self, key: str) -> list[float]:
        """One entry of the history by epoch.

        Raises:
            KeyError: when the history has no such entry.
        """
        return curve(self.history, key)


@enough_memory("training")
def fit(
    network: nn.Module, data: ImageDataset, recipe: Recipe, seed: int = 0, progress: bool = False, *,
    on_epoch: OnEpoch | None = None, resume: str | Path | None = None, device: str | torch.device | None = None,
) -> TrainingRun:  # fmt: skip
    """Train a network in place on a data set, clean or poisoned.

    On one CPU the same seed and the same number of threads give the same weights; the caller's random state is left as
    it was, and so is the number of threads. The network ends in evaluation mode, on `device`. On glibc, the process
    keeps freed memory from the first call on (`mallopt`): a fifth of an epoch's time.

    Args:
        network: takes images (N, C, H, W) in [0, 1], gives logits (N, K).
        data: its training part is used.
        recipe: the settings.
        seed: of batches, dropout and augmentation (initial weights have their own, in `networks.build`).
        progress: show a progress bar.
        on_epoch: called as (epoch, network) after each epoch, network in evaluation mode; what it returns
            joins the history.
        resume: a file that holds the last finished epoch, of a state above 16 MB one of the last minute. Where it
            exists, training goes on from it; `network` must then have the weights that it had at the beginning, as from
            `networks.build` with the same seed.
        device: where to train; default: the GPU when there is one, else the CPU.

    Returns:
        A `TrainingRun`.

    Raises:
        TypeError, ValueError: an empty training set, a network that has no logits for it, or a resume file of another
            recipe, seed, data set or starting network.
        FloatingPointError: the loss became NaN or infinite.

    Example:
        >>> from btlib import datasets, networks
        >>> data = datasets.load("fashion-mnist").subset(train=512)
        >>> len(fit(networks.build("lenet5", data, seed=0), data, Recipe(epochs=1), progress=False).history)
        1
    """
    where = device_for(device)
    file = ResumeFile(resume, recipe=recipe, seed=seed, data=data, start=network, device=where, version=VERSION)
    stage = Fitting(network, data, recipe, seed=seed, device=where, on_epoch=on_epoch)
    _check_network(network, data)
    history = train([stage], file, seed=seed, device=where, progress=progress)
    return TrainingRun(recipe, seed, tuple(history), sum(epoch["seconds"] for epoch in history))


def _check_network(network: nn.Module, data: ImageDataset) -> None:
    """Weights that can learn, and logits for the data's images and for all of its classes."""
    check_precision(network)
    classes = logits_of(network, to_float(data.x_train[:1]))[0].shape[1]
    if classes < data.num_classes:
        raise ValueError(f"network: expected logits for the {data.num_classes} classes of the data, got {classes}; "
                         "build it for them")  # fmt: skip


class Fitting(Stage):
    """The stage that `fit` trains, and the last one of attacks that only poison.

    Args:
        network, data, recipe, seed, device, on_epoch: as in `fit`; the network is on `device` from now on.

    Raises:
        ValueError: an empty training set.
    """

    def __init__(
        self, network: nn.Module, data: ImageDataset, recipe: Recipe, *, seed: int, device: torch.device,
        on_epoch: OnEpoch | None = None,
    ) -> None:  # fmt: skip
        if len(data.y_train) == 0:
            raise ValueError("data: expected training images, got none; poison or subset less")
        self.network, self.recipe, self.seed, self.device, self.on_epoch = network, recipe, seed, device, on_epoch
        self.epochs, self.steps = recipe.epochs, math.ceil(len(data.y_train) / recipe.batch_size)
        self.format = layout(network, device)
        if recipe.channels_last is not None:
            self.format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network.to(device)
        self.optimizer = optimizer_for(network, recipe)
        self.state = {"network": network, "optimizer": self.optimizer}
        self.feed(data)

    def feed(self, data: ImageDataset) -> None:
        """Train on these images from now on."""
        self.x, self.y = data.x_train.to(self.device), data.y_train.to(self.device)

    def start(self, epoch: int) -> tuple[Tensor, ...]:
        """All training images, in another order in each epoch."""
        if epoch == 1:
            torch.manual_seed(check_seed(self.seed))  # whatever stages before this one drew
        placed(self.network, self.device, self.format)
        self.network.train()
        self.batches = shuffled(len(self.y), self.recipe.batch_size, self.device)
        self.correct = torch.zeros((), device=self.device)
        return self.batches

    def step(self, batch: Tensor, taken: int) -> Tensor:
        """One step of the optimiser on these images."""
        images = augmented(self.x[batch], self.recipe.augment)
        images, labels = images.to(torch.float32, memory_format=self.format).div_(255), self.y[batch]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, taken, self.steps)
        with in_precision(self.recipe.precision, self.device):
            logits = self.network(images)
            loss = nn.functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.correct += (logits.detach().argmax(1) == labels).sum()
        return loss.detach()

    def summary(self, losses: list[Tensor]) -> dict[str, float]:
        """Mean loss and accuracy over the images, while training."""
        total = torch.zeros((), device=self.device)
        for loss, batch in zip(losses, self.batches, strict=True):
            total += loss * len(batch)
        return {"loss": total.item() / len(self.y), "train_accuracy": self.correct.item() / len(self.y)}

    def measure(self, epoch: int) -> Mapping[str, float]:
        """What `on_epoch` says."""
        return {} if self.on_epoch is None else self.on_epoch(epoch, self.network)


def optimizer_for(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """What the recipe trains the network's weights with; its schedule is left to the caller (`learning_rate`).

    Example:
        >>> optimizer_for(nn.Linear(2, 2), Recipe(epochs=1, optimizer="sgd", lr=0.1)).defaults["momentum"]
        0.9
    """
    settings: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), **settings)
    settings |= {"momentum": recipe.momentum, "nesterov": recipe.optimizer == "nesterov"}
    return torch.optim.SGD(network.parameters(), **settings)
