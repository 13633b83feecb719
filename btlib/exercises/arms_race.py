"""Exercises on attacks against defences: a cell's count, its interval, the best pair of defences (lesson 08)."""

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import combinations
from typing import Any

import torch
from scipy import stats

from btlib.detection import Verdict
from btlib.exercises.answers import cause_of, returned, same_number
from btlib.exercises.core import WrongAnswer, register

# ---------------------------------------------------------------------------------------- a cell


def score_cell(verdicts: Sequence[Verdict], truth: Sequence[int | None]) -> int:
    """On how many networks the defence is counted: found with the right target, or, on a clean one, alarmed.

    Args:
        verdicts: one for each network.
        truth: the attacker's target in each; None for a clean network.
    """
    return sum(
        verdict.attacked and (target is None or verdict.target == target)
        for verdict, target in zip(verdicts, truth, strict=True)
    )


@register("score_cell", score_cell, "An alarm with the wrong name sends the defender to the wrong class.")
def _check_score_cell(answer: Callable[[Sequence[Verdict], Sequence[int | None]], int]) -> None:
    attacked = [_verdict(target) for target in (9, 0, 0, 4, 9, None, None, None, None)]
    targets = [9, 0, 0, 9, 0, 9, 9, 0, 0]
    clean = [_verdict(target) for target in (3, None, 0, 5, None, 2, None)]
    for verdicts, truth in ((attacked, targets), (clean, [None] * len(clean))):
        got = answer(verdicts, truth)
        returned(got, "a number of networks")
        pairs = list(zip(verdicts, truth, strict=True))
        expected, count = score_cell(verdicts, truth), len(verdicts)
        causes = {
            "this is the share: return how many networks": expected / count,
            "None equals None: a clean network that is left alone is no alarm": sum(v.target == t for v, t in pairs),
            "these are the others: count the networks that are found": count - expected,
            "an alarm that names another class is not a find": sum(v.attacked for v, _ in pairs),
            "these are the alarms with the wrong name": sum(v.attacked and v.target != t for v, t in pairs),
            "class 0 is a class: ask for `attacked`, or `is not None`":
                sum(bool(v.target) and (t is None or v.target == t) for v, t in pairs),
            "every alarm on a clean network counts, whatever class it names": 0,
        }  # fmt: skip
        same_number(got, expected, "count the verdicts that are attacked and name the target", causes)


def _verdict(target: int | None) -> Verdict:
    return Verdict(target is not None, target, (), 0.01 if target is not None else 0.6, 0.05, "calibrated")


# ---------------------------------------------------------------------------------------- its interval


def share_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share of which k of n were seen: both ends in [0, 1].

    Args:
        k: successes, 0 … n.
        n: trials, at least 1.
        level: how often such an interval holds the true share, at least; in (0, 1).
    """
    found = stats.binomtest(k, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


@register("share_interval", share_interval, "Three out of three is good news, but it is only three.")
def _check_share_interval(answer: Callable[[int, int, float], tuple[float, float]]) -> None:
    for k, n, level in ((9, 10, 0.95), (3, 3, 0.95), (0, 3, 0.95), (2, 9, 0.8)):
        try:
            low, high = (float(end) for end in answer(k, n, level))
        except TypeError as error:
            cause = "return both ends: proportion_ci(...) has .low and .high"
            raise WrongAnswer("two numbers", str(error), cause) from error
        expected = share_interval(k, n, level)
        if max(abs(low - expected[0]), abs(high - expected[1])) < 1e-6:
            continue
        test, share = stats.binomtest(k, n), k / n
        half = stats.norm.ppf((1 + level) / 2) * (share * (1 - share) / n) ** 0.5
        causes = {
            "the bell curve gives up at 0 and n, where this interval has no width: take the exact one":
                (share - half, share + half),
            "the bell curve, cut at 0 and 1: it has no width at 0 and n, take the exact one":
                (max(0, share - half), min(1, share + half)),
            "this is Wilson's: on average right, not at least; method='exact' keeps the promise":
                tuple(test.proportion_ci(level, method="wilson")),
            "`level` is how often it holds, 0.95: you have passed what is left, 0.05":
                tuple(test.proportion_ci(1 - level, method="exact")),
            "the level is fixed: use the argument": tuple(test.proportion_ci(0.95, method="exact")),
            "k and n - k: this is the interval of the misses":
                tuple(stats.binomtest(n - k, n).proportion_ci(level, method="exact")),
            "one end only: leave `alternative` alone":
                tuple(stats.binomtest(k, n, alternative="greater").proportion_ci(level, method="exact")),
            "these are counts: divide by n": (expected[0] * n, expected[1] * n),
            "low comes first": (expected[1], expected[0]),
        }  # fmt: skip
        ends = {cause: torch.tensor(wrong) for cause, wrong in causes.items()}
        cause = cause_of([low, high], ends, "another interval than Clopper and Pearson's")
        raise WrongAnswer(f"({expected[0]:.4f}, {expected[1]:.4f}) for {k} of {n}", f"({low:.4f}, {high:.4f})", cause)


# ---------------------------------------------------------------------------------------- two defences


def best_pair(caught: Mapping[str, Set[Any]], alarms: Mapping[str, float], allowed: float) -> tuple[str, str]:
    """The two defences that together catch most networks, of those whose false alarms add up to at most `allowed`.

    Of equal pairs the one with fewer false alarms.

    Args:
        caught: defence → the networks (or attacks) that it catches.
        alarms: defence → its rate of false alarms, in [0, 1].
        allowed: the most that both together may have.
    """
    pairs = [pair for pair in combinations(caught, 2) if sum(alarms[name] for name in pair) <= allowed + 1e-9]
    return max(pairs, key=lambda pair: (len(caught[pair[0]] | caught[pair[1]]), -sum(alarms[name] for name in pair)))


@register("best_pair", best_pair, "What counts in a second defence is what the first one misses.")
def _check_best_pair(answer: Callable[[Mapping[str, Set[str]], Mapping[str, float], float], Any]) -> None:
    caught = {"a": {"1", "2", "3", "4"}, "b": {"1", "2", "3"}, "c": {"5"}, "d": {"4", "5"}, "e": {"5", "6", "7"}}
    alarms = {"a": 0.1, "b": 0.05, "c": 0.02, "d": 0.05, "e": 0.3}
    for allowed in (0.2, 0.5, 0.12, 0.3, 0.4):  # "a" and "e" have just 0.4
        got = answer(caught, alarms, allowed)
        try:
            named = set(got)
        except TypeError as error:
            raise WrongAnswer("two names", type(got).__name__, "return the two names, such as ('a', 'b')") from error
        if len(named) != 2 or not named <= set(caught):
            raise WrongAnswer("two names", got, "two different keys of `caught`, please")
        expected = best_pair(caught, alarms, allowed)
        if named == set(expected):
            continue
        one, other = sorted(named)
        reached, best = caught[one] | caught[other], caught[expected[0]] | caught[expected[1]]
        if alarms[one] + alarms[other] > allowed + 1e-9:
            cause = f"together they alarm {alarms[one] + alarms[other]:.2f} of the time, allowed is {allowed:.2f}"
        elif len(reached) == len(best):
            cause = "as many networks, but more false alarms: another pair is as good with fewer"
        elif len(caught[one]) + len(caught[other]) >= len(caught[expected[0]]) + len(caught[expected[1]]):
            cause = "they catch the same networks: count the union, not the sum"
        else:
            cause = "another pair catches more networks together"
        raise WrongAnswer(tuple(sorted(expected)), (one, other), cause)
