"""What a run of the course leaves beside the lessons: report.json for programs, index.html for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from btlib.cli.execute import LessonRun
from btlib.cli.pages import render
from btlib.files import write_text


def write_report(out: Path, runs: Sequence[LessonRun], profile: str) -> None:
    """Write report.json and index.html of these runs into `out`."""
    report = {"profile": profile, "lessons": [as_json(run) for run in runs]}
    write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "index.html", index_page(runs, profile))


def as_json(run: LessonRun) -> dict[str, Any]:
    """One lesson's entry in report.json; `error` is there only where it failed."""
    entry = {"lesson": run.lesson, "status": run.status} | asdict(run)
    if run.error is None:
        del entry["error"]
    return entry


def index_page(runs: Sequence[LessonRun], profile: str) -> str:
    """The table of lessons, one page without scripts."""
    return render("lesson/course.html.j2", runs=runs, profile=profile)
