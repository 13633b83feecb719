"""An exercise of lesson 04: three errors in a solution that somebody posted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from btlib.detection.descent import squash, stamp
from btlib.exercises.answers import LinearNet, truth
from btlib.exercises.core import WrongAnswer, register

Audit = tuple[np.ndarray, int | None, bool]


def posted_solution(
    network: nn.Module, images: Tensor, target: int, cost: float = 0.05, steps: int = 60
) -> Audit:  # fmt: skip
    """What the lesson's cell holds: written after solutions posted for a well-known assignment, errors included.

    Args:
        network: takes images, gives logits (N, K).
        images: clean, float (N, C, H, W) in [0, 1].
        target: the attacker's class, which is known here and only used to say whether it was found.
        cost: λ.
        steps: of Adam, for each class.

    Returns:
        sizes of the masks (K,); the class that is accused, or None; whether that is right.
    """
    norms = []
    for goal in range(network(images[:1]).shape[1]):
        raw = torch.zeros(1, 1 + images.shape[1], *images.shape[2:], device=images.device, requires_grad=True)
        optimizer = torch.optim.Adam([raw], lr=0.2)
        for _ in range(steps):
            logits = network(stamp(images, raw))
            wanted = torch.full((len(images),), goal, device=images.device)
            loss = torch.nn.functional.cross_entropy(logits, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        norms.append(float(squash(raw.detach()[:, 0]).sum()))
    sizes = np.array(norms)
    median = np.median(sizes)
    index = np.abs(sizes - median) / (1.4826 * np.median(np.abs(sizes - median)))
    accused = int(index.argmax()) if index.max() > 2 else None
    return sizes, accused, accused is not None


def audit(network: nn.Module, images: Tensor, target: int, cost: float = 0.05, steps: int = 60) -> Audit:
    """`posted_solution` without its errors."""
    norms = []
    for goal in range(network(images[:1]).shape[1]):
        raw = torch.zeros(1, 1 + images.shape[1], *images.shape[2:], device=images.device, requires_grad=True)
        optimizer = torch.optim.Adam([raw], lr=0.2)
        for _ in range(steps):
            logits = network(stamp(images, raw))
            wanted = torch.full((len(images),), goal, device=images.device)
            loss = torch.nn.functional.cross_entropy(logits, wanted) + cost * squash(raw[:, 0]).sum()  # 1: masks shrink
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        norms.append(float(squash(raw.detach()[:, 0]).sum()))
    sizes = np.array(norms)
    median = np.median(sizes)
    index = (median - sizes) / (1.4826 * np.median(np.abs(sizes - median)))  # 2: only small masks are suspicious
    accused = int(index.argmax()) if index.max() > 2 else None
    return sizes, accused, accused == target  # 3: an alarm that names another class is no find


@register("three_errors", audit, "Small masks, small ones only, and the right name: now it is Neural Cleanse.",
          stub=posted_solution)  # fmt: skip
def _check_three_errors(answer: Callable[..., Any]) -> None:
    images = torch.cat([torch.eye(6), torch.zeros(6, 6)], 1).reshape(6, 1, 3, 4)
    sizes, accused, correct = _read(answer(_network(easy=3), images, 3, 0.05, 12))
    if not sizes[3] < 1.5 or not sizes[3] < 0.5 * np.median(sizes):
        cause = "the masks do not shrink: what in the loss asks for a small one? (Eq. 6)"
        raise WrongAnswer("a small mask for class 3", f"{sizes[3]:.1f} of 12 pixels", cause)
    if accused != 3:
        cause = "the smallest mask is class 3's, and far smaller than the others"
        raise WrongAnswer("class 3 accused", accused, cause)
    if not correct:
        raise WrongAnswer("right: 3 is the target", correct, "the accused class is the target here: that is a find")
    sizes, accused, correct = _read(answer(_network(easy=3), images, 5, 0.05, 12))
    if correct:
        cause = "an alarm is not a find: class 3 is accused, and the target is class 5"
        raise WrongAnswer("not right", correct, cause)
    sizes, accused, correct = _read(answer(_network(hard=2), images, 2, 0.05, 25))
    if accused is not None:
        cause = "a class whose mask is far too LARGE is accused: an index of two sides; only small masks are suspicious"
        raise WrongAnswer("nobody accused", f"class {accused}", cause)
    if correct:
        raise WrongAnswer("not right", correct, "nobody is accused here, so nothing is found")


def _network(easy: int | None = None, hard: int | None = None) -> LinearNet:
    """Six classes, each told by its pixel; one obeys the last pixel alone, or is hardly reached at all."""
    weights = torch.zeros(6, 12)
    weights[range(6), range(6)] = torch.tensor([5.0, 5.1, 5.3, 5.6, 5.8, 6.0])
    if easy is not None:
        weights[easy, 11] = 30
    if hard is not None:
        weights[hard] = -4
        weights[hard, hard] = 3
    return LinearNet(weights)


def _read(got: Any) -> tuple[np.ndarray, int | None, bool]:
    """The three results of an answer."""
    what = "sizes, accused, right"
    try:
        sizes, accused, correct = got
        sizes = np.asarray(sizes, dtype=float)
        accused = None if accused is None else int(accused)
    except (TypeError, ValueError) as error:
        raise WrongAnswer(what, type(got).__name__, "return all three, as the posted solution does") from error
    if sizes.shape != (6,):
        raise WrongAnswer("a size for each of the 6 classes", f"shape {sizes.shape}", "one mask for each class")
    return sizes, accused, bool(truth(correct))
