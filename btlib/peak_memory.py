"""The largest resident memory of processes while something runs (floor 0)."""

import threading
from types import TracebackType
from typing import Self

import psutil


class PeakMemory:
    """Inside its `with` block, looks again and again how much memory is resident.

    A program's pages are counted once in each process that holds them, so a sum errs upwards.

    Attributes:
        mb: the largest figure seen so far, MiB.

    Args:
        own: watch this very process; else the processes that it starts inside the block, and theirs, together.
        interval: seconds between looks.

    Example:
        >>> with PeakMemory(own=True) as peak:
        ...     numbers = list(range(1000))
        >>> peak.mb > 1
        True
    """

    def __init__(self, *, own: bool = False, interval: float = 0.1) -> None:
        self.mb = 0.0
        self._own, self._interval, self._seen = own, interval, set[int]()
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
        done = False
        while not done:  # at least one look
            self.mb = max(self.mb, self._look())
            done = self._done.wait(self._interval)

    def _look(self) -> float:
        """MiB that are resident now."""
        watched = [psutil.Process()] if self._own else self._children()
        # Between fork and exec a new process shows its parent's pages: it counts from the second look on.
        settled = (process for process in watched if self._own or process.pid in self._seen)
        resident = sum(map(_resident, settled)) / 2**20
        self._seen = {process.pid for process in watched}
        return resident

    def _children(self) -> list[psutil.Process]:
        return [child for child in psutil.Process().children(recursive=True) if child.pid not in self._before]


class PeakGpuMemory(PeakMemory):
    """Likewise how much of the GPU is taken, by whomever; 0 without one."""

    def _look(self) -> float:
        import torch

        free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (0, 0)
        return (total - free) / 2**20


def _resident(process: psutil.Process) -> int:
    """Resident bytes; 0 for a process that has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
