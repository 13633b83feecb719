"""Which lessons there are, and what makes a notebook one that the course can run."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from btlib.files import read_text

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
        notebook = nbformat.reads(read_text(path), as_version=4)
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


@dataclass(frozen=True)
class Minutes:
    """How long a lesson takes to read and try.

    Attributes:
        core: without the parts whose heading ends with "(optional)".
        optional: these parts.
    """

    core: int
    optional: int


#: Seconds for a word, an open line of code, an exercise, a prediction, and a figure or table. Technical prose is read
#: at some 200 words a minute; the others are what trying the lessons took, rounded.
COSTS = {"word": 0.3, "line": 5, "exercise": 300, "prediction": 45, "shown": 20}


def estimate_minutes(notebook: nbformat.NotebookNode) -> Minutes:
    """Minutes from words, open code, exercises, predictions and figures; hints and folded cells are free."""
    seconds = {True: 0.0, False: 0.0}
    level = 0  # of the optional heading that we are below; 0: none
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for block in re.split(r"^(?=#{1,6} )", cell.source, flags=re.MULTILINE):
                if heading := re.match(r"(#+) (.*)", block):
                    here = len(heading[1])
                    if not level or here <= level:
                        level = here if heading[2].rstrip().endswith("(optional)") else 0
                seconds[bool(level)] += _text_seconds(block)
        elif "source_hidden" not in cell.metadata.get("jupyter", {}):
            seconds[bool(level)] += _code_seconds(cell.source)
    return Minutes(*(round(seconds[optional] / 60) for optional in (False, True)))


def _text_seconds(text: str) -> float:
    read = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    predictions = len(re.findall(r"\*\*(?:Predict first|Think)\b", read))
    return COSTS["word"] * len(read.split()) + COSTS["prediction"] * predictions


def _code_seconds(source: str) -> float:
    exercises = len(re.findall(r"^@exercise\(", source, re.MULTILINE))
    shown = len(re.findall(r"\b(?:plots\.(?:show|table)|widgets\.\w+)\(", source))
    return COSTS["line"] * len(source.splitlines()) + COSTS["exercise"] * exercises + COSTS["shown"] * shown


def stated_minutes(notebook: nbformat.NotebookNode) -> Minutes | None:
    """What the lesson's head says: "about 60 minutes" and, where it has such parts, "20 for the optional parts"."""
    head = "\n".join(cell.source for cell in notebook.cells[:2])
    core = re.search(r"about (\d+)\s+minutes", head)
    optional = re.search(r"(\d+)\s+for\s+the\s+optional\s+parts", head)
    return Minutes(int(core[1]), int(optional[1]) if optional else 0) if core else None
