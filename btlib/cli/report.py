"""What a run of the course leaves beside the lessons: report.json for programs, index.html for people."""

import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from btlib.cli.execute import LessonRun
from btlib.files import write_text
from btlib.paths import TEMPLATES

HEADINGS = ("Lesson", "Status", "Seconds", "Peak MB", "Cells", "Files")


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
    css = (TEMPLATES / "lesson" / "page.css").read_text(encoding="utf-8")
    passed = f"{sum(run.error is None for run in runs)} of {len(runs)} lessons passed"
    seconds = f"{sum(run.seconds for run in runs):.0f} seconds"
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADINGS)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Backdoors in neural networks</title>
<style>
{css}</style>
</head>
<body>
<main>
<h1>Backdoors in neural networks</h1>
<p>{passed} at the <code>{html.escape(profile)}</code> profile, in {seconds}.</p>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{"".join(map(_row, runs))}</tbody>
</table>
</main>
</body>
</html>
"""


def _row(run: LessonRun) -> str:
    """One lesson's row, and below it the error where there is one."""
    title = f'<a href="{run.lesson}.html">{html.escape(run.title)}</a>'
    cells = (
        title,
        f'<span class="{run.status}">{run.status}</span>',
        f"{run.seconds:.1f}",
        f"{run.peak_mb:.0f}",
        str(run.cells),
        f'<a href="{run.lesson}.ipynb">notebook</a>',
    )
    row = "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
    if run.error is not None:
        row += f'<tr><td colspan="{len(HEADINGS)}"><pre>{html.escape(str(run.error))}</pre></td></tr>\n'
    return row
