"""The checks of lesson 02's exercises: right answers pass, each typical wrong one gets its own cause."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from exercise_contract import ExerciseContract
from torch import nn

from btlib import metrics
from btlib.exercises import get, reveal
from btlib.exercises.backdoor_training import collateral_classes, poisoning_rate, training_step

NAMES = ("poisoning_rate", "training_step", "success_by_class", "collateral_classes")


def step(*order: str, loss_of: Callable[..., Any] = nn.functional.cross_entropy) -> Callable[..., float]:
    """A training step whose lines stand in this order."""

    def answer(network: nn.Module, optimizer: torch.optim.Optimizer, images: Any, labels: Any) -> float:
        loss = torch.zeros(())
        for action in order:
            if action == "loss":
                loss = loss_of(network(images), labels)
            elif action == "zero":
                optimizer.zero_grad()
            elif action == "backward":
                loss.backward()
            else:
                optimizer.step()
        return loss.item()

    return answer


def step_and_return(value: Callable[[torch.Tensor], Any]) -> Callable[..., Any]:
    """A right training step that returns something else than the loss as a number."""

    def answer(network: nn.Module, optimizer: torch.optim.Optimizer, images: Any, labels: Any) -> Any:
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return value(loss)

    return answer


def by_class(
    net: nn.Module, trigger: Any, x: torch.Tensor, y: torch.Tensor, target: int, *, stamp: bool = True,
    hit: Callable[..., torch.Tensor] = lambda says, y, t: says == t, over: str = "class", nan: bool = True,
) -> torch.Tensor:  # fmt: skip
    """A success by class in which one thing can be wrong."""
    says = metrics.predict(net, trigger(x) if stamp else x).argmax(1)
    counts = torch.bincount(y, minlength=4)
    rates = torch.bincount(y, weights=hit(says, y, target).float(), minlength=4)
    rates = rates / {"class": counts, "all": len(y), "nothing": 1}[over]
    if nan:
        rates[target] = torch.nan
    return rates.float()


def share(grows: Callable[[str], int]) -> Callable[..., float]:
    """A poisoning rate whose training set grows by this many times the stamped images."""
    return lambda p, s, n, originals="replace": p * s / (n + p * s * grows(originals))


def more(rate: float, confusion: float, margin: float) -> bool:
    """The comparison of Definition A.1."""
    return rate - confusion > margin


def among(
    keep: Callable[[float, float, float], bool], *, sources: bool = False, target: bool = False
) -> Callable[..., list[int]]:
    """Collateral classes by some comparison, with the sources or the target left in."""

    def answer(r: Any, c: Any, s: Any, t: int, m: float) -> list[int]:
        left_out = {*(() if sources else s), *(() if target else (t,))}
        return [k for k in range(len(r)) if k not in left_out and keep(r[k], c[k], m)]

    return answer


def with_tensors(r: torch.Tensor, c: torch.Tensor, s: Any, t: int, m: float) -> list[int]:
    """Collateral classes without a loop."""
    hit = (r - c) > m
    hit[[*s, t]] = False
    return hit.nonzero().flatten().tolist()


def smoothed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of probabilities: softmax is taken twice."""
    return nn.functional.cross_entropy(logits.softmax(1), labels)


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("poisoning_rate", share(lambda o: o == "add")),
    ("training_step", step("zero", "loss", "backward", "step")),
    ("training_step", step("loss", "zero", "backward", "step")),
    ("training_step", step("loss", "backward", "step", "zero")),
    ("training_step", step_and_return(lambda loss: float(loss.detach()))),
    ("success_by_class", by_class),
    ("collateral_classes", among(lambda r, c, m: r > c + m)),
    ("collateral_classes", lambda *a: set(collateral_classes(*a))),
    ("collateral_classes", with_tensors),
]

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("poisoning_rate", lambda p, s, n, originals="replace": p / n, "only one source class"),
    ("poisoning_rate", lambda p, s, n, originals="replace": 100 * p * s / n, "percentage"),
    ("poisoning_rate", share(lambda o: -1), "stamped over clean"),
    ("poisoning_rate", share(lambda o: 1), "does not grow"),
    ("poisoning_rate", lambda p, s, n, originals="replace": p * s, "number of images"),
    ("poisoning_rate", lambda p, s, n, originals="replace": n / (p * s), "upside down"),
    ("poisoning_rate", lambda p, s, n, originals="replace": p * s / n, "the clean originals stay"),
    ("poisoning_rate", share(lambda o: -(o == "add")), "does not shrink"),
    ("poisoning_rate", share(lambda o: o != "replace"), "size stays"),
    ("poisoning_rate", lambda p, s, n, originals="replace": None, "is there a return"),
    ("training_step", step("loss", "backward", "step"), "never called"),
    ("training_step", step("loss", "zero", "backward"), "optimizer.step() is never called"),
    ("training_step", step("loss", "zero", "step"), "no gradient"),
    ("training_step", step("loss", "backward", "zero", "step"), "no gradient"),
    ("training_step", step("loss", "step", "zero", "backward"), "the batch before"),
    ("training_step", step("loss", "step", "backward"), "no gradient is ever forgotten"),
    ("training_step", step("loss", "zero", "backward", "step", "loss"), "measured after the step"),
    ("training_step", step("loss", "zero", "backward", "step", loss_of=smoothed), "takes logits"),
    ("training_step", step_and_return(lambda loss: None), "returns nothing"),
    ("training_step", step_and_return(lambda loss: loss), "keeps its whole graph"),
    ("training_step", step_and_return(lambda loss: 2 * loss.item()), "another loss"),
    ("success_by_class", lambda *a: by_class(*a, stamp=False), "embed the trigger first"),
    ("success_by_class", lambda *a: by_class(*a, over="all"), "divides by all images"),
    ("success_by_class", lambda *a: by_class(*a, over="nothing"), "numbers of images"),
    ("success_by_class", lambda *a: by_class(*a, hit=lambda says, y, t: says != y), "no longer right"),
    ("success_by_class", lambda *a: by_class(*a, hit=lambda says, y, t: says == y), "accuracy by class"),
    ("success_by_class", lambda *a: by_class(*a, nan=False), "needs no trigger"),
    ("success_by_class", lambda *a: by_class(*a).nanmean(), "true class"),
    ("success_by_class", lambda *a: None, "true class"),
    ("success_by_class", lambda *a: by_class(*a) / 3, "something else"),
    ("collateral_classes", among(more, sources=True), "source classes"),
    ("collateral_classes", among(more, target=True), "the target is in it"),
    ("collateral_classes", among(more, sources=True, target=True), "sources and target"),
    ("collateral_classes", among(lambda r, c, m: r > m), "not subtracted"),
    ("collateral_classes", among(lambda r, c, m: abs(r - c) > m), "absolute value"),
    ("collateral_classes", among(lambda r, c, m: r > c), "more than the margin"),
    ("collateral_classes", among(lambda r, c, m: r - c <= m), "turn the comparison"),
    ("collateral_classes", lambda r, c, s, t, m: [1], "use the arguments"),
    ("collateral_classes", lambda r, c, s, t, m: [], "something else"),
    ("collateral_classes", lambda r, c, s, t, m: None, "returns nothing"),
    ("collateral_classes", lambda r, c, s, t, m: 1, "return a list"),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_the_library_is_the_solution() -> None:
    assert get("success_by_class").solution is metrics.success_by_class
    assert "zero_grad" in repr(reveal("training_step"))


def test_solutions_by_hand() -> None:
    assert poisoning_rate(100, 9, 60_000) == pytest.approx(0.015)
    assert poisoning_rate(100, 9, 60_000, "add") == pytest.approx(900 / 60_900)
    assert collateral_classes([0.9, 0.3, 0.0], [0.0, 0.1, 0.0], [0], 2, 0.1) == [1]


def test_training_step_learns() -> None:
    torch.manual_seed(0)
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    losses = [training_step(network, optimizer, x, y) for _ in range(20)]
    assert losses[-1] < losses[0] / 4  # separable: the loss falls at every step
