"""The checks of lesson 11's exercises: right answers pass, each typical wrong one gets its own cause."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from exercise_contract import ExerciseContract
from torch import Tensor

from btlib.detection import weights
from btlib.exercises import get
from btlib.exercises.lred_audit import resting_share

NAMES = ("count_verdicts", "resting_share", "squared_shares")


def counted(
    *, named: Callable[..., Tensor] = lambda s, p, t, level: s == t,
    right: Callable[..., Tensor] = lambda s, p, t, level: (s == t) & (p < level),
    accused: Callable[..., Tensor] = lambda s, p, t, level: p < level,
    of: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda t: (t >= 0, t < 0),
    total: Callable[[Tensor], Tensor] = lambda kind: kind.sum(),
) -> Callable[..., Tensor]:  # fmt: skip
    """The three shares, in which one thing can be wrong."""

    def answer(s: Tensor, p: Tensor, t: Tensor, level: float = 0.05) -> Tensor:
        attacked, clean = of(t)
        shares = [(rule(s, p, t, level) & kind).sum() / total(kind)
                  for rule, kind in ((named, attacked), (right, attacked), (accused, clean))]  # fmt: skip
        return torch.stack(shares)

    return answer


def rested(
    temperature: Callable[[float], float] = lambda q: -math.log(q), *, start: int = 0, rounds: int | None = None,
    power: Callable[[float], float] = lambda q: 1.0, result: Callable[[float, int], float] = lambda q, n: q,
) -> Callable[..., float]:  # fmt: skip
    """Rounds of Eq. 7 and 8, in which one thing can be wrong."""

    def answer(fooled: int, others: int, rounds_asked: int = 300, **more: int) -> float:
        q = fooled / (fooled + others + start)
        for _ in range(rounds if rounds is not None else more.get("rounds", rounds_asked)):
            t = temperature(q)
            if abs(t) < 1e-9:
                break
            e = math.exp(min(700.0, power(q) / t))
            q = fooled * e / (fooled * e + others)
        return result(q, fooled)

    return answer


def by_loops(suspects: Tensor, p_values: Tensor, targets: Tensor, level: float = 0.05) -> Tensor:
    """Counted one by one."""
    rows = list(zip(suspects.tolist(), p_values.tolist(), targets.tolist(), strict=True))
    attacked, clean = [row for row in rows if row[2] >= 0], [row for row in rows if row[2] < 0]
    named = sum(s == t for s, _, t in attacked) / len(attacked)
    return torch.tensor([named, sum(s == t and p < level for s, p, t in attacked) / len(attacked),
                         sum(p < level for _, p, _ in clean) / len(clean)])  # fmt: skip


def with_weights(fooled: int, others: int, rounds: int = 300) -> Tensor:
    """By lesson 05's weights of all classes."""
    rates = torch.tensor([[1.0] * fooled + [0.0] * others], dtype=torch.float64)
    allowed = torch.ones_like(rates, dtype=torch.bool)
    w = allowed / allowed.sum()
    for _ in range(rounds):
        w = weights.anneal(rates, w, allowed)
    return (w * rates).sum()


def shares(
    square: Callable[[Tensor], Tensor] = torch.square,
    by: Callable[[Tensor], Tensor] = lambda s: s.sum(1, keepdim=True),
    mask: str = "before", floor: float = 1e-12,
) -> Callable[[Tensor, Tensor], Tensor]:  # fmt: skip
    """Squared shares in which one thing can be wrong."""

    def answer(rates: Tensor, allowed: Tensor) -> Tensor:
        squares = square(rates * allowed if mask == "before" else rates)
        found = squares / by(squares).clamp_min(floor)
        return found * allowed if mask == "after" else found

    return answer


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("count_verdicts", counted()),
    ("count_verdicts", by_loops),
    ("resting_share", rested()),
    ("resting_share", with_weights),
    ("resting_share", lambda f, o, rounds=300: np.float64(resting_share(f, o, rounds))),
    ("squared_shares", shares()),
    ("squared_shares", lambda q, a: torch.nan_to_num((q * a) ** 2 / ((q * a) ** 2).sum(1, keepdim=True))),
]

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("count_verdicts", counted(right=lambda s, p, t, level: p < level), "name and p-value"),
    ("count_verdicts", counted(right=lambda s, p, t, level: s == t), "whether it is sure"),
    ("count_verdicts", counted(of=lambda t: (t >= 0, t > -2)), "third is of all"),
    ("count_verdicts", counted(accused=lambda s, p, t, level: p >= level), "left alone"),
    ("count_verdicts", counted(total=lambda kind: torch.tensor(len(kind))), "the shares are of all"),
    ("count_verdicts", lambda s, p, t, level=0.05: torch.stack([
        (s == t).float().mean(), ((s == t) & (p < level)).float().mean(), (p < level)[t < 0].float().mean()
    ]), "first two are of all"),
    ("count_verdicts", counted(
        right=lambda s, p, t, level: (s == t) & (p >= level), accused=lambda s, p, t, level: p >= level), "wrong way"),
    ("count_verdicts", lambda s, p, t, level=0.05: counted()(s, p - 1e-6, t, level), "must be below"),
    ("count_verdicts", counted(total=lambda kind: torch.tensor(1.0)), "these are counts"),
    ("count_verdicts", lambda s, p, t, level=0.05: counted()(s, p, t, level) / torch.tensor([1, 5 / 7, 1]),
     "those named"),
    ("count_verdicts", lambda s, p, t, level=0.05: counted()(s, p, t), "level that is given"),
    ("count_verdicts", lambda s, p, t, level=0.05: counted()(s, p, t, level)[:2], "another length"),
    ("count_verdicts", lambda s, p, t, level=0.05: None, "returns nothing"),
    ("count_verdicts", lambda s, p, t, level=0.05: torch.zeros(3), "something else"),
    ("resting_share", lambda f, o, rounds=300: f / (f + o), "at the start"),
    ("resting_share", rested(rounds=1), "renew both"),
    ("resting_share", rested(lambda q: -math.log(1 / 9)), "what one round gives"),
    ("resting_share", rested(lambda q: math.log(q)), "with a minus"),
    ("resting_share", rested(lambda q: 1 - q), "1 - Q"),
    ("resting_share", rested(lambda q: -math.log10(q)), "base 10"),
    ("resting_share", rested(lambda q: -math.log2(q)), "base 2"),
    ("resting_share", rested(power=lambda q: q), "not in it"),
    ("resting_share", rested(start=1), "renew them `rounds` times"),
    ("resting_share", rested(rounds=300), "renew them `rounds` times"),
    ("resting_share", rested(result=lambda q, n: q / n), "weight of one class"),
    ("resting_share", lambda f, o, rounds=300: min(resting_share(f, o, rounds), 0.9), "stays at 1"),
    ("resting_share", lambda f, o, rounds=300: None, "returns nothing"),
    ("resting_share", lambda f, o, rounds=300: 0.5, "something else"),
    ("squared_shares", shares(mask="never"), "the target has a share"),
    ("squared_shares", shares(mask="after"), "after dividing"),
    ("squared_shares", shares(square=lambda q: q), "square is missing"),
    ("squared_shares", shares(by=lambda s: s.sqrt().sum(1, keepdim=True).square()), "sum is squared"),
    ("squared_shares", shares(by=torch.ones_like), "not shares"),
    ("squared_shares", shares(by=lambda s: torch.full_like(s, 3)), "number of classes"),
    ("squared_shares", shares(by=lambda s: s.amax(1, keepdim=True)), "by the largest"),
    ("squared_shares", shares(by=lambda s: s.sum()), "share one sum"),
    ("squared_shares", lambda q, a: q.masked_fill(~a, -torch.inf).softmax(1), "softmax"),
    ("squared_shares", lambda q, a: (q * a == (q * a).amax(1, keepdim=True)).float(), "best class"),
    ("squared_shares", shares(floor=0.0), "0/0"),
    ("squared_shares", lambda q, a: None, "returns nothing"),
    ("squared_shares", lambda q, a: 2 * q, "something else"),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_one_fooled_class_of_nine_rests_and_one_of_four_does_not() -> None:
    rest = resting_share(1, 8)
    assert rest == pytest.approx(1 / (1 + 8 * math.exp(1 / math.log(rest))))  # a fixed point of Eq. 7 and 8
    assert rest == pytest.approx(0.184, abs=5e-4)
    assert resting_share(1, 3) == 1
    assert get("squared_shares").solution is weights.squared_shares
