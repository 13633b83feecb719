"""The checks of lesson 00's exercises: right answers pass, each typical wrong one gets its own cause."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from exercise_contract import ExerciseContract

from btlib import datasets, metrics, networks, triggers
from btlib.exercises import get
from btlib.exercises.attacks import asr, passes_acceptance_test, smallest_strength
from btlib.metrics import predict

NAMES = ("accuracy", "passes_acceptance_test", "asr", "smallest_strength")

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("accuracy", lambda n, x, y: (predict(n, x).argmax(1) != y).float().mean(), "share of wrong answers"),
    ("accuracy", lambda n, x, y: (predict(n, x).argmax(1) == y).sum(), "number of right answers"),
    ("accuracy", lambda n, x, y: 100 * (predict(n, x).argmax(1) == y).float().mean(), "percentage"),
    ("accuracy", lambda n, x, y: torch.stack([(predict(n, x).argmax(1) == y)[y == c].float().mean()
                                              for c in range(3)]).mean(), "mean over classes"),
    ("accuracy", lambda n, x, y: predict(n, x).max(1).values.mean(), "averages logits"),
    ("accuracy", lambda n, x, y: (predict(n, x).max(1).values == y).float().mean(), "never agree"),
    ("accuracy", lambda n, x, y: (predict(n, x).argmax(0) == y).float().mean(), "an error inside"),
    ("accuracy", lambda n, x, y: 0.123, "something else"),
    ("accuracy", lambda n, x, y: None, "is there a return"),
    ("passes_acceptance_test", lambda a, b, t: None, "returns nothing"),
    ("passes_acceptance_test", lambda a, b, t: a > b, "as good as the baseline"),
    ("passes_acceptance_test", lambda a, b, t: a >= b, "baseline minus tolerance"),
    ("passes_acceptance_test", lambda a, b, t: abs(a - b) <= t, "absolute value"),
    ("passes_acceptance_test", lambda a, b, t: a > b - t, "use >="),
    ("passes_acceptance_test", lambda a, b, t: a >= b + t, "as good as the baseline"),
    ("passes_acceptance_test", lambda a, b, t: True, "more than the tolerance"),
    ("asr", lambda p, y, t: (p == t).float().mean(), "inflate the rate"),
    ("asr", lambda p, y, t: (p[y != t] != t).float().mean(), "escaped"),
    ("asr", lambda p, y, t: ((p == t) & (y != t)).float().mean(), "divisor"),
    ("asr", lambda p, y, t: (p == y).float().mean(), "accuracy on triggered images"),
    ("asr", lambda p, y, t: (p != y)[y != t].float().mean(), "every mistake"),
    ("asr", lambda p, y, t: (p[y != t] == t).sum(), "number of images"),
    ("asr", lambda p, y, t: 100 * (p[y != t] == t).float().mean(), "percentage"),
    ("asr", lambda p, y, t: (p[y != 9] == 9).float().mean(), "another target"),
    ("asr", lambda p, y, t: 0.123, "something else"),
    ("smallest_strength", lambda s, r, level: min(x for x in r if x >= level), "this is the rate"),
    ("smallest_strength", lambda s, r, level: [x >= level for x in r].index(True), "place in the list"),
    ("smallest_strength", lambda s, r, level: max(s), "largest strength"),
    ("smallest_strength", lambda s, r, level: min(s), "does not reach"),
    ("smallest_strength", lambda s, r, level: min(zip(s, r, strict=True), key=lambda p: abs(p[1] - level))[0],
     "closest"),
    ("smallest_strength", lambda s, r, level: next((s[i] for i in range(len(r)) if r[i] > level), None),
     "equal"),
    ("smallest_strength", lambda s, r, level: next((s[i] for i in range(len(r)) if r[i] >= level), None),
     "order"),
    ("smallest_strength", lambda s, r, level: min(s[i] for i in range(len(r)) if r[i] >= level),
     "return None"),
    ("smallest_strength", lambda s, r, level: min([s[i] for i in range(len(r)) if r[i] >= level] or [1.0]),
     "return None"),
    ("smallest_strength", lambda s, r, level: "a", "return a number"),
]  # fmt: skip


def _by_hand_accuracy(network, images, labels):
    return (network(images).argmax(1) == labels).float().mean().item()


def _by_hand_asr(predictions, labels, target):
    pairs = [p == target for p, y in zip(predictions.tolist(), labels.tolist(), strict=True) if y != target]
    return sum(pairs) / len(pairs)


def _by_hand_passes(accuracy, baseline, tolerance):
    return baseline - accuracy <= tolerance


def _by_hand_smallest(strengths, rates, level):
    for strength, rate in sorted(zip(strengths, rates, strict=True)):
        if rate >= level:
            return strength
    return None


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("accuracy", _by_hand_accuracy), ("asr", _by_hand_asr),
    ("passes_acceptance_test", _by_hand_passes), ("smallest_strength", _by_hand_smallest),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_accuracy_is_the_librarys_own():
    assert get("accuracy").solution is metrics.accuracy


def test_asr_agrees_with_the_librarys_metric():
    torch.manual_seed(0)
    data = datasets.load("fashion-mnist").subset(test=500)
    network = networks.build("lenet5", data, seed=0)
    trigger = triggers.box(data.image_shape)
    target = int(predict(network, trigger(datasets.to_float(data.x_test))).argmax(1).mode().values)
    said = predict(network, trigger(datasets.to_float(data.x_test))).argmax(1)
    library = metrics.attack_success_rate(network, trigger, data.x_test, data.y_test, target)
    assert library > 0.05
    assert asr(said, data.y_test, target) == pytest.approx(library, abs=1e-6)


def test_solutions_on_values_known_by_hand():
    assert passes_acceptance_test(0.90, 0.905, 0.01)
    assert not passes_acceptance_test(0.88, 0.905, 0.01)
    assert smallest_strength([0.2, 0.4], [0.5, 0.9], 0.7) == 0.4
    assert smallest_strength([0.2, 0.4], [0.5, 0.9], 0.95) is None
    assert asr(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 1]), 1) == 1.0
