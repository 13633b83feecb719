"""Files that are whole or absent (floor 0): everything btlib writes goes through here."""

import getpass
import glob
import hashlib
import os
import platform
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from tqdm.auto import tqdm


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it does not.

    Args:
        path: the file to write; its folder is made where missing.

    Yields:
        the temporary path, in the same folder, to write to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, written_whole(f"{folder}/a.txt") as part:
        ...     _ = part.write_text("whole")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=signed(path.parent, f".{path.name}."))
    os.close(handle)
    part = Path(name)
    try:
        yield part
        umask = os.umask(0)  # mkstemp makes files private; give the result the usual permissions
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        with part.open("rb+") as written:  # else a machine that stops may keep the new name and not the content
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def signed(folder: Path, stem: str) -> str:
    """A stem for temporary names that says who writes; what killed processes of this machine left is removed first.

    Example:
        >>> signed(Path("."), ".a.").startswith(".a.")
        True
    """
    stem += f"{platform.node()}-"
    for left in folder.glob(f"{glob.escape(stem)}*"):
        pid = left.name.removeprefix(stem).partition("-")[0]
        if not pid.isdecimal() or psutil.pid_exists(int(pid)):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    return f"{stem}{os.getpid()}-"


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(f"{folder}/a.txt", "whole").read_text()
        'whole'
    """
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def printable(text: str) -> str:
    """A name as it can be shown: what would steer a terminal, or is no letter in any encoding, is replaced.

    Example:
        >>> printable("red\\x1b[31m") == "red\\ufffd[31m"
        True
    """
    return "".join("\ufffd" if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text)


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
