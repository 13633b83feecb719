"""Which lessons there are, and what makes a notebook one that the course can run."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

PARAMETERS = ("PROFILE", "SEED")


class LessonError(ValueError):
    """A notebook, or the choice of one, that the course cannot run; the message says how to fix it."""


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course.

    Attributes:
        path: the notebook, named `NN_topic.ipynb`.
    """

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its ending, such as "02_training"."""
        return self.path.stem

    @property
    def number(self) -> str:
        """Two digits, such as "02"."""
        return self.name[:2]


def find_lessons(folder: Path, number: str | None = None) -> list[Lesson]:
    """The lessons in `folder`, in order; only the one of that number where given ("2" is "02").

    Raises:
        LessonError: there is none, or none of that number.
    """
    lessons = [Lesson(path.resolve()) for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))]
    if not lessons:
        raise LessonError(f"notebooks: expected files named NN_topic.ipynb in {folder}, got none")
    if number is None:
        return lessons
    chosen = [lesson for lesson in lessons if lesson.number == number.zfill(2)]
    if not chosen:
        known = ", ".join(lesson.number for lesson in lessons)
        raise LessonError(f"lesson: expected one of {known}, got {number!r}; see {folder}")
    return chosen


def read_lesson(path: Path) -> nbformat.NotebookNode:
    """The notebook, checked: valid, and with one parameters cell that papermill can set PROFILE after.

    Raises:
        LessonError: it is not a notebook, or the parameters cell is missing, doubled or incomplete.
            (papermill would only warn, and run the lesson at another profile than asked for.)
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        remedy = "open and save it in JupyterLab"
        raise LessonError(f"{path.name}: expected a valid notebook, got {error}; {remedy}") from error
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        raise LessonError(f"{path.name}: expected exactly one cell tagged 'parameters', got {len(cells)}; tag one cell")
    missing = [name for name in PARAMETERS if name not in assigned_names(cells[0].source)]
    if missing:
        raise LessonError(
            f"{path.name}: expected the parameters cell to set {' and '.join(PARAMETERS)}, "
            f"got no {' and no '.join(missing)}; check the spelling"
        )
    return notebook


def assigned_names(source: str) -> dict[str, str]:
    """The names that code sets at its top level, each with the expression it is set to."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return {}
    names: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and node.value is not None:
                names[target.id] = ast.unparse(node.value)
    return names


def title_of(notebook: nbformat.NotebookNode, otherwise: str) -> str:
    """The first `# heading` of the notebook."""
    for cell in notebook.cells:
        heading = re.search(r"^# +(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if heading:
            return heading[1].strip()
    return otherwise
