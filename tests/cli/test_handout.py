"""`btlib handout` and the working copy that `btlib lab` opens."""

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from btlib.cli.app import app
from btlib.cli.copies import AS_GIVEN, FORMER, YOURS, bring_up_to_date, exercise_in, merged
from btlib.cli.handout import student_edition
from btlib.exercises import EXERCISES
from btlib.paths import notebooks

HINTS = "".join(f"<details><summary>Hint {n}</summary>\n\nlook {n}\n\n</details>\n\n" for n in (1, 2, 3))
STUB = '@exercise("asr")\ndef asr(p, y, t):\n    ...'
MINE = '@exercise("asr")\ndef asr(p, y, t):\n    return 1'


def lesson(**cells: str) -> NotebookNode:
    """A notebook: id → source; an id that begins with "md" is text."""
    made = [
        new_markdown_cell(text, id=key) if key.startswith("md") else new_code_cell(text, id=key)
        for key, text in cells.items()
    ]
    return new_notebook(cells=made)


def sources(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells]


def written(folder, name="03_triggers"):
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("hints", [0, 1, 2, 3])
def test_hints_are_to_choice(hints):
    (text,) = sources(student_edition(lesson(md=f"Before.\n\n{HINTS}After."), hints))
    assert [n for n in (1, 2, 3) if f"look {n}" in text] == list(range(1, hints + 1))
    assert text.startswith("Before.")
    assert text.endswith("After.")


def test_solutions_and_outputs_are_gone():
    given = lesson(a="from btlib.exercises import exercise, reveal", b=STUB, c='reveal("asr")', d="print(1)")
    given.cells[3].outputs = [new_output("stream", text="1")]
    given.metadata.widgets = {}
    edition = student_edition(given, 2)
    assert sources(edition) == ["from btlib.exercises import exercise", STUB, "print(1)"]
    assert edition.cells[2].outputs == []
    assert "widgets" not in edition.metadata
    assert given.cells[3].outputs, "the lesson itself is as it was"


def test_the_real_lessons_give_nothing_away(tmp_path):
    done = CliRunner().invoke(app, ["handout", str(tmp_path / "for-students")])
    assert done.exit_code == 0, done.output
    count = len(list(notebooks().glob("*.ipynb")))
    assert f"{count} lessons, {count} of them new or changed" in done.output
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "for-students").glob("*.ipynb")]
    assert len(texts) == count
    code = [cell.source for text in texts for cell in nbformat.reads(text, 4).cells if cell.cell_type == "code"]
    assert not any("reveal" in source for source in code)
    assert not any("Hint 3" in text for text in texts)
    assert sum(text.count("Hint 2<") for text in texts) == sum(text.count("@exercise(") for text in texts)
    asked = {exercise_in(cell.source) for text in texts for cell in nbformat.reads(text, 4).cells} - {None}
    assert asked == set(EXERCISES)


def test_a_copy_is_made_once_and_answers_stay(tmp_path):
    first = {"03_triggers": lesson(md="old", a=STUB, b="x = 1")}
    assert bring_up_to_date(tmp_path, first) == ["03_triggers"]
    assert bring_up_to_date(tmp_path, first) == []
    mine = written(tmp_path)
    mine.cells[1].source = MINE
    nbformat.write(mine, tmp_path / "03_triggers.ipynb")
    assert bring_up_to_date(tmp_path, first) == []
    assert bring_up_to_date(tmp_path, {"03_triggers": lesson(md="new", z="y = 2", c=STUB + "  # better")}) != []
    assert sources(written(tmp_path)) == ["new", "y = 2", MINE]
    assert sources(written(tmp_path / FORMER)) == ["old", MINE, "x = 1"]
    assert bring_up_to_date(tmp_path, {"03_triggers": lesson(md="newer", c=STUB)}) != []
    assert sources(written(tmp_path)) == ["newer", MINE]
    assert len(list((tmp_path / FORMER).iterdir())) == 2, "no former copy is overwritten"


def test_a_lesson_with_another_number_is_the_same_lesson(tmp_path):
    bring_up_to_date(tmp_path, {"10_capstone": lesson(a=STUB)})
    mine = written(tmp_path, "10_capstone")
    mine.cells[0].source = MINE
    nbformat.write(mine, tmp_path / "10_capstone.ipynb")
    bring_up_to_date(tmp_path, {"10_repair": lesson(a="r = 1"), "12_capstone": lesson(a=STUB, b="z = 1")})
    assert sources(written(tmp_path, "12_capstone")) == [MINE, "z = 1"]
    assert sources(written(tmp_path, "10_repair")) == ["r = 1"]


def test_merging():
    base = lesson(md="text", a="x = 1", b=STUB, c="z = 3")
    mine = lesson(md="my notes", a="x = 7", own="mine = 1", b=MINE, c="z = 3", last="end = 1")
    assert sources(merged(mine, base, base)) == sources(mine)
    new = lesson(md="text", a="x = 2", b=STUB, c="z = 4", d="w = 5")
    assert sources(merged(mine, base, new)) == [
        "my notes", "x = 2", YOURS + "x = 7", "mine = 1", MINE, "z = 4", "end = 1", "w = 5",
    ]  # fmt: skip
    shorter = lesson(md="text")
    assert sources(merged(mine, base, shorter)) == ["my notes", "x = 7", "mine = 1", MINE, "end = 1"]
    assert sources(merged(base, base, new)) == sources(new)
    ids = [cell.id for cell in merged(mine, base, new).cells]
    assert len(set(ids)) == len(ids)


def test_a_copy_without_its_base_keeps_everything(tmp_path):
    nbformat.write(lesson(a="x = 7", own="mine = 1"), tmp_path / "03_triggers.ipynb")
    bring_up_to_date(tmp_path, {"03_triggers": lesson(a="x = 1")})
    assert sources(written(tmp_path)) == ["x = 7", "mine = 1"]
    assert (tmp_path / AS_GIVEN / "triggers.ipynb").exists()


def test_what_cannot_be_read_or_written_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("here")
    done = CliRunner().invoke(app, ["handout", str(tmp_path / "file" / "below")])
    assert (done.exit_code, "name a folder that is yours to write to" in done.output) == (2, True), done.output
    (tmp_path / "00_start_here.ipynb").write_text("{")
    done = CliRunner().invoke(app, ["handout", str(tmp_path)])
    assert (done.exit_code, "00_start_here.ipynb: expected a notebook" in done.output) == (2, True), done.output
    assert (tmp_path / "00_start_here.ipynb").read_text() == "{"
