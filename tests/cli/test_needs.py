"""What the machine does not let a command do is one sentence, with what to do about it."""

import errno
import os
import shutil

import pytest
import typer

from btlib.cli.needs import disk

FULL, FORBIDDEN = os.strerror(errno.ENOSPC), os.strerror(errno.EACCES)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, FULL, "out/a"), f"out/a: {FULL}; make room on the disk"),
        (OSError(errno.EACCES, FORBIDDEN, "out"), f"out: {FORBIDDEN}; name a folder that is yours to write to"),
        (OSError(errno.ENOSPC, f"{FULL}: out/a was not written"), f"disk: {FULL}: out/a was not written"),
        (shutil.Error([("a", "out/a", f"[Errno 28] {FULL}: 'a' -> 'out/a'"), ("b", "out/b", "the same")]),
         f"out/a: {FULL}; make room on the disk"),
        (shutil.Error("a and out are the same file"),
         "disk: a and out are the same file; name a folder that is yours to write to"),
    ],
)  # fmt: skip
def test_a_disk_that_takes_nothing_is_one_sentence(
    error: OSError, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as left, disk():
        raise error
    assert left.value.exit_code == 2
    assert capsys.readouterr().err == f"{says}\n"
