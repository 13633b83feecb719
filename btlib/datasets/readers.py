"""How images are had: a reader for each name, and where they are sought (floor 1)."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btlib import paths
from btlib.datasets.container import ImageDataset

if TYPE_CHECKING:
    from btlib.datasets.sources import DataSource


class DataError(RuntimeError):
    """A data set is missing, incomplete or corrupt; the message says which file and what to do."""


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before its images are read.

    Attributes:
        image_shape: (C, H, W).
        num_classes: K; None: not known, as the numbers of images.
        train, test: numbers of images.
    """

    image_shape: tuple[int, int, int]
    num_classes: int | None = None
    train: int | None = None
    test: int | None = None

    @classmethod
    def of(cls, data: ImageDataset) -> "Facts":
        """Those of images in memory."""
        return cls(data.image_shape, data.num_classes, len(data.y_train), len(data.y_test))


class Kept:
    """Images that stay as they were read: only copies of them leave."""

    def __init__(self, data: ImageDataset) -> None:
        self.data = data

    @cached_property
    def fingerprint(self) -> str:
        """As in `ImageDataset`, worked out once."""
        return self.data.fingerprint


class Reader:
    """How the images of a source are had; one for each name in `names`.

    Args:
        function: from a source to its images; a subclass may have its own `read` instead.
        settings: which of its settings a source of this name may have, and their defaults.
    """

    def __init__(self, function: "Callable[[DataSource], ImageDataset]", settings: Mapping[str, Any]) -> None:
        self.function, self.settings = function, settings

    def read(self, source: "DataSource", place: Any) -> ImageDataset:
        """The images, from the place that `find` gave."""
        return self.function(source).copy()  # its owner may keep them, and change them

    def find(self, source: "DataSource", download: bool) -> Hashable:
        """Where the images lie. Another answer than the last time makes them be read anew.

        Raises:
            DataError: nowhere.
        """
        return None

    def look(self, source: "DataSource") -> None:
        """See whether the images lie anywhere, quickly: `find` without its answer.

        Raises:
            DataError: nowhere.
        """
        self.find(source, download=False)

    def facts(self, source: "DataSource") -> Facts | None:
        """What is known without reading; None: nothing."""
        return None

    def kept(self, source: "DataSource", download: bool) -> Kept:
        """The images, read once."""
        return _read_once(self, source, self.find(source, download))


@lru_cache(maxsize=4)
def _read_once(reader: Reader, source: "DataSource", place: Hashable) -> Kept:
    return Kept(reader.read(source, place))


_READERS: dict[str, Reader] = {}  # a name that ends in a colon has something behind it, such as a path


def register(name: str, read: "Reader | Callable[[DataSource], ImageDataset]", **settings: Any) -> None:
    """Make a data set of your own known by a name, for `load`, specs, attacks and tables in this process.

    Args:
        name: what it will be called; a name that is known is taken over. One that ends in a colon stands for many:
            what is behind it is the reader's business.
        read: from the `DataSource` to its `ImageDataset`; or a `Reader`.
        settings: which of the settings of a `DataSource` it may have, and their defaults.

    Example:
        >>> import torch
        >>> def read(source):
        ...     x, y = torch.zeros(4, 1, source.size, source.size, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
        ...     return ImageDataset(source.name, x, y, x, y, ("a", "b"))
        >>> register("night", read, size=8)
        >>> "night" in names()
        True
    """
    _READERS[name] = read if isinstance(read, Reader) else Reader(read, settings)


def names() -> tuple[str, ...]:
    """What a source may be called.

    Example:
        >>> "fashion-mnist" in names(), "folder:PATH" in names()
        (True, True)
    """
    shown = (name for name in _READERS if name != "memory:")  # tensors are passed, not named
    return tuple(f"{name}PATH" if name.endswith(":") else name for name in shown)


def reader_of(name: str) -> Reader:
    """The reader of a source's name.

    Raises:
        ValueError: nobody knows it.
    """
    kind = "".join(name.partition(":")[:2])
    if kind not in _READERS:
        raise ValueError(f"name: expected one of {', '.join(names())}, got {name!r}; check the spelling, or make your "
                         "own known with datasets.register")  # fmt: skip
    return _READERS[kind]


def roots() -> tuple[Path, ...]:
    """Folders in which data is sought, in order, see `paths.data_folders`.

    Example:
        >>> roots()[-1].name
        'data'
    """
    return paths.data_folders()
