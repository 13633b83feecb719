"""Where things lie (floor 0): the one module that knows a checkout of the repository from an installed library.

Nothing is written beside installed code: what is made or downloaded goes to folders of the user's.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CODE = Path(__file__).resolve().parent
TEMPLATES = CODE / "cli" / "templates"


def _is_checkout(folder: Path) -> bool:
    return all((folder / name).exists() for name in ("pyproject.toml", "btlib", "data/checkpoints"))


#: The repository that this very code lies in; None where btlib is installed.
CHECKOUT = CODE.parent if _is_checkout(CODE.parent) else None
#: Networks and attacks that come with btlib, to be read only.
SHIPPED = CHECKOUT / "data" / "checkpoints" if CHECKOUT else CODE / "shipped"


def repository() -> Path | None:
    """The repository: that of the code, else the one around the current folder; None outside of both.

    Example:
        >>> (repository() / "btlib").is_dir()
        True
    """
    here = Path.cwd()
    return CHECKOUT or next(filter(_is_checkout, (here, *here.parents)), None)


def root() -> Path:
    """Where relative paths of results and pages begin: the repository, else the current folder.

    Example:
        >>> root() == repository()
        True
    """
    return repository() or Path.cwd()


def notebooks() -> Path:
    """The folder of the lessons: the repository's, else the current folder.

    Example:
        >>> notebooks().name
        'notebooks'
    """
    found = repository()
    return found / "notebooks" if found else Path.cwd()


def results() -> Path:
    """The folder of the papers' results: the repository's, else the user's data folder. An installed btlib has none.

    Example:
        >>> results().name
        'results'
    """
    return (repository() or _users_data()) / "results"


def data_folders() -> tuple[Path, ...]:
    """Folders in which data sets are sought, in order; the first is where a download goes.

    ``$BTLIB_DATA`` where set, then the repository's ``data/``; an installed btlib also looks into the user's cache and
    data folders.

    Example:
        >>> data_folders()[-1].name
        'data'
    """
    named, found = os.environ.get("BTLIB_DATA"), repository()
    folders = [Path(named).expanduser().resolve()] if named else []
    folders += [found / "data"] if found else []
    return tuple(folders if CHECKOUT else [*folders, cache() / "data", _users_data() / "data"])


def restored_by(what: str) -> str:
    """The command that brings back files that came with btlib.

    Args:
        what: the folder, as seen from the repository.

    Example:
        >>> restored_by("data")
        '`git checkout -- data`'
    """
    return f"`git checkout -- {what}`" if CHECKOUT else "`pip install --force-reinstall --no-deps btlib`"


def cache() -> Path:
    """Folder for what can be made again: ``data/cache`` of the checkout, or the user's cache folder.

    Where neither can be written to (a shared checkout, no home): a folder among the system's temporary ones.

    Example:
        >>> cache().is_absolute()
        True
    """
    if CHECKOUT and _writable(CHECKOUT / "data" / "cache"):
        return CHECKOUT / "data" / "cache"
    import platformdirs

    folder = platformdirs.user_cache_path("btlib", appauthor=False)
    user = getattr(os, "getuid", lambda: "user")()
    return folder if _writable(folder) else Path(tempfile.gettempdir()) / f"btlib-{user}"


@contextmanager
def from_here() -> Iterator[None]:
    """Inside, modules of the current folder can be imported.

    Example:
        >>> with from_here():
        ...     sys.path[0] == str(Path.cwd())
        True
    """
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _users_data() -> Path:
    import platformdirs

    return platformdirs.user_data_path("btlib", appauthor=False)


def _writable(folder: Path) -> bool:
    """Whether files can be made there; without a home, platformdirs gives a relative path."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return folder.is_absolute() and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
