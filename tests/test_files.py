"""A file is whole or absent."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from btlib.files import (
    MOST_TEXT,
    TextError,
    folder_written_whole,
    read_json,
    read_text,
    scratch,
    signed,
    write_text,
    written_whole,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.bin"
    with written_whole(str(path)) as part:
        part.write_bytes(b"half")
        assert not path.exists()
        assert part.parent == path.parent, "another file system could not rename in one step"
        part.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with written_whole(path) as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_takes_the_place_of_another_or_leaves_it(tmp_path: Path, error: type[BaseException]) -> None:
    def write(name: str, then: BaseException | None = None) -> None:
        with folder_written_whole(tmp_path / "deep" / "site") as part:
            (part / name).write_text(name)
            if then:
                raise then

    write("old.html")
    with pytest.raises(error):
        write("half.html", error())
    assert names(tmp_path) == ["old.html"]
    write("new.html")
    assert names(tmp_path) == ["new.html"], "what the older one held is gone, and nothing stays beside it"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["site"]


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "a.html", "first: ü")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text(encoding="utf-8") == "first: ü"
    assert names(tmp_path) == ["a.html"]


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a", "old")

    def write() -> None:
        with written_whole(path) as part, written_whole(part) as inner:
            inner.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        OSError, match=f"^.Errno 28. No space left on device: {path} was not written, .* make room and run"
    ):
        write()
    assert names(tmp_path) == ["a"]
    assert path.read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
def test_a_folder_that_is_not_ours_is_named_with_what_to_do(tmp_path: Path) -> None:
    place = tmp_path
    if os.geteuid() == 0:  # who may write to every folder but the kernel's
        place = Path("/sys/kernel")
        if not place.is_dir():
            pytest.skip("root may write everywhere here")
    else:
        place.chmod(0o500)
    with pytest.raises(OSError, match=rf"{place}/a.txt can not be written; name a folder that is yours to write to"):
        write_text(place / "a.txt", "new")


def test_the_file_has_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with written_whole(tmp_path / "a") as part:
            part.write_bytes(b"")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027, "the process's mask was changed"
    finally:
        os.umask(before)


KILLED = """
import os, signal, sys
from btlib.files import written_whole
with written_whole(sys.argv[1]) as part:
    part.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path, other = tmp_path / "a[1].bin", tmp_path / "b.bin"
    for each in (path, other):
        subprocess.run([sys.executable, "-c", KILLED, str(each)], check=False)
    assert len(names(tmp_path)) == 2
    assert not path.exists()
    with written_whole(path) as living, written_whole(path) as part:
        assert living.exists(), "one that is still at it keeps its file"
        part.write_bytes(b"whole")
    assert [name for name in names(tmp_path) if not name.startswith(".b.bin")] == ["a[1].bin"]
    write_text(other, "whole")
    assert names(tmp_path) == ["a[1].bin", "b.bin"]


def test_what_others_left_is_not_ones_own(tmp_path: Path) -> None:
    """Of living processes, of other machines, and what only looks alike."""
    mine = signed(tmp_path, ".a.")
    for name in (f"{mine}1", ".a.elsewhere-1-x", ".a.x", "a.txt"):
        (tmp_path / name).touch()
    before = names(tmp_path)
    assert signed(tmp_path, ".a.") == mine
    assert names(tmp_path) == before


def test_what_a_killed_one_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = "import os, tempfile; from btlib.files import scratch; s = scratch('x'); s.__enter__(); tempfile.mkstemp()"
    here = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", f"{left}; os._exit(9)"], env=here, check=False)
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 1
    with mock.patch.object(tempfile, "tempdir", str(tmp_path)), scratch("x") as own:
        assert list(tmp_path.iterdir()) == [own]
    assert not list(tmp_path.iterdir())


def sparse(path: Path, size: int) -> Path:
    """A file of so many zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_text_is_read_up_to_a_size_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "größer".encode())  # as Windows' editors write it
    assert read_text(path) == "größer"
    assert len(read_text(sparse(tmp_path / "most.txt", MOST_TEXT))) == MOST_TEXT
    with pytest.raises(TextError, match=r"b.txt: expected a file of at most 33,554,432 bytes, got 33,554,433 bytes"):
        read_text(sparse(tmp_path / "b.txt", MOST_TEXT + 1))


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (
            lambda p: p.write_bytes(b"a\xff"),
            r"expected text in UTF-8, got other bytes \(invalid start byte at byte 1\)",
        ),
        (os.mkfifo, "got a folder, a pipe or a device"),  # it would be waited for, without end
        (Path.mkdir, "got a folder, a pipe or a device"),
        (lambda p: p.symlink_to("/dev/zero"), "got a folder, a pipe or a device"),
        (lambda p: p.write_text("[" * 200_000), "expected JSON, got too many lists in lists"),
        (lambda p: p.write_text("{'a': 1}"), r"expected JSON, got something else \(Expecting property name"),
    ],
)
def test_what_is_no_text_is_told_in_a_sentence(tmp_path: Path, make: Callable[[Path], object], got: str) -> None:
    make(tmp_path / "a.json")
    with pytest.raises(TextError, match=f"a.json: .*{got}.*; get it again"):
        read_json(tmp_path / "a.json")


def test_a_file_that_is_missing_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
