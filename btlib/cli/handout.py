"""`btlib handout DIR`: the lessons as students get them."""

import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btlib.cli import needs

if TYPE_CHECKING:
    from nbformat import NotebookNode

_HINT = re.compile(r"<details>\s*<summary>Hint (\d)</summary>.*?</details>\s*", re.DOTALL)
_REVEAL = re.compile(r"reveal\([^()]*\)(?:\s*#.*)?")


def command(
    folder: Annotated[Path, typer.Argument(help="Where to; a copy that is there is brought up to date.")],
    *,
    hints: Annotated[int, typer.Option(min=0, max=3, help="How many of the three hints; the third is a solution.")] = 2,
    notebooks: Annotated[Path | None, typer.Option(
        help="Folder of the lessons; default: the repository's notebooks/.")] = None,
) -> None:  # fmt: skip
    """Write a student's edition of the lessons.

    It has fewer hints, no `reveal` and no outputs.
    """
    lessons = notebooks or needs.lessons()
    needs.extra("course", but=needs.LAB)
    from btlib.cli.copies import bring_up_to_date, read
    from btlib.cli.lessons import find_lessons

    with needs.sentences():
        found = {lesson.name: student_edition(read(lesson.path), hints) for lesson in find_lessons(lessons)}
        changed = bring_up_to_date(folder, found)
    typer.echo(f"{folder}: {len(found)} lessons, {len(changed)} of them new or changed")


def student_edition(lesson: "NotebookNode", hints: int) -> "NotebookNode":
    """A lesson without outputs, without `reveal`, and with the first few hints of each exercise."""
    edition = deepcopy(lesson)
    edition.metadata.pop("widgets", None)
    cells = []
    for cell in edition.cells:
        if cell.cell_type == "code":
            if _REVEAL.fullmatch(cell.source.strip()):
                continue
            cell.outputs, cell.execution_count = [], None
            cell.source = re.sub(r"(from btlib\.exercises import .*?), reveal\b", r"\1", cell.source)
        else:
            cell.source = _HINT.sub(lambda hint: hint[0] if int(hint[1]) <= hints else "", cell.source).strip()
        if cell.source:
            cells.append(cell)
    edition.cells = cells
    return edition
