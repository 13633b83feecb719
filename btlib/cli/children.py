"""Other Pythons for a while: with a time limit, without leftovers."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: of its exit; not 0: it failed, or its time was up.
        timed_out: whether its time was up.
        why: its last words.
    """

    status: int
    timed_out: bool
    why: str


def one(
    arguments: Sequence[str], *, folder: Path, seconds: float, threads: int | None = None, asked: float = 0,
) -> Ended:  # fmt: skip
    """Run `python …` in a folder; with all that it started, it ends when the time is up.

    Args:
        arguments: of Python.
        folder: where it runs, and what it imports first.
        seconds: how long it may take.
        threads: of torch; None: as many as it likes.
        asked: so many seconds before the end it is asked to end, as by Ctrl+C: pytest then tells what it knows.
    """
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    more = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"} | more,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        said, timed_out = process.communicate(timeout=max(0.1, seconds - asked))[0], False
    except subprocess.TimeoutExpired:
        said, timed_out = _ended(process, asked), True
    last = " | ".join(line.strip() for line in said.splitlines()[-5:] if line.strip())
    return Ended(process.returncode, timed_out, f"time was up; {last}" if timed_out else last)


def _ended(process: subprocess.Popen[str], asked: float) -> str:
    """Make a process end, gently where it has some seconds for it; what it said."""
    with suppress(subprocess.TimeoutExpired):
        if asked:
            process.send_signal(signal.SIGINT)
            return process.communicate(timeout=asked)[0]
    _end(process)
    return process.communicate()[0]


def _end(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it started; a kernel has a session of its own, and may not notice."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for each in started:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def many(commands: Sequence[Sequence[str]], *, folder: Path, seconds: float, jobs: int) -> list[Ended]:
    """Run several, `jobs` at a time, all within the same seconds; each has its share of the cores."""
    import time

    ends, threads = time.monotonic() + seconds, max(1, (os.cpu_count() or 1) // jobs)

    def within(arguments: Sequence[str]) -> Ended:
        return one(arguments, folder=folder, seconds=max(0.1, ends - time.monotonic()), threads=threads)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(within, commands))
