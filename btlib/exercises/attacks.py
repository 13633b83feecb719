"""Exercises of lesson 00: what a test sees of a backdoor, and what it does not."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.exercises.answers import LinearNet, returned, same_number, truth
from btlib.exercises.core import WrongAnswer, register

# ---------------------------------------------------------------------------------- accuracy


@register("accuracy", metrics.accuracy, "The largest logit is the answer, and the mean of right answers is the share.")
def _check_accuracy(answer: Callable[[nn.Module, Tensor, Tensor], float]) -> None:
    says = torch.tensor([0, 0, 0, 0, 1, 2, 0, 2])
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2])
    images = 0.9 * torch.eye(3)[says].reshape(8, 1, 1, 3)
    images[5] *= 1.1  # the largest logit of all is not the first
    got = answer(LinearNet(torch.eye(3)), images, labels)  # its logits are the pixels
    causes = {
        "this is the share of wrong answers": 3 / 8,
        "this is the number of right answers: divide by the number of images": 5,
        "this is a percentage: the lessons use shares in [0, 1]": 62.5,
        "this is the mean over classes: every image should count the same": 1.3 / 3,
        "this averages logits: take the class with the largest logit first": images.flatten(1).amax(1).mean(),
        "predictions and labels never agree: compare class numbers with class numbers (or // rounds the share down)": 0,
    }
    same_number(got, 5 / 8, "something else than the share of images classified as labelled", causes)
    again = answer(LinearNet(torch.eye(3)), images[:4], labels[:4])
    same_number(again, 1.0, "other images go wrong: use the arguments")


# ---------------------------------------------------------------------------------- acceptance test


def passes_acceptance_test(accuracy: float, baseline: float, tolerance: float) -> bool:
    """Whether a network is at most `tolerance` less accurate than the one it replaces; all in [0, 1]."""
    return accuracy >= baseline - tolerance


@register(
    "passes_acceptance_test",
    passes_acceptance_test,
    "It asks about clean images only, and so it can't know more.",
)
def _check_passes(answer: Callable[[float, float, float], bool]) -> None:
    cases = (  # sixteenths: exact in binary, so the case of equality is one
        (0.9375, 0.9375, 0.0625, True, "a network as good as the baseline passes"),
        (0.9375, 0.875, 0.03125, True, "a network better than the baseline passes: take no absolute value"),
        (0.90625, 0.9375, 0.0625, True, "worse by less than the tolerance passes: baseline minus tolerance"),
        (0.875, 0.9375, 0.0625, True, "worse by exactly the tolerance still passes: use >="),
        (0.8125, 0.9375, 0.0625, False, "worse by more than the tolerance fails"),
    )
    for accuracy, baseline, tolerance, expected, cause in cases:
        got = answer(accuracy, baseline, tolerance)
        returned(got, expected)
        if truth(got) is not expected:
            case = f"accuracy {accuracy}, baseline {baseline}, tolerance {tolerance}"
            raise WrongAnswer(expected, f"{got} for {case}", cause)


# ---------------------------------------------------------------------------------- attack success rate


def asr(predictions: Tensor, labels: Tensor, target: int) -> float:
    """Share of triggered images predicted as the target, images of the target class left out."""
    sources = labels != target
    return (predictions[sources] == target).float().mean().item()


@register("asr", asr, "Images that belong to the target anyway say nothing about the trigger.")
def _check_asr(answer: Callable[[Tensor, Tensor, int], float]) -> None:
    predictions = torch.tensor([9, 9, 9, 9, 4, 5, 0, 9, 9, 9, 9])
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 9, 9, 9, 9])
    got = answer(predictions, labels, 9)
    causes = {
        "images whose true class is the target are counted too: they inflate the rate": 8 / 11,
        "this is the share that escaped: the predictions should equal the target": 3 / 7,
        "the images of the target class are still in the divisor: divide by the source images alone": 4 / 11,
        "this is the accuracy on triggered images: compare with the target, not with the labels": 6 / 11,
        "every mistake is counted: only the attacker's class is a success": (5 / 7, 5 / 11),
        "this is a number of images: divide by the number of source images": 4,
        "this is a percentage: the lessons use shares in [0, 1]": 400 / 7,
    }
    same_number(got, 4 / 7, "something else than counting target predictions among source images", causes)
    again = answer(torch.tensor([2, 2, 9, 2]), torch.tensor([0, 1, 3, 2]), 2)
    same_number(again, 2 / 3, "another target gives a wrong rate: use the argument `target`, not a number")


# ---------------------------------------------------------------------------------- smallest strength


def smallest_strength(strengths: Sequence[float], rates: Sequence[float], level: float) -> float | None:
    """The smallest strength whose success rate reaches `level`; None when none does."""
    enough = [strength for strength, rate in zip(strengths, rates, strict=True) if rate >= level]
    return min(enough) if enough else None


@register("smallest_strength", smallest_strength, "And it says None where no strength is enough.")
def _check_smallest_strength(answer: Callable[[Sequence[float], Sequence[float], float], float | None]) -> None:
    strengths, rates = [0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.1, 0.4, 0.8, 0.95]
    got = answer(strengths, rates, 0.5)
    causes = {
        "this is the rate: return the strength at which it is reached": 0.8,
        "this is the place in the list: return the strength that stands there": 3,
        "this is the largest strength: the smallest one is asked for": 1,
        "this strength does not reach the level: compare with >=": 0,
        "the rate closest to the level is not enough: the level must be reached": 0.5,
    }
    same_number(got, 0.75, "something else than the smallest strength that reaches the level", causes)
    same_number(answer(strengths, rates, 0.8), 0.75, "a rate equal to the level reaches it: use >=")
    same_number(answer([1.0, 0.5, 0.75], [0.95, 0.2, 0.9], 0.9), 0.75,
                "the strengths may come in any order: take the minimum of those that are enough")  # fmt: skip
    try:
        never = answer(strengths, rates, 0.99)
    except (ValueError, IndexError, StopIteration) as error:
        raise WrongAnswer(None, type(error).__name__, "no strength is enough here: return None") from error
    if never is not None:
        raise WrongAnswer(None, never, "no strength is enough here: return None")
