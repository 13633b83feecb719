"""Exercises of lesson 09: when two numbers agree, when two counts do, how networks differ, what a sweep will cost."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from scipy import stats

from btlib.exercises.answers import cause_of, same_number, truth
from btlib.exercises.core import WrongAnswer, register
from btlib.papers.comparison import TOLERANCE, agree, one_more
from btlib.papers.published import Number, parse

# ---------------------------------------------------------------------------------------- agree

_CASES = (
    ("success", "92.1 ± 1.9 %", 0.911, "inside the paper's ±: it agrees"),
    ("success", "90.0 ± 4.0 %", 0.93, "the paper's own ± counts, and 3 points are less than 4"),
    ("accuracy", "93.6 ± 0.2 %", 0.928, "0.8 points off where the paper's ± is 0.2: the ± counts, not the tolerance"),
    ("likelihood.sia", "0.9413", 0.925, f"without a ± the tolerance of {TOLERANCE} counts, in both directions"),
    ("likelihood.sia", "0.9413", 0.960, f"without a ± the tolerance of {TOLERANCE} counts, in both directions"),
    ("likelihood.sia", "0.9413", 0.973, "three points above are as far off as three below"),
    ("asr", "> 90 %", 0.99, "the paper only says 'above': anything above agrees"),
    ("asr", "> 90 %", 0.89, "the paper says 'above': what lies below does not agree, however near"),
    ("red-a.p_value", "0.300", 0.61, "a p-value agrees on the same side of 0.05, not within a tolerance"),
    ("red-a.p_value", "0.300", 0.049, "a p-value on the other side of 0.05 is another verdict"),
    ("anomaly_index", "1.02", 1.9, "an anomaly index agrees on the same side of 2"),
    ("anomaly_index", "1.99", 2.01, "an anomaly index on the other side of 2 is another verdict, near or not"),
    ("mask_norm", "≈ 90", 60.0, "'about' promises nothing: None"),
    ("red-a.seconds", "562", 3.0, "seconds are the machine's, not the method's: None"),
    ("likelihood.tpr", "NA", 0.9, "no published value, so nothing to compare: None"),
    ("likelihood.tpr", "1.0", None, "nothing was measured, so nothing to compare: None"),
)  # fmt: skip


@register("agree", agree, "A rule that was written down before looking: that is what makes a comparison one.")
def _check_agree(answer: Callable[[str, Number, float | None], bool | None]) -> None:
    for column, printed, ours, cause in _CASES:
        published = parse(printed)
        expected = agree(column, published, ours)
        try:
            got = answer(column, published, ours)
        except TypeError as error:
            shown = f"{column}, published {printed}, ours {ours}"
            raise WrongAnswer(f"{expected} for {shown}", f"TypeError: {error}", cause) from error
        if truth(got) is not expected:
            raise WrongAnswer(f"{expected} for {column}, published {printed}, ours {ours}", got, cause)


# ---------------------------------------------------------------------------------------- same_rate


def same_rate(ours: int, of_ours: int, theirs: int, of_theirs: int) -> float:
    """p-value of Fisher's exact test that two counts come from the same rate, two-sided.

    Args:
        ours, of_ours: so many of so many.
        theirs, of_theirs: the same for the paper.

    Returns:
        the p-value, in [0, 1].
    """
    table = [[ours, of_ours - ours], [theirs, of_theirs - theirs]]
    return float(stats.fisher_exact(table).pvalue)


@register("same_rate", same_rate, "Small counts promise little, and now you can say how little.")
def _check_same_rate(answer: Callable[[int, int, int, int], float]) -> None:
    for counts in ((3, 3, 5, 10), (2, 10, 9, 10), (10, 10, 9, 10), (0, 3, 10, 10)):
        mine, n, theirs, m = counts
        expected = same_rate(*counts)
        whole = [[mine, n], [theirs, m]]
        split = [[mine, n - mine], [theirs, m - theirs]]
        mistakes = {
            "the rows are hits and totals: a table of counts has hits and misses": _fisher(whole, "two-sided"),
            "this is one-sided (less): 'different' has two sides": _fisher(split, "less"),
            "this is one-sided (greater): 'different' has two sides": _fisher(split, "greater"),
            "this is 1 - p": 1 - expected,
            "this is the difference of the rates, not how surprising it is": abs(mine / n - theirs / m),
            "the chi-squared test needs larger counts: use Fisher's exact test": _chi_squared(split),
            "this is the odds ratio: fisher_exact returns (statistic, p-value)": stats.fisher_exact(split).statistic,
        }
        otherwise = "Fisher's exact test on [[hits, misses], [hits, misses]], two-sided"
        same_number(answer(*counts), expected, otherwise, mistakes)


def _fisher(table: Any, alternative: Any) -> float:
    return float(stats.fisher_exact(table, alternative=alternative).pvalue)


def _chi_squared(table: Any) -> float:
    return float(stats.chi2_contingency(table).pvalue) if all(sum(column) for column in zip(*table, strict=True)) else 1


# ---------------------------------------------------------------------------------------- one_more


@register("one_more", one_more, "Wide, isn't it? That is what three networks know about the fourth.")
def _check_one_more(answer: Callable[[float, float, int], tuple[float, float]]) -> None:
    for mean, spread, n in ((0.84, 0.04, 3), (0.5, 0.1, 2), (0.9, 0.01, 10)):
        expected = one_more(mean, spread, n)
        t, root = stats.t.ppf(0.975, n - 1), math.sqrt(1 + 1 / n)
        mistakes = {
            "this is where the mean lies, which gets narrow with many networks; one network does not": t / math.sqrt(n),
            "the mean itself is known from n networks only: √(1 + 1/n)": t,
            "so few networks need Student's t, not the normal distribution's 1.96": 1.96 * root,
            "n numbers have n - 1 degrees of freedom left": stats.t.ppf(0.975, n) * root,
            "95 % in the middle leave 2.5 % on either side: the quantile is .975": stats.t.ppf(0.95, n - 1) * root,
            "this is one standard deviation: about two thirds of the networks": 1.0,
            "this is two standard deviations, which is right for many networks only": 2.0,
        }
        got = answer(mean, spread, n)
        try:
            low, high = (float(end) for end in got)
        except (TypeError, ValueError) as error:
            raise WrongAnswer(expected, got, "two numbers: the lower end and the upper one") from error
        otherwise = "mean ± t · spread · √(1 + 1/n), with t of n - 1 degrees of freedom"
        otherwise = "the lower end comes first" if low > high else otherwise
        cause = cause_of(high, {text: mean + float(times) * spread for text, times in mistakes.items()}, otherwise)
        for mine, end in zip((low, high), expected, strict=True):
            same_number(mine, end, cause)


# ---------------------------------------------------------------------------------------- sweep_seconds


def sweep_seconds(rows: Sequence[tuple[str, float, int]], finished: int, workers: int) -> float:
    """Seconds that a sweep still takes: what is left of it, each recipe once, shared by the workers.

    Args:
        rows: of every row its recipe's digest, seconds for one seed, and how many seeds of it are finished. Rows of
            other tables may have the same digest: they are measured once.
        finished: seeds that each recipe should have.
        workers: processes.

    Returns:
        seconds, at least; a sweep of one long job does not get shorter by more workers.
    """
    each = {digest: [seconds] * max(0, finished - done) for digest, seconds, done in rows}
    jobs = [seconds for left in each.values() for seconds in left]
    return max(sum(jobs) / workers, max(jobs, default=0.0))


@register("sweep_seconds", sweep_seconds, "Known before it starts, and right: nobody waits for a surprise.")
def _check_sweep_seconds(answer: Callable[[Sequence[tuple[str, float, int]], int, int], float]) -> None:
    plain = [("a", 10.0, 0), ("b", 20.0, 1)]
    _same(answer, plain, 1, 1, "a recipe whose seeds are all finished costs nothing (idempotent)")
    _same(answer, plain, 3, 1, "every missing seed costs: seeds wished for less seeds finished")
    _same(answer, [("a", 10.0, 5), ("b", 20.0, 0)], 3, 1, "more seeds than wished for is not a debt: at least 0")
    _same(answer, [("a", 10.0, 0), ("a", 10.0, 0), ("b", 5.0, 0)], 2, 1, "the same digest twice is measured once")
    _same(answer, plain, 3, 2, "the workers share the jobs")
    _same(answer, plain, 3, 3, "a part of a second counts, too: divide by /, not by //")
    equal = [("a", 10.0, 0), ("b", 10.0, 0)]
    _same(answer, equal, 2, 1, "two recipes may take the same time: one is the other only if the digest is the same")
    _same(answer, [("a", 60.0, 0), ("b", 1.0, 0)], 1, 4, "no sweep is shorter than its longest job")
    _same(answer, [("a", 10.0, 3)], 3, 2, "nothing is left: 0 seconds")


def _same(answer: Callable[..., Any], rows: Any, finished: int, workers: int, cause: str) -> None:
    try:
        got = answer(list(rows), finished, workers)
    except (ValueError, ZeroDivisionError, TypeError) as error:
        raise WrongAnswer(sweep_seconds(rows, finished, workers), f"{type(error).__name__}: {error}", cause) from error
    same_number(got, sweep_seconds(rows, finished, workers), cause)
