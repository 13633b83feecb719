"""Finding and reading lessons."""

import pytest

from btlib.cli.lessons import LessonError, assigned_names, find_lessons, read_lesson, title_of


def test_lessons_come_in_order_and_by_number(tmp_path, write_lesson):
    for name in ("10_last", "02_second", "00_first", "notes"):
        write_lesson(tmp_path / f"{name}.ipynb")
    assert [lesson.name for lesson in find_lessons(tmp_path)] == ["00_first", "02_second", "10_last"]
    assert [lesson.number for lesson in find_lessons(tmp_path, "2")] == ["02"]
    with pytest.raises(LessonError, match="expected one of 00, 02, 10, got '3'"):
        find_lessons(tmp_path, "3")


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        (None, "exactly one cell tagged 'parameters', got 0"),
        ("SEED = 0", "got no PROFILE;"),
        ("PROFILE = 'fast'\nSEDE = 0", "got no SEED;"),
        ("x = 0", "got no PROFILE and no SEED;"),
    ],
)
def test_a_bad_parameters_cell_is_refused(tmp_path, write_lesson, parameters, complaint):
    path = tmp_path / "00_bad.ipynb"
    write_lesson(path, parameters=parameters)
    with pytest.raises(LessonError, match=complaint):
        read_lesson(path)


def test_a_good_lesson_is_read(tmp_path, write_lesson):
    path = tmp_path / "00_good.ipynb"
    write_lesson(path, "1 + 1")
    notebook = read_lesson(path)
    assert title_of(notebook, "none") == "Lesson 00 — Tiny"
    notebook.cells = notebook.cells[1:]
    assert title_of(notebook, "none") == "none"


def test_assigned_names_are_those_of_the_top_level():
    source = "import os\nPROFILE: str = os.sep\na = SEED = 1\nb: int\nif a:\n    hidden = 1"
    assert assigned_names(source) == {"PROFILE": "os.sep", "a": "1", "SEED": "1"}
    assert assigned_names("not python") == {}
