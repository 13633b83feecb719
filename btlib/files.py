"""Files that are whole or absent (floor 0): everything btlib writes goes through here."""

import errno
import glob
import json
import os
import platform
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

#: Bytes of a stranger's text, such as a notebook with its figures. As lists in lists they take thirty times as many.
MOST_TEXT = 32 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, or the largest file that is allowed
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class TextError(ValueError):
    """A file that holds no text which is worth reading; the message says why."""


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it does not.

    Args:
        path: the file to write; its folder is made where missing.

    Yields:
        the temporary path, in the same folder, to write to.

    Raises:
        OSError: no room, or not allowed; it names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, written_whole(f"{folder}/a.txt") as part:
        ...     _ = part.write_text("whole")
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=signed(path.parent, f".{path.name}."))
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        raise OSError(error.errno, f"{os.strerror(error.errno)}: {path} can not be written; name a folder that is "
                      "yours to write to") from error  # fmt: skip
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())  # mkstemp makes files private; give the result the usual permissions
        with part.open("rb+") as written:  # else a machine that stops may keep the new name and not the content
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        why = os.strerror(error.errno)
        raise OSError(error.errno, f"{why}: {path} was not written, and what was there before is kept; make room and "
                      "run it again") from error  # fmt: skip
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` when the block ends well, and vanishes when it does not.

    Args:
        path: the folder to make, or to replace with all that it holds; folders above it are made where missing.

    Yields:
        the temporary folder, beside it, to write to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, folder_written_whole(f"{folder}/pages") as part:
        ...     _ = (part / "a.txt").write_text("whole")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = signed(path.parent, f".{path.name}.")
    part, former = (Path(tempfile.mkdtemp(dir=path.parent, prefix=stem)) for _ in range(2))
    try:
        yield part
        part.chmod(0o777 & ~_umask())
        if path.exists():
            os.replace(path, former / path.name)
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A temporary folder for others' temporary files too; gone after the block, or with the next such one if killed.

    Inside, whatever this process asks Python's `tempfile` for lies there; locks are sought there too, so take none.

    Args:
        name: what it is for.

    Example:
        >>> with scratch("doctest") as folder, tempfile.NamedTemporaryFile() as file:
        ...     Path(file.name).parent == folder
        True
    """
    place, before = Path(tempfile.gettempdir()), tempfile.tempdir
    folder = Path(tempfile.mkdtemp(dir=place, prefix=signed(place, f"btlib-{name}-")))
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


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


def read_text(path: str | Path) -> str:
    """A text in UTF-8 that a stranger may have written: what is too large, or no file, is refused before it is read.

    Raises:
        OSError: it can't be read.
        TextError: more than `MOST_TEXT`, a pipe or a device, or not UTF-8.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read_text(write_text(f"{folder}/a.txt", "whole"))
        'whole'
    """
    path = Path(path)
    size = path.stat().st_size
    if not path.is_file() or size > MOST_TEXT:
        got = f"{size:,} bytes" if path.is_file() else "a folder, a pipe or a device"
        raise TextError(f"{path.name}: expected a file of at most {MOST_TEXT:,} bytes, got {got}; get it again")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(f"{path.name}: expected text in UTF-8, got other bytes ({error.reason} at byte {error.start}); "
                        "get it again") from None  # fmt: skip


def read_json(path: str | Path) -> Any:
    """What a JSON says, as in `read_text`.

    Raises:
        OSError: it can't be read.
        TextError: as in `read_text`, or no JSON, or lists in lists in lists without end.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        got = "too many lists in lists" if isinstance(error, RecursionError) else f"something else ({error})"
        raise TextError(f"{Path(path).name}: expected JSON, got {got}; get it again") from None


def printable(text: str) -> str:
    """A name as it can be shown: what would steer a terminal, or is no letter in any encoding, is replaced.

    Example:
        >>> printable("red\\x1b[31m") == "red\\ufffd[31m"
        True
    """
    return "".join("\ufffd" if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text)
