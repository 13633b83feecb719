"""The memory that a lesson's kernel, and whatever it starts, takes at most."""

import threading
from types import TracebackType
from typing import Self

import psutil


class PeakMemory:
    """Inside its `with` block, watches the processes that this one starts there.

    A program's pages are counted once in each process that holds them, so the figure errs upwards.

    Attributes:
        mb: the largest sum of their resident memory seen so far, in MiB.
    """

    def __init__(self, interval: float = 0.1) -> None:
        self.mb = 0.0
        self._interval = interval  # seconds between looks
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        seen: set[int] = set()
        while not self._done.wait(self._interval):
            children = self._children()
            # Between fork and exec a new process shows its parent's pages: it counts from the second look on.
            settled = (child for child in children if child.pid in seen)
            self.mb = max(self.mb, sum(map(_resident, settled)) / 2**20)
            seen = {child.pid for child in children}

    def _children(self) -> list[psutil.Process]:
        return [child for child in psutil.Process().children(recursive=True) if child.pid not in self._before]


def _resident(process: psutil.Process) -> int:
    """Resident bytes; 0 for a process that has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
