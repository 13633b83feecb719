"""The course runner, on tiny notebooks run for real."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from typer.testing import CliRunner

from btlib.cli.app import app
from btlib.cli.course import run_course
from btlib.cli.lessons import LessonError

SLIDER = "from ipywidgets import interact\ndef draw(strength):\n    {}\n_ = interact(draw, strength=(0, 9))"


@pytest.fixture(scope="module")
def course(tmp_path_factory, write_lesson):
    """The folder left by a run over one good lesson and four bad ones, and its report by lesson."""
    lessons, out = tmp_path_factory.mktemp("lessons"), tmp_path_factory.mktemp("build") / "course"
    write_lesson(
        lessons / "00_good.ipynb",
        "assert PROFILE == 'full' and SEED == 0",
        "block = bytearray(150 * 2**20)\nimport time; time.sleep(0.5)",
        SLIDER.format("print('strength', strength)"),
        text="# Lesson 00 — Good",
    )
    write_lesson(lessons / "01_fails.ipynb", "before = 1", "raise KeyError('poison')", "after = 1")
    write_lesson(lessons / "02_misspelt.ipynb", parameters='PROFIEL = "fast"\nSEED = 0')
    write_lesson(lessons / "03_dies.ipynb", "import os\nos._exit(1)", "after = 1")
    write_lesson(lessons / "04_callback.ipynb", SLIDER.format("raise RuntimeError('too strong')"))
    (lessons / "05_broken.ipynb").write_text("{")
    run_course(lessons, out, "full")
    report = json.loads((out / "report.json").read_text())
    assert report["profile"] == "full"
    return out, {entry["lesson"]: entry for entry in report["lessons"]}


def test_a_cell_that_never_ends_is_given_up(tmp_path, write_lesson):
    write_lesson(tmp_path / "00_waits.ipynb", "import time; time.sleep(60)")
    run_course(tmp_path, tmp_path / "out", "fast", patience=2)
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())["lessons"]
    assert entry["status"] == "failed"
    assert entry["error"]["name"] == "CellTimeoutError"
    assert entry["seconds"] < 50


def test_a_good_lesson_passes_with_its_costs(course):
    _, report = course
    good = report["00_good"]
    assert good["status"] == "passed"
    assert good["title"] == "Lesson 00 — Good"
    assert good["cells"] == 4  # its own code cells; the one papermill injects is not counted
    assert 0.5 < good["seconds"] < 60
    assert 150 < good["peak_mb"] < 1000
    assert "error" not in good


@pytest.mark.parametrize(
    ("lesson", "cell", "name", "message"),
    [
        ("01_fails", 3, "KeyError", "poison"),
        ("02_misspelt", None, "LessonError", "no PROFILE"),
        ("03_dies", 2, "DeadKernelError", "Kernel died"),
        ("04_callback", None, "RuntimeError", "too strong"),
        ("05_broken", None, "LessonError", "05_broken.ipynb: expected a valid notebook"),
    ],
)
def test_a_failure_names_cell_and_error(course, lesson, cell, name, message):
    _, report = course
    entry = report[lesson]
    assert entry["status"] == "failed"
    assert (entry["error"]["cell"], entry["error"]["name"]) == (cell, name)
    assert message in entry["error"]["message"]


def test_a_failed_lesson_leaves_what_it_did(course):
    out, report = course
    assert report["01_fails"]["cells"] == 3  # parameters, before, the failing one
    partial = nbformat.read(out / "01_fails.ipynb", as_version=4)
    assert [cell.execution_count is None for cell in partial.cells if cell.cell_type == "code"][-2:] == [
        False,
        True,
    ]
    assert partial.metadata["btlib"] == report["01_fails"], "the account travels with the lesson"


def test_nothing_half_written_stays(course):
    out, report = course
    assert {path.name for path in out.iterdir()} == {f"{lesson}.ipynb" for lesson in report} | {"report.json"}


def test_the_command_fails_and_says_where(tmp_path, write_lesson):
    write_lesson(tmp_path / "00_good.ipynb", "1 + 1")
    write_lesson(tmp_path / "01_fails.ipynb", "1 / 0")
    out = str(tmp_path / "out")
    command = [
        sys.executable,
        "-m",
        "btlib",
        "course",
        "--notebooks",
        str(tmp_path),
        "--out",
        out,
        "--lesson",
        "1",
    ]
    shown = os.environ | {"TQDM_DISABLE": ""}  # whatever the caller has
    done = subprocess.run(command, capture_output=True, text=True, env=shown)
    assert done.returncode == 1
    assert "FAIL 01_fails cell 2: ZeroDivisionError: division by zero" in done.stderr
    assert "01_fails (1/1)" in done.stderr  # the progress bar names the lesson
    assert not (tmp_path / "out" / "00_good.ipynb").exists()
    assert f"pages: {tmp_path / 'site' / 'index.html'}" in done.stdout
    assert "division by zero" in (tmp_path / "site" / "notebooks" / "01_fails.html").read_text(encoding="utf-8")


def test_the_first_lesson_is_shown_before_the_others_run(tmp_path, write_lesson):
    write_lesson(tmp_path / "00_a.ipynb", "1 + 1")
    write_lesson(tmp_path / "01_b.ipynb", "2 + 2")
    there = []
    run_course(
        tmp_path, tmp_path / "out", first=lambda: there.append([x.name for x in (tmp_path / "out").glob("*.ipynb")])
    )
    assert there == [["00_a.ipynb"]]


def test_the_commands_bad_inputs_are_named(tmp_path, write_lesson):
    write_lesson(tmp_path / "00_good.ipynb")
    run = CliRunner().invoke
    unknown = run(app, ["course", "--notebooks", str(tmp_path), "--lesson", "07"])
    assert unknown.exit_code == 2
    assert "lesson: expected one of 00, got '07'" in unknown.output
    assert run(app, ["course", "--profile", "slow"]).exit_code == 2


def test_no_lessons_is_an_error(tmp_path):
    with pytest.raises(LessonError, match=str(tmp_path)):
        run_course(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pages_that_can_not_be_written_end_in_one_sentence(tmp_path):
    (tmp_path / "00_broken.ipynb").write_text("{")
    (tmp_path / "file").touch()
    where = ["--notebooks", str(tmp_path), "--out", str(tmp_path / "file" / "out")]
    done = CliRunner().invoke(app, ["course", *where])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "file") in line
