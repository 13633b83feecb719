"""`btlib site`: the executed course as a static site that asks no other server for anything."""

from pathlib import Path
from typing import Annotated

import typer

from btlib import paths
from btlib.cli import needs


def command(
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the site; default: build/site.")] = None,
    course: Annotated[Path | None, typer.Option(
        help="Folder of executed lessons, as `btlib course` leaves them; default: build/course.")] = None,
) -> None:  # fmt: skip
    """Make the course's pages again.

    A lesson that has not run as it is now is run first.
    """
    root = needs.repository()
    needs.extra("course", but=needs.LAB)
    needs.extra("site")
    from btlib.cli.course import run_missing
    from btlib.cli.site_build import build

    course = course or paths.root() / "build" / "course"
    with needs.sentences():
        run_missing(needs.lessons(), course)
        page = build(root, needs.lessons(), course, out or paths.root() / "build" / "site")
    typer.echo(f"site: {page}")
