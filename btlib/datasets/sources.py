"""What a data set is: a name and settings that load it, wherever it is asked for (floor 1)."""

import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from btlib.datasets.container import ImageDataset
from btlib.datasets.readers import DataError, Facts, Kept, Reader, reader_of, register

SETTINGS = ("root", "size", "channels", "test_fraction", "seed")


@dataclass(frozen=True)
class DataSource:
    """What loads a data set: a value that can be compared, kept in JSON and loaded again.

    Attributes:
        name: one of `names`: ``"fashion-mnist"``, …; ``"folder:PATH"``; ``"memory:…"`` for tensors of one's own.
        root: folder in which it is sought; None: `roots`.
        size: side of the images in pixels, resized (bilinear) where they have another; None: as stored.
        channels: 3 (RGB) or 1 (grey), of folders.
        test_fraction: share of each class held out where a folder has no split of its own.
        seed: that split's seed.

    Raises:
        ValueError: an unknown name, a bad value, or a setting that means nothing for this name.

    Example:
        >>> DataSource("fashion-mnist", size=32).image_shape
        (1, 32, 32)
        >>> DataSource("folder:pets") == DataSource("folder:pets", size=32, channels=3)
        True
    """

    name: str
    _: KW_ONLY
    root: str | None = None
    size: int | None = None
    channels: int | None = None
    test_fraction: float | None = None
    seed: int | None = None
    held: Kept | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        defaults, given = self.reader.settings, {key: getattr(self, key) for key in SETTINGS}
        for key, value in given.items():
            if value is not None and key not in defaults:
                raise ValueError(f"{key}: expected none for {self.name!r}, got {value}; it means nothing there, "
                                 f"leave it out ({', '.join(defaults) or 'no settings'} can be set)")  # fmt: skip
        if self.root is not None:
            given["root"] = str(Path(self.root).expanduser().resolve())
        _check(self)
        for key, default in defaults.items():
            object.__setattr__(self, key, default if given[key] is None else given[key])
        if self.held is None:
            object.__setattr__(self, "held", _OWN.get(self.name))

    def __repr__(self) -> str:
        told = self.as_json()
        settings = [] if isinstance(told, str) else [f"{k}={v!r}" for k, v in told.items() if k != "name"]
        return f"DataSource({', '.join([repr(self.name), *settings])})"

    @staticmethod
    def of(data: "str | Mapping[str, Any] | DataSource | ImageDataset", **settings: Any) -> "DataSource":
        """The source that gives this data set.

        Args:
            data: a name, a source, the JSON form of one, or images: their own source as long as they are what it
                loads, else these very tensors as they are now.
            settings: as the attributes; None: not given.

        Raises:
            ValueError: as the class does.
            TypeError: something else than a data set.

        Example:
            >>> DataSource.of("mnist", size=32).as_json()
            {'name': 'mnist', 'size': 32}
        """
        given = {key: value for key, value in settings.items() if value is not None}
        if isinstance(data, str):
            return DataSource(data, **given)
        if isinstance(data, Mapping):
            return DataSource(**{**data, **given})
        if isinstance(data, ImageDataset):
            data = _of_images(data)
        if not isinstance(data, DataSource):
            raise TypeError(f"data: expected a name, a DataSource or an ImageDataset, got {type(data).__name__}; "
                            "datasets.ImageDataset takes four tensors and class names")  # fmt: skip
        return replace(data, **given)

    def as_json(self) -> str | dict[str, Any]:
        """The name where all settings are the defaults, else name and other settings; `of` takes either."""
        defaults = self.reader.settings
        changed = {key: getattr(self, key) for key in SETTINGS if getattr(self, key) != defaults.get(key)}
        return {"name": self.name, **changed} if changed else self.name

    @property
    def label(self) -> str:
        """The name as a part of files' names."""
        return re.sub(r"[:/\\]", "-", self.name)[-150:]

    @property
    def reader(self) -> Reader:
        """What reads it."""
        return reader_of(self.name)

    def load(self, *, download: bool = True) -> ImageDataset:
        """The images, in memory of your own; read once in a process, unless the files change.

        Args:
            download: let torchvision download what is missing.

        Raises:
            DataError: data missing, incomplete or corrupt.

        Example:
            >>> data = DataSource("fashion-mnist").load()
            >>> data.source, len(data.x_train)
            (DataSource('fashion-mnist'), 60000)
        """
        return replace(self.reader.kept(self, download).data.copy(), source=self)

    def available(self) -> bool:
        """Whether the images are there: a look, nothing is read or downloaded."""
        with suppress(DataError):
            self.reader.look(self)
            return True
        return False

    @property
    def facts(self) -> Facts | None:
        """What is known without reading images; None: nothing."""
        return self.reader.facts(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W); images are read only where that is not known without."""
        return (self.facts or self._kept).image_shape

    @property
    def num_classes(self) -> int:
        """K; images are read only where that is not known without."""
        return (self.facts and self.facts.num_classes) or self._kept.num_classes

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names in label order."""
        return self._kept.classes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the images that it loads, as in `ImageDataset`."""
        return self.reader.kept(self, True).fingerprint

    @property
    def _kept(self) -> ImageDataset:
        return self.reader.kept(self, True).data


def _check(source: DataSource) -> None:
    size, channels, fraction = source.size, source.channels, source.test_fraction
    if size is not None and size < 4:
        raise ValueError(f"size: expected at least 4 pixels, got {size}; LeNet-5 wants 28, most networks 32")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: expected 3 (RGB) or 1 (grey), got {channels}; choose one of the two")
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"test_fraction: expected a share between 0 and 1, got {fraction}; 0.2 is usual")


# ---------------------------------------------------------------------------------------------- tensors of one's own


class _Memory(Reader):
    """Tensors that somebody made: as long as a source of them is in use, it can be made again from its JSON form;
    so can those of the last four data sets."""

    def __init__(self) -> None:
        self.settings = {}

    def find(self, source: DataSource, download: bool) -> Kept:
        if source.held is None:
            raise DataError(f"{source.name}: expected the tensors of this data set, which were in another process's "
                            "memory or are gone; pass the ImageDataset itself")  # fmt: skip
        return source.held

    def kept(self, source: DataSource, download: bool) -> Kept:
        return self.find(source, download)

    def facts(self, source: DataSource) -> Facts | None:
        return None if source.held is None else Facts.of(source.held.data)


_OWN: WeakValueDictionary[str, Kept] = WeakValueDictionary()
_LATEST: deque[Kept] = deque(maxlen=4)  # whoever has only their JSON form, as a measurement, still finds these


def _of_images(data: ImageDataset) -> DataSource:
    found = data.fingerprint
    with suppress(DataError):
        if data.source is not None and data.source.fingerprint == found:
            return data.source
    name = f"memory:{found[:16]}"
    kept = _OWN.setdefault(name, Kept(data.to("cpu").copy()))
    _LATEST.append(kept)
    return DataSource(name, held=kept)


register("memory:", _Memory())
