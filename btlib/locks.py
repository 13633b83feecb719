"""One process at a time, and none that outlives the one that started it (floor 0)."""

import getpass
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from tqdm.auto import tqdm


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Wait until no other process of this machine and user is in a block for the same path, then keep them out.

    Two that want the same file don't both make it: look for it again inside the block. Who waits is shown a line.

    Example:
        >>> with alone("some/file"):
        ...     pass
    """
    held = lock(hashlib.sha256(str(Path(path).absolute()).encode()).hexdigest()[:16])
    try:
        held.acquire(timeout=1)
    except Timeout:
        with tqdm(desc=f"waiting: another process makes {Path(path).name}", bar_format="{desc} {elapsed}", leave=False):
            held.acquire()
    try:
        yield
    finally:
        held.release()


def lock(name: str, folder: str | Path | None = None) -> FileLock:
    """A lock of this user's that dies with its process; not acquired yet.

    Args:
        name: of what is locked.
        folder: of the lock's file; default: the system's temporary one.

    Example:
        >>> lock("a").is_locked
        False
    """
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user may have a number and no name
        user = str(getattr(os, "getuid", lambda: "user")())
    return FileLock(Path(folder or tempfile.gettempdir()) / f"btlib-{user}-{name}.lock")


def end_with(parent: int) -> None:
    """End this process within a second or two of its parent, which may be killed and then can't tell it to.

    Args:
        parent: number of the process that started this one; if that has ended already, this one ends at once.
    """

    def watch() -> None:
        while os.getppid() == parent and psutil.pid_exists(parent):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
