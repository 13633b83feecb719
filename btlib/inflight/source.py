"""Source inference by fine-tuning, Neural Cleanse's way (in-flight 2, 5.2 and Table 3)."""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from btlib.datasets import ImageDataset, to_float, to_uint8
from btlib.inflight.checks import Embedding, check_rate, embedded
from btlib.metrics import accuracy, predict
from btlib.networks import Network, check_precision, reference
from btlib.seeds import generator
from btlib.training import Recipe, fit

#: The learning rates of Table 3.
LEARNING_RATES = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, eq=False)
class FineTuning:
    """Networks that were taught to see through the estimated pattern, one per learning rate.

    Attributes:
        networks: learning rate → fine-tuned network, in evaluation mode.
        diverged: learning rates at which the loss became NaN or infinite, or the network says one class to everything:
            it only guesses, and where an attack has one source class it may guess that.
        images: how many it was fine-tuned on, `stamped` of them with the pattern and their true label.
        stamped: see above.
        seconds: wall time of all learning rates.
    """

    networks: Mapping[float, Network]
    diverged: tuple[float, ...]
    images: int
    stamped: int
    seconds: float

    def infer(self, images: Tensor, learning_rate: float) -> Tensor:
        """The class of origin of each trigger: what the fine-tuned network predicts, int64 (N,).

        Raises:
            ValueError: a learning rate that was not tried.
        """
        if learning_rate not in self.networks:
            raise ValueError(f"learning_rate: expected one of {', '.join(f'{r:g}' for r in self.networks)}, "
                             f"got {learning_rate:g}; pass it in learning_rates")  # fmt: skip
        return predict(self.networks[learning_rate], images).nan_to_num().argmax(1)

    def accuracies(self, triggers: Tensor, sources: Tensor) -> dict[float, float]:
        """SIA for each learning rate: the row of Table 3; NaN where it `diverged`.

        Args:
            triggers: float images (N, C, H, W) in [0, 1] with the attacker's pattern, predicted as the target.
            sources: their classes of origin (N,).
        """
        return {rate: math.nan if rate in self.diverged else accuracy(network, triggers, sources)
                for rate, network in self.networks.items()}  # fmt: skip


def source_by_fine_tuning(
    network: Network, data: ImageDataset, trigger: Embedding, *, learning_rates: Sequence[float] = LEARNING_RATES,
    share: float = 0.1, stamped: float = 0.2, epochs: int = 1, batch_size: int = 128, seed: int = 0,
    progress: bool = False,
) -> FineTuning:  # fmt: skip
    """Fine-tune a copy of the network per learning rate on clean images, some with the pattern and true labels.

    The network itself is left alone. It needs a part of the clean training set, which the in-flight paper's
    defender does not have: a rival, and a bound on what source inference may reach.

    Args:
        network: the attacked one.
        data: the CLEAN data set; images come from its training part.
        trigger: the estimated pattern.
        learning_rates: of plain stochastic gradient descent; one network each (Table 3: 10 … 1e-4).
        share: of the training set that is used (Neural Cleanse: 10 %).
        stamped: share of those images that get the pattern (Neural Cleanse: 20 %).
        epochs: passes (Neural Cleanse: 1).
        batch_size: images per step.
        seed: which images, which of them stamped, and their order.
        progress: show a progress bar per learning rate.

    Raises:
        ValueError: shares outside (0, 1), no learning rate, or a trigger of another shape.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> tuned = source_by_fine_tuning(checkpoints.load_or_train(spec), datasets.load("fashion-mnist"),
        ...                               spec.make_trigger(), learning_rates=[0.01], share=0.005)
        >>> tuned.images, tuned.stamped
        (300, 60)
    """
    if not learning_rates or not all(rate > 0 for rate in learning_rates):
        raise ValueError(f"learning_rates: expected positive numbers, got {list(learning_rates)}; 0.01 is a good one")
    check_precision(network)
    started = time.perf_counter()
    part, count = fine_tuning_set(data, trigger, share=share, stamped=stamped, seed=seed)

    networks, diverged = {}, []
    for rate in learning_rates:
        copied = copy.deepcopy(network)
        copied.requires_grad_(True)
        recipe = Recipe(epochs=epochs, batch_size=batch_size, lr=rate, optimizer="sgd", momentum=0.0)
        try:
            fit(copied, part, recipe, seed=seed, progress=progress, device=reference(network).device)
            guesses = len(predict(copied, part.x_train).argmax(1).unique()) == 1
        except FloatingPointError:  # Table 3's rate of 10 does that
            guesses = True
        if guesses:
            diverged.append(rate)
        networks[rate] = copied.eval()
    return FineTuning(networks, tuple(diverged), len(part.y_train), count, time.perf_counter() - started)


def fine_tuning_set(
    data: ImageDataset, trigger: Embedding, *, share: float = 0.1, stamped: float = 0.2, seed: int = 0
) -> tuple[ImageDataset, int]:
    """A part of a clean training set, some of it with the pattern and all of it with true labels; and how many have it.

    Args:
        data: the clean data set; it is not changed.
        trigger: the estimated pattern.
        share, stamped, seed: see `source_by_fine_tuning`.

    Raises:
        ValueError: shares outside (0, 1), or a trigger of another shape.
    """
    check_rate("share", share)
    check_rate("stamped", stamped)
    part = data.subset(train=max(1, round(share * len(data.y_train))), seed=seed)
    count = round(stamped * len(part.y_train))
    order = torch.randperm(len(part.y_train), generator=generator(seed))
    chosen = order[:count].to(part.x_train.device)
    images = part.x_train.clone()
    images[chosen] = to_uint8(embedded(trigger, to_float(images[chosen])))
    return replace(part, x_train=images), count
