"""`btlib answers FOLDER`: many students' notebooks, each answer judged, as a table and for Gradescope."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btlib.cli import needs

if TYPE_CHECKING:
    from btlib.exercises.confined import Limits, Marked

_SKIPPED = {".ipynb_checkpoints", ".as-given", "former"}
_STATES = ("right", "wrong", "blank", "forbidden")
Table = dict[str, dict[str, "Marked"]]


def command(
    folder: Annotated[Path, typer.Argument(help="One notebook, or a folder of notebooks or of students' folders.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the table and the results.")] = Path("marks"),
    lesson: Annotated[str | None, typer.Option(help="Only this lesson's exercises, such as 04.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="For one answer.")] = 20.0,
    memory: Annotated[float, typer.Option(min=0.1, help="GiB for one answer.")] = 2.0,
) -> None:
    """Mark the answers in students' notebooks.

    Each runs in a process with limits. Writes table.csv and each student's results.json.
    """
    needs.extra("course", but=needs.LAB)
    if not folder.exists():
        raise typer.BadParameter(f"folder: expected one with notebooks, got {folder}, which does not exist")
    from btlib.exercises.confined import Limits

    handed_in = notebooks_by_student(folder)
    if not handed_in:
        raise typer.BadParameter(f"folder: expected notebooks (*.ipynb) in {folder}, got none")
    with needs.sentences():
        table = judged(handed_in, exercises_of(lesson), Limits(seconds, memory))
        write(table, out)
    for student, row in table.items():
        counts = {state: sum(one.state == state for one in row.values()) for state in _STATES}
        typer.echo(f"{student:24} " + ", ".join(f"{n} {state}" for state, n in counts.items()))
    cut_off = all(one.cut_off for row in table.values() for one in row.values() if one.state != "blank")
    typer.echo(f"{out / 'table.csv'}, {out / '<student>' / 'results.json'}\n{_promise(cut_off)}")


def _promise(cut_off: bool) -> str:
    network = "the network (by the system)" if cut_off else "the network (by Python only: the system did not let us)"
    return (f"Each answer ran apart, kept from too much time and memory, {network}, writing files and starting "
            "programs. It ran as you, can read what you can, and code made to break out of Python would: mark unknown "
            "people's work in a container.")  # fmt: skip


def notebooks_by_student(folder: Path) -> dict[str, list[Path]]:
    """Student → notebooks, by the first folder below `folder`, else the file's name; bare lessons are one student's."""
    if folder.is_file():
        return {folder.stem: [folder]}
    found = [path for path in sorted(folder.rglob("*.ipynb")) if not _SKIPPED & set(path.relative_to(folder).parts)]
    students: dict[str, list[Path]] = {}
    for path in found:
        first, *deeper = path.relative_to(folder).parts
        alone = folder.resolve().name if first[:2].isdigit() and first[2:3] == "_" else Path(first).stem
        students.setdefault(first if deeper else alone, []).append(path)
    return students


def exercises_of(lesson: str | None) -> list[str]:
    """Exercises in the order of the lessons; of one lesson only, or of all."""
    from btlib.cli.copies import exercise_in, read
    from btlib.cli.lessons import find_lessons

    cells = [cell for one in find_lessons(needs.lessons(), lesson) for cell in read(one.path).cells]
    return [name for cell in cells if cell.cell_type == "code" and (name := exercise_in(cell.source))]


def judged(handed_in: Mapping[str, list[Path]], names: list[str], limits: "Limits") -> Table:
    """Student → exercise → verdict, for each exercise that some student's notebook holds; of two answers the last."""
    from tqdm.auto import tqdm

    from btlib.cli.copies import exercise_in, read
    from btlib.cli.lessons import LessonError
    from btlib.exercises.confined import Marked, mark_answer
    from btlib.files import printable

    cells: dict[tuple[str, str], list[str]] = {}
    unread: dict[str, str] = {}
    for student, paths in handed_in.items():
        for path in paths:
            try:
                code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
            except LessonError as error:
                unread[student] = str(error)
                typer.echo(printable(f"{student}: {error}"), err=True)
                continue
            cells |= {(student, name): code for source in code if (name := exercise_in(source)) in names}
    asked = [name for name in names if any(name == found for _, found in cells)]
    table: Table = {
        student: {name: Marked("blank", unread.get(student, "")) for name in asked} for student in handed_in
    }
    for (student, name), code in tqdm(cells.items(), "answers", leave=False):
        table[student][name] = mark_answer(code, name, limits)
    return table


def write(table: Table, out: Path) -> None:
    """table.csv, and for each student what Gradescope reads."""
    from btlib.files import write_text

    names = list(dict.fromkeys(name for row in table.values() for name in row))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["student", "right", *names])
    for student, row in table.items():
        right = sum(one.state == "right" for one in row.values())
        lines.writerow([_harmless(student), right, *(str(row[name]) for name in names)])
        write_text(out / student / "results.json", json.dumps(gradescope(row), indent=1))
    write_text(out / "table.csv", text.getvalue())


def gradescope(row: Mapping[str, "Marked"]) -> dict[str, object]:
    """One student's verdicts in the form of Gradescope's results.json: a point for each right answer."""
    tests = [{"name": name, "score": int(one.state == "right"), "max_score": 1, "output": str(one),
              "status": "passed" if one.state == "right" else "failed"} for name, one in row.items()]  # fmt: skip
    return {"tests": tests, "visibility": "visible"}


def _harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in "=+-@" else text
