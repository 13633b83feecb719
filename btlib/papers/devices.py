"""Where a job runs: on a GPU of its own (floor 5)."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import Timeout

from btlib.locks import lock as file_lock


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


def places() -> list[tuple[int, int]]:
    """A GPU and how many jobs share it, once for each job that may run at a time; empty without a GPU.

    One job for each 20 GiB, up to four: what a GPU computes for one small network leaves most of it idle.

    Example:
        >>> len(places()) >= torch.cuda.device_count()
        True
    """
    shares = [max(1, min(4, torch.cuda.get_device_properties(i).total_memory // (20 * 2**30)))
              for i in range(torch.cuda.device_count())]  # fmt: skip
    most = max(shares, default=0)  # every GPU has one job before any has two
    return [(index, share) for place in range(most) for index, share in enumerate(shares) if place < share]


@contextmanager
def own_device(folder: str | Path | None = None) -> Iterator[torch.device]:
    """A GPU, or a part of its memory, that no other job of this user has, made torch's current one; else the CPU.

    Args:
        folder: of the lock files; default: the system's temporary one.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    free = places()
    names = [f"{torch.cuda.get_device_properties(index).uuid} {free[:place].count((index, share))}"
             for place, (index, share) in enumerate(free)]  # fmt: skip
    with claimed(names, folder) as place:
        index, share = free[place]
        with torch.cuda.device(index):
            torch.cuda.set_per_process_memory_fraction(1 / share, index)
            try:
                yield torch.device("cuda", index)
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0, index)
