"""One loop for clean and poisoned training alike; only the data differ (floor 2)."""

import ctypes
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib.datasets import ImageDataset
from btlib.networks import layout
from btlib.resume import ResumeFile

#: Part of every checkpoint's key: raised when a change to this file changes what a recipe trains.
VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """How to train. Frozen, so that it can be hashed, recorded and compared.

    Attributes:
        epochs: passes over the training set.
        batch_size: images per step.
        lr: learning rate (the peak for ``one_cycle``).
        optimizer: ``"adam"`` or ``"sgd"`` (with `momentum`).
        momentum: of SGD.
        weight_decay: L2 penalty.
        schedule: ``"constant"``; ``"step"``: × `gamma` every `step_epochs`; ``"one_cycle"``: linear up over the
            first quarter of all steps, linear down to nothing after.
        step_epochs: epochs between two steps of ``"step"``.
        gamma: its factor.
        augment: ``"none"``, ``"crop"`` (4 pixels of zero padding) or ``"crop+flip"``. It acts on clean and
            poisoned images alike, after poisoning: a trainer does not know which is which.
        precision: ``"float32"``, ``"bf16"`` (autocast), or ``"auto"``: bf16 where the hardware has it.
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
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "step", "one_cycle"] = "constant"
    step_epochs: int = 50
    gamma: float = 0.5
    augment: Literal["none", "crop", "crop+flip"] = "none"
    precision: Literal["auto", "float32", "bf16"] = "float32"
    channels_last: bool | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "step_epochs", "gamma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}; see Recipe's docs")
        allowed = {
            "optimizer": ("adam", "sgd"), "schedule": ("constant", "step", "one_cycle"),
            "augment": ("none", "crop", "crop+flip"), "precision": ("auto", "float32", "bf16"),
        }  # fmt: skip
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}: expected one of {', '.join(values)}, got {getattr(self, name)!r}")


#: The papers' settings by name, and the course's own small ones. Optimisers the papers do not name: docs/choices.md.
RECIPES: dict[str, Recipe] = {
    "lenet5": Recipe(epochs=8, batch_size=256, lr=4e-3, schedule="one_cycle"),
    "lenet5-quick": Recipe(epochs=4, batch_size=256, lr=4e-3, schedule="one_cycle"),
    "lenet5-large-batch": Recipe(epochs=8, batch_size=512, lr=8e-3, schedule="one_cycle"),
    "littlenet": Recipe(epochs=6, batch_size=256, lr=2e-3, schedule="one_cycle"),
    "l-red-cifar10": Recipe(epochs=100, batch_size=32, lr=1e-3, augment="crop+flip", precision="auto"),
    "l-red-cifar100": Recipe(epochs=120, batch_size=32, lr=1e-3, augment="crop+flip", precision="auto"),
    "l-red-mnist": Recipe(epochs=60, batch_size=256, lr=1e-2, optimizer="sgd"),
    "l-red-fmnist": Recipe(epochs=60, batch_size=256, lr=1e-2, optimizer="sgd"),
    "l-red-gtsrb": Recipe(epochs=100, batch_size=64, lr=1e-3),
    "in-flight-cifar10": Recipe(
        epochs=150, batch_size=32, lr=0.1, optimizer="sgd", schedule="step", weight_decay=5e-4,
        augment="crop+flip", precision="auto",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class TrainingRun:
    """What a training did.

    Attributes:
        recipe: the settings.
        seed: of batches, dropout and augmentation.
        history: one mapping per epoch: ``epoch`` (from 1), ``loss`` (mean cross-entropy, nats),
            ``train_accuracy`` (while training), ``seconds``, and whatever `on_epoch` returned.
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
        if self.history and key not in self.history[0]:
            raise KeyError(f"{key!r} is not in the history, which has {', '.join(self.history[0])}")
        return [epoch[key] for epoch in self.history]


def fit(
    network: nn.Module, data: ImageDataset, recipe: Recipe, seed: int = 0, progress: bool = True, *,
    on_epoch: Callable[[int, nn.Module], Mapping[str, float]] | None = None,
    resume: str | Path | None = None, device: str | torch.device | None = None,
) -> TrainingRun:  # fmt: skip
    """Train a network in place on a data set, clean or poisoned.

    On a CPU the same seed gives the same weights; the caller's random state is left as it was. The network
    ends in evaluation mode, on `device`.

    Args:
        network: takes images (N, C, H, W) in [0, 1], gives logits (N, K).
        data: its training part is used.
        recipe: the settings.
        seed: of batches, dropout and augmentation (initial weights have their own, in `networks.build`).
        progress: show a progress bar.
        on_epoch: called as (epoch, network) after each epoch, network in evaluation mode; what it returns
            joins the history.
        resume: a file that always holds the last finished epoch. Where it exists, training goes on from it.
        device: where to train; default: the GPU when there is one, else the CPU.

    Returns:
        A `TrainingRun`.

    Raises:
        ValueError: an empty training set, or a resume file of another recipe, seed or data set.
        FloatingPointError: the loss became NaN or infinite.

    Example:
        >>> from btlib import datasets, networks
        >>> data = datasets.load("fashion-mnist").subset(train=512)
        >>> len(fit(networks.build("lenet5", data, seed=0), data, Recipe(epochs=1), progress=False).history)
        1
    """
    if len(data.y_train) == 0:
        raise ValueError("data: expected training images, got none; poison or subset less")
    where = place(device)
    _keep_freed_memory()
    memory_format = layout(network, where)
    if recipe.channels_last is not None:
        memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network.to(device=where, memory_format=memory_format)  # type: ignore[call-overload]
    x, y = data.x_train.to(where), data.y_train.to(where)
    optimizer = _optimizer(network, recipe)
    state = ResumeFile(resume, recipe, seed, data, where, VERSION)

    with seeded(seed, where):
        history = state.restore(network=network, optimizer=optimizer)
        steps = math.ceil(len(y) / recipe.batch_size)
        bar = tqdm(total=recipe.epochs * steps, initial=len(history) * steps, disable=not progress, leave=False,
                   desc="training", unit="step")  # fmt: skip
        with bar:
            for epoch in range(len(history) + 1, recipe.epochs + 1):
                started = time.perf_counter()
                loss, accuracy = _epoch(network, x, y, optimizer, recipe, (epoch - 1) * steps, memory_format, bar)
                entry = {"epoch": epoch, "loss": loss, "train_accuracy": accuracy,
                         "seconds": time.perf_counter() - started}  # fmt: skip
                network.eval()
                if on_epoch is not None:
                    with torch.random.fork_rng():  # whatever it draws must not change the training
                        entry |= dict(on_epoch(epoch, network))
                history.append(entry)
                bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}")
                state.save(history, network=network, optimizer=optimizer)
    network.eval().to(memory_format=torch.contiguous_format)
    return TrainingRun(recipe, seed, tuple(history), sum(entry["seconds"] for entry in history))


def place(device: str | torch.device | None = None) -> torch.device:
    """Where to train: `device`, or the GPU when there is one, else the CPU.

    Example:
        >>> place("cpu").type
        'cpu'
    """
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random state set by a seed, on the CPU and on `device`; the caller's is put back.

    Example:
        >>> with seeded(0, place("cpu")):
        ...     round(torch.rand(()).item(), 3)
        0.496
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _epoch(
    network: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, recipe: Recipe,
    first_step: int, memory_format: torch.memory_format, bar: Any,
) -> tuple[float, float]:  # fmt: skip
    """One pass over the training set; returns mean loss and accuracy."""
    network.train()
    steps = math.ceil(len(y) / recipe.batch_size)
    half = _half_precision(recipe, x.device)
    order = torch.randperm(len(y)).to(x.device)
    total_loss, correct = torch.zeros((), device=x.device), torch.zeros((), device=x.device)
    for step in range(steps):
        chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        images = augmented(x[chosen], recipe.augment).to(torch.float32, memory_format=memory_format).div_(255)
        labels = y[chosen]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, first_step + step, steps)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            logits = network(images)
            loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total_loss += loss.detach() * len(labels)
        correct += (logits.detach().argmax(1) == labels).sum()
        bar.update()
    mean_loss = total_loss.item() / len(y)
    if not math.isfinite(mean_loss):
        raise FloatingPointError(
            f"loss: expected a finite number, got {mean_loss}; lower the learning rate {recipe.lr}"
        )
    return mean_loss, correct.item() / len(y)


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


def augmented(images: Tensor, how: str) -> Tensor:
    """Random crop (4 pixels of zero padding) and horizontal flip of a whole batch, without a per-image loop.

    Args:
        images: (N, C, H, W), any dtype; the random state of torch is used.
        how: ``"none"``, ``"crop"`` or ``"crop+flip"``.

    Returns:
        images of the same shape and dtype.

    Example:
        >>> import torch
        >>> augmented(torch.zeros(2, 3, 8, 8), "crop+flip").shape
        torch.Size([2, 3, 8, 8])
    """
    if how == "none":
        return images
    n, _, h, w = images.shape
    device = images.device
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    down, right = (torch.randint(9, (n, 1), device=device) for _ in range(2))
    rows, columns = down + torch.arange(h, device=device), right + torch.arange(w, device=device)
    if how == "crop+flip":
        flipped = torch.rand(n, 1, device=device) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    each = torch.arange(n, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), **settings)
    return torch.optim.SGD(network.parameters(), momentum=recipe.momentum, **settings)


def _half_precision(recipe: Recipe, device: torch.device) -> bool:
    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # A CPU without AMX emulates bf16: measured, half of float32's speed.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


@cache
def _keep_freed_memory() -> None:
    """Ask glibc to keep freed memory: a step's activations are otherwise handed back and faulted in again.

    Measured: a fifth of the time of an epoch on two cores. Elsewhere than on glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    m_mmap_max, m_trim_threshold = -4, -1
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
