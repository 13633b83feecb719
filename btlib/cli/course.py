"""`btlib course`: run every lesson, leave pages and a report."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from btlib import paths
from btlib.cli import needs

if TYPE_CHECKING:
    from btlib.cli.execute import LessonRun

ProfileName = Literal["fast", "full", "paper"]


def command(
    *,
    lesson: Annotated[str | None, typer.Option(help="Only this lesson, such as 02.")] = None,
    profile: Annotated[ProfileName, typer.Option(envvar="BTLIB_PROFILE", help="How much work.")] = "fast",
    out: Annotated[Path | None, typer.Option(
        help="Folder for the pages and the report; default: build/course.")] = None,
    notebooks: Annotated[Path | None, typer.Option(
        help="Folder of the lessons; default: the repository's notebooks/, or the current folder.")] = None,
) -> None:  # fmt: skip
    """Run the lessons; all of them, even when one fails, and then say which failed, where and how."""
    from btlib.cli.check import check_kernel

    folder, out = notebooks or needs.lessons(), out or paths.root() / "build" / "course"
    needs.extra("course")
    from btlib.cli.lessons import LessonError

    kernel = check_kernel()
    if not kernel.ok:
        typer.echo(kernel, err=True)
        raise typer.Exit(1)
    os.environ["BTLIB_PROFILE"] = profile  # what the kernel's btlib reads
    try:
        with needs.disk():
            runs = run_course(folder, out, profile, lesson)
    except LessonError as error:
        raise typer.BadParameter(str(error)) from None
    for run in runs:
        cost = f"{run.seconds:7.1f} s {run.peak_mb:7.0f} MB {run.cells:4} cells"
        typer.echo(f"{run.status:6} {run.lesson:24} {cost}")
    typer.echo(f"pages: {out / 'index.html'}")
    failed = [run for run in runs if run.error is not None]
    for run in failed:
        typer.echo(f"FAIL {run.lesson} {run.error}", err=True)
    raise typer.Exit(bool(failed))


def run_course(
    notebooks: Path, out: Path, profile: str = "fast", number: str | None = None, *, patience: float | None = None
) -> "list[LessonRun]":
    """Run lessons one after the other and write their pages as they end.

    Args:
        notebooks: folder of the lessons.
        out: folder for NN_topic.ipynb, NN_topic.html, index.html and report.json, each whole or absent.
        profile: value for each notebook's PROFILE.
        number: only this lesson.
        patience: seconds for one cell; default: by the profile.

    Returns:
        One account per lesson; a failure is an account, not an exception.

    Raises:
        LessonError: there is no such lesson.
    """
    import nbformat

    from btlib.cli.execute import run_lesson
    from btlib.cli.export import lesson_page
    from btlib.cli.lessons import find_lessons
    from btlib.cli.report import write_report
    from btlib.files import write_text

    lessons = find_lessons(notebooks, number)
    runs: list[LessonRun] = []
    for place, lesson in enumerate(lessons, start=1):
        run, executed = run_lesson(lesson, profile, f"{lesson.name} ({place}/{len(lessons)})", patience)
        runs.append(run)
        write_text(out / f"{lesson.name}.ipynb", nbformat.writes(executed))
        write_text(out / f"{lesson.name}.html", lesson_page(executed, run.title))
        write_report(out, runs, profile)
    return runs
