"""Processes to be disturbed: jobs in a home of their own, forked from this one or as a Python apart."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
MARK = "BTLIB_RELIABILITY"  # in the environment of all that a job starts


@dataclass
class Started:
    """A process that was started: the leader of its own session.

    Attributes:
        pid: its number.
        mark: the value of `MARK` in the environment of whatever it starts.
        cpu: seconds of a processor that it and its children took, once it has ended.
        peak_mb: the most memory that it held, MiB, once it has ended; a copy begins with what its parent held.
        status: how it ended, once somebody has waited for that.
    """

    pid: int
    mark: str
    cpu: float = 0.0
    peak_mb: float = 0.0
    status: int | None = None

    def wait(self, seconds: float) -> int | None:
        """Its exit status within some seconds (negative: the signal), None: it is still at it."""
        ends = time.monotonic() + seconds
        while self.status is None:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.cpu = used.ru_utime + used.ru_stime
                self.peak_mb = used.ru_maxrss / 1024
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= ends:
                break
            else:
                time.sleep(0.002)
        return self.status

    def wait_its_time(self, seconds: float) -> None:
        """Until it has had so many seconds of a processor, whatever else this machine does; or has ended."""
        clock = (~self.pid << 3) | 2  # Linux: the clock of a process
        while True:
            try:
                left = seconds - time.clock_gettime(clock)
                if left <= 0 or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:
                    return
            except (OSError, psutil.Error):
                return
            time.sleep(min(0.05, max(0.001, left / 2)))

    def signal(self, number: int) -> None:
        """Send it, and nothing else, a signal."""
        os.kill(self.pid, number)

    def left(self) -> list[psutil.Process]:
        """Those that it started and that live, it apart."""
        return [each for each in psutil.process_iter() if each.pid != self.pid and self._is_mine(each)]

    def outlived(self, seconds: float = 10.0) -> list[str]:
        """The names of those that still live after some seconds; they are ended."""
        ends = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < ends:
            time.sleep(0.05)
        names = []
        for each in left:
            try:
                names.append(" ".join(each.cmdline())[:80] or each.name())
                each.kill()
            except psutil.NoSuchProcess:
                continue
        return names

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            marked = f"{MARK}={self.mark}\0".encode() in Path("/proc", str(process.pid), "environ").read_bytes() + b"\0"
            return marked or os.getsid(process.pid) == self.pid
        except (psutil.Error, OSError):
            return False


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """Home, temporary folder, caches and data of a process's own."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    return {
        "HOME": str(home), "TMPDIR": str(home / "tmp"), "XDG_CACHE_HOME": str(home / "cache"), "BTLIB_DATA": str(home),
        "BTLIB_CHECKPOINTS": str(home / "checkpoints"), "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"), "MPLCONFIGDIR": str(home / "matplotlib"), "MPLBACKEND": "Agg",
        "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([*map(str, roots()), str(home)]),
        MARK: mark, **more,
    }  # fmt: skip


def roots() -> list[Path]:
    """What a Python apart imports from: the repository and its tests."""
    return [HERE.parents[1], HERE.parent]


def forked(run: Callable[[], object], home: Path, environment: Mapping[str, str]) -> Started:
    """A copy of this process, which has imported everything, runs a job in a home; its words go to ``home/said``."""
    pid = os.fork()
    if pid:
        return Started(pid, environment[MARK])
    status = 1
    try:
        os.setsid()
        os.chdir(home)
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ.update(environment)
        tempfile.tempdir = None
        run()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(status)


def apart(arguments: list[str], home: Path, environment: Mapping[str, str], **how: object) -> Started:
    """A Python of its own in a home; its words go to ``home/said``."""
    with (home / "said").open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=home, env=os.environ | environment, stdout=said, stderr=said,
            stdin=subprocess.DEVNULL, start_new_session=True, **how,
        )  # fmt: skip
    process.returncode = 0  # who waits is `Started`
    return Started(process.pid, environment[MARK])


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address on loopback at which a process of its own serves a folder."""
    server = _Server(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    pid = os.fork()
    if not pid:
        server.serve_forever()
    port = server.server_port
    server.server_close()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Who asked was killed."""


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def killed(process: Started) -> None:
    """End it as the system would, without a word of warning, and take its status."""
    if process.status is None:
        process.signal(signal.SIGKILL)
        process.wait(10)
