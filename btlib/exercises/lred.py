"""Exercises on L-RED: the normalised step, the annealed weights, the p-value (lesson 05)."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from btlib.detection import anomaly, gamma, weights
from btlib.exercises.answers import same_number, same_tensor
from btlib.exercises.attempt import tensor
from btlib.exercises.core import register

# ---------------------------------------------------------------------------------------- one step of v


def normalised_step(v: Tensor, gradient: Tensor, delta: float) -> Tensor:
    """Line 4 of L-RED's Algorithm 1 (Eq. 5): δ further along the gradient of J_t, whatever its length."""
    return v + delta * gradient / gradient.norm()


@register(
    "normalised_step", normalised_step, "Every step is δ long, uphill, however steep the hill is.", convert=tensor
)
def _check_normalised_step(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    v = torch.tensor([0.1, 0.0, -0.2, 0.0]).reshape(1, 2, 2)
    gradient = torch.tensor([3.0, 0.0, -2.0, 6.0]).reshape(1, 2, 2)  # ‖·‖₂ = 7
    delta = 0.14
    got = answer(v, gradient, delta)
    causes = {
        "this walks downhill: J_t is to grow, so add the step": v - delta * gradient / 7,
        "the gradient is not normalised: the step should be δ long, however long the gradient is":
            v + delta * gradient,
        "this is the step alone: add it to v": delta * gradient / 7,
        "δ is missing: the step has length 1": v + gradient / 7,
        "this divides by the squared norm: take its root": v + delta * gradient / 49,
        "this divides by the 1-norm (a sum of absolute values): Eq. 5 has the 2-norm": v + delta * gradient / 11,
        "this divides by the largest entry: Eq. 5 has the 2-norm of the whole gradient": v + delta * gradient / 6,
        "this takes only signs (the fast gradient sign method): Eq. 5 keeps the gradient's direction":
            v + delta * gradient.sign(),
        "norms are taken row by row: there is one norm for the whole pattern":
            v + delta * gradient / gradient.norm(dim=-1, keepdim=True),
    }  # fmt: skip
    same_tensor(got, normalised_step(v, gradient, delta), "something else than v + δ·g/‖g‖₂", causes)
    colour = torch.tensor([[[3.0]], [[0.0]], [[4.0]]])  # three channels, one norm
    cause = "with three channels it goes wrong: one norm over channels, rows and columns together"
    same_tensor(answer(torch.zeros(3, 1, 1), colour, 0.5), colour / 10, cause)


# ---------------------------------------------------------------------------------------- annealed weights


@register("anneal_weights", weights.anneal, "Hot at first, then colder: nobody is dropped before there is evidence.",
          convert=tensor)  # fmt: skip
def _check_anneal_weights(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    allowed = torch.tensor([[True, True, True, False], [False, True, True, True]])
    rates = torch.tensor([[0.8, 0.3, 0.1, 1.0], [0.9, 0.2, 0.6, 0.4]])  # the target's own rate means nothing
    before = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.0, 0.25, 0.25, 0.5]])
    uniform = allowed / allowed.sum(1, keepdim=True)
    q = (before * rates).sum(1, keepdim=True)
    temperature = -q.log()

    def weigh(exponent: Tensor, mask: Tensor = allowed) -> Tensor:
        return exponent.masked_fill(~mask, -torch.inf).softmax(1)

    everyone = torch.ones_like(allowed)
    causes = {
        "the target has a weight: w_t is 0, so take it out before you normalise": weigh(rates / temperature, everyone),
        "the target is set to 0 after normalising: the other weights should sum to 1":
            weigh(rates / temperature, everyone) * allowed,
        "the target's e^0 = 1 is in the sum: set its exponent to -inf, not its rate to 0":
            (rates * allowed / temperature).softmax(1) * allowed,
        "the weights are spread the wrong way: T = -log Q, with a minus": weigh(rates / -temperature),
        "there is no logarithm in your T: Eq. 7 says T = -log Q": weigh(rates / q),
        "T is 1 - Q here: Eq. 7 says T = -log Q": weigh(rates / (1 - q)),
        "T does not appear: q_st is divided by T in the exponent (Eq. 8)": weigh(rates),
        "q_st is multiplied by T: divide (Eq. 8)": weigh(rates * temperature),
        "Q is taken with uniform weights: Eq. 7 uses the weights of the iteration before":
            weigh(rates / -(uniform * rates).sum(1, keepdim=True).log()),
        "Q is not weighted at all: Q = Σ w_s q_st (Eq. 3)":
            weigh(rates / -(rates * allowed).mean(1, keepdim=True).log()),
        "all problems share one T: each row has its own Q and T": weigh(rates / -q.sum().log()),
        "the logarithm is to base 2: Eq. 7 has the natural one": weigh(rates / -q.log2()),
        "the logarithm is to base 10: Eq. 7 has the natural one": weigh(rates / -q.log10()),
        "the exponential is missing: w ∝ exp(q/T)": rates * allowed / (rates * allowed).sum(1, keepdim=True),
        "all weight goes to the best class: that is T = 0, the naive way":
            (weigh(rates) == weigh(rates).amax(1, keepdim=True)).float(),
        "the exponentials are not divided by their sum: weights sum to 1": (rates / temperature).exp() * allowed,
        "these are the old weights: use the rates": before,
    }  # fmt: skip
    got = answer(rates, before, allowed)
    expected = weights.anneal(rates, before, allowed)
    same_tensor(got, expected, "something else than Eq. 7 and 8", causes, tolerance=1e-4)
    nothing = answer(torch.zeros(2, 4), before, allowed)
    cause = "where Q = 0, log Q is -inf and 0/inf or NaN comes out: set the row to uniform (Algorithm 1, line 12)"
    same_tensor(nothing, uniform, cause, tolerance=1e-4)
    mixed = rates * torch.tensor([[0.0], [1.0]])
    cause = "one problem with Q = 0 spoils the others: decide row by row (torch.where)"
    same_tensor(answer(mixed, before, allowed), weights.anneal(mixed, before, allowed), cause, tolerance=1e-4)


# ---------------------------------------------------------------------------------------- order statistic

_MILD = 1 / np.array([2.6, 2.4, 1.9, 2.8, 2.7, 2.9, 2.1, 4.0, 1.5, 1.2])
_MINUTE = np.append(_MILD[:-1], 8.0)  # S near 1e-23: 1 - G^K is 0 in double precision


@register("published_log_p", anomaly.published_log_p, "The largest is judged by the others, and K of them had a try.")
def _check_published_log_p(answer: Callable[[np.ndarray], float]) -> None:
    got = answer(_MILD.copy())
    otherwise = "something else than log(1 - G(r_max)^K) with a Gamma fitted to the others"
    same_number(got, anomaly.published_log_p(_MILD), otherwise, _wrong_log_p(), tolerance=1e-4)
    shuffled = _MILD[[9, 3, 1, 0, 8, 2, 4, 7, 6, 5]]
    cause = "the order of the classes should not matter: take the largest out, wherever it stands"
    same_number(answer(shuffled), anomaly.published_log_p(_MILD), cause, tolerance=1e-4)
    few = _MILD[3:]
    cause = "with seven classes it goes wrong: K is the number of statistics, not always 10"
    same_number(answer(few), anomaly.published_log_p(few), cause, tolerance=1e-4)
    with np.errstate(divide="ignore"):
        tiny = answer(_MINUTE.copy())
    cause = ("1 - G^K is rounded to 0, and its logarithm lost: for a tiny S = 1 - G the p-value is K·S, "
             "so return log K + log S")  # fmt: skip
    same_number(tiny, anomaly.published_log_p(_MINUTE), cause, tolerance=1e-3)


def _wrong_log_p() -> dict[str, float]:
    """What typical mistakes give for `_MILD`, by their cause."""
    r, count = np.sort(_MILD), len(_MILD)

    def survival(of: np.ndarray, fitted: np.ndarray) -> float:
        shape, scale = gamma.gamma_fit(fitted)
        return float(stats.gamma.sf(of[-1], float(shape), scale=float(scale)))

    s, everything = survival(r, r[:-1]), survival(r, r)
    norms = np.sort(1 / r)
    free = stats.gamma.sf(r[-1], *stats.gamma.fit(r[:-1]))
    return {
        "the largest statistic is in the fit: it hides itself, so fit to all the others": _of_max(everything, count),
        "the exponent is missing: the largest of K is judged, so pv = 1 - G^K": np.log(s),
        "the largest is in the fit and the exponent is missing": np.log(everything),
        "the exponent is K - 1: the largest is one of K": _of_max(s, count - 1),
        "this is (1 - G)^K: the power belongs to G, pv = 1 - G^K": count * np.log(s),
        "this is log G^K: pv = 1 - G^K": count * np.log1p(-s),
        "the sign is wrong: the logarithm of a probability is negative": -_of_max(s, count),
        "this is the p-value: return its logarithm": np.exp(_of_max(s, count)),
        "the logarithm is to base 10: return the natural one": _of_max(s, count) / np.log(10),
        "the statistics were turned into norms: they are 1 / norm already": _of_max(survival(norms, norms[:-1]), count),
        "the fit moves the Gamma: hold its location at 0 (floc=0)": _of_max(float(free), count),
        "this is a normal distribution: the paper fits a Gamma":
            _of_max(float(stats.norm.sf(r[-1], r[:-1].mean(), r[:-1].std())), count),
    }  # fmt: skip


def _of_max(survival: float, count: int) -> float:
    """log(1 - (1 - S)^count)."""
    return float(np.log(-np.expm1(count * np.log1p(-survival))))
