"""`btlib test | lab | clean`: daily jobs, the same on every system."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from btlib import paths
from btlib.cli import needs

WORKERS = 2
# Two processes that start and wait for kernels, one thread each, fill two cores and stay off each other's.
SHARED = ["-n", str(WORKERS), "--dist", "loadfile"]
STEPS: dict[str, list[str]] = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    "notebooks": ["pytest", "--nbval-lax", "--nbval-current-env", *SHARED, "notebooks"],
    # the examples in docstrings are tests too
    "pytest": ["pytest", "--doctest-modules", *SHARED, "tests", "btlib"],
}
# It runs beside the others on what they leave idle: waits for kernels, and the end, when one process has no more files.
BESIDE = "types"
CACHES = ("build", ".pytest_cache", ".mypy_cache", ".ruff_cache")


def run_steps(
    steps: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(STEPS)}; else all.")] = None,
) -> None:
    """Run what CI runs: style, types, lessons, tests. Every step runs; one failure fails all."""
    unknown = set(steps or ()) - set(STEPS)
    if unknown:
        got = ", ".join(sorted(unknown))
        raise typer.BadParameter(f"step: expected some of {', '.join(STEPS)}, got {got}")
    root = needs.repository()
    needs.extra("dev")
    wanted = [name for name in STEPS if name in (steps or STEPS)]
    with ThreadPoolExecutor(1) as aside:
        beside = [aside.submit(_timed, name, root, aside=True) for name in wanted if name == BESIDE]
        rows = [_timed(name, root) for name in wanted if name != BESIDE]
        rows += [each.result() for each in beside]
    for name, code, seconds in rows:
        typer.echo(f"{'ok  ' if code == 0 else 'FAIL'} {name:10} {seconds:6.1f} s")
    raise typer.Exit(any(code for _, code, _ in rows))


def _timed(step: str, root: Path, aside: bool = False) -> tuple[str, int, float]:
    """Run one step in the repository; its name, exit status and seconds."""
    command = f"--- {step}: python -m {' '.join(STEPS[step])}"
    threads = str(max(1, (os.cpu_count() or 1) // WORKERS))
    started = time.monotonic()
    if aside:
        code, said = _aside(*STEPS[step], folder=root)
        typer.echo(f"{command}\n{said}", nl=False)
    else:
        typer.echo(command)
        code = _python(*STEPS[step], folder=root, OMP_NUM_THREADS=threads)
    return step, code, time.monotonic() - started


def _python(*arguments: str, folder: Path, **environment: str) -> int:
    """Run `python -m …` in a folder; its exit status."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | environment).returncode


def _aside(*arguments: str, folder: Path) -> tuple[int, str]:
    """Run `python -m …` in a folder while nobody else wants the processor; its exit status and what it says."""
    import psutil

    last = psutil.IDLE_PRIORITY_CLASS if os.name == "nt" else 19
    command = [sys.executable, "-m", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=subprocess.STDOUT, encoding="utf-8") as process:
        psutil.Process(process.pid).nice(last)
        said, _ = process.communicate()
    return process.returncode, said


def lab(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of your copy; default: my-lessons/ in the repository.")
    ] = None,
) -> None:
    """Open your own copy of the lessons.

    It is made, or brought up to date and keeps your answers, and opens in JupyterLab. A new copy opens with its first
    lesson.
    """
    lessons = needs.lessons()
    needs.extra("course")
    from btlib.cli.copies import bring_up_to_date, read
    from btlib.cli.lessons import find_lessons

    copy = folder or paths.root() / "my-lessons"
    found = find_lessons(lessons)
    first = copy / found[0].path.name
    opened = copy if first.exists() else first
    with needs.sentences():
        changed = bring_up_to_date(copy, {one.name: read(one.path) for one in found})
    typer.echo(f"{copy}: " + (f"new or changed: {', '.join(changed)}" if changed else "up to date"), err=True)
    raise typer.Exit(_python("jupyterlab", str(opened), folder=lessons.parent))


def clean() -> None:
    """Remove build/ and caches.

    Data, trained networks and .venv stay.
    """
    root = needs.repository()
    folders = [root / name for name in CACHES]
    for part in ("btlib", "tests", "notebooks", "benchmarks"):
        for name in ("__pycache__", ".ipynb_checkpoints"):
            folders += (root / part).rglob(name)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
