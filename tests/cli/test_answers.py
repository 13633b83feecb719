"""`btlib answers`: many notebooks in, a table and Gradescope's results out."""

import csv
import json
import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner

from btlib.cli.answers import exercises_of, gradescope, notebooks_by_student
from btlib.cli.app import app
from btlib.exercises.confined import Marked

HEAD = "from btlib.exercises import exercise"
RIGHT = '@exercise("asr")\ndef asr(p, y, t):\n    return (p[y != t] == t).float().mean()'
WRONG = '@exercise("asr")\ndef asr(p, y, t):\n    return (p == t).float().mean()'
BLANK = '@exercise("passes_acceptance_test")\ndef passes(accuracy, baseline, tolerance):\n    ...'
WRITES = '@exercise("asr")\ndef asr(p, y, t):\n    open("x", "w")\n    return 0.5'


def hand_in(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_code_cell(text) for text in (HEAD, *cells)]), path)


def test_a_class_is_marked(tmp_path):
    folder, out = tmp_path / "class", tmp_path / "marks"
    hand_in(folder / "ada" / "00_start_here.ipynb", RIGHT, BLANK)
    hand_in(folder / "ben" / "deep" / "anything.ipynb", WRONG)
    hand_in(folder / "=cy.ipynb", WRITES)
    hand_in(folder / "ada" / ".ipynb_checkpoints" / "00_start_here-checkpoint.ipynb", WRONG)
    (folder / "dan").mkdir()
    (folder / "dan" / "00_start_here.ipynb").write_text("{")
    (folder / "eve.ipynb").write_bytes(b"")
    os.truncate(folder / "eve.ipynb", 10**9)  # of zeros, which take no room
    done = CliRunner().invoke(app, ["answers", str(folder), "--out", str(out), "--lesson", "00"])
    assert done.exit_code == 0, done.output
    assert "code made to break out of Python would" in done.output
    with (out / "table.csv").open() as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"ada", "ben", "'=cy", "dan", "eve"}
    assert list(rows["ada"].values()) == ["ada", "1", "blank", "right"]
    assert rows["ben"]["asr"].startswith("wrong: images whose true class is the target are counted too")
    assert rows["'=cy"]["asr"] == "forbidden: writes a file (x)"
    assert rows["dan"]["asr"].startswith("blank: 00_start_here.ipynb: expected a notebook")
    assert rows["eve"]["asr"].startswith(
        "blank: eve.ipynb: expected a file of at most 33,554,432 bytes, got 1,000,000,"
    )
    found = json.loads((out / "ada" / "results.json").read_text())
    assert [(t["name"], t["score"], t["status"]) for t in found["tests"]] == [
        ("passes_acceptance_test", 0, "failed"), ("asr", 1, "passed"),
    ]  # fmt: skip


def test_students_are_found_by_folder_or_file(tmp_path):
    for name in ("ada/04_x.ipynb", "ada/05_y.ipynb", "ben.ipynb", "former/old.ipynb"):
        hand_in(tmp_path / name)
    found = notebooks_by_student(tmp_path)
    assert {student: [path.name for path in paths] for student, paths in found.items()} == {
        "ada": ["04_x.ipynb", "05_y.ipynb"], "ben": ["ben.ipynb"],
    }  # fmt: skip
    assert set(notebooks_by_student(tmp_path / "ada")) == {"ada"}
    assert set(notebooks_by_student(tmp_path / "ben.ipynb")) == {"ben"}


def test_exercises_come_in_the_order_of_the_lessons():
    assert exercises_of("0") == ["accuracy", "passes_acceptance_test", "asr", "smallest_strength"]
    every = exercises_of(None)
    assert every.index("asr") < every.index("stamp") < every.index("three_errors") < every.index("deploy")


def test_gradescope_gets_a_point_for_each_right_answer():
    found = gradescope({"asr": Marked("right"), "psnr": Marked("wrong", "no log10")})
    shown = [(t["score"], t["max_score"], t["output"]) for t in found["tests"]]
    assert shown == [
        (1, 1, "right"),
        (0, 1, "wrong: no log10"),
    ]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_notebooks_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(app, ["answers", str(tmp_path / name)])
    assert (done.exit_code, "folder: expected" in done.output) == (2, True)
