"""`btlib slides`: each lesson as a deck of slides with speaker's notes, one file each, by one rule (`arranging`)."""

from pathlib import Path
from typing import Annotated

import typer

from btlib import paths
from btlib.cli import needs


def command(
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the decks; default: build/slides.")] = None,
    course: Annotated[Path | None, typer.Option(
        help="Folder of executed lessons, as `btlib course` leaves them; default: build/course.")] = None,
    lesson: Annotated[str | None, typer.Option(help="Only this lesson, such as 02.")] = None,
) -> None:  # fmt: skip
    """Make a deck of slides of each lesson.

    One file each; a lesson that has not run as it is now is run first.
    """
    notebooks = needs.lessons()
    needs.extra("course", but=needs.LAB)
    from btlib.cli.course import run_missing
    from btlib.cli.export import deck
    from btlib.files import write_text

    course, out = course or paths.root() / "build" / "course", out or paths.root() / "build" / "slides"
    with needs.sentences():
        for name, executed in run_missing(notebooks, course, lesson).items():
            typer.echo(write_text(out / f"{name}.html", deck(executed)))
