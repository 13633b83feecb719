"""Where a job runs: on a GPU of its own (floor 5)."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import Timeout

from btlib.files import lock as file_lock


@contextmanager
def claimed(names: Sequence[str], folder: str | Path | None = None, wait: float = 0.5) -> Iterator[int]:
    """One of several things for this process alone, by a file lock that dies with the process.

    Args:
        names: of the things; the same in all processes that share them.
        folder: of the lock files; default: the system's temporary one.
        wait: seconds between looks while all are taken.

    Yields:
        its place in `names`.
    """
    locks = [file_lock(name, folder) for name in names]
    while True:
        for index, lock in enumerate(locks):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield index
            finally:
                lock.release()
            return
        time.sleep(wait)


@contextmanager
def own_device(folder: str | Path | None = None) -> Iterator[torch.device]:
    """A GPU that no other job of this user has, made torch's current one; the CPU where there is none.

    Args:
        folder: of the lock files; default: the system's temporary one.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    names = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
    with claimed(names, folder) as index, torch.cuda.device(index):
        yield torch.device("cuda", index)
