"""The commands as a whole."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from btlib import attacks, checkpoints
from btlib.cli import tasks
from btlib.cli.app import app
from btlib.cli.report import write_text

run = CliRunner().invoke


def test_help_is_quick_and_names_every_command():
    code = (
        "import sys; from btlib.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in ('torch', 'papermill', 'matplotlib', 'nbconvert') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("check", "course", "checkpoints", "scan", "paper", "test", "lab", "clean"):
        assert f"\n  {command} " in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("force", [False, True])
def test_checkpoints_passes_its_option_on(monkeypatch, force):
    calls = []
    for module in (checkpoints, attacks):
        monkeypatch.setattr(module, "make_shipped", lambda **settings: calls.append(settings))
    assert run(app, ["checkpoints", *(["--force"] if force else [])]).exit_code == 0
    assert calls == [{"progress": True, "force": force}] * 2  # networks, then attacks


@pytest.fixture
def steps(monkeypatch):
    """Steps that cost nothing: `bad` exits with 2, `good` with 0."""
    steps = {"bad": ["btlib", "no-such-command"], "good": ["this", "-c"]}
    monkeypatch.setattr(tasks, "STEPS", steps)


def test_every_step_runs_and_one_failure_fails_all(steps):
    result = run(app, ["test"])
    assert result.exit_code == 1
    assert "FAIL bad" in result.output
    assert "ok   good" in result.output


def test_steps_are_chosen_by_name(steps):
    assert run(app, ["test", "good"]).exit_code == 0
    unknown = run(app, ["test", "better"])
    assert unknown.exit_code == 2
    assert "expected some of bad, good, got better" in unknown.output


def test_lessons_run_in_this_environment_and_each_in_one_process():
    # Else a lesson's kernel is whatever python3 means here, and its cells are shared out among the processes.
    command = " ".join(tasks.STEPS["notebooks"])
    assert [option for option in ("--nbval-current-env", "--dist loadfile") if option not in command] == []


def test_without_lessons_there_is_nothing_for_nbval(monkeypatch, tmp_path):
    monkeypatch.setattr(tasks, "NOTEBOOKS", tmp_path)
    result = run(app, ["test", "notebooks"])
    assert result.exit_code == 0
    assert "no lessons" in result.output


def test_clean_removes_what_was_made_and_nothing_else(monkeypatch, tmp_path):
    kept = ["btlib/a.py", "data/cache/net.safetensors", ".venv/lib/__pycache__/x.pyc"]
    made = [
        "build/course/index.html",
        ".mypy_cache/x",
        "btlib/cli/__pycache__/a.pyc",
        "notebooks/.ipynb_checkpoints/x",
    ]
    for name in kept + made:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    assert run(app, ["clean"]).exit_code == 0
    assert [(tmp_path / name).exists() for name in kept + made] == [True] * len(kept) + [False] * len(made)


def test_lab_passes_the_exit_status_on(monkeypatch):
    calls = []
    monkeypatch.setattr(tasks, "_python", lambda *arguments: calls.append(arguments) or 7)
    assert run(app, ["lab"]).exit_code == 7
    assert calls == [("jupyterlab", str(tasks.NOTEBOOKS))]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.html"
    write_text(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["a.html"]
