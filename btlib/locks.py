"""One process at a time (floor 0)."""

import getpass
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
