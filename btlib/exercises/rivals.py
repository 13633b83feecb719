"""Exercises on the in-flight rivals: STRIP's entropy, a threshold, B3D's score, the neurons (lesson 07)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from btlib.exercises.answers import LinearNet, same_number, same_tensor, whole_numbers
from btlib.exercises.attempt import tensor
from btlib.exercises.core import WrongAnswer, register
from btlib.inflight import blend_entropy, output_change, relevant_neurons
from btlib.inflight.checks import threshold_at

# ---------------------------------------------------------------------------------------- STRIP


@register("blend_entropy", blend_entropy, "Bits, over the classes, and only then the mean over the blends.",
          convert=tensor)  # fmt: skip
def _check_blend_entropy(answer: Callable[[nn.Module, Tensor, Tensor, float], Tensor]) -> None:
    network, images, overlays = LinearNet(_ROWS), torch.arange(12).reshape(3, 1, 2, 2) / 12, _overlays()
    weight = 0.3
    expected = blend_entropy(network, images, overlays, weight)
    got = answer(network, images, overlays, weight)
    if isinstance(got, Tensor) and got.shape != expected.shape:
        raise WrongAnswer(f"shape {tuple(expected.shape)}", f"shape {tuple(got.shape)}", {
            (3, 5): "the mean over the overlays is missing",
            (3, 4): "the sum went over the blends and the classes are left: sum over the last axis",
            (5,): "the mean went over the images: there should be one number per image",
            (): "there should be one number per image, not one for all",
        }.get(tuple(got.shape), "one number per image"))  # fmt: skip
    mistakes = _entropy_mistakes(network, images, overlays, weight)
    same_tensor(got, expected, "another entropy than H of each blend", mistakes, tolerance=1e-5)
    half = answer(network, images, overlays, 0.5)
    same_tensor(half, blend_entropy(network, images, overlays, 0.5), "another weight goes wrong: use the argument",
                tolerance=1e-5)  # fmt: skip
    sure = LinearNet([[500 * w for w in row] for row in _ROWS])  # its probabilities are 0 and 1 to the last bit
    certain = answer(sure, images, overlays, weight)
    cause = "0·log 0 gives NaN where the network is certain: take log_softmax, or clamp the probabilities"
    same_tensor(certain, blend_entropy(sure, images, overlays, weight), cause, tolerance=1e-3)


def _entropy_mistakes(network: nn.Module, images: Tensor, overlays: Tensor, weight: float) -> dict[str, Tensor]:
    """What typical mistakes give, by their cause."""

    def logits_of(own: float, other: float) -> Tensor:
        blends = own * images[:, None] + other * overlays
        return network(blends.flatten(0, 1)).detach().unflatten(0, (len(images), len(overlays)))

    def bits(p: Tensor, axis: int = -1) -> Tensor:
        return -(p * p.log2()).sum(axis)

    logits = logits_of(weight, 1 - weight)
    p = logits.softmax(-1)
    over_blends = p / p.sum(1, keepdim=True)
    return {
        "the sum goes over the blends and the mean over the classes: it is the other way round": bits(p, 1).mean(1),
        "the entropy is taken over the blends: take it over the classes, for each blend": bits(over_blends, 1).mean(1),
        "the entropy is taken over the blends (and summed over the classes): take it over the classes":
            bits(over_blends, 1).sum(1) / len(overlays),
        "softmax goes over the blends: the classes are the last axis": bits(logits.softmax(1)).mean(1),
        "this is the natural logarithm: bits take log2": bits(p).mean(1) * math.log(2),
        "this is the logarithm to base 10: bits take log2": bits(p).mean(1) * math.log10(2),
        "sigmoid treats each class by itself: one of K classes takes softmax": bits(logits.sigmoid()).mean(1),
        "this is the entropy of the mean probabilities: first the entropy of each blend, then the mean":
            bits(p.mean(1)),
        "the logits are averaged over the blends first: take the entropy of each blend, then the mean":
            bits(logits.mean(1).softmax(-1)),
        "the sum over the blends: take the mean, so that N does not matter": bits(p).sum(1),
        "the sign: entropy is -Σ p·log2 p, never negative": -bits(p).mean(1),
        "weight belongs to the inspected image, 1 - weight to the overlay":
            bits(logits_of(1 - weight, weight).softmax(-1)).mean(1),
        "the overlay is added at full strength: it counts 1 - weight": bits(logits_of(1, 1).softmax(-1)).mean(1),
        "the blend is always half and half: use `weight`": bits(logits_of(0.5, 0.5).softmax(-1)).mean(1),
        "nothing is blended: this is the entropy of the image itself": bits(logits_of(1, 0).softmax(-1)).mean(1),
        "only the overlays go through the network": bits(logits_of(0, 1).softmax(-1)).mean(1),
        "the largest probability is no entropy": p.amax(-1).mean(1),
    }  # fmt: skip


_ROWS = [[3.0, -1.0, 0.5, 2.0], [-2.0, 4.0, 1.0, -1.0], [0.5, 0.5, -3.0, 1.0], [1.0, -2.0, 2.0, 0.0]]


def _overlays() -> Tensor:
    return ((torch.arange(20) * 7) % 20).reshape(5, 1, 2, 2) / 20


# ---------------------------------------------------------------------------------------- threshold


def clean_threshold(clean_scores: Tensor, fpr: float) -> float:
    """The k-th largest of n clean scores, k = ⌊fpr·(n+1)⌋, or the largest where k would be 0.

    A new clean score is equally likely to fall into each of the n + 1 gaps between them. `threshold_at` is what
    the library's detectors call; it also says when n is too small.
    """
    threshold, _too_few = threshold_at(clean_scores, fpr)
    return threshold


@register("clean_threshold", clean_threshold, "It counts gaps, so the promise holds for images not seen yet.")
def _check_clean_threshold(answer: Callable[[Tensor, float], float]) -> None:
    for count, fpr in ((99, 0.05), (10, 0.25), (99, 0.1)):
        scores = _scores(count)
        got = answer(scores, fpr)
        expected = clean_threshold(scores, fpr)
        down = scores.sort(descending=True).values
        rank = int(fpr * (count + 1) + 1e-9)
        causes = {
            f"the wrong side: {1 - fpr:.0%} of the clean images would be flagged": down[-rank],
            "the wrong side: high scores are suspicious, take the largest": torch.quantile(scores, fpr),
            f"counted from 0: the {rank}th largest stands at index {rank - 1}": down[rank],
            "k is ⌊fpr·n⌋: n scores leave n + 1 gaps, so this is more careful than promised":
                down[int(fpr * count) - 1],
            "a quantile of the n scores promises too much: of n + 1 gaps, fpr·(n+1) may lie above":
                torch.quantile(scores, 1 - fpr),
            "the largest clean score flags no clean image: some may be, to catch more triggers": down[0],
            "mean and standard deviation assume a bell: count instead": scores.mean() + 1.645 * scores.std(),
            "this is k, the rank: return the score at that rank": float(rank),
            "this is the rate: return a score": fpr,
            "the sign: nothing is to be negated, high scores are suspicious": -expected,
        }  # fmt: skip
        same_number(got, expected, "something else than the k-th largest, k = ⌊fpr·(n+1)⌋", causes, tolerance=1e-5)
    few = _scores(10)
    try:
        got = answer(few, 0.05)
    except (IndexError, RuntimeError, ValueError) as error:
        cause = "with 10 scores k is 0: return the largest score then"
        raise WrongAnswer(f"{float(few.max()):.4f}", f"{type(error).__name__}: {error}", cause) from error
    cause = "k is 0 here: return the largest score (index -1 of a descending list is the smallest)"
    same_number(got, float(few.max()), cause, tolerance=1e-5)


def _scores(count: int) -> Tensor:
    """`count` different numbers, unevenly spaced and out of order."""
    order = torch.arange(count) * 37 % 101
    return order.double() / 7 + (order.double() / 40) ** 2 - 3


# ---------------------------------------------------------------------------------------- B3D


@register("output_change", output_change, "0 where nothing moves, -1 where everything does.", convert=tensor)
def _check_output_change(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    a = torch.tensor([[2.0, 0.0, -1.0, 0.5], [0.0, 0.0, 3.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 0.0, 0.0]])
    b = torch.tensor([[0.5, 1.0, -1.0, 2.0], [0.0, 0.0, 3.0, 0.0], [2.0, 0.0, 1.5, 0.0], [5.0, 0.0, 0.0, 0.0]])
    got = answer(a, b)
    expected = output_change(a, b)
    p, q = a.softmax(1), b.softmax(1)
    gap = (p - q).abs()
    same_class = (p.argmax(1) == q.argmax(1)).float()
    causes = {
        "the sign: a large change is innocent, so the score is minus the change": gap.sum(1) / 2,
        "not halved: each probability that goes somewhere also leaves somewhere": -gap.sum(1),
        "the sign, and not halved: the score is minus half the sum": gap.sum(1),
        "these are differences of logits: take softmax first": -(a - b).abs().sum(1) / 2,
        "softmax goes over the images: the classes are axis 1": -(a.softmax(0) - b.softmax(0)).abs().sum(1) / 2,
        "the mean over the classes: take half the sum": -gap.mean(1),
        "the mean over the classes, halved: take the sum": -gap.mean(1) / 2,
        "this is the Euclidean distance: take the sum of absolute differences": -(p - q).norm(dim=1),
        "this is the largest difference: take half the sum of all": -gap.amax(1),
        "without abs() the differences cancel": -(p - q).sum(1) / 2,
        "this only asks whether the class stays: compare the whole outputs": same_class,
        "this only asks whether the class changes: compare the whole outputs": -(1 - same_class),
        "this is the Kullback-Leibler divergence: take half the sum of absolute differences":
            -(p * (p.log() - q.log())).sum(1),
    }  # fmt: skip
    same_tensor(got, expected, "something else than -½ Σ |p - q|", causes, tolerance=1e-5)
    same_tensor(answer(b[:3], 2 * a[:3]), output_change(b[:3], 2 * a[:3]), "other logits go wrong: use the arguments",
                tolerance=1e-5)  # fmt: skip


# ---------------------------------------------------------------------------------------- neurons


@register("relevant_neurons", relevant_neurons, "What the pattern adds, not what was there before.")
def _check_relevant_neurons(answer: Callable[[Tensor, Tensor, float], Any]) -> None:
    clean = torch.tensor([5.0, 1.0, 9.0, 0.5, 9.5, 0.0, 3.0, 0.25]).repeat(4, 1)
    raised = torch.tensor([0.5, 2.0, 0.25, 3.0, -9.0, 1.0, -0.5, 0.0])
    stamped = clean + raised
    stamped[0, 7] += 11.0  # one image excites neuron 7 strongly, the mean is 2.75
    clean[:2, 1] -= 0.5
    for share, count in ((0.2, 2), (0.05, 1), (0.4, 4)):
        got = answer(clean, stamped, share)
        found = set(whole_numbers(got, "a list of neuron numbers", "[3, 1]"))
        expected = set(relevant_neurons(clean, stamped, share))
        mean = (stamped - clean).mean(0)
        rankings = {
            "these are the most active neurons: the difference to the clean images counts": stamped.mean(0),
            "these are active on clean images: the difference counts": clean.mean(0),
            "these are lowered by the pattern: take the largest increase": -mean,
            "a neuron that falls silent is not excited: no absolute value": mean.abs(),
            "this looks at single images: take means": (stamped - clean).amax(0),
        }
        cause = "other neurons than those whose mean rises most"
        for mistake, ranking in rankings.items():
            if found == set(ranking.topk(count).indices.tolist()) and found != expected:
                cause = mistake
        if not found:
            cause = "rounded down to no neuron at all: round up, so that there is at least one"
        elif len(found) < count:
            cause = "too few: round share·D up"
        elif len(found) > count:
            cause = "too many: the ⌈share·D⌉ best"
        if found != expected:
            raise WrongAnswer(sorted(expected), sorted(found), cause)
