"""The checks of lesson 05's exercises: right answers pass, each typical wrong one gets its own cause."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from exercise_contract import ExerciseContract
from scipy import stats
from torch import Tensor

from btlib.detection import anomaly, weights
from btlib.exercises import get, reveal
from btlib.exercises.lred import normalised_step

NAMES = ("normalised_step", "anneal_weights", "published_log_p")


def along(length: Callable[[Tensor], Any], sign: int = 1) -> Callable[..., Tensor]:
    """A step that divides the gradient by something."""
    return lambda v, g, delta: v + sign * delta * g / length(g)


def in_place(v: Tensor, gradient: Tensor, delta: float) -> Tensor:
    """The right step, written into the caller's tensor."""
    v += delta * gradient / gradient.norm()
    return v


def annealed(
    exponent: Callable[[Tensor, Tensor], Tensor] = lambda rates, q: rates / -q.log(), *,
    old: bool = True, mask: str = "before", empty: str = "rows",
) -> Callable[..., Tensor]:  # fmt: skip
    """Weights by Eq. 7 and 8 in which one thing can be wrong."""

    def answer(rates: Tensor, before: Tensor, allowed: Tensor) -> Tensor:
        uniform = allowed / allowed.sum(1, keepdim=True)
        q = ((before if old else uniform) * rates).sum(1, keepdim=True)
        raw = exponent(rates, q)
        if mask == "before":
            raw = raw.masked_fill(~allowed, -torch.inf)
        if mask == "rate":
            raw = raw * allowed
        new = raw.softmax(1)
        new = new * allowed if mask in ("after", "rate") else new
        if empty == "rows":
            return torch.where(q > 0, new, uniform)
        if empty == "any":
            return uniform if bool((q == 0).any()) else new
        return new

    return answer


def hard(rates: Tensor, before: Tensor, allowed: Tensor) -> Tensor:
    """The naive way: all weight to the best class."""
    best = rates.masked_fill(~allowed, -1).argmax(1)
    return torch.nn.functional.one_hot(best, rates.shape[1]).float()


def log_p(
    *, fit_to: slice = slice(-1), power: Callable[[int], int] = lambda k: k, floc: Any = 0,
    end: Callable[[float, int], float] = lambda s, k: -np.expm1(k * np.log1p(-s)),
    last: Callable[[float], float] = np.log, tail: bool = True, invert: bool = False,
) -> Callable[[np.ndarray], float]:  # fmt: skip
    """A log p-value in which one thing can be wrong."""

    def answer(statistics: np.ndarray) -> float:
        r = np.sort(1 / statistics if invert else statistics)
        fitted = stats.gamma(*stats.gamma.fit(r[fit_to], **({} if floc is None else {"floc": floc})))
        survival = float(fitted.sf(r[-1]))
        if tail and survival < 1e-12:
            return float(np.log(len(r)) + fitted.logsf(r[-1]))
        return last(end(survival, power(len(r))))

    return answer


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("normalised_step", along(lambda g: torch.linalg.vector_norm(g))),
    ("normalised_step", along(lambda g: g.square().sum().sqrt())),
    ("anneal_weights", annealed()),
    ("anneal_weights", lambda q, w, a: weights.anneal(q, w, a).clone()),
    ("published_log_p", log_p()),
    ("published_log_p", lambda r: torch.tensor(anomaly.published_log_p(r), dtype=torch.float64)),
]

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("normalised_step", along(lambda g: g.norm(), sign=-1), "downhill"),
    ("normalised_step", along(lambda g: 1), "not normalised"),
    ("normalised_step", lambda v, g, delta: delta * g / g.norm(), "step alone"),
    ("normalised_step", lambda v, g, delta: v + g / g.norm(), "δ is missing"),
    ("normalised_step", along(lambda g: g.square().sum()), "squared norm"),
    ("normalised_step", along(lambda g: g.abs().sum()), "1-norm"),
    ("normalised_step", along(lambda g: g.abs().max()), "largest entry"),
    ("normalised_step", lambda v, g, delta: v + delta * g.sign(), "signs"),
    ("normalised_step", along(lambda g: g.norm(dim=-1, keepdim=True)), "row by row"),
    ("normalised_step", along(lambda g: g.norm(dim=(-2, -1), keepdim=True)), "three channels"),
    ("normalised_step", in_place, "no in-place"),
    ("normalised_step", lambda v, g, delta: None, "returns nothing"),
    ("normalised_step", lambda v, g, delta: 3 * v, "something else"),
    ("anneal_weights", annealed(mask="no"), "the target has a weight"),
    ("anneal_weights", annealed(mask="after"), "after normalising"),
    ("anneal_weights", annealed(mask="rate"), "exponent to -inf"),
    ("anneal_weights", annealed(lambda rates, q: rates / q.log()), "the wrong way"),
    ("anneal_weights", annealed(lambda rates, q: rates / q), "no logarithm"),
    ("anneal_weights", annealed(lambda rates, q: rates / (1 - q)), "1 - Q"),
    ("anneal_weights", annealed(lambda rates, q: rates), "T does not appear"),
    ("anneal_weights", annealed(lambda rates, q: rates * -q.log()), "multiplied"),
    ("anneal_weights", annealed(old=False), "iteration before"),
    ("anneal_weights", annealed(lambda rates, q: rates / -q.sum().log()), "share one T"),
    ("anneal_weights", annealed(lambda rates, q: rates / -q.log2()), "base 2"),
    ("anneal_weights", annealed(lambda rates, q: rates / -q.log10()), "base 10"),
    ("anneal_weights", lambda q, w, a: q * a / (q * a).sum(1, keepdim=True), "exponential is missing"),
    ("anneal_weights", hard, "naive"),
    ("anneal_weights", lambda q, w, a: (q / -(w * q).sum(1, keepdim=True).log()).exp() * a, "not divided by their sum"),
    ("anneal_weights", lambda q, w, a: w, "old weights"),
    ("anneal_weights", annealed(empty="never", exponent=lambda q, m: q / -m.log() + 0 * (1 / m)), "Q = 0"),
    ("anneal_weights", annealed(empty="any"), "row by row"),
    ("anneal_weights", lambda q, w, a: None, "returns nothing"),
    ("anneal_weights", lambda q, w, a: 2 * w, "something else"),
    ("published_log_p", log_p(fit_to=slice(None)), "hides itself"),
    ("published_log_p", log_p(power=lambda k: 1), "exponent is missing"),
    ("published_log_p", log_p(fit_to=slice(None), power=lambda k: 1), "in the fit and"),
    ("published_log_p", log_p(power=lambda k: k - 1), "K - 1"),
    ("published_log_p", log_p(power=lambda k: 10), "seven classes"),
    ("published_log_p", log_p(end=lambda s, k: s**k), "(1 - G)^K"),
    ("published_log_p", log_p(end=lambda s, k: (1 - s) ** k), "log G^K"),
    ("published_log_p", log_p(last=lambda p: -np.log(p)), "sign"),
    ("published_log_p", log_p(last=float), "this is the p-value"),
    ("published_log_p", log_p(last=np.log10), "base 10"),
    ("published_log_p", log_p(invert=True), "1 / norm already"),
    ("published_log_p", log_p(floc=None), "moves the Gamma"),
    ("published_log_p", log_p(tail=False, end=lambda s, k: 1 - (1 - s) ** k), "rounded to 0"),
    ("published_log_p", lambda r: get("published_log_p").solution(np.append(r[:-1], 1e-9 + r[-1])) * 2, "something"),
    ("published_log_p", lambda r: log_p()(np.append(r[:-1].clip(max=r[-1] - 1e-9), r[-1])), "wherever it stands"),
    ("published_log_p", lambda r: None, "is there a return"),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_the_library_is_the_solution() -> None:
    assert get("anneal_weights").solution is weights.anneal
    assert get("published_log_p").solution is anomaly.published_log_p
    assert "gradient.norm()" in repr(reveal("normalised_step"))


def test_the_step_is_as_long_as_it_should_be() -> None:
    v, gradient = torch.zeros(1, 3, 3), torch.arange(9.0).reshape(1, 3, 3)
    moved = normalised_step(v, gradient, 0.25)
    assert moved.norm() == pytest.approx(0.25)
    assert float((moved * gradient).sum()) > 0
