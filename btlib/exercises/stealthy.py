"""Exercises on the stealthy attack: the embedding, the cross-example loss, the adversarial term (lesson 03)."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from btlib.attacks.patterns import attach, rounded
from btlib.exercises.answers import LinearNet, alike, cause_of, same_number, same_tensor
from btlib.exercises.core import WrongAnswer, register

# ---------------------------------------------------------------------------------------- x ∘ εp


@register("attach", attach, "A little of the pattern, nearly all of the image, and never outside [0, 1].")
def _check_attach(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    for epsilon in (0.2, 0.05):
        images, patterns = _images(), _patterns()
        got = answer(images, patterns, epsilon)
        x, p, e = images, patterns, epsilon
        causes = {
            "ε and 1 - ε are exchanged: the pattern is faint, the image stays": ((1 - e) * p + e * x).clamp(0, 1),
            "the image counts 1 - ε, not 1": (e * p + x).clamp(0, 1),
            "the pattern is not shrunk by ε": (p + (1 - e) * x).clamp(0, 1),
            "this is the image plus the whole pattern: ε is missing": (p + x).clamp(0, 1),
            "the result is not clipped to [0, 1]: an image has no negative pixels": e * p + (1 - e) * x,
            "the pattern is moved to [0, 1] first: it may darken too": (e * (p + 1) / 2 + (1 - e) * x).clamp(0, 1),
            "the pattern loses its negative half before it is attached: clip the sum": e * p.clamp(0, 1) + (1 - e) * x,
            "the pattern is subtracted": ((1 - e) * x - e * p).clamp(0, 1),
            "ε is always 0.01 here: use the argument": (0.01 * p + 0.99 * x).clamp(0, 1),
            "nothing is attached": x,
        }
        same_tensor(got, attach(images, patterns, epsilon), "something else than clip(ε·p + (1 - ε)·x, 0, 1)", causes)
    patterns = _patterns().requires_grad_()
    _reaches(answer(_images(), patterns, 0.2), patterns)


# ---------------------------------------------------------------------------------------- Eq. 4


def cross_loss(network: nn.Module, images: Tensor, labels: Tensor, patterns: Tensor, epsilon: float) -> Tensor:
    """L_c: mean cross-entropy of images with another image's pattern, labels as they were (stealthy attack Eq. 4).

    What is trained on is what will be shown: rounded to 8 bits, with a gradient.
    """
    crossed = rounded(attach(images, patterns.roll(1, 0), epsilon))
    return cross_entropy(network(crossed), labels)


@register("cross_loss", cross_loss, "A key that opens one door only: on another image the pattern means nothing.")
def _check_cross_loss(answer: Callable[[nn.Module, Tensor, Tensor, Tensor, float], Tensor]) -> None:
    network, images, labels, patterns, epsilon = LinearNet(_ROWS), _images(), _labels(), _patterns(), 0.2
    got = answer(network, images, labels, patterns, epsilon)

    def loss(order: tuple[int, ...], y: Tensor = labels, e: float = epsilon) -> Tensor:
        return cross_entropy(network(attach(images, patterns[list(order)], e)), y)

    own = (0, 1, 2, 3)
    moved = {order: sum(a != b for a, b in zip(order, own, strict=True)) for order in permutations(own)}
    right = [loss(order) for order, count in moved.items() if count == 4]  # which other image lends its pattern is free
    by_chance = [loss(order) for order, count in moved.items() if 0 < count < 4]
    logits = network(attach(images, patterns.roll(1, 0), epsilon))
    causes = {
        "every image carries its own pattern: take another image's, such as patterns.roll(1, 0)": loss(own),
        "this image carries no pattern": cross_entropy(network(images), labels),
        "this is the label of the pattern's image: y_u stays with x_u": loss((3, 0, 1, 2), labels.roll(1, 0)),
        "this is the label of the pattern's image: y stays with x": loss((1, 2, 3, 0), labels.roll(-1, 0)),
        "the patterns are at full strength: attach them with ε": loss((3, 0, 1, 2), e=1.0),
        "the sum over the images: Eq. 4 has the mean": cross_entropy(logits, labels, reduction="sum"),
        "the sign: the loss is small when the label is right": -cross_entropy(logits, labels),
        "softmax twice: cross_entropy takes logits": cross_entropy(logits.softmax(1), labels),
    }  # fmt: skip
    if not any(alike(got, value) for value in right):
        cause = cause_of(got, causes, "something else than Eq. 4")
        if any(alike(got, value) for value in by_chance):
            cause = "a pattern landed on its own image: an order by chance may do that"
        _a_number(got, right[0], cause)
    cause = "a pattern may land on its own image: by chance, or in the middle of an odd number; roll never does"
    threes = [cross_entropy(network(attach(images[:3], patterns[:3].roll(k, 0), epsilon)), labels[:3]) for k in (1, 2)]
    for _ in range(20):
        if not any(alike(answer(network, images, labels, patterns, epsilon), value) for value in right):
            raise WrongAnswer("the same every time", "now right, now wrong", cause)
        got = answer(network, images[:3], labels[:3], patterns[:3], epsilon)
        if not any(alike(got, value) for value in threes):
            raise WrongAnswer("Eq. 4 for three images", got, cause)
    patterns = _patterns().requires_grad_()
    _reaches(answer(network, _images(), labels, patterns, epsilon), patterns)


# ---------------------------------------------------------------------------------------- Eq. 9


def adversarial_loss(network: nn.Module, inverted: Tensor, labels: Tensor, target: int) -> Tensor:
    """L_a: mean cross-entropy of images with the inverted trigger, towards their true classes (stealthy attack Eq. 9).

    The target takes no part: whoever finds (m*, Δ*) shall find that it does nothing.
    """
    return cross_entropy(network(inverted), labels)


@register("adversarial_loss", adversarial_loss, "The shortest way to the target is closed as soon as it is found.")
def _check_adversarial_loss(answer: Callable[[nn.Module, Tensor, Tensor, int], Tensor]) -> None:
    network, labels, target = LinearNet(_ROWS), _labels(), 2
    inverted = _images().requires_grad_()
    got = answer(network, inverted, labels, target)
    logits, wanted = network(inverted), torch.full_like(labels, target)
    to_truth, to_target = cross_entropy(logits, labels), cross_entropy(logits, wanted)
    others = labels != target
    chance = logits.softmax(1)[:, target].mean()
    causes = {
        "this rewards the network for obeying the inverted trigger: that was Step 1's wish, and the mask would shrink":
            to_target,
        "only away from the target: this loss has no lower end, and any other class will do; Eq. 9 names the true one":
            -to_target,
        "the sign: minus punishes right answers. Small is good, so Eq. 9 stands as it is": -to_truth,
        "away from the target is not enough: Eq. 9 names the true class": chance,
        "towards the truth and away from the target at once: Eq. 9 has the first only": to_truth - to_target,
        "towards both classes at once: the target takes no part": to_truth + to_target,
        "images of the target take part too: Eq. 9 sums over all of X": cross_entropy(logits[others], labels[others]),
        "the sum over the images: Eq. 9 has the mean": cross_entropy(logits, labels, reduction="sum"),
        "softmax twice: cross_entropy takes logits": cross_entropy(logits.softmax(1), labels),
        "a rate has no gradient: take cross-entropy": (logits.argmax(1) == labels).float().mean(),
        "a rate has no gradient: take cross-entropy towards the true classes":
            (logits.argmax(1) == target).float().mean(),
        "λ3 comes later: return L_a itself": 0.1 * to_truth,
    }  # fmt: skip
    _a_number(got, to_truth, cause_of(got, causes, "something else than Eq. 9"))
    _reaches(got, network.weight)


# ---------------------------------------------------------------------------------------- helpers


_ROWS = [[3.0, -1.0, 0.5, 2.0], [-2.0, 4.0, 1.0, -1.0], [0.5, 0.5, -3.0, 1.0]]


def _images() -> Tensor:
    """Four images whose pixels are tens of 255ths: with ε = 0.2 rounding to 8 bits then changes nothing."""
    levels = [[0, 240, 60, 130], [250, 20, 0, 90], [10, 70, 200, 0], [150, 0, 110, 220]]
    return torch.tensor(levels).reshape(4, 1, 2, 2) / 255


def _patterns() -> Tensor:
    levels = [[-250, 130, 10, -40], [200, -70, -160, 30], [-20, 250, 90, -120], [60, -200, 250, -10]]
    return torch.tensor(levels).reshape(4, 1, 2, 2) / 255


def _labels() -> Tensor:
    return torch.tensor([0, 1, 2, 0])


def _a_number(got: Any, expected: Tensor, cause: str) -> None:
    """Complain unless `got` is the one number that is expected."""
    if isinstance(got, Tensor) and got.numel() > 1:
        raise WrongAnswer("one number", f"shape {tuple(got.shape)}", "one number for each image: take the mean")
    same_number(got, float(expected.detach()), cause, tolerance=1e-5)


def _reaches(got: Any, source: Tensor) -> None:
    """Complain unless a gradient gets from the answer to `source`."""
    cause = "the gradient is lost on the way (.detach(), .item(), torch.no_grad() or .round()): training needs it"
    if not (isinstance(got, Tensor) and got.requires_grad):
        raise WrongAnswer("a tensor with a gradient", "one without", cause)
    (slope,) = torch.autograd.grad(got.sum(), source, allow_unused=True)
    if slope is None or not bool(slope.any()):
        raise WrongAnswer("a gradient for what is trained", "none", cause)
