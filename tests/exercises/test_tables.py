"""The checks of lesson 09's exercises: right answers pass, each typical wrong one gets its own cause."""

from collections.abc import Callable
from typing import Any

import pytest
from exercise_contract import ExerciseContract
from scipy import stats

from btlib.exercises.tables import same_rate, sweep_seconds
from btlib.papers.comparison import agree, one_more
from btlib.papers.published import Number


def own_agree(column: str, published: Number, ours: Any) -> Any:
    """As a student would write it."""
    word = column.split(".")[-1]
    if ours is None or published.value is None or word == "seconds" or published.bound == "≈":
        return None
    if published.bound == ">":
        return ours > published.value
    if published.bound == "<":
        return ours < published.value
    if word in ("p_value", "anomaly_index"):
        line = 0.05 if word == "p_value" else 2
        return (ours > line) == (published.value > line)
    return abs(ours - published.value) <= (published.spread or 0.02)


def but(
    condition: Callable[[str, Number, Any], bool], instead: Callable[[str, Number, Any], Any]
) -> Callable[..., Any]:
    """`own_agree`, wrong in one kind of case."""
    return lambda c, p, o: instead(c, p, o) if condition(c, p, o) else own_agree(c, p, o)


def near(c: str, p: Any, o: Any) -> bool:
    """The tolerance, whatever the number is."""
    return abs(o - p.value) <= 0.02


def fisher(table: Callable[[int, int, int, int], Any], **settings: Any) -> Callable[..., float]:
    """Fisher's exact test on some table."""
    return lambda a, n, b, m: stats.fisher_exact(table(a, n, b, m), **settings)[1]


def split(a: int, n: int, b: int, m: int) -> Any:
    """Hits and misses."""
    return [[a, n - a], [b, m - b]]


def around(times: Callable[[int], float]) -> Callable[..., tuple[float, float]]:
    """The mean, so many spreads on either side."""
    return lambda mean, spread, n: (mean - times(n) * spread, mean + times(n) * spread)


def jobs(rows: Any, finished: int, least: int = 0, once: bool = True) -> list[float]:
    """Seconds of every job that is left."""
    seen = {digest: (seconds, done) for digest, seconds, done in rows}.values() if once else [r[1:] for r in rows]
    return [seconds for seconds, done in seen for _ in range(max(least, finished - done))]


class TestExercises(ExerciseContract):
    """The contract, on lesson 09's exercises."""

    names = ("agree", "same_rate", "one_more", "sweep_seconds")
    right = (
        ("agree", own_agree),
        ("same_rate", fisher(split)),
        ("one_more", lambda m, s, n: stats.t.interval(0.95, n - 1, loc=m, scale=s * (1 + 1 / n) ** 0.5)),
        ("sweep_seconds", lambda r, f, w: max([sum(jobs(r, f)) / w, *jobs(r, f)])),
    )
    wrong = (
        ("agree", lambda c, p, o: None if o is None or p.value is None else near(c, p, o), "the paper's own ±"),
        ("agree", but(lambda c, p, o: bool(p.spread), lambda c, p, o: abs(o - p.value) <= max(0.02, p.spread)),
         "the ± counts, not the tolerance"),
        ("agree", but(lambda c, p, o: c.endswith("sia"), lambda c, p, o: o <= p.value + 0.02 and o >= p.value),
         "in both directions"),
        ("agree", but(lambda c, p, o: c.endswith("sia"), lambda c, p, o: o >= p.value - 0.02), "three points above"),
        ("agree", but(lambda c, p, o: p.bound == ">", near), "anything above agrees"),
        ("agree", but(lambda c, p, o: p.bound == ">", lambda c, p, o: o > p.value - 0.02), "however near"),
        ("agree", but(lambda c, p, o: c.endswith("p_value"), near), "same side of 0.05"),
        ("agree", but(lambda c, p, o: c.endswith("p_value"), lambda c, p, o: (o > 0.01) == (p.value > 0.01)),
         "another verdict"),
        ("agree", but(lambda c, p, o: c == "anomaly_index", near), "same side of 2"),
        ("agree", but(lambda c, p, o: p.bound == "≈", near), "promises nothing"),
        ("agree", but(lambda c, p, o: c.endswith("seconds"), near), "the machine's"),
        ("agree", but(lambda c, p, o: p.value is None, lambda c, p, o: False), "no published value"),
        ("agree", but(lambda c, p, o: o is None, lambda c, p, o: False), "nothing was measured"),
        ("agree", but(lambda c, p, o: o is None, near), "nothing was measured"),
        ("one_more", around(lambda n: stats.t.ppf(0.975, n - 1) / n**0.5), "where the mean lies"),
        ("one_more", around(lambda n: stats.t.ppf(0.975, n - 1)), "known from n networks only"),
        ("one_more", around(lambda n: 1.96 * (1 + 1 / n) ** 0.5), "Student's t"),
        ("one_more", around(lambda n: stats.t.ppf(0.975, n) * (1 + 1 / n) ** 0.5), "n - 1 degrees"),
        ("one_more", around(lambda n: stats.t.ppf(0.95, n - 1) * (1 + 1 / n) ** 0.5), "on either side"),
        ("one_more", around(lambda n: 1.0), "one standard deviation"),
        ("one_more", around(lambda n: 2.0), "two standard deviations"),
        ("one_more", lambda m, s, n: one_more(m, s, n)[::-1], "lower end comes first"),
        ("one_more", lambda m, s, n: one_more(m, s, n)[1], "two numbers"),
        ("same_rate", fisher(lambda a, n, b, m: [[a, n], [b, m]]), "hits and misses"),
        ("same_rate", fisher(split, alternative="less"), "one-sided (less)"),
        ("same_rate", fisher(split, alternative="greater"), "one-sided (greater)"),
        ("same_rate", lambda *c: 1 - same_rate(*c), "1 - p"),
        ("same_rate", lambda a, n, b, m: abs(a / n - b / m), "difference of the rates"),
        ("same_rate", lambda *c: stats.chi2_contingency(split(*c))[1], "chi-squared"),
        ("same_rate", lambda *c: stats.fisher_exact(split(*c))[0], "odds ratio"),
        ("sweep_seconds", lambda r, f, w: sum(s * f for _, s, _ in r) / w, "costs nothing"),
        ("sweep_seconds", lambda r, f, w: sum(s for _, s, d in r if d < f) / w, "every missing seed"),
        ("sweep_seconds", lambda r, f, w: sum(s * (f - d) for _, s, d in r) / w, "not a debt"),
        ("sweep_seconds", lambda r, f, w: max([sum(jobs(r, f, once=False)) / w, *jobs(r, f)]), "measured once"),
        ("sweep_seconds", lambda r, f, w: sum(jobs(r, f)), "share the jobs"),
        ("sweep_seconds", lambda r, f, w: sum(jobs(r, f)) / w, "longest job"),
        ("sweep_seconds", lambda r, f, w: max(sum(jobs(r, f)) / w, max(jobs(r, f))), "nothing is left"),
    )  # fmt: skip


def test_a_students_rule_is_the_librarys() -> None:
    from btlib.exercises.tables import _CASES
    from btlib.papers.published import parse

    for column, printed, ours, _ in _CASES:
        assert own_agree(column, parse(printed), ours) is agree(column, parse(printed), ours)


def test_known_p_values() -> None:
    assert same_rate(5, 10, 5, 10) == pytest.approx(1)
    # 10 of 10 against 0 of 10: one of C(20, 10) = 184,756 tables on either side
    assert same_rate(10, 10, 0, 10) == pytest.approx(2 / 184_756)


def test_a_sweep_is_at_least_its_longest_job() -> None:
    assert sweep_seconds([("a", 100.0, 0), ("b", 1.0, 0)], 1, 2) == 100
    assert sweep_seconds([("a", 10.0, 0), ("b", 10.0, 2)], 3, 2) == 20
