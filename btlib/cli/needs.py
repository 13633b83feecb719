"""What a command needs beside the library itself: one sentence says what to install, or where to run it."""

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from btlib import paths
from btlib.cli.check import install, packages

#: Of the course, what only `btlib lab` needs.
LAB = frozenset({"jupyterlab"})


def extra(name: str, *, but: Collection[str] = ()) -> None:
    """Leave with status 2 unless the packages of this extra, but for some, are installed."""
    if missing := [package for package in lacking(name) if package not in but]:
        _leave(f"packages: expected those of btlib[{name}], got no {', '.join(missing)}; {install(name)}")


def lacking(extra: str) -> list[str]:
    """Packages of an extra that are not installed, or too old."""
    return [package.name for package in packages(extra) if not package.ok]


def repository() -> Path:
    """The repository; leave with status 2 outside of one."""
    found = paths.repository()
    if found is None:
        _leave(
            f"folder: expected one inside a checkout of btlib's repository, got {Path.cwd()}; run this in a checkout"
        )
    return found


def lessons() -> Path:
    """The folder of the lessons; leave with status 2 where there are none."""
    folder = paths.notebooks()
    if not any(folder.glob("[0-9][0-9]_*.ipynb")):
        _leave(f"notebooks: expected lessons named NN_topic.ipynb, got none in {folder}; run this in a checkout of "
               "btlib's repository, or in a folder that holds its notebooks")  # fmt: skip
    return folder


@contextmanager
def sentences() -> Iterator[None]:
    """`disk`, and what is wrong with a lesson."""
    from btlib.cli.lessons import LessonError

    try:
        with disk():
            yield
    except LessonError as error:
        _leave(str(error))


@contextmanager
def disk() -> Iterator[None]:
    """Leave with status 2 and one sentence where the machine does not let us: a full disk, somebody else's folder."""
    try:
        yield
    except OSError as error:
        file, why = error.filename, error.strerror or str(error)
        if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # a copied folder's; the first file's
            _, file, why = error.args[0][0]
            why = why.partition("] ")[2].partition(": ")[0] or why
        elif file is None and error.strerror:  # `files.written_whole` says what to do
            _leave(f"disk: {why}")
        full = os.strerror(errno.ENOSPC) in why
        remedy = "make room on the disk" if full else "name a folder that is yours to write to"
        _leave(f"{file or 'disk'}: {why}; {remedy}")


def _leave(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(2)
