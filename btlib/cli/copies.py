"""A working copy of the lessons: made once, brought up to date without losing what was written into it."""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from btlib.cli.lessons import LessonError
from btlib.files import TextError, read_text, write_text

AS_GIVEN, FORMER = ".as-given", "former"
_EXERCISE = re.compile(r"""^@(?:\w+\.)*exercise\(["'](\w+)["']\)""", re.MULTILINE)
YOURS = "# Yours, from before the lessons were brought up to date:\n"


def read(path: Path) -> NotebookNode:
    """A notebook of any format, as one of format 4.

    Raises:
        LessonError: it is none, or too large for one.
    """
    try:
        return nbformat.reads(read_text(path), as_version=4)
    except TextError as error:
        raise LessonError(str(error)) from error
    except Exception as error:
        sentence = f"{path.name}: expected a notebook, got {type(error).__name__}; open and save it in JupyterLab"
        raise LessonError(sentence) from error


def exercise_in(source: str) -> str | None:
    """The name of the exercise that a cell answers."""
    found = _EXERCISE.search(source)
    return found[1] if found else None


def bring_up_to_date(folder: Path, lessons: Mapping[str, NotebookNode]) -> list[str]:
    """Put lessons into a folder; what was written into an older copy of them there is kept.

    A cell that was changed keeps its text; a cell of one's own keeps its place. Where a cell was changed on both
    sides, an exercise keeps the answer and any other cell is followed by the older text. What a copy was before it is
    changed is kept in ``former/``. A lesson that got another number is found by its topic.

    Args:
        folder: made where missing.
        lessons: by name, such as "02_training".

    Returns:
        the names of lessons that were made or changed.
    """
    changed = []
    for name, lesson in lessons.items():
        path, as_given = folder / f"{name}.ipynb", folder / AS_GIVEN / f"{name[3:]}.ipynb"
        older = [other for other in folder.glob(f"[0-9][0-9]_{name[3:]}.ipynb") if other != path]
        if older and not path.exists():
            older[0].rename(path)
        base = read(as_given) if as_given.exists() else lesson
        if path.exists():
            if as_given.exists() and _sources(base) == _sources(lesson):
                continue
            mine = read(path)
            if _sources(mine) != _sources(base):
                write_text(_free(folder / FORMER / f"{name}.ipynb"), nbformat.writes(mine))
            lesson_now = merged(mine, base, lesson)
        else:
            lesson_now = lesson
        write_text(path, nbformat.writes(lesson_now))
        write_text(as_given, nbformat.writes(lesson))
        changed.append(name)
    return changed


def merged(mine: NotebookNode, base: NotebookNode, lesson: NotebookNode) -> NotebookNode:
    """The new lesson with what was written into a copy of the older one.

    Args:
        mine: the copy, written into.
        base: what it was a copy of.
        lesson: what there is now.
    """
    result = deepcopy(lesson)
    old, new = _by_key(base.cells), _by_key(lesson.cells)
    added: dict[str | None, list[NotebookNode]] = {}
    before: str | None = None  # the last cell that is in the new lesson too
    for key, cell in _by_key(mine.cells).items():
        theirs = new.get(key)
        if theirs is not None:
            before = key
        if key in old and cell.source == old[key].source:
            continue
        if theirs is None or (theirs.source not in (old[key].source, cell.source) and not exercise_in(cell.source)):
            kept = deepcopy(cell)
            if theirs is not None:
                kept.source = (YOURS if cell.cell_type == "code" else "") + cell.source
                kept.id = nbformat.v4.new_raw_cell().id
            added.setdefault(before, []).append(kept)
        else:
            place = next(place for place in result.cells if _key(place) == key)
            place.source = cell.source
    cells = added.get(None, [])
    for cell in result.cells:
        cells += [cell, *added.get(_key(cell), ())]
    result.cells = cells
    return result


def _key(cell: NotebookNode) -> str:
    """What makes a cell the same one in another version: its exercise, else its id."""
    return exercise_in(cell.source) or str(cell.get("id"))


def _by_key(cells: Iterable[NotebookNode]) -> dict[str, NotebookNode]:
    return {_key(cell): cell for cell in cells}


def _sources(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells]


def _free(path: Path) -> Path:
    """The path, or with a number the first like it that is not taken."""
    numbered = (path.with_stem(f"{path.stem}-{count}") for count in range(2, 10_000))
    return path if not path.exists() else next(other for other in numbered if not other.exists())
