"""A folder of pictures for each class, as torchvision's ImageFolder reads them (floor 1)."""

import os
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from btlib.datasets.container import ImageDataset
from btlib.datasets.images import sample_per_class
from btlib.datasets.pictures import ENDINGS, decode
from btlib.datasets.readers import DataError, Facts, Reader, roots
from btlib.datasets.sources import DataSource
from btlib.files import printable

_TRAIN, _TEST = ("train",), ("test", "val", "valid")  # in any case; of several, the first


@dataclass(frozen=True)
class ClassFolders:
    """Pictures by class.

    Attributes:
        classes: the folders' names sorted as text, so "10" comes before "2": their order is that of the labels. Signs
            that can't be shown are replaced.
        files: the pictures of each class, sorted.
    """

    classes: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]

    @property
    def labels(self) -> Tensor:
        """int64 labels of all pictures, class by class."""
        counts = torch.tensor([len(files) for files in self.files])
        return torch.arange(len(self.files)).repeat_interleave(counts)


def class_folders(path: Path) -> ClassFolders:
    """What lies in the class folders of a folder. Hidden names and what archives leave behind count for nothing.

    Raises:
        DataError: no class, or one without a picture.
    """
    classes = sorted(_folders(path))
    if not classes:
        raise DataError(f"{path}: expected one subfolder of images per class, got no subfolders; add them")
    files = [_pictures(path / name) for name in classes]
    for name, found in zip(classes, files, strict=True):
        inner = _folders(path / name)
        if inner and not any(file.parent == path / name for file in found):
            raise DataError(f"{path}: expected one subfolder of images per class, but {name} holds only folders "
                            f"({', '.join(sorted(inner)[:3])}, …); give that one, or move its images up")  # fmt: skip
    empty = [name for name, found in zip(classes, files, strict=True) if not found]
    if empty:
        raise DataError(f"{path}: expected one subfolder of images per class, got no images in "
                        f"{', '.join(empty[:5])}; add some ({', '.join(ENDINGS)}) or remove it")  # fmt: skip
    return ClassFolders(tuple(map(printable, classes)), tuple(tuple(found) for found in files))


def parts(path: Path) -> tuple[Path, Path] | None:
    """The folders for training and for testing ("test", else "val" or "valid"), or None where there are none.

    Example:
        >>> parts(Path("no-such-folder")) is None
        True
    """
    found = {name.lower(): path / name for name in sorted(_folders(path)) if _folders(path / name)}
    both = [next((found[name] for name in names if name in found), None) for names in (_TRAIN, _TEST)]
    return None if both[0] is None or both[1] is None else (both[0], both[1])


def _folders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return [entry.name for entry in os.scandir(path) if entry.is_dir() and _counts(entry.name)]


def _counts(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _pictures(path: Path) -> list[Path]:
    found, seen = {}, set()
    for folder, inner, files in os.walk(path, followlinks=True):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:  # a link leads back
            inner.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        inner[:] = sorted(filter(_counts, inner))
        found[folder] = [Path(folder, f) for f in sorted(files) if _counts(f) and f.lower().endswith(ENDINGS)]
    return list(chain(*(found[folder] for folder in sorted(found))))


class FolderReader(Reader):
    """``folder:PATH`` with ``train/<class>/*`` and ``test/<class>/*``, or ``<class>/*`` alone, split by a seed."""

    def __init__(self) -> None:
        self.settings = {"root": None, "size": 32, "channels": 3, "test_fraction": 0.2, "seed": 0}

    def look(self, source: DataSource) -> None:
        """Without a look at each of its files."""
        _found(source)

    def find(self, source: DataSource, download: bool) -> Hashable:
        """The folder, and a mark that changes with its files."""
        path = _found(source)
        states = ((file, file.stat() if file.exists() else file.lstat()) for file in _pictures(path))
        return path, hash(tuple((file, state.st_mtime_ns, state.st_size) for file, state in states))

    def read(self, source: DataSource, place: Any) -> ImageDataset:
        """Its images; without a split of its own some of each class are held out."""
        path, shape = place[0], _shape(source)
        both = parts(path)
        if both is None:
            classes, x, y = _decoded(path, shape)
            held_out = _held_out(path, classes, y, source)
            tensors = x[~held_out], y[~held_out], x[held_out], y[held_out]
        else:
            (classes, x, y), (others, x_test, y_test) = (_decoded(part, shape) for part in both)
            if classes != others:
                differ = sorted(set(classes) ^ set(others))
                raise DataError(f"{path}: {both[0].name}/ and {both[1].name}/ must hold the same class folders, but "
                                f"{differ} are in one only")  # fmt: skip
            tensors = x, y, x_test, y_test
        return ImageDataset(f"folder:{path.name}", *tensors, classes)

    def facts(self, source: DataSource) -> Facts:
        """Shape from the settings, numbers from a look at the folder, where it is there."""
        try:
            path = _found(source)
            first, *more = map(class_folders, parts(path) or (path,))
            y, test = first.labels, len(more[0].labels) if more else 0
            held_out = 0 if more else int(_held_out(path, first.classes, y, source).sum())
        except DataError:
            return Facts(_shape(source))
        return Facts(_shape(source), len(first.classes), len(y) - held_out, test + held_out)


def _decoded(path: Path, shape: tuple[int, int, int]) -> tuple[tuple[str, ...], Tensor, Tensor]:
    found = class_folders(path)
    return found.classes, decode(list(chain(*found.files)), shape, path.name)[0], found.labels


def _held_out(path: Path, classes: tuple[str, ...], y: Tensor, source: DataSource) -> Tensor:
    """Which images are for testing: a share of each class, one at least, and never all."""
    held_out = torch.zeros(len(y), dtype=torch.bool)
    for label, name in enumerate(classes):
        count = int((y == label).sum())
        if count < 2:
            raise DataError(f"{path}: expected two images of {name} at least, one to train and one to test, got one; "
                            "add some, or divide them into train/ and test/")  # fmt: skip
        share = min(count - 1, max(1, round((source.test_fraction or 0) * count)))
        held_out[sample_per_class(y, share, [label], seed=source.seed or 0)] = True
    return held_out


def _shape(source: DataSource) -> tuple[int, int, int]:
    return source.channels or 3, source.size or 32, source.size or 32


def _found(source: DataSource) -> Path:
    path = Path(source.name.removeprefix("folder:")).expanduser()
    searched = (Path(source.root),) if source.root else roots()
    candidates = [path] if path.is_absolute() else [root / path for root in searched]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    places = " or ".join(map(str, candidates))
    raise DataError(f"folder {str(path)!r} is missing: it was sought in {places}. Give an absolute path, "
                    "or set BTLIB_DATA to the folder that contains it.")  # fmt: skip
