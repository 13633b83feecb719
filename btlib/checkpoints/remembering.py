"""Where the files of networks and attacks lie, and how one is made once (floor 3)."""

import glob
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from tqdm.auto import tqdm

from btlib import paths, sealed
from btlib.datasets import DataSource, ImageDataset
from btlib.locks import alone

SHIPPED = paths.SHIPPED


class CheckpointError(RuntimeError):
    """A checkpoint is stale, tampered with or unreadable; the message says which and what to do."""


class Named(Protocol):
    """What has a file: `Spec`, and an attack's."""

    @property
    def file_name(self) -> str:
        """Readable name and hash."""
        ...


N = TypeVar("N", bound=Named)


def remembered(spec: Named, make: Callable[[Path], None], *, folder: str | Path | None = None) -> Path:
    """The file of a spec: where it lies, or made now; ``BTLIB_RETRAIN=1`` makes it anew in any case.

    Args:
        spec: whose file.
        make: writes it to the path that it is given; may go on from a file beside it, see `unfinished`.
        folder: where to look and write, as in `load_or_train`.

    Example:
        >>> import tempfile
        >>> from btlib.checkpoints import Spec
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     remembered(Spec(seed=12345), lambda path: path.touch(), folder=folder).exists()
        True
    """
    retrain = _retrain()
    path = find(spec, folder=folder)
    if path is None or retrain:
        path = cache_folder(folder) / spec.file_name
        with alone(path):
            if retrain:
                forget(path)
            if retrain or not path.exists():  # another process may have made it meanwhile
                make(path)
    return path


def _retrain() -> bool:
    return os.environ.get("BTLIB_RETRAIN", "0") not in ("", "0")


def find(spec: Named, *, folder: str | Path | None = None) -> Path | None:
    """The file of a spec, or None where it has not been made yet.

    Example:
        >>> from btlib.checkpoints import Spec
        >>> find(Spec(trigger="box", seed=12345)) is None
        True
    """
    places = [Path(folder)] if folder else [SHIPPED, SHIPPED / "attacks", cache_folder(None)]
    return next((place / spec.file_name for place in places if (place / spec.file_name).exists()), None)


def seconds_spent(spec: Named) -> float:
    """Seconds of the epochs that a network or an attack has on disk, finished or not, and need not be spent again.

    0 where there are none, or none that can be read: who loads them says what is wrong.

    Example:
        >>> from btlib.checkpoints import Spec
        >>> seconds_spent(Spec(trigger="box")) > 1, seconds_spent(Spec(trigger="box", seed=12345))
        (True, 0.0)
    """
    path, history = None if _retrain() else find(spec), []
    with suppress(Exception):
        if path is not None:
            history = sealed.read_card(path).card["history"]
        elif not _retrain():
            part = unfinished(cache_folder(None) / spec.file_name)
            history = torch.load(part, map_location="cpu", weights_only=True)["history"]
    return float(sum(epoch["seconds"] for epoch in history))


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where new files go: `folder`, else ``$BTLIB_CHECKPOINTS``, else below `paths.cache`.

    Example:
        >>> cache_folder("here").name
        'here'
    """
    if folder:
        return Path(folder)
    named = os.environ.get("BTLIB_CHECKPOINTS")
    return Path(named).expanduser() if named else paths.cache() / "checkpoints"


@contextmanager
def refused(path: str | Path) -> Iterator[None]:
    """Inside, what is wrong with a file becomes a `CheckpointError` that names it and says what to do.

    Example:
        >>> with refused("net.safetensors"):
        ...     raise sealed.SealError("net.safetensors: it is stale")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        btlib.checkpoints.remembering.CheckpointError: net.safetensors: it is stale, so it is not used. Delete it, ...
    """
    try:
        yield
    except sealed.SealError as error:
        raise CheckpointError(
            f"{error}, so it is not used. Delete it, or set BTLIB_RETRAIN=1 to train it anew "
            f"(shipped files come back with {paths.restored_by('data/checkpoints')})."
        ) from error
    except TypeError as error:
        raise CheckpointError(f"{path}: its card is of another version of btlib ({error}); delete it") from error


def check_origin(
    path: Path, found: Mapping[str, Any], spec: Mapping[str, Any], data_hash: str, data: DataSource | ImageDataset
) -> None:
    """Refuse a file of another spec than its name says, or of other images than those found now.

    Raises:
        CheckpointError: it is.
    """
    with refused(path):
        if found != spec:
            raise sealed.SealError(f"{path}: it was made from another spec than its name says")
        if data_hash != data.fingerprint:
            raise sealed.SealError(f"{path}: it is stale: it was made from other {data.name} images than those found")


def unfinished(path: Path) -> Path:
    """Where the making of a file keeps its last finished epoch.

    Example:
        >>> unfinished(Path("net.safetensors")).name
        'net.unfinished'
    """
    return path.with_suffix(".unfinished")


def forget(path: Path) -> None:
    """Remove what an unfinished making of a file left beside it.

    Example:
        >>> forget(Path("no-such-file.safetensors"))
    """
    for left in path.parent.glob(glob.escape(unfinished(path).name) + "*"):
        left.unlink(missing_ok=True)


def make_files(
    specs: Collection[N], folder: Path, make: Callable[[N, Path], object], read: Callable[[Path, N], object], *,
    title: str, progress: bool, force: bool,
) -> list[Path]:  # fmt: skip
    """Have the files of these specs in a folder; btlib's other files there are moved to `cache_folder`.

    Args:
        specs: whose files.
        folder: where.
        make: writes the file of a spec; called where there is none, and with `force` for all, from the beginning.
        read: refuses a file that is not whole.
        title, progress: of the bar, and whether to show it.
        force: make them all again.

    Returns:
        the files, in the order of the specs.

    Example:
        >>> import tempfile
        >>> from btlib.checkpoints import Spec
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = make_files([Spec()], Path(folder), lambda spec, path: path.touch(), lambda path, spec: None,
        ...                        title="", progress=False, force=False)
        ...     [path.exists() for path in files]
        [True]
    """
    files = []
    for spec in tqdm(specs, title, disable=not progress, unit="file"):
        path = folder / spec.file_name
        if force:
            forget(path)
        if force or not path.exists():
            make(spec, path)
        read(path, spec)
        files.append(path)
    for other in set(folder.glob("*.safetensors")) - set(files):
        with suppress(sealed.SealError):  # what btlib has not made is somebody's own
            sealed.read_card(other)
            tqdm.write(f"{other.name} is none of the {title}: moved to {cache_folder()}", file=sys.stderr)
            cache_folder().mkdir(parents=True, exist_ok=True)
            shutil.move(other, cache_folder() / other.name)
    return files
