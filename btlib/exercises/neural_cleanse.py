"""Exercises on Neural Cleanse: inverting a trigger, and judging the sizes (lesson 04)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from btlib.detection import anomaly, descent
from btlib.exercises.answers import LinearNet, returned, same_number, same_tensor
from btlib.exercises.core import WrongAnswer, register

# ---------------------------------------------------------------------------------------- Eq. 5


@register("stamp", descent.stamp, "Where the mask is 0 the image stays, where it is 1 the pattern takes its place.")
def _check_stamp(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    images, raw = _small_problem()
    raw.requires_grad_()
    got = answer(images, raw)
    raw = raw.detach()
    expected = descent.stamp(images, raw)
    if isinstance(got, Tensor) and got.shape == (2, 3, 2, 2, 2):
        cause = "one axis for the masks and one for the images: join them with .flatten(0, 1)"
        raise WrongAnswer(f"shape {tuple(expected.shape)}", f"shape {tuple(got.shape)}", cause)

    def blend(m: Tensor, u: Tensor) -> Tensor:
        return ((1 - m) * images + m * u).flatten(0, 1)

    both, unsquashed = descent.squash(raw)[:, None], raw[:, None]
    m, u = both[:, :, :1], both[:, :, 1:]
    by_image = ((1 - m) * images + m * u).transpose(0, 1).flatten(0, 1)
    causes = {
        "`raw` is any real number: squash it into [0, 1] first": blend(unsquashed[:, :, :1], unsquashed[:, :, 1:]),
        "the mask is not squashed": blend(unsquashed[:, :, :1], u),
        "the pattern is not squashed": blend(m, unsquashed[:, :, 1:]),
        "the mask is the wrong way round: 1 - m belongs to the image": (m * images + (1 - m) * u).flatten(0, 1),
        "the pattern is added to the image: it should replace it, so the image counts 1 - m":
            (images + m * u).flatten(0, 1),
        "the pattern is not masked: it counts m": ((1 - m) * images + u).flatten(0, 1),
        "channel 0 of `raw` is the mask, the others are the pattern": blend(both[:, :, -1:], both[:, :, :-1]),
        "the images are in another order: all images with the first mask come first": by_image,
        "the mask is cut to 0 and 1: a value between mixes, and only so it has a gradient": blend((m > 0.5).float(), u),
    }  # fmt: skip
    same_tensor(got, expected, "something else than (1 - m)·x + m·Δ", causes)
    if not got.requires_grad:
        cause = "the gradient is lost on the way (.detach(), .numpy(), torch.no_grad() or .round()): Adam needs it"
        raise WrongAnswer("a tensor with a gradient", "one without", cause)
    cause = "other images or masks go wrong: use the arguments"
    same_tensor(answer(images[:2], raw[:1]), descent.stamp(images[:2], raw[:1]), cause)


# ---------------------------------------------------------------------------------------- Eq. 6


def inversion_loss(network: nn.Module, images: Tensor, raw: Tensor, target: int, cost: float) -> Tensor:
    """Cross-entropy towards the target, plus cost · ‖m‖₁ (stealthy attack Eq. 6), for one mask and pattern."""
    logits = network(descent.stamp(images, raw))
    wanted = torch.full((len(logits),), target, device=logits.device)
    return nn.functional.cross_entropy(logits, wanted) + cost * descent.squash(raw[:, 0]).sum()


@register("inversion_loss", inversion_loss, "It pulls images to the class and keeps the mask small.")
def _check_inversion_loss(answer: Callable[[nn.Module, Tensor, Tensor, int, float], Tensor]) -> None:
    images, both = _small_problem()
    raw, target, cost = both[:1].clone().requires_grad_(), 2, 0.25
    network = LinearNet(_ROWS)
    got = answer(network, images, raw, target, cost)
    returned(got, "a number with its graph")
    expected = inversion_loss(network, images, raw, target, cost).item()
    wanted = torch.full((len(images),), target)
    entropy = nn.functional.cross_entropy
    with torch.no_grad():
        logits = network(descent.stamp(images, raw))
        fit, area = entropy(logits, wanted), descent.squash(raw[:, 0])
        causes = {
            "the size of the mask is missing, or λ is 0": fit,
            "λ is not used: the mask counts `cost` times": fit + area.sum(),
            "this is the mean of the mask: ‖m‖₁ is its sum": fit + cost * area.mean(),
            "the mask is not squashed: channel 0 of `raw` may be negative": fit + cost * raw[:, 0].sum(),
            "|raw| is not the mask: squash it": fit + cost * raw[:, 0].abs().sum(),
            "the pattern counts too: only the mask, channel 0, should be small": fit + cost * descent.squash(raw).sum(),
            "this is the Euclidean norm: ‖m‖₁ is the sum": fit + cost * area.square().sum().sqrt(),
            "the sign: a large mask should raise the loss": fit - cost * area.sum(),
            "the cross-entropy is summed: take the mean over images":
                entropy(logits, wanted, reduction="sum") + cost * area.sum(),
            "cross_entropy takes logits: no softmax before it": entropy(logits.softmax(1), wanted) + cost * area.sum(),
            "the clean images went through the network: stamp them first":
                entropy(network(images), wanted) + cost * area.sum(),
            "the sign of the cross-entropy: it should be small when the network says the target":
                -fit + cost * area.sum(),
        }  # fmt: skip
    same_number(got, expected, "something else than mean cross-entropy + cost · ‖m‖₁", causes, tolerance=1e-5)
    if not isinstance(got, Tensor) or not got.requires_grad:
        raise WrongAnswer("a tensor with its graph", "a plain number", "no .item() and no .detach(): Adam needs slopes")
    if got.ndim:
        raise WrongAnswer("a tensor without axes", f"shape {tuple(got.shape)}", "sum over all axes of the mask")
    other = answer(network, images, raw, 0, 2.0).detach()
    right = inversion_loss(network, images, raw, 0, 2.0).detach()
    same_number(other, float(right), "another target or cost goes wrong: use the arguments", tolerance=1e-5)


_ROWS = [[1.0, 0.0, -1.0, 2.0, 0.5, 0.0, 1.0, -2.0], [0.0] * 8, [-1.0, 3.0] + [0.5] * 6]


def _small_problem() -> tuple[Tensor, Tensor]:
    """Three images (3, 2, 2, 2) and two masks with patterns (2, 3, 2, 2)."""
    images = torch.arange(24).reshape(3, 2, 2, 2) / 24
    raw = ((torch.arange(24) * 7) % 24).reshape(2, 3, 2, 2) / 8 - 1.3
    return images, raw


# ---------------------------------------------------------------------------------------- λ


def next_cost(
    cost: float, success: float, wanted: float = 0.99, start: float = 1e-3, up: float = 1.15, fall: float = 2.6
) -> float:
    """λ of the next step: `start` at the first success, then times `up`, or down by the power `fall` of it."""
    if success < wanted:
        return cost / up**fall
    return cost * up if cost > 0 else start


@register("next_cost", next_cost, "Slowly up while it works, quickly down when it does not.")
def _check_next_cost(answer: Callable[..., float]) -> None:
    got = answer(0.01, 1.0, 0.9, 0.002, 2.0, 3.0)
    causes = {
        "the rule is the wrong way round: a pattern that works should get smaller, so λ goes up": (0.00125, 0.005),
        "up by the factor `up` itself; its power `fall` is for going down": 0.08,
        "`start` is for λ = 0 only": 0.002,
        "λ is multiplied, not added to": (0.012, 2.01),
        "nothing changes: a pattern that works should get smaller, so λ goes up": 0.01,
    }
    same_number(got, 0.02, "something else than cost · up", causes)
    got = answer(0.01, 0.5, 0.9, 0.002, 2.0, 3.0)
    causes = {
        "down by the power `fall`, not by `up`: faster down than up": 0.005,
        "this is cost / (up · fall): `fall` is an exponent, up**fall": 1 / 600,
        "this is cost / fall: divide by up**fall": 0.01 / 3,
        "a pattern that fails needs a larger mask: λ goes down": (0.08, 0.02),
        "nothing changes: a pattern that fails needs a larger mask, so λ goes down": 0.01,
        "`start` is for the first success only": 0.002,
    }
    same_number(got, 0.00125, "something else than cost / up**fall", causes)
    got = answer(0.01, 0.9, 0.9, 0.002, 2.0, 3.0)
    same_number(got, 0.02, "a success of exactly `wanted` is enough: compare with >= (or < for the other case)")
    got = answer(0.0005, 1.0, 0.9, 0.002, 2.0, 3.0)  # λ has fallen below `start`, and the patch works again
    causes = {"`start` is for λ = 0 only: a λ that has fallen below it goes up from where it is": 0.002}
    same_number(got, 0.001, "something else than cost · up", causes)
    got = answer(0.0, 1.0, 0.9, 0.002, 2.0, 3.0)
    causes = {"zero times anything is zero: at the first success λ becomes `start`": 0.0}
    same_number(got, 0.002, "at the first success λ becomes `start`", causes)
    cause = "before the first success λ stays 0: first find any pattern, then make it small"
    same_number(answer(0.0, 0.5, 0.9, 0.002, 2.0, 3.0), 0.0, cause)


# ---------------------------------------------------------------------------------------- anomaly index


@register("mad_index", anomaly.mad_index, "The true median twice, the factor 1.4826, and only below counts.")
def _check_mad_index(answer: Callable[[np.ndarray], Any]) -> None:
    norms = np.array([52.0, 61.0, 9.0, 75.0, 58.0, 70.0, 66.0, 40.0])
    got = answer(norms.copy())
    try:
        values = np.asarray(got, dtype=float)
    except (TypeError, ValueError) as error:
        cause = "the function should return numbers"
        raise WrongAnswer("8 numbers, one per class", type(got).__name__, cause) from error
    expected = anomaly.mad_index(norms)
    if values.shape != expected.shape:
        what = "nothing" if got is None else f"shape {values.shape}"
        raise WrongAnswer("8 numbers, one per class", what, "the index is wanted for each class, not for the smallest")
    middle, mean = np.median(norms), norms.mean()
    lower = _lower_median(norms)
    mad = float(np.median(np.abs(norms - middle)))
    causes = {
        "the lower median (as torch.median): with an even number of classes take the mean of the middle two":
            (lower - norms) / (1.4826 * _lower_median(np.abs(norms - lower))),
        "the second median is the lower one (as torch.median): take the mean of the middle two":
            (middle - norms) / (1.4826 * _lower_median(np.abs(norms - middle))),
        "the first median is the lower one (as torch.median): take the mean of the middle two":
            (lower - norms) / (1.4826 * np.median(np.abs(norms - lower))),
        "the factor 1.4826 is missing": (middle - norms) / mad,
        "1.4826 belongs to the MAD, below the line": 1.4826 * (middle - norms) / mad,
        "the sign: a norm below the median should be positive": (norms - middle) / (1.4826 * mad),
        "an absolute value: a class with a large mask is not suspicious": np.abs(norms - middle) / (1.4826 * mad),
        "the mean instead of the median: the outlier drags it along":
            (mean - norms) / (1.4826 * np.abs(norms - mean).mean()),
        "the mean of the deviations instead of their median":
            (middle - norms) / (1.4826 * np.abs(norms - middle).mean()),
        "the deviations are from the mean: take the median in both places":
            (mean - norms) / (1.4826 * np.median(np.abs(norms - mean))),
        "the standard deviation instead of the MAD: one outlier inflates it": (middle - norms) / norms.std(),
        "the standard score: mean and standard deviation are dragged along by the outlier":
            (mean - norms) / norms.std(),
        "the median of the norms instead of that of the deviations": (middle - norms) / (1.4826 * middle),
    }  # fmt: skip
    otherwise = "something else than (median - norm) / (1.4826 · MAD)"
    same_tensor(torch.as_tensor(values), torch.as_tensor(expected), otherwise, causes, tolerance=1e-4)
    odd = norms[:5]
    again = torch.as_tensor(np.asarray(answer(odd.copy()), dtype=float))
    same_tensor(again, torch.as_tensor(anomaly.mad_index(odd)), "it fails for an odd number of classes", tolerance=1e-4)


def _lower_median(values: np.ndarray) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])
