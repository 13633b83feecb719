"""What the papers' tables say, number by number, as printed, with where it stands (floor 5).

The numbers live in `data/*.toml`, one file per paper, each row beside the settings that remake it.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

PROFILES = ("fast", "full", "paper", "minutes")
_NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
_FORM = re.compile(rf"(?P<bound>[<>≈] )?{_NUMBER}(?: ± {_NUMBER})?(?P<percent> %)?")
_NOTHING = {"NA": "not applicable", "—": "not given in the paper"}
#: What the last part of a column's name is measured in; everything else is a share in [0, 1].
UNITS = {
    "psnr": "dB", "ssim": "", "anomaly_index": "", "entropy_ratio": "", "mask_norm": "pixels", "seconds": "s",
    "p_value": "", "more_epochs": "epochs",
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """One cell of a table.

    Attributes:
        printed: as it stands in the paper.
        value: the number, shares in [0, 1]; None where the cell has none.
        spread: what stands behind ±, in the same unit; None without.
        bound: "<", ">" or "≈" where the paper only says so much; else "".
        of: how many repetitions a share like 9/10 was counted over; None: it is no count.
        note: why there is no number, or what a word in its place means.
    """

    printed: str
    value: float | None
    spread: float | None = None
    bound: Literal["", "<", ">", "≈"] = ""
    of: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table, or one column of a table that lists its cases side by side.

    Attributes:
        table, name: where it stands; `key` is both.
        label: as a reader would call it.
        numbers: column → `Number`.
        job: key of the row whose job measures this one; its own, unless tables share their networks.
        settings: how to run it: a mapping each for ``paper``, ``full`` and ``fast``, to be laid over one another
            (`btlib.papers.measurements`).
    """

    table: str
    name: str
    label: str
    numbers: Mapping[str, Number]
    job: str
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def key(self) -> str:
        """Table and row in one word, such as ``inflight-4/mnist-cb``."""
        return f"{self.table}/{self.name}"


@dataclass(frozen=True)
class Table:
    """A published table, or what a figure's text states.

    Attributes:
        name: ``inflight-…``, ``stealthy-…`` or ``lred-…`` and its number.
        title: what it shows.
        source: paper, table and section.
        repetitions: how many networks the paper measured for each number.
        columns: what a job must measure, dotted names in its numbers.
        rows: by name, in the paper's order.
    """

    name: str
    title: str
    source: str
    repetitions: int
    columns: tuple[str, ...]
    rows: Mapping[str, Row]


@cache
def tables() -> Mapping[str, Table]:
    """Every table by name, in the papers' order.

    Example:
        >>> tables()["inflight-4"].rows["mnist-cb"].numbers["likelihood.sia"].value
        0.9413
    """
    found: dict[str, Table] = {}
    for paper in ("inflight", "stealthy", "lred"):
        text = (files("btlib.papers") / "data" / f"{paper}.toml").read_text(encoding="utf-8")
        found |= {name: _table(name, content) for name, content in tomllib.loads(text).items()}
    return MappingProxyType(found)


def table(name: str) -> Table:
    """One table.

    Raises:
        ValueError: there is none of that name.

    Example:
        >>> table("lred-2").repetitions
        10
    """
    if name not in tables():
        raise ValueError(f"table: expected one of {', '.join(tables())}, got {name!r}; check the spelling")
    return tables()[name]


def row(key: str) -> Row:
    """One row by its key, such as ``lred-2/g-1``.

    Raises:
        ValueError: there is none of that name.

    Example:
        >>> row("lred-2/g-1").numbers["red-a.detected"].printed
        '10/10'
    """
    name, _, inner = key.partition("/")
    rows = table(name).rows
    if inner not in rows:
        raise ValueError(f"row: expected one of {', '.join(rows)} for table {name}, got {inner!r}; check the spelling")
    return rows[inner]


def unit(column: str) -> str:
    """What a column is measured in: "rate" for shares in [0, 1].

    Example:
        >>> unit("red-a.seconds"), unit("likelihood.tpr")
        ('s', 'rate')
    """
    return UNITS.get(column.rpartition(".")[2], "rate")


def parse(printed: str) -> Number:
    """A printed cell as a number: ``0.98``, ``92.1 ± 1.9 %``, ``9/10``, ``> 90 %``, ``u.f.``, ``NA``, ``—``.

    Raises:
        ValueError: none of these.
    """
    if printed in _NOTHING:
        return Number(printed, None, note=_NOTHING[printed])
    if printed == "u.f.":
        return Number(printed, 0.0, note="underflow: below the smallest number of the authors' machine")
    if counted := re.fullmatch(r"(\d+)/(\d+)", printed):
        hits, of = map(int, counted.groups())
        return Number(printed, hits / of, of=of)
    matched = _FORM.fullmatch(printed)
    if matched is None:
        raise ValueError(f"printed: expected a form such as 0.98, 92.1 ± 1.9 % or 9/10, got {printed!r}; see parse")
    scale = 100 if matched["percent"] else 1
    # Rounded: 92.1 / 100 is 0.9209999999999999 in binary.
    value, spread = (None if n is None else _significant(float(n) / scale) for n in matched.group(2, 3))
    return Number(printed, value, spread, (matched["bound"] or "").strip())  # type: ignore[arg-type]


def _significant(value: float) -> float:
    return float(f"{value:.9g}") if math.isfinite(value) else value


def _table(name: str, content: Mapping[str, Any]) -> Table:
    columns = tuple(content["columns"])
    return Table(name, content["title"], content["source"], content["repetitions"], columns,
                 MappingProxyType({key: _row(name, key, content, columns) for key in content["rows"]}))  # fmt: skip


def _row(name: str, key: str, content: Mapping[str, Any], columns: tuple[str, ...]) -> Row:
    own = content["rows"][key]
    numbers = {column: parse(cell) for column, cell in zip(columns, own["printed"], strict=True)}
    layers = {
        profile: merged(content.get(part, {}), own.get(part, {}))
        for part, profile in (("settings", "paper"), ("full", "full"), ("fast", "fast"))
    }
    layers["paper"] = merged({"kind": content.get("kind", "")}, layers["paper"])
    return Row(name, key, own["label"], MappingProxyType(numbers), own.get("job", f"{name}/{key}"), layers)


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Two layers of settings in one: `upper` wins, mappings inside are laid over one another."""
    both = dict(lower)
    for key, value in upper.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both
