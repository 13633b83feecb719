"""Image data sets as uint8 tensors in memory, and the values that load them (floor 1).

Every data set is read once and then kept as four tensors, so that training and attacks index tensors instead of
converting images one by one. What says which data set is meant is a `DataSource`: by it specs, attacks and results
know their images.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from btlib.datasets.container import DefenderSplit, ImageDataset
from btlib.datasets.folders import FolderReader
from btlib.datasets.images import Shape, as_float, as_labels, check_images, sample_per_class, to_float, to_uint8
from btlib.datasets.named import FASHION_MNIST_SUMS, MNIST_SUMS, cifar_reader, gtsrb_reader, idx_reader
from btlib.datasets.readers import DataError, Facts, Reader, names, register, roots
from btlib.datasets.sources import DataSource

__all__ = [
    "DataError", "DataSource", "DefenderSplit", "Facts", "ImageDataset", "Reader", "Shape", "as_float", "as_labels",
    "available", "check_images", "load", "names", "register", "roots", "sample_per_class", "to_float", "to_uint8",
    "verify",
]  # fmt: skip

register("fashion-mnist", idx_reader("FashionMNIST", FASHION_MNIST_SUMS, Facts((1, 28, 28), 10, 60_000, 10_000)))
register("mnist", idx_reader("MNIST", MNIST_SUMS, Facts((1, 28, 28), 10, 60_000, 10_000)))
register("cifar10", cifar_reader("CIFAR10", Facts((3, 32, 32), 10, 50_000, 10_000)))
register("cifar100", cifar_reader("CIFAR100", Facts((3, 32, 32), 100, 50_000, 10_000)))
# The official numbers of images, and those of the course's 32x32 copy (two unreadable files less).
_COUNTS = {"train": (26640, 26638), "test": (12630,)}
register("gtsrb", gtsrb_reader(_COUNTS, Facts((3, 32, 32), 43, 26_640, 12_630)))
register("folder:", FolderReader())


def load(
    data: str | Mapping[str, Any] | DataSource | ImageDataset, *, root: str | Path | None = None,
    size: int | None = None, channels: int | None = None, test_fraction: float | None = None, seed: int | None = None,
    download: bool = True,
) -> ImageDataset:  # fmt: skip
    """Load a data set as uint8 tensors; read once in a process, each caller gets a copy.

    Args:
        data: ``"fashion-mnist"`` (embedded, works offline), ``"mnist"``, ``"cifar10"``, ``"cifar100"``, ``"gtsrb"``,
            a name of your own (`register`), or ``"folder:PATH"`` with ``train/<class>/*`` and ``test/<class>/*``, or
            ``<class>/*`` alone, which is split by `seed`. A relative PATH is sought below the data roots. Whatever
            `DataSource.of` takes will do.
        root: a torchvision root; default: `roots()`.
        size: resize to size×size pixels (bilinear). Default: as stored; 32 for gtsrb and folders.
        channels: 3 (RGB, the default) or 1 (grey), for folders only.
        test_fraction: share of each class held out when a folder has no split of its own; default 0.2.
        seed: that split's seed; default 0.
        download: let torchvision download what is missing.

    Returns:
        An `ImageDataset` with its `DataSource`.

    Raises:
        ValueError: unknown name, a bad setting, or one that means nothing for this data set.
        DataError: data missing, incomplete or corrupt.

    Example:
        >>> load("fashion-mnist").x_train.shape
        torch.Size([60000, 1, 28, 28])
    """
    settings = {"root": root, "size": size, "channels": channels, "test_fraction": test_fraction, "seed": seed}
    return DataSource.of(data, **settings).load(download=download)


def available(data: str | Mapping[str, Any] | DataSource | ImageDataset) -> bool:
    """Whether a data set's images are there: a look, nothing is read or downloaded.

    Raises:
        ValueError: unknown name.

    Example:
        >>> available("fashion-mnist"), available("folder:no-such-folder")
        (True, False)
    """
    return DataSource.of(data).available()


def verify(data: str | DataSource = "fashion-mnist") -> None:
    """Check that a data set is present and intact, without a download.

    Raises:
        DataError: when it is not; the message says what to do.
    """
    DataSource.of(data).load(download=False)
