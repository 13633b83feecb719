"""The papers' tables: published numbers as data, rows as measurements, sweeps, and ours beside theirs (floor 5).

`tables` has what is published, `plan` how a row is run, `run` runs many, `compare` puts the results beside the paper.
"""

from pathlib import Path

from btlib import paths
from btlib.papers.comparison import Comparison, Standing, compare, one_more, repeatable, standing
from btlib.papers.costs import Cost, NoRoom, check_room, cost
from btlib.papers.measurements import Measurement, Plan, plan, with_network
from btlib.papers.published import PROFILES, Number, Row, Table, row, table, tables, unit
from btlib.papers.store import Result, ResultError, every, find, read, refused
from btlib.papers.sweep import Outcome, SweepError, Task, run, work

__all__ = [
    "PROFILES", "RESULTS", "Comparison", "Cost", "Measurement", "NoRoom", "Number", "Outcome", "Plan", "Result",
    "ResultError", "Row", "Standing", "SweepError", "Table", "Task", "check_room", "compare", "cost", "every", "find",
    "one_more", "plan", "read", "refused", "repeatable", "row", "run", "standing", "table", "tables", "unit",
    "with_network", "work",
]  # fmt: skip


def __getattr__(name: str) -> Path:
    """`RESULTS`, the folder of the results, as it is when it is asked for."""
    if name == "RESULTS":
        return paths.results()
    raise AttributeError(f"module 'btlib.papers' has no attribute {name!r}")
