"""The commands as a whole."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from btlib import paths
from btlib.cli import tasks
from btlib.cli.app import app

run = CliRunner().invoke


def test_help_is_quick_and_names_every_command():
    code = (
        "import sys; from btlib.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in ('torch', 'papermill', 'matplotlib', 'nbconvert') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    commands = (
        "check", "course", "checkpoints", "scan", "guard", "repair", "paper", "gpu", "answers", "exam", "handout",
        "test", "lab", "clean",
    )  # fmt: skip
    for command in commands:
        assert f"\n  {command} " in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.fixture
def checkout(tmp_path):
    """A checkout of its own, without lessons and images, and a function that runs btlib there."""
    for name in ("btlib", "data/checkpoints"):
        shutil.copytree(paths.CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.CHECKOUT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    variables = os.environ | {"PYTHONPATH": str(tmp_path), "BTLIB_DATA": str(paths.CHECKOUT / "data")}

    def btlib(*words):
        command = [sys.executable, "-m", "btlib", *words]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    return tmp_path, btlib


@pytest.mark.slow
def test_checkpoints_leaves_what_it_did_not_make(checkout):
    root, btlib = checkout
    folder = root / "data" / "checkpoints"
    ready = {path: path.stat().st_mtime for path in folder.rglob("*.safetensors")}
    save_file({"weight": torch.ones(1)}, folder / "mine.safetensors")
    shutil.copy(next(folder.glob("*clean-s0*")), folder / "former.safetensors")
    done = btlib("checkpoints")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime for path in ready} == ready, "what was there was trained again"
    assert (folder / "mine.safetensors").exists(), "a file of somebody's own is gone"
    assert "former.safetensors is none of the shipped networks: moved to" in done.stderr
    assert not (folder / "former.safetensors").exists()
    assert (root / "data" / "cache" / "checkpoints" / "former.safetensors").exists()


def test_a_step_that_is_unknown_is_named():
    unknown = run(app, ["test", "better"])
    assert unknown.exit_code == 2
    assert "expected some of lint, format, types, notebooks, pytest, got better" in unknown.output


def test_every_step_runs_and_one_failure_fails_all(checkout):
    root, btlib = checkout
    (root / "btlib" / "bad.py").write_text("import os\n", encoding="utf-8")  # an unused import without a docstring
    done = btlib("test", "format", "lint")
    assert done.returncode == 1
    assert [line.split()[:2] for line in done.stdout.splitlines()[-2:]] == [["FAIL", "lint"], ["ok", "format"]]


def test_types_are_checked_beside_the_other_steps_and_what_they_say_is_shown(monkeypatch):
    monkeypatch.setattr(tasks, "STEPS", {"types": ["no_such_module"], "lint": ["platform"]})
    done = run(app, ["test"])
    assert done.exit_code == 1
    assert "--- types: python -m no_such_module\n" in done.output
    assert "No module named no_such_module" in done.output
    assert [line.split()[:2] for line in done.output.splitlines()[-2:]] == [["ok", "lint"], ["FAIL", "types"]]


def test_lessons_run_in_this_environment_and_each_in_one_process():
    # Else a lesson's kernel is whatever python3 means here, and its cells are shared out among the processes.
    command = " ".join(tasks.STEPS["notebooks"])
    assert [option for option in ("--nbval-current-env", "--dist loadfile") if option not in command] == []


def test_clean_removes_what_was_made_and_nothing_else(checkout):
    root, btlib = checkout
    kept = ["btlib/a.py", "data/cache/net.safetensors", ".venv/lib/__pycache__/x.pyc"]
    made = [
        "build/course/index.html",
        ".mypy_cache/x",
        "btlib/cli/__pycache__/a.pyc",
        "notebooks/.ipynb_checkpoints/x",
    ]
    for name in kept + made:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert btlib("clean").returncode == 0
    assert [(root / name).exists() for name in kept + made] == [True] * len(kept) + [False] * len(made)


def test_lab_needs_lessons(checkout):
    _, btlib = checkout
    done = btlib("lab")
    assert (done.returncode, done.stderr.startswith("notebooks: expected lessons named NN_topic.ipynb")) == (2, True)


def test_lab_opens_a_copy_and_passes_the_exit_status_on(checkout):
    root, btlib = checkout
    nbformat.write(nbformat.v4.new_notebook(), root / "notebooks" / "00_start.ipynb")
    (root / "jupyterlab.py").write_text("import sys; sys.exit(len(sys.argv[1:]) + 6)", encoding="utf-8")
    done = btlib("lab")
    assert (done.returncode, done.stderr) == (7, f"{root / 'my-lessons'}: new or changed: 00_start\n")
    assert (root / "my-lessons" / "00_start.ipynb").exists()
    (root / "taken").touch()
    done = btlib("lab", "taken/mine")
    assert (done.returncode, done.stderr.splitlines()[-1].endswith("name a folder that is yours to write to")) == (
        2,
        True,
    )
