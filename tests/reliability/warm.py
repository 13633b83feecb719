"""pytest in a copy of this process, which has imported what is slow and nothing of btlib."""

import importlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reliability.processes import HERE

ROOT = HERE.parents[1]
SLOW = ("torch", "torchvision.datasets", "numpy", "scipy.stats", "sklearn.mixture", "sklearn.covariance",
        "skimage.data", "matplotlib.pyplot", "PIL.Image", "pytest", "_pytest.doctest", "hypothesis", "typer", "joblib",
        "psutil", "safetensors.torch", "nbformat", "pandas", "jinja2", "tqdm.auto", "filelock",
        "platformdirs")  # fmt: skip


def warm() -> None:
    """Import what is slow, once; one thread, else a copy of the process would wait for the others for ever."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "TQDM_DISABLE": "1"}
    sys.path[:0] = [str(ROOT), str(HERE.parent)]
    sys.dont_write_bytecode = False
    for name in SLOW:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    if loaded := [name for name in sys.modules if name.split(".")[0] == "btlib"]:
        raise RuntimeError(f"btlib was imported before it could be changed: {loaded[:3]}")


def pytest_in_a_copy(
    arguments: list[str], folder: Path, *, plugins: list[Any] = (), before: Callable[[], object] = lambda: None,
    seconds: int = 3600, after: Callable[[], Any] = lambda: None,
) -> tuple[int, Any]:  # fmt: skip
    """Run pytest in a copy of this process.

    Args:
        arguments: of pytest.
        folder: to work in.
        plugins: of pytest.
        before, after: called in the copy; what `after` gives comes back, as JSON.
        seconds: of a processor; the system ends what takes longer.

    Returns:
        pytest's status (negative: the signal that ended it) and what `after` gave.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        status = 99
        try:
            os.setsid()
            os.chdir(ROOT)
            said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(said, 1)
            os.dup2(said, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            before()
            pytest = importlib.import_module("pytest")
            shutil.rmtree(folder / "pytest", ignore_errors=True)
            own = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder / 'pytest'}"]
            status = int(pytest.main([*own, *arguments], plugins=list(plugins)))
            answer.write_text(json.dumps(after()))
        finally:
            os._exit(status)
    return _ended(pid, 20.0 * seconds), json.loads(answer.read_text()) if answer.exists() else None


def _ended(pid: int, seconds: float) -> int:
    """The status of a copy; one that waits for ever is ended, with all that it started."""
    ends = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > ends:
            os.killpg(pid, 9)
            ends = float("inf")
        time.sleep(0.02)
