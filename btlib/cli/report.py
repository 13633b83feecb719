"""What a run of the course leaves beside the lessons: report.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from btlib.cli.execute import LessonRun
from btlib.files import write_text


def write_report(out: Path, runs: Sequence[LessonRun], profile: str) -> None:
    """Write report.json of these runs into `out`."""
    report = {"profile": profile, "lessons": [as_json(run) for run in runs]}
    write_text(out / "report.json", json.dumps(report, indent=2) + "\n")


def as_json(run: LessonRun) -> dict[str, Any]:
    """One lesson's entry in report.json; `error` is there only where it failed."""
    entry = {"lesson": run.lesson, "status": run.status} | asdict(run)
    if run.error is None:
        del entry["error"]
    return entry
