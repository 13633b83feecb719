"""`btlib slides`: each lesson as a deck of slides with speaker's notes, one file each, by one rule (`arranging`)."""

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btlib import paths
from btlib.cli import needs

if TYPE_CHECKING:
    from nbformat import NotebookNode


def command(
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the decks; default: build/slides.")] = None,
    course: Annotated[Path | None, typer.Option(
        help="Folder of executed lessons, as `btlib course` leaves them; default: build/course.")] = None,
    lesson: Annotated[str | None, typer.Option(help="Only this lesson, such as 02.")] = None,
) -> None:  # fmt: skip
    """Make a deck of slides of each lesson, one file each; a lesson that has not run as it is now is run first."""
    notebooks = needs.lessons()
    needs.extra("course")
    from btlib.cli.course import run_missing
    from btlib.files import write_text

    course, out = course or paths.root() / "build" / "course", out or paths.root() / "build" / "slides"
    with needs.sentences():
        for name, executed in run_missing(notebooks, course, lesson).items():
            typer.echo(write_text(out / f"{name}.html", deck(executed)))


def deck(executed: "NotebookNode") -> str:
    """A lesson's slides: one page that needs nothing else.

    Args:
        executed: a lesson with its outputs; stays as it is.
    """
    import nbformat

    from btlib.cli.arranging import arranged
    from btlib.cli.export import slides_page
    from btlib.cli.lessons import title_of
    from btlib.cli.widget_state import freeze_widgets

    still = deepcopy(executed)
    freeze_widgets(still)
    cells = []
    for place, slide in enumerate(arranged(still)):
        stack = ("</section>\n" if place else "") + "<section>" if slide.opens else ""
        running = "" if slide.opens else f'<p class="running">{slide.head}</p>'
        notes = nbformat.v4.new_markdown_cell("\n\n".join(slide.notes))
        notes.metadata.update(before='<aside class="notes">', after="</aside></section>")
        kind = ' class="prediction"' if "prediction" in slide.cells[0].metadata else ""
        slide.cells[0].metadata["before"] = f"{stack}<section{kind}>{running}"
        cells += [*slide.cells, notes]
    return slides_page(cells, title_of(still, "Lesson"))
