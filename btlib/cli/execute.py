"""Run one lesson with papermill: what came of it, in how long, with how much memory."""

import logging
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from btlib.cli.lessons import Lesson, LessonError, read_lesson, title_of
from btlib.cli.widget_state import widget_outputs
from btlib.files import scratch
from btlib.peak_memory import PeakMemory


@dataclass(frozen=True)
class CellError:
    """Why a lesson failed.

    Attributes:
        cell: the cell's place in the notebook, from 0, text cells included; None where no cell is to blame.
        name: the exception's class.
        message: its text.
    """

    cell: int | None
    name: str
    message: str

    def __str__(self) -> str:
        where = "" if self.cell is None else f"cell {self.cell}: "
        return f"{where}{self.name}: {self.message}"


@dataclass(frozen=True)
class LessonRun:
    """What came of running one lesson.

    Attributes:
        lesson: the file's name without its ending.
        title: its first heading.
        seconds: wall-clock time.
        peak_mb: most memory of the kernel and its children, in MiB.
        cells: code cells that were executed.
        error: why it failed; None where it passed.
    """

    lesson: str
    title: str
    seconds: float
    peak_mb: float
    cells: int
    error: CellError | None = None

    @property
    def status(self) -> str:
        """Either "passed" or "failed"."""
        return "failed" if self.error else "passed"


#: Seconds for one cell. A kernel's reply may get lost (seen once in some thousand runs): then nothing would ever end.
_PATIENCE = {"fast": 600, "full": 3600, "paper": 12 * 3600}


def run_lesson(
    lesson: Lesson, profile: str, label: str, patience: float | None = None
) -> tuple[LessonRun, nbformat.NotebookNode]:
    """Run a lesson in its own folder, as JupyterLab would, with PROFILE set.

    Args:
        lesson: which one.
        profile: value for the notebook's PROFILE.
        label: what stands before the progress bar.
        patience: seconds for one cell; default: by the profile.

    Returns:
        The account, and the notebook as far as it was executed. A failing lesson is an account too.
    """
    started = time.monotonic()
    try:
        source = read_lesson(lesson.path)
    except LessonError as error:
        nothing = nbformat.v4.new_notebook()
        refused = CellError(None, type(error).__name__, str(error))
        return LessonRun(lesson.name, lesson.name, 0.0, 0.0, 0, refused), nothing
    with PeakMemory() as memory:
        executed, error_found = _execute(lesson.path, source, profile, label, patience or _PATIENCE.get(profile))
    account = LessonRun(
        lesson=lesson.name,
        title=title_of(source, lesson.name),
        seconds=round(time.monotonic() - started, 2),
        peak_mb=round(memory.mb, 1),
        cells=sum(_was_executed(cell) for cell in executed.cells),
        error=error_found,
    )
    return account, executed


def _execute(
    path: Path, source: nbformat.NotebookNode, profile: str, label: str, patience: float | None
) -> tuple[nbformat.NotebookNode, CellError | None]:
    """The executed notebook, whole or partial, and the error that ended it or hid in it."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    with scratch("lesson") as folder:  # papermill and the kernel's manager leave files where they are killed
        output = folder / path.name
        failure: Exception | None = None
        try:
            papermill.execute_notebook(
                _without_checks(source) if profile.endswith(".toml") else path,
                output,
                parameters={"PROFILE": profile},
                kernel_name="python3",
                cwd=path.parent,
                progress_bar={"desc": label, "leave": False},
                extra_arguments=["--IPKernelApp.log_level=ERROR"],
                execution_timeout=patience,
            )
        except Exception as error:  # a failing cell, a dead kernel, no kernel at all
            failure = error
        executed = nbformat.read(output, as_version=4) if output.exists() else source
    if failure is not None:
        return executed, _describe(failure, source, executed)
    return executed, _hidden_error(executed)


def _without_checks(lesson: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The lesson for other data than the course's, where nobody has measured what its checks ask for."""
    copy = deepcopy(lesson)
    copy.cells = [cell for cell in copy.cells if "checks" not in cell.metadata.get("tags", ())]
    return copy


def _describe(failure: Exception, source: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> CellError:
    """Say which cell of the source notebook failed and how."""
    begun = [cell.id for cell in executed.cells if cell.metadata.get("papermill", {}).get("start_time")]
    places = {cell.id: place for place, cell in enumerate(source.cells)}
    place = places.get(begun[-1]) if begun else None
    name = str(getattr(failure, "ename", type(failure).__name__))
    message = str(getattr(failure, "evalue", failure))
    return CellError(place, name, message)


def _hidden_error(executed: nbformat.NotebookNode) -> CellError | None:
    """An error that a widget's callback raised: Jupyter shows it inside the widget, and the run goes on."""
    for output in widget_outputs(executed):
        if output.get("output_type") == "error":
            return CellError(None, output["ename"], f"{output['evalue']} (raised inside a widget's callback)")
    return None


def _was_executed(cell: Any) -> bool:
    """Whether it is the lesson's own code cell, and ran."""
    own = "injected-parameters" not in cell.metadata.get("tags", ())
    return cell.cell_type == "code" and own and cell.get("execution_count") is not None
