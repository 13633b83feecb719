"""A table again: ours beside published, with spread and difference, from results on disk (floor 5)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Literal

from scipy import stats

from btlib import datasets, paths
from btlib.datasets import DataSource
from btlib.papers.costs import measured
from btlib.papers.measurements import plan
from btlib.papers.published import Number, Row, table, unit
from btlib.papers.store import Result, every

#: What "the same" means where the paper gives no spread.
TOLERANCE = 0.02
#: Numbers that matter by the side of a threshold they are on: the papers' own rules.
THRESHOLDS = {"p_value": 0.05, "anomaly_index": 2.0}
#: An attack with a lower success did not take: no backdoor was planted, and there is none to find.
TOOK = 0.5
#: The same pictures, and what they were made from; what their form changes is said in `differs`.
COPIES = {"folder:cifar10-jpg": "cifar10"}
_OF_ALL = ("success", "accuracy")  # the attack's own numbers: to leave out its failures would make it better
State = Literal["done", "not run", "needs data", "needs GPU", "not in this profile"]


@dataclass(frozen=True)
class Comparison:
    """One number, ours beside the paper's.

    Attributes:
        row, column: which.
        published: the paper's.
        each: ours, one for each seed; a detector's only where the attack took (`TOOK`): there is nothing else to find.
        runs: how many seeds are measured; with an empty `each` there was no such number.
        differs: what our measurement does otherwise than the paper, in words.
        stand_in: measured on another data set than the paper's: another experiment, whose gaps say nothing of the
            paper's. The paper's pictures in another form (`COPIES`) are no other data set.
    """

    row: Row
    column: str
    published: Number
    each: tuple[float, ...]
    runs: int
    differs: str
    stand_in: bool

    @property
    def seeds(self) -> int:
        """How many networks."""
        return len(self.each)

    @property
    def ours(self) -> float | None:
        """Mean over seeds, of a statistic with one of `THRESHOLDS` the median; None: not measured.

        A mean of p-values is the largest one's, whatever the others say.
        """
        return _middle(self.column, self.each) if self.each else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None: fewer than two."""
        return stdev(self.each) if len(self.each) > 1 else None

    @property
    def agrees(self) -> bool | None:
        """Whether `ours` is within the paper's ± (`TOLERANCE` where it gives none).

        Above or below where the paper only says that, on the same side of `THRESHOLDS` for a statistic. None: nothing
        to compare, or a number that depends on the machine or is given only roughly.
        """
        return agree(self.column, self.published, self.ours)

    @property
    def difference(self) -> float | None:
        """Ours less published."""
        return None if self.ours is None or self.published.value is None else self.ours - self.published.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where one more of our networks would lie with 95 % (`one_more`).

        None: fewer than three networks, or what is not normal: a count, a statistic that matters by its side of
        `THRESHOLDS`.
        """
        normal = self.published.of is None and _threshold(self.column) is None
        if self.ours is None or self.spread is None or self.seeds < 3 or not normal:
            return None
        return one_more(self.ours, self.spread, self.seeds)


def one_more(mean: float, spread: float, networks: int) -> tuple[float, float]:
    """Where one more network's number would lie with 95 %: the prediction interval of a normal sample.

    ``mean ± t·spread·√(1 + 1/n)`` with Student's t of n - 1 degrees of freedom: the new network differs from the mean,
    and the mean is known from n networks only.

    Args:
        mean, spread: of the numbers of `networks` networks; the spread with n - 1 in the denominator.
        networks: n, 2 or more.

    Returns:
        low and high.

    Raises:
        ValueError: fewer than two networks.

    Example:
        >>> [round(end, 3) for end in one_more(0.838, 0.039, 3)]
        [0.644, 1.032]
    """
    if networks < 2:
        raise ValueError(f"networks: expected 2 or more, got {networks}; a single one has no spread")
    reach = float(stats.t.ppf(0.975, networks - 1)) * spread * (1 + 1 / networks) ** 0.5
    return mean - reach, mean + reach


def compare(name: str, profile: str = "full", folder: str | Path | None = None) -> list[Comparison]:
    """Every number of a table, ours beside published.

    Args:
        name: of the table.
        profile: whose measurements.
        folder: of the results; None: `paths.results`.

    Raises:
        ValueError: unknown table or profile.

    Example:
        >>> compare("lred-2", folder="no-such-folder")[0].published.printed
        '5/10'
    """
    known = every(folder or paths.results())
    found = []
    for row in table(name).rows.values():
        results, differs = _results(row, profile, known)
        took = [r for r in results if (success := r.number("success")) is None or success >= TOOK]
        if len(took) < len(results):
            left_out = f"{len(results) - len(took)} of {len(results)} attacks did not take: no detector is judged by it"
            differs = "; ".join(filter(None, (differs, left_out)))
        stand_in = _pictures(row, profile) not in (None, _pictures(row, "paper"))
        for column, published in row.numbers.items():
            judged = results if column in _OF_ALL else took
            each = tuple(value for r in judged if (value := r.number(column)) is not None)
            found.append(Comparison(row, column, published, each, len(results), differs, stand_in))
    return found


def repeatable(comparisons: Iterable[Comparison]) -> tuple[int, int]:
    """What a perfect reproduction would score: each network in the paper's place, against the others.

    Same measurement, same code, another seed. Numbers of fewer than three networks, or that can't be
    compared with the paper's (`Comparison.agrees`), can't be asked.

    Args:
        comparisons: of any tables, from `compare`.

    Returns:
        how many agree by the rule, and of how many.

    Example:
        >>> repeatable(compare("inflight-4", folder="no-such-folder"))
        (0, 0)
    """
    verdicts = []
    for one in comparisons:
        for i, left_out in enumerate(one.each if one.seeds > 2 and one.agrees is not None else ()):
            others = _middle(one.column, one.each[:i] + one.each[i + 1 :])
            verdicts.append(agree(one.column, replace(one.published, value=left_out, bound=""), others))
    judged = [verdict for verdict in verdicts if verdict is not None]
    return sum(judged), len(judged)


def agree(column: str, published: Number, ours: float | None) -> bool | None:
    """Whether two numbers say the same, by the rule in `Comparison.agrees`.

    Example:
        >>> from btlib.papers.published import parse
        >>> agree("success", parse("92.1 ± 1.9 %"), 0.93), agree("red-a.p_value", parse("0.300"), 0.04)
        (True, False)
    """
    value = published.value
    if value is None or ours is None or published.bound == "≈" or unit(column) in ("s", "epochs"):
        return None
    if published.bound:
        return ours > value if published.bound == ">" else ours < value
    threshold = _threshold(column)
    if threshold is not None:
        return (ours > threshold) == (value > threshold)
    return abs(ours - value) <= (TOLERANCE if published.spread is None else published.spread) + 1e-9


def _middle(column: str, each: tuple[float, ...]) -> float:
    return fmean(each) if _threshold(column) is None else median(each)


def _threshold(column: str) -> float | None:
    return THRESHOLDS.get(column.rpartition(".")[2])


def _pictures(row: Row, profile: str) -> DataSource | None:
    """The data set of a row's measurement, a copy being what it is a copy of; None: no measurement in this profile."""
    planned = plan(row, profile)
    source = None if isinstance(planned, str) else planned.measurement.data
    for copy, original in COPIES.items():
        if source == DataSource.of(copy):
            return DataSource.of(original)
    return source


def _results(row: Row, profile: str, known: Mapping[str, Result]) -> tuple[list[Result], str]:
    """Results of a row's measurement with every seed that occurs, and what the measurement does otherwise."""
    found, differs = [], ""
    for seed in sorted({r.measurement.seed for r in known.values()} | {0}):
        planned = plan(row, profile, seed)
        if isinstance(planned, str):
            return [], planned
        differs = planned.differs
        if planned.measurement.digest in known:
            found.append(known[planned.measurement.digest])
    return found, differs


@dataclass(frozen=True)
class Standing:
    """Where a row stands in a profile.

    Attributes:
        row: the row.
        state: done; not run; needs data; needs GPU; not in this profile.
        done: seeds that are measured.
        seconds: mean cost of one seed, training included; None: never measured.
        note: what is missing, or what differs from the paper.
    """

    row: Row
    state: State
    done: int
    seconds: float | None
    note: str


def standing(row: Row, profile: str, known: Mapping[str, Result], gpu: bool = False) -> Standing:
    """Where a row stands.

    Args:
        row: the row.
        profile: whose measurement.
        known: results by digest, from `store.every`.
        gpu: whether there is a GPU.

    Example:
        >>> standing(table("inflight-4").rows["fmnist-wb"], "full", {}).state
        'not run'
    """
    results, differs = _results(row, profile, known)
    planned = plan(row, profile)
    if isinstance(planned, str):
        return Standing(row, "not in this profile", 0, None, planned)
    alike = measured(planned.measurement, known.values())
    seconds = fmean(r.seconds for r in alike) if alike else None
    state: State = "done" if results else "not run"
    if not results and planned.measurement.wants_gpu and not gpu:
        state = "needs GPU"
    elif not results and (wanted := planned.measurement.data) is not None and not datasets.available(wanted):
        places = " or ".join(map(str, datasets.roots()))
        state, differs = "needs data", f"{wanted.name} was not found below {places}"
    return Standing(row, state, len(results), seconds, differs)
