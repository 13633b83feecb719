"""The data sets that torchvision knows, checked, found or downloaded (floor 1)."""

import csv
import errno
import gzip
import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from btlib import paths
from btlib.datasets.container import ImageDataset
from btlib.datasets.pictures import decode
from btlib.datasets.readers import DataError, Facts, Reader, roots
from btlib.datasets.sources import DataSource
from btlib.files import signed, written_whole
from btlib.locks import alone

# MD5 sums of the decompressed IDX files. Fashion-MNIST: Debian's dataset-fashion-mnist; MNIST: the originals.
FASHION_MNIST_SUMS = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
MNIST_SUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
IDX_CLASSES = {
    "FashionMNIST": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "MNIST": tuple("0123456789"),
}  # fmt: skip


class NamedReader(Reader):
    """A data set that lies in a folder of its own below a root; where it is missing, torchvision may download it.

    Args:
        below: that folder, relative to the root.
        facts: of the images as stored.
        read: from the root, whether to download, and the wanted side of the images, to the images; it may leave the
            side to us.
        size: side of the images unless another one is wanted; None: as stored.
    """

    def __init__(
        self, below: str, facts: Facts, read: Callable[[Path, bool, int], ImageDataset], size: int | None = None
    ) -> None:
        self.below, self._facts, self._read = below, facts, read
        self.settings = {"root": None, "size": size}

    def find(self, source: DataSource, download: bool) -> tuple[Path, int]:
        """The first root that has the data set, and the state of what lies in its folder (not of what is further down).

        Where no root has it, it is downloaded into the first.
        """
        root = self._root(source, download)
        states = ((entry.name, entry.stat()) for entry in os.scandir(root / self.below))
        return root, hash(frozenset((name, state.st_mtime_ns, state.st_size) for name, state in states))

    def _root(self, source: DataSource, download: bool) -> Path:
        searched = (Path(source.root),) if source.root else roots()
        present = next((root for root in searched if (root / self.below).exists()), None)
        if present is not None:
            return present
        if not download:
            raise self._missing(source, searched, "downloading is switched off")
        try:
            with alone(searched[0] / self.below):
                if not (searched[0] / self.below).exists():  # another process may have got it meanwhile
                    self._download(searched[0])
        except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; torchvision raises RuntimeError
            why = f"the download failed ({' '.join(str(error).split())})"
            raise self._missing(source, searched, why) from error
        return searched[0]

    def read(self, source: DataSource, place: tuple[Path, int]) -> ImageDataset:
        """Its images, in the size that was asked for."""
        shape = self._shape(source)
        return _resized(replace(self._read(place[0], False, shape[1]), name=source.name), shape[1])

    def facts(self, source: DataSource) -> Facts:
        """As published, in the size that was asked for."""
        return replace(self._facts, image_shape=self._shape(source))

    def _shape(self, source: DataSource) -> tuple[int, int, int]:
        channels, height, width = self._facts.image_shape
        return channels, source.size or height, source.size or width

    def _download(self, root: Path) -> None:
        """Into a temporary root, and the whole folder moved over: there is never half of one."""
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=signed(root, ".downloading-")) as temporary:
            self._read(Path(temporary), True, 32)
            (root / self.below).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(temporary, self.below), root / self.below)

    def _missing(self, source: DataSource, searched: tuple[Path, ...], why: str) -> DataError:
        places = " or ".join(str(root / self.below) for root in searched)
        return DataError(
            f"data set {source.name!r} is missing: it was sought in {places}, and {why}. On a machine with a network "
            f"run btlib.datasets.load({source.name!r}) once and copy that folder here, or set BTLIB_DATA to a "
            "torchvision root that has it. A checkout of btlib's repository brings 'fashion-mnist'."
        )


def _corrupt(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what}, so it is not used. Delete it and load the data set again "
        f"(files that came with btlib come back with {paths.restored_by('data')})."
    )


def _resized(data: ImageDataset, size: int) -> ImageDataset:
    if data.image_shape[1:] == (size, size):
        return data
    from torchvision.transforms.functional import resize

    parts = {k: resize(getattr(data, k), [size, size], antialias=True) for k in ("x_train", "x_test")}
    return replace(data, **parts)


# ---------------------------------------------------------------------------------------------- files of bytes


def idx_reader(name: str, sums: Mapping[str, str], facts: Facts) -> NamedReader:
    """A reader of IDX files: MNIST, and what looks like it.

    Args:
        name: torchvision's, such as ``"FashionMNIST"``; its folder's too.
        sums: MD5 sums of the decompressed files by name.
        facts: of the images.

    Example:
        >>> idx_reader("MNIST", MNIST_SUMS, Facts((1, 28, 28), 10, 60_000, 10_000)).below
        'MNIST/raw'
    """

    def read(root: Path, download: bool, size: int) -> ImageDataset:
        if download:
            import torchvision

            getattr(torchvision.datasets, name)(str(root), download=True)
        else:
            for file, md5 in sums.items():
                _unpack_and_check(root / name / "raw" / file, md5)
        # torchvision would read them too; it takes as long to import as torch, and scanning needs nothing else of it
        parts = (_idx(root / name / "raw" / f"{split}-{what}-ubyte") for split in ("train", "t10k")
                 for what in ("images-idx3", "labels-idx1"))  # fmt: skip
        x_train, y_train, x_test, y_test = parts
        classes = IDX_CLASSES[name]
        return ImageDataset(name, x_train[:, None], y_train.long(), x_test[:, None], y_test.long(), classes)

    return NamedReader(f"{name}/raw", facts, read)


def _idx(path: Path) -> Tensor:
    """The bytes of an IDX file: two zeros, the kind of number, the number of axes, their lengths, and the numbers."""
    content = bytearray(path.read_bytes())
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, 4)
    return torch.frombuffer(content, dtype=torch.uint8, offset=4 + 4 * axes).reshape(shape)


def _unpack_and_check(path: Path, md5: str) -> None:
    packed = path.with_name(path.name + ".gz")
    if not path.exists():
        if not packed.exists():
            raise _corrupt(path.parent, f"{path.name} is missing from it")
        try:
            with written_whole(path) as part:
                with gzip.open(packed) as source, part.open("wb") as target:
                    shutil.copyfileobj(source, target)
                if _md5(part) != md5:
                    raise _corrupt(packed, f"it does not unpack to the file with MD5 {md5}")
        except (EOFError, gzip.BadGzipFile, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise DataError(f"{path.parent}: not writable, needed once to unpack {packed.name}; "
                                "run `python -m btlib check` as its owner") from error  # fmt: skip
            if isinstance(error, OSError) and error.errno is not None:  # a damaged file has no number
                raise DataError(f"{packed.name} could not be unpacked: {error.strerror}") from error
            raise _corrupt(packed, f"it cannot be unpacked ({error})") from error
    elif (found := _md5(path)) != md5:
        raise _corrupt(path, f"its MD5 sum is {found} where {md5} is expected")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cifar_reader(name: str, facts: Facts) -> NamedReader:
    """A reader of CIFAR: torchvision's ``"CIFAR10"`` or ``"CIFAR100"``.

    Example:
        >>> cifar_reader("CIFAR10", Facts((3, 32, 32), 10, 50_000, 10_000)).below
        'cifar-10-batches-py'
    """
    below = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}[name]

    def read(root: Path, download: bool, size: int) -> ImageDataset:
        import torchvision

        source = getattr(torchvision.datasets, name)
        try:
            train, test = (source(str(root), train=is_train, download=download) for is_train in (True, False))
        except RuntimeError as error:
            if download:
                raise
            sums = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
            places = [(file, root / below / file, md5) for file, md5 in sums]
            wrong = [file for file, place, md5 in places if not place.exists() or _md5(place) != md5]
            what = f"its {', '.join(wrong)} is missing or does not have torchvision's MD5 sum"
            raise _corrupt(root / below, what) from error
        x_train, x_test = (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test))
        y_train, y_test = (torch.tensor(part.targets) for part in (train, test))
        return ImageDataset(name, x_train, y_train, x_test, y_test, tuple(train.classes))

    return NamedReader(below, facts, read)


# ---------------------------------------------------------------------------------------------- pictures of signs


def gtsrb_reader(counts: Mapping[str, tuple[int, ...]], facts: Facts) -> NamedReader:
    """A reader of GTSRB.

    Args:
        counts: how many images the splits "train" and "test" may have.
        facts: of the images.

    Example:
        >>> gtsrb_reader({"train": (3,), "test": (2,)}, Facts((3, 32, 32), 43, 3, 2)).settings["size"]
        32
    """

    def read(root: Path, download: bool, size: int) -> ImageDataset:
        import torchvision

        parts: dict[str, Any] = {}
        for split in ("train", "test"):
            try:
                source = torchvision.datasets.GTSRB(str(root), split=split, download=download)
            except (RuntimeError, OSError, csv.Error, KeyError) as error:
                if download:
                    raise
                raise _corrupt(root / "gtsrb", f"the {split} split is incomplete ({error})") from error
            files, labels = [Path(path) for path, _ in source._samples], [label for _, label in source._samples]
            if len(files) not in counts[split]:
                wanted = " or ".join(map(str, counts[split]))
                what = f"its {split} split has {len(files)} images where {wanted} are expected"
                raise _corrupt(root / "gtsrb", what)
            parts[f"x_{split}"] = decode(files, (3, size, size), f"gtsrb {split}")[0]
            parts[f"y_{split}"] = torch.tensor(labels)
        return ImageDataset("gtsrb", classes=GTSRB_CLASSES, **parts)

    return NamedReader("gtsrb", facts, read, size=32)


GTSRB_CLASSES = (
    "speed limit 20", "speed limit 30", "speed limit 50", "speed limit 60", "speed limit 70", "speed limit 80",
    "end of speed limit 80", "speed limit 100", "speed limit 120", "no passing", "no passing for lorries",
    "right of way at next crossing", "priority road", "yield", "stop", "no vehicles", "no lorries", "no entry",
    "danger", "bend left", "bend right", "double bend", "bumpy road", "slippery road", "road narrows",
    "road works", "traffic signals", "pedestrians", "children crossing", "bicycles crossing", "ice or snow",
    "wild animals", "end of all limits", "turn right ahead", "turn left ahead", "ahead only",
    "straight or right", "straight or left", "keep right", "keep left", "roundabout", "end of no passing",
    "end of no passing for lorries",
)  # fmt: skip
