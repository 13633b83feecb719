"""The checks of lesson 08's exercises: right answers pass, each typical wrong one gets its own cause."""

from collections.abc import Callable
from typing import Any

from exercise_contract import ExerciseContract
from scipy import stats

from btlib.detection import Verdict
from btlib.exercises.arms_race import best_pair, score_cell, share_interval

NAMES = ("score_cell", "share_interval", "best_pair")


def counts(right: Callable[[Verdict, int | None], Any]) -> Callable[..., Any]:
    """A count over networks in which one thing can be wrong."""
    return lambda verdicts, truth: sum(bool(right(v, t)) for v, t in zip(verdicts, truth, strict=True))


def found(v: Verdict, t: int | None) -> bool:
    return v.attacked and t in (None, v.target)


def interval(**changed: Any) -> Callable[..., tuple[float, float]]:
    """Clopper and Pearson's interval in which one setting can be wrong."""

    def answer(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
        settings = {"k": k, "n": n, "level": level, "method": "exact", "alternative": "two-sided"}
        settings |= {key: change(k, n, level) if callable(change) else change for key, change in changed.items()}
        test = stats.binomtest(settings["k"], settings["n"], alternative=settings["alternative"])
        return tuple(test.proportion_ci(settings["level"], method=settings["method"]))

    return answer


def bell(k: int, n: int, level: float) -> tuple[float, float]:
    half = stats.norm.ppf((1 + level) / 2) * (k / n * (1 - k / n) / n) ** 0.5
    return k / n - half, k / n + half


def by_beta(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The same interval from the quantiles of the Beta distribution, as Clopper and Pearson's is usually written."""
    low, high = (1 - level) / 2, (1 + level) / 2
    return (0.0 if k == 0 else stats.beta.ppf(low, k, n - k + 1)), (
        1.0 if k == n else stats.beta.ppf(high, k + 1, n - k)
    )


def pair(score: Callable[..., Any], within: Callable[[float, float], bool] = lambda a, b: a <= b + 1e-9) -> Any:
    """The best pair by another score."""

    def answer(caught: Any, alarms: Any, allowed: float) -> tuple[str, str]:
        names = sorted(caught)
        pairs = [(a, b) for a in names for b in names if a < b and within(alarms[a] + alarms[b], allowed)]
        return max(pairs, key=lambda p: score(caught, alarms, *p))

    return answer


def union(caught: Any, alarms: Any, a: str, b: str) -> int:
    return len(caught[a] | caught[b])


RIGHT = [
    ("score_cell", counts(found)),
    ("share_interval", by_beta),
    ("best_pair", pair(lambda c, al, a, b: (union(c, al, a, b), -al[a] - al[b]))),
]
WRONG = [
    ("score_cell", lambda v, t: counts(found)(v, t) / len(v), "this is the share"),
    ("score_cell", lambda v, t: len(v) - counts(found)(v, t), "these are the others"),
    ("score_cell", counts(lambda v, t: v.target == t), "None equals None"),
    ("score_cell", counts(lambda v, t: v.attacked), "names another class"),
    ("score_cell", counts(lambda v, t: v.attacked and v.target != t), "with the wrong name"),
    ("score_cell", counts(lambda v, t: v.target and t in (None, v.target)), "class 0 is a class"),
    ("score_cell", counts(lambda v, t: v.attacked and v.target == t), "on a clean network counts"),
    ("score_cell", lambda v, t: None, "returns nothing"),
    ("score_cell", lambda v, t: 100, "name the target"),
    ("share_interval", bell, "no width"),
    ("share_interval", lambda *a: (max(0, bell(*a)[0]), min(1, bell(*a)[1])), "cut at 0 and 1"),
    ("share_interval", interval(method="wilson"), "Wilson"),
    ("share_interval", interval(level=lambda k, n, level: 1 - level), "how often it holds"),
    ("share_interval", interval(level=0.95), "the level is fixed"),
    ("share_interval", interval(k=lambda k, n, level: n - k), "of the misses"),
    ("share_interval", interval(alternative="greater"), "one end only"),
    ("share_interval", lambda k, n, level: tuple(n * end for end in share_interval(k, n, level)), "divide by n"),
    ("share_interval", lambda k, n, level: share_interval(k, n, level)[::-1], "low comes first"),
    ("share_interval", lambda k, n, level: k / n, "return both ends"),
    ("share_interval", lambda k, n, level: (0.1, 0.9), "another interval"),
    ("best_pair", pair(union, within=lambda a, b: True), "together they alarm"),
    ("best_pair", pair(lambda c, al, a, b: len(c[a]) + len(c[b])), "the union, not the sum"),
    ("best_pair", pair(lambda c, al, a, b: (union(c, al, a, b), al[a] + al[b])), "more false alarms"),
    ("best_pair", lambda c, al, allowed: ("c", "d"), "another pair catches more"),
    ("best_pair", lambda c, al, allowed: ("a", "a"), "two different"),
    ("best_pair", lambda c, al, allowed: 7, "return the two names"),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_a_wider_interval_holds_more_often() -> None:
    """Its promise, counted exactly: whatever the true share, it is inside in at least 95 % of all outcomes."""
    for n in (3, 10):
        for share in (0.05, 0.3, 0.5, 0.9):
            inside = sum(stats.binom.pmf(k, n, share) for k in range(n + 1)
                         if share_interval(k, n)[0] <= share <= share_interval(k, n)[1])  # fmt: skip
            assert inside >= 0.95


def test_ties_go_to_the_pair_with_fewer_false_alarms() -> None:
    caught = {"a": {"1"}, "b": {"2"}, "c": {"2"}}
    assert best_pair(caught, {"a": 0.0, "b": 0.1, "c": 0.05}, 1.0) == ("a", "c")


def test_a_find_needs_the_name_and_a_false_alarm_does_not() -> None:
    alarm = Verdict(True, 0, (), 3.0, 2.0, "mad")
    assert [score_cell([alarm], [target]) for target in (0, 1, None)] == [1, 0, 1]
