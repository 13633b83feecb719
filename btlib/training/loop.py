"""The one loop of all training: stages of epochs of steps, kept after every epoch (floor 2)."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib.memory import enough_memory
from btlib.resume import History, Part, ResumeFile
from btlib.training.device import keep_freed_memory, seeded


class Stage(ABC):
    """What the loop trains: all of `fit`, or a part of an attack such as the search for its pattern.

    Attributes:
        epochs: how many.
        steps: in each.
        state: all that changes, by name: what a resume file keeps. Its modules end in evaluation mode.
        prefix: before ``epoch`` and ``loss`` in the history, so that no curve mixes the losses of two stages.
    """

    epochs: int
    steps: int
    state: dict[str, Part]
    prefix: str = ""

    @abstractmethod
    def start(self, epoch: int) -> Iterable[Any]:
        """Begin an epoch, counted from 1: draw its order, set modes and rates. Gives a batch for each step."""

    @abstractmethod
    def step(self, batch: Any, taken: int) -> Tensor:
        """Train on a batch after `taken` other steps of this stage; its loss, a scalar without gradient."""

    def summary(self, losses: list[Tensor]) -> dict[str, float]:
        """What is said of an epoch's steps: at least ``loss``, the mean."""
        return {"loss": float(torch.stack(losses).mean())}

    def measure(self, epoch: int) -> Mapping[str, float]:
        """More for the history, after an epoch: modules are in evaluation mode, and what it draws has no effect."""
        return {}

    def done(self, history: History) -> bool:
        """Whether the training may end before its last epoch."""
        return False


@enough_memory("training")
def train(
    stages: Sequence[Stage], file: ResumeFile, *, seed: int, device: torch.device, progress: bool = False,
    title: str = "training",
) -> History:  # fmt: skip
    """Train stage after stage, going on where a resume file stopped.

    Torch's random state is set by `seed` once, before the first epoch; the caller's is put back. On glibc, memory that
    is freed stays with the process from then on (`device.keep_freed_memory`).

    Args:
        stages: what is trained, in this order.
        file: keeps the last finished epoch.
        seed: of everything that the stages draw.
        device: whose random state is set, beside the CPU's.
        progress: show a bar over all steps of all stages.
        title: of the bar.

    Returns:
        one entry per epoch of every stage: ``epoch`` and ``loss``, after the stage's prefix, what else the stage says
        or measures, and ``seconds`` of training and measuring.

    Raises:
        ValueError: the resume file is of another training, or no whole resume file.
        FloatingPointError: the loss became NaN or infinite.
        MemoryError: there is too little of it, see `memory.enough_memory`.

    Example:
        >>> class Halving(Stage):
        ...     epochs, steps, state = 2, 1, {"x": torch.ones(())}
        ...     def start(self, epoch):
        ...         return [0.5]
        ...     def step(self, batch, taken):
        ...         return self.state["x"].mul_(batch).clone()
        >>> curve(train([Halving()], ResumeFile(None), seed=0, device=torch.device("cpu")), "loss")
        [0.5, 0.25]
    """
    keep_freed_memory()
    epochs = [(stage, number) for stage in stages for number in range(1, stage.epochs + 1)]
    with seeded(seed, device), torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
        history = file.restore(**_state(stages))
        kept, finished, left = True, epochs[: len(history)], epochs[len(history) :]
        with tqdm(total=sum(stage.steps for stage, _ in epochs), initial=sum(stage.steps for stage, _ in finished),
                  desc=title, unit="step", leave=False, disable=not progress) as bar:  # fmt: skip
            for stage, number in left:
                if stage.done(history):
                    break
                history.append(_epoch(stage, number, bar))
                bar.set_postfix({name: f"{value:.3g}" for name, value in history[-1].items() if name != "seconds"})
                if kept := file.due():
                    file.save(history, **_state(stages))
            if not kept:
                file.save(history, **_state(stages))
    for module in _modules(stages):
        module.eval().to(memory_format=torch.contiguous_format)
    return history


def _epoch(stage: Stage, number: int, bar: Any) -> dict[str, float]:
    """One epoch: its steps, then what is measured."""
    began, losses = time.perf_counter(), []
    for taken, batch in enumerate(stage.start(number), (number - 1) * stage.steps):
        losses.append(stage.step(batch, taken))
        bar.update()
    entry = {f"{stage.prefix}epoch": number, **_prefixed(stage.summary(losses), stage.prefix)}
    for module in _modules([stage]):
        module.eval()
    with torch.random.fork_rng():  # whatever is drawn must not change the training
        entry |= stage.measure(number)
    return {**entry, "seconds": time.perf_counter() - began}


def _prefixed(said: dict[str, float], prefix: str) -> dict[str, float]:
    if not math.isfinite(said["loss"]):
        raise FloatingPointError(f"loss: expected a finite number, got {said['loss']}; lower the learning rate")
    return {f"{prefix}{name}": value for name, value in said.items()}


def _state(stages: Sequence[Stage]) -> dict[str, Part]:
    return {name: part for stage in stages for name, part in stage.state.items()}


def _modules(stages: Sequence[Stage]) -> list[nn.Module]:
    return [part for part in _state(stages).values() if isinstance(part, nn.Module)]


def shuffled(count: int, batch_size: int, device: torch.device) -> tuple[Tensor, ...]:
    """The numbers 0 … count - 1 in an order drawn from torch's random state, in batches.

    Returns:
        int64 tensors on `device`; the last may be smaller.

    Example:
        >>> [len(batch) for batch in shuffled(5, 2, torch.device("cpu"))]
        [2, 2, 1]
    """
    return torch.randperm(count).to(device).split(batch_size)


def curve(history: Sequence[Mapping[str, float]], key: str) -> list[float]:
    """One number of a history, of the epochs that have it.

    Raises:
        KeyError: no epoch has it.

    Example:
        >>> curve([{"mask_loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}], "loss")
        [2.0, 1.0]
    """
    found = [epoch[key] for epoch in history if key in epoch]
    if history and not found:
        known = ", ".join(dict.fromkeys(name for epoch in history for name in epoch))
        raise KeyError(f"{key!r} is not in the history, which has {known}; a resume file keeps what was measured then")
    return found
