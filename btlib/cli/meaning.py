"""Do images and labels mean what the network means? A verdict on wrong pixels or wrong labels is worse than none."""

from collections.abc import Sequence

import torch
from torch import Tensor

from btlib import metrics
from btlib.cli.adapting import ForeignError
from btlib.cli.preprocessing import better
from btlib.cli.probing import Foreign

_RIGHT = 0.5  # of the images: what another order of classes must reach, and gain, to be called likely
_GAIN = 0.2


def checked_accuracy(network: Foreign, images: Tensor, labels: Tensor, names: Sequence[str]) -> float:
    """The share of clean images that a network classifies as labelled, where a verdict can rest on it.

    Args:
        network: as loaded.
        images: uint8 (N, C, H, W).
        labels: int64 (N,). Without any nothing is checked, and the share is NaN.
        names: of the classes.

    Raises:
        ForeignError: another convention or another order of classes explains the network clearly better, or it
            answers as if it guessed.
    """
    if len(labels) == 0:
        return float("nan")
    predicted = metrics.predict(network.module, images).argmax(1)
    counts = confusion(predicted, labels, network.num_classes)
    accuracy = float(counts.diagonal().sum()) / len(labels)
    got = f"{100 * accuracy:.0f} % classified as labelled"
    order = likely_order(counts)
    if order is not None:
        raise ForeignError(
            f"--images: expected labels in the order of the network's outputs, got {got}: {in_words(order, names)}; "
            "rename the folders, or pass the order with --classes"
        )
    found = None if network.convention is None else better(network.bare, network.convention, images, labels)
    if found is not None:
        raise ForeignError(
            f"--mean, --std, --scale, --invert, --bgr: expected what the network was trained with, got {got} where "
            f"{100 * found[1]:.0f} % are with {found[0].options}; pass that, or what its makers say"
        )
    if by_chance(counts):
        raise ForeignError(
            f"--images: expected images that the network knows, got {got}, as if it guessed; check the order of the "
            "classes (--classes), --size and what is done to pixels (--mean, --std, --scale)"
        )
    return accuracy


def confusion(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """How many images of each label (rows) the network puts into each class (columns), int64 (K, K).

    Example:
        >>> confusion(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 1]), 2).tolist()
        [[0, 2], [1, 0]]
    """
    return torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, -1)


def likely_order(counts: Tensor) -> list[int] | None:
    """The output that each label most likely is, where another order of classes explains the network far better.

    Args:
        counts: int64 (K, K), from `confusion`.

    Returns:
        label → output, or None where the labels fit as they are, or no order of them does.
    """
    from scipy.optimize import linear_sum_assignment

    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    order = linear_sum_assignment(shares.numpy(), maximize=True)[1]
    now, then = float(shares.diagonal().mean()), float(shares[range(len(order)), order].mean())
    return [int(c) for c in order] if then >= _RIGHT and then >= now + _GAIN else None


def in_words(order: Sequence[int], names: Sequence[str]) -> str:
    """An order of classes that differs, in words.

    Example:
        >>> in_words([1, 0, 2], ["cat", "dog", "fish"])
        'the images called cat look like output 1 (called dog), those called dog like output 0 (called cat)'
    """
    moved = [(label, output) for label, output in enumerate(order) if label != output]
    said = [f"those called {names[a]} like output {b} (called {names[b]})" for a, b in moved[:5]]
    said[0] = said[0].replace("those called", "the images called", 1).replace(" like", " look like", 1)
    more = [f"and {len(moved) - 5} more"] if len(moved) > 5 else []
    return ", ".join([*said, *more])


def by_chance(counts: Tensor) -> bool:
    """Whether the network's answers say hardly more about the labels than guessing does.

    Guessing would get as many right with a probability above one percent.
    """
    from scipy.stats import binom

    total, right = int(counts.sum()), int(counts.diagonal().sum())
    return bool(binom.sf(right - 1, total, 1 / len(counts)) > 0.01)
