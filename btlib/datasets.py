"""Image data sets as uint8 tensors in memory (floor 1).

Every data set is read once through torchvision's own class and then kept as four tensors, so that
training and attacks index tensors instead of converting images one by one.
"""

import csv
import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from btlib import paths
from btlib.files import alone, written_whole

NAMES = ("fashion-mnist", "mnist", "cifar10", "cifar100", "gtsrb", "folder:PATH")

# MD5 sums of the decompressed IDX files. Fashion-MNIST: Debian's dataset-fashion-mnist; MNIST: the originals.
_IDX_FILES = {
    "fashion-mnist": ("FashionMNIST", {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }),
    "mnist": ("MNIST", {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }),
}  # fmt: skip
# Number of images of GTSRB's two splits: the official ones, and the course's 32x32 copy (two unreadable files less).
_GTSRB_COUNTS = {"train": (26640, 26638), "test": (12630,)}


class DataError(RuntimeError):
    """A data set is missing, incomplete or corrupt; the message says which file and what to do."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A labelled image data set in memory.

    Attributes:
        name: the name it was loaded by, such as ``"fashion-mnist"``.
        x_train, x_test: uint8 images (N, C, H, W) in 0…255.
        y_train, y_test: int64 labels (N,) in 0…K-1.
        classes: the K class names, in label order.

    Raises:
        ValueError: when shapes, types or labels do not fit together.

    Example:
        >>> import torch
        >>> x, y = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
        >>> ImageDataset("toy", x, y, x, y, ("a", "b")).image_shape
        (1, 8, 8)
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for split, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            if x.dtype != torch.uint8 or x.ndim != 4:
                raise ValueError(
                    f"x_{split}: expected uint8 images of shape (N, C, H, W), got {x.dtype} {tuple(x.shape)}; "
                    "convert floats in [0, 1] with btlib.datasets.to_uint8(x)"
                )
            if y.dtype != torch.int64 or y.shape != x.shape[:1]:
                raise ValueError(
                    f"y_{split}: expected int64 labels of shape ({len(x)},), got {y.dtype} {tuple(y.shape)}; "
                    "use y.long(), one label per image"
                )
            if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(self.classes):
                raise ValueError(
                    f"y_{split}: expected labels in 0…{len(self.classes) - 1} for {len(self.classes)} classes, "
                    f"got {int(y.min())}…{int(y.max())}; number the classes from 0"
                )
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise ValueError(
                f"x_test: expected images of the training shape {tuple(self.x_train.shape[1:])}, "
                f"got {tuple(self.x_test.shape[1:])}; resize one of the two splits"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self.x_train.shape[1:]
        return int(c), int(h), int(w)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all images and labels, as hex: two data sets are equal when their fingerprints are."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for tensor in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @cached_property
    def pixel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the training pixels, each (C,) float32, for images in [0, 1]."""
        # From the histogram of grey levels per channel: exact, and no float copy of the images is made.
        levels = torch.arange(256, dtype=torch.float64) / 255
        flat = self.x_train.transpose(0, 1).flatten(1)
        counts = torch.stack([torch.bincount(channel, minlength=256) for channel in flat]).double().cpu()
        weights = counts / counts.sum(1, keepdim=True)
        mean = weights @ levels
        variance = (weights * (levels - mean[:, None]) ** 2).sum(1)
        return mean.float(), variance.sqrt().clamp(min=1e-3).float()

    def to(self, device: str | torch.device) -> "ImageDataset":
        """The same data set with its tensors on `device`."""
        moved = {k: getattr(self, k).to(device) for k in ("x_train", "y_train", "x_test", "y_test")}
        return replace(self, **moved)

    def subset(self, train: int | None = None, test: int | None = None, *, seed: int = 0) -> "ImageDataset":
        """A random part with the given numbers of training and test images, drawn with `seed`.

        Raises:
            ValueError: when more images are asked for than there are.

        Example:
            >>> import torch
            >>> x, y = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
            >>> len(ImageDataset("toy", x, y, x, y, ("a", "b")).subset(train=3).y_train)
            3
        """
        generator = torch.Generator().manual_seed(seed)
        parts: dict[str, Any] = {}
        for split, count in (("train", train), ("test", test)):
            x, y = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            if count is None:
                continue
            if not 0 < count <= len(y):
                raise ValueError(f"{split}: expected between 1 and {len(y)} images, got {count}; ask for fewer")
            chosen = torch.randperm(len(y), generator=generator)[:count].sort().values.to(y.device)
            parts |= {f"x_{split}": x[chosen], f"y_{split}": y[chosen]}
        return replace(self, **parts)

    def clean_images(self, per_class: int, *, seed: int = 0, split: str = "test") -> tuple[Tensor, Tensor]:
        """A balanced sample of float images: what a defender is assumed to own.

        Args:
            per_class: images per class.
            seed: which ones.
            split: ``"test"`` (default: independent of training) or ``"train"``.

        Returns:
            float32 images (K·per_class, C, H, W) in [0, 1] and int64 labels, in label order.

        Raises:
            ValueError: when a class has fewer images.
        """
        x, y = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
        chosen = sample_per_class(y, per_class, range(self.num_classes), seed=seed)
        return to_float(x[chosen]), y[chosen]


def sample_per_class(labels: Tensor, per_class: int, classes: Any, *, seed: int = 0) -> Tensor:
    """Indices of `per_class` random images of each of `classes`, in class order.

    Args:
        labels: int64 (N,).
        per_class: images wanted of each class.
        classes: iterable of labels.
        seed: the draw; the same seed gives the same images.

    Returns:
        int64 indices (len(classes)·per_class,).

    Raises:
        ValueError: when a class has fewer than `per_class` images.

    Example:
        >>> import torch
        >>> sample_per_class(torch.tensor([0, 1, 1]), 1, [0]).tolist()
        [0]
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in classes:
        members = (labels == label).nonzero().flatten().cpu()
        if len(members) < per_class:
            raise ValueError(
                f"per_class: expected at most {len(members)} (all images of class {label}), got {per_class}; "
                "lower per_class or leave the class out"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:per_class]])
    empty = torch.zeros(0, dtype=torch.int64)
    return torch.cat(chosen or [empty]).to(labels.device)


def to_float(images: Tensor) -> Tensor:
    """uint8 images 0…255 → float32 images in [0, 1], same shape.

    Raises:
        TypeError: when the images are not uint8.

    Example:
        >>> import torch
        >>> to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [0.0, 1.0]
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected uint8 in 0…255, got {images.dtype}; float images need no conversion")
    return images.float().div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [0, 1] → uint8 images 0…255, rounded to the nearest level.

    Raises:
        TypeError: when the images are not floating point.
        ValueError: when a value lies outside [0, 1] (a tolerance of 1e-6 is allowed) or is NaN.

    Example:
        >>> import torch
        >>> to_uint8(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [0, 128, 255]
    """
    check_images(images, ndim=None)
    return images.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def check_images(images: Tensor, *, name: str = "images", ndim: int | None = 4) -> None:
    """The one check of images at a public door: float, in [0, 1], (N, C, H, W).

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: wrong number of dimensions, NaN, or values outside [0, 1] by more than 1e-6.

    Example:
        >>> import torch
        >>> check_images(torch.full((1, 1, 2, 2), 2.0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: images: expected values in [0, 1], got 2…2; divide 8-bit images by 255, ...
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = f"{images.dtype} tensor" if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name}: expected a float tensor in [0, 1], got {got}; use btlib.datasets.to_float(images)")
    if ndim is not None and images.ndim != ndim:
        raise ValueError(
            f"{name}: expected shape (N, C, H, W), got {tuple(images.shape)}; add a batch dimension with images[None]"
        )
    if images.numel() == 0:
        return
    low, high = (float(v) for v in images.aminmax())
    if not (low >= -1e-6 and high <= 1 + 1e-6):  # also false for NaN
        raise ValueError(
            f"{name}: expected values in [0, 1], got {low:g}…{high:g}; "
            "divide 8-bit images by 255, and leave normalisation to the network"
        )


def as_float(images: Tensor, *, name: str = "images", ndim: int | None = 4) -> Tensor:
    """What a public door takes for images, as float in [0, 1]: uint8 is converted, floats are checked and returned.

    Raises:
        TypeError, ValueError: as in `check_images`; floats in 0…255 are refused, since nothing says what they mean.

    Example:
        >>> import torch
        >>> as_float(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)).max().item()
        1.0
    """
    if isinstance(images, Tensor) and images.dtype == torch.uint8:
        images = to_float(images)
    check_images(images, name=name, ndim=ndim)
    return images


# ---------------------------------------------------------------------------------------------- where data lives


def roots() -> tuple[Path, ...]:
    """Folders in which data is sought, in order, see `paths.data_folders`.

    Example:
        >>> roots()[-1].name
        'data'
    """
    return paths.data_folders()


def load(
    name: str, *, root: str | Path | None = None, size: int | None = None, channels: int = 3,
    download: bool = True, test_fraction: float = 0.2, seed: int = 0,
) -> ImageDataset:  # fmt: skip
    """Load a data set as uint8 tensors; a second call in the same process costs nothing.

    Args:
        name: ``"fashion-mnist"`` (embedded, works offline), ``"mnist"``, ``"cifar10"``, ``"cifar100"``,
            ``"gtsrb"``, or ``"folder:PATH"`` with ``train/<class>/*`` and ``test/<class>/*``, or ``<class>/*``
            alone, which is split by `seed`. A relative PATH is sought below the data roots.
        root: a torchvision root; default: `roots()`.
        size: resize to size×size pixels (bilinear). Default: as stored; 32 for gtsrb and folders.
        channels: 3 (RGB) or 1 (grey), for folders only.
        download: let torchvision download what is missing.
        test_fraction: share of each class held out when a folder has no split of its own.
        seed: that split's seed.

    Returns:
        An `ImageDataset`.

    Raises:
        ValueError: unknown name, bad size, channels or fraction.
        DataError: data missing, incomplete or corrupt.

    Example:
        >>> load("fashion-mnist").x_train.shape
        torch.Size([60000, 1, 28, 28])
    """
    if size is not None and size < 4:
        raise ValueError(f"size: expected at least 4 pixels, got {size}; LeNet-5 wants 28, most networks 32")
    searched = (Path(root).expanduser().resolve(),) if root else roots()
    if name.startswith("folder:"):
        return _load_folder(_folder_path(name, searched), size or 32, channels, test_fraction, seed)
    if name not in NAMES:
        raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {name!r}; check the spelling")
    return _load_named(name, _root_of(name, searched, download), size)


def available(name: str) -> bool:
    """Whether a data set's folder is below one of `roots`: a look, nothing is read or downloaded.

    Raises:
        ValueError: unknown name.

    Example:
        >>> available("fashion-mnist"), available("folder:no-such-folder")
        (True, False)
    """
    if name.startswith("folder:"):
        try:
            return _folder_path(name, roots()).is_dir()
        except DataError:
            return False
    if name not in NAMES:
        raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {name!r}; check the spelling")
    return any(_folder_of(name, root).exists() for root in roots())


def verify(name: str = "fashion-mnist") -> None:
    """Check that a data set is present and intact, without a download.

    Raises:
        DataError: when it is not; the message says what to do.
    """
    load(name, download=False)


@lru_cache(maxsize=4)
def _load_named(name: str, root: Path, size: int | None) -> ImageDataset:
    if name == "gtsrb":
        return _read_gtsrb(root, size or 32, False)
    data = _read_idx(name, root, False) if name in _IDX_FILES else _read_cifar(name, root, False)
    return data if size is None else _resized(data, size)


def _root_of(name: str, searched: tuple[Path, ...], download: bool) -> Path:
    """The first root that has the data set; where none has, it is downloaded into the first."""
    present = next((root for root in searched if _folder_of(name, root).exists()), None)
    if present is not None:
        return present
    if not download:
        raise _missing(name, searched, "downloading is switched off")
    reader: Callable[[Path, bool], ImageDataset] = {
        "fashion-mnist": lambda root, get: _read_idx("fashion-mnist", root, get),
        "mnist": lambda root, get: _read_idx("mnist", root, get),
        "cifar10": lambda root, get: _read_cifar("cifar10", root, get),
        "cifar100": lambda root, get: _read_cifar("cifar100", root, get),
        "gtsrb": lambda root, get: _read_gtsrb(root, 32, get),
    }[name]
    try:
        with alone(_folder_of(name, searched[0])):
            if not _folder_of(name, searched[0]).exists():  # another process may have got it meanwhile
                _download(name, searched[0], reader)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; torchvision raises RuntimeError
        raise _missing(name, searched, f"the download failed ({' '.join(str(error).split())})") from error
    return searched[0]


def _download(name: str, root: Path, reader: Callable[[Path, bool], ImageDataset]) -> None:
    """Let torchvision download into a temporary root and move the whole folder over: there is never half of one."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".downloading-") as temporary:
        reader(Path(temporary), True)
        folder = _folder_of(name, root)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(_folder_of(name, Path(temporary)), folder)


def _folder_of(name: str, root: Path) -> Path:
    below = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python", "gtsrb": "gtsrb"}
    return root / below[name] if name in below else root / _IDX_FILES[name][0] / "raw"


def _missing(name: str, searched: tuple[Path, ...], why: str) -> DataError:
    places = " or ".join(str(_folder_of(name, root)) for root in searched)
    return DataError(
        f"data set {name!r} is missing: it was sought in {places}, and {why}. "
        f"On a machine with a network run btlib.datasets.load({name!r}) once and copy that folder here, or set "
        "BTLIB_DATA to a torchvision root that has it. A checkout of btlib's repository brings 'fashion-mnist'."
    )


def _corrupt(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what}, so it is not used. Delete it and load the data set again "
        "(embedded files come back with `git checkout -- data`)."
    )


def _resized(data: ImageDataset, size: int) -> ImageDataset:
    if data.image_shape[1:] == (size, size):
        return data
    resize = torchvision.transforms.functional.resize
    parts = {k: resize(getattr(data, k), [size, size], antialias=True) for k in ("x_train", "x_test")}
    return replace(data, **parts)


# ---------------------------------------------------------------------------------------------- readers


def _read_idx(name: str, root: Path, download: bool) -> ImageDataset:
    folder, sums = _IDX_FILES[name]
    if not download:
        for file, md5 in sums.items():
            _unpack_and_check(root / folder / "raw" / file, md5)
    source = torchvision.datasets.FashionMNIST if name == "fashion-mnist" else torchvision.datasets.MNIST
    train, test = (source(str(root), train=is_train, download=download) for is_train in (True, False))
    classes = tuple(c.split(" - ")[0] if name == "mnist" else c for c in train.classes)
    return ImageDataset(name, train.data[:, None], train.targets, test.data[:, None], test.targets, classes)


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
            if isinstance(error, PermissionError):
                raise DataError(f"{path.parent}: not writable, needed once to unpack {packed.name}; "
                                "run `python -m btlib check` as its owner") from error  # fmt: skip
            raise _corrupt(packed, f"it cannot be unpacked ({error})") from error
    elif (found := _md5(path)) != md5:
        raise _corrupt(path, f"its MD5 sum is {found} where {md5} is expected")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _read_cifar(name: str, root: Path, download: bool) -> ImageDataset:
    source = torchvision.datasets.CIFAR10 if name == "cifar10" else torchvision.datasets.CIFAR100
    try:
        train, test = (source(str(root), train=is_train, download=download) for is_train in (True, False))
    except RuntimeError as error:
        if download:
            raise
        folder = _folder_of(name, root)
        sums = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
        wrong = [file for file, md5 in sums if not (folder / file).exists() or _md5(folder / file) != md5]
        raise _corrupt(folder, f"its {', '.join(wrong)} is missing or does not have torchvision's MD5 sum") from error
    x_train, x_test = (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test))
    y_train, y_test = (torch.tensor(part.targets) for part in (train, test))
    return ImageDataset(name, x_train, y_train, x_test, y_test, tuple(train.classes))


def _read_gtsrb(root: Path, size: int, download: bool) -> ImageDataset:
    parts: dict[str, Tensor] = {}
    for split in ("train", "test"):
        try:
            source = torchvision.datasets.GTSRB(str(root), split=split, download=download)
        except (RuntimeError, OSError, csv.Error, KeyError) as error:
            if download:
                raise
            raise _corrupt(root / "gtsrb", f"the {split} split is incomplete ({error})") from error
        samples = [(Path(path), label) for path, label in source._samples]
        if len(samples) not in _GTSRB_COUNTS[split]:
            wanted = " or ".join(map(str, _GTSRB_COUNTS[split]))
            raise _corrupt(root / "gtsrb", f"its {split} split has {len(samples)} images where {wanted} are expected")
        parts[f"x_{split}"] = _decode([path for path, _ in samples], size, 3, f"gtsrb {split}")
        parts[f"y_{split}"] = torch.tensor([label for _, label in samples])
    return ImageDataset("gtsrb", classes=GTSRB_CLASSES, **parts)


def _decode(paths: list[Path], size: int, channels: int, what: str) -> Tensor:
    """Read image files into one uint8 tensor (N, channels, size, size)."""
    out = np.empty((len(paths), size, size, channels), dtype=np.uint8)

    def read(index: int) -> None:
        try:
            with Image.open(paths[index]) as file:
                image = file.convert("RGB" if channels == 3 else "L")
                if image.size != (size, size):
                    image = image.resize((size, size), Image.Resampling.BILINEAR)
                out[index] = np.asarray(image).reshape(size, size, channels)
        except (OSError, SyntaxError, ValueError) as error:  # PIL's ways of saying "not an image"
            raise _corrupt(paths[index], f"it cannot be read as an image ({error})") from error

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for _ in tqdm(pool.map(read, range(len(paths))), f"reading {what}", len(paths), leave=False, unit="image"):
            pass
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()


def _folder_path(name: str, searched: tuple[Path, ...]) -> Path:
    path = Path(name.removeprefix("folder:")).expanduser()
    candidates = [path] if path.is_absolute() else [root / path for root in searched]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    places = " or ".join(map(str, candidates))
    raise DataError(f"folder {str(path)!r} is missing: it was sought in {places}. Give an absolute path, "
                    "or set BTLIB_DATA to the folder that contains it.")  # fmt: skip


@lru_cache(maxsize=4)
def _load_folder(path: Path, size: int, channels: int, test_fraction: float, seed: int) -> ImageDataset:
    if channels not in (1, 3):
        raise ValueError(f"channels: expected 3 (RGB) or 1 (grey), got {channels}; choose one of the two")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: expected a share between 0 and 1, got {test_fraction}; 0.2 is usual")

    def read(folder: Path) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        try:
            source = torchvision.datasets.ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise DataError(f"{folder}: expected one subfolder of images per class ({error})") from error
        files = [Path(file) for file, _ in source.samples]
        labels = torch.tensor([label for _, label in source.samples])
        return _decode(files, size, channels, folder.name), labels, tuple(source.classes)

    if (path / "train").is_dir() and (path / "test").is_dir():
        x_train, y_train, classes = read(path / "train")
        x_test, y_test, test_classes = read(path / "test")
        if classes != test_classes:
            differ = sorted(set(classes) ^ set(test_classes))
            raise DataError(f"{path}: train/ and test/ must hold the same class folders, but {differ} are in one only")
    else:
        x, y, classes = read(path)
        held_out = torch.zeros(len(y), dtype=torch.bool)
        for label in range(len(classes)):
            count = max(1, round(test_fraction * int((y == label).sum())))
            held_out[sample_per_class(y, count, [label], seed=seed)] = True
        x_train, y_train, x_test, y_test = x[~held_out], y[~held_out], x[held_out], y[held_out]
    return ImageDataset(f"folder:{path.name}", x_train, y_train, x_test, y_test, classes)


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
