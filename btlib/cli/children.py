"""Other Pythons for a while: with a time limit, without leftovers."""

import os
import signal
import subprocess
import sys
import tempfile
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
    # A file, no pipe: a pipe would not end before everybody has left it, and a kernel may stay behind.
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"} | more,
        )  # fmt: skip
        timed_out = not _ended(process, max(0.1, seconds - asked))
        if timed_out and asked:
            process.send_signal(signal.SIGINT)
        if timed_out and not (asked and _ended(process, asked)):
            _end(process)
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
    last = " | ".join(line.strip() for line in lines[-5:] if line.strip())
    return Ended(process.returncode, timed_out, f"time was up; {last}" if timed_out else last)


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ends within so many seconds."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started; a kernel has a session of its own, and may not notice."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for each in started:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    _ended(process, 10)


def many(commands: Sequence[Sequence[str]], *, folder: Path, seconds: float, jobs: int) -> list[Ended]:
    """Run several, `jobs` at a time, all within the same seconds; each has its share of the cores."""
    import time

    ends, threads = time.monotonic() + seconds, max(1, (os.cpu_count() or 1) // jobs)

    def within(arguments: Sequence[str]) -> Ended:
        return one(arguments, folder=folder, seconds=max(0.1, ends - time.monotonic()), threads=threads)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(within, commands))
