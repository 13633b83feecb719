"""Do the labels of the images mean what the network's outputs mean? A verdict on wrong labels is worse than none."""

from collections.abc import Sequence

import torch
from torch import Tensor

_RIGHT = 0.5  # of the images: what another order of classes must reach, and gain, to be called likely
_GAIN = 0.2


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

    Example:
        >>> likely_order(torch.tensor([[0, 9, 0], [0, 0, 9], [9, 0, 0]]))
        [1, 2, 0]
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

    Example:
        >>> by_chance(torch.full((10, 10), 5)), by_chance(torch.eye(10) * 50)
        (True, False)
    """
    from scipy.stats import binom

    total, right = int(counts.sum()), int(counts.diagonal().sum())
    return bool(binom.sf(right - 1, total, 1 / len(counts)) > 0.01)
