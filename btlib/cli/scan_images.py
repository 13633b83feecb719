"""The clean images of a scan: a folder per class, or a data set by its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor

from btlib import datasets

ENDINGS = {".png", ".jpg", ".jpeg"}
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Source:
    """Where the clean images are, before the network's input is known.

    Attributes:
        name: the folder or data set, for titles.
        classes: their names, in the order of the network's outputs.
        native: (C, H, W) of the images as stored; of the first one, in a folder.
        files: per class, for a folder; empty for a data set.
        data: the data set; None for a folder.
    """

    name: str
    classes: tuple[str, ...]
    native: Shape
    files: Sequence[Sequence[Path]] = ()
    data: datasets.ImageDataset | None = None


@dataclass(frozen=True, eq=False)
class CleanImages:
    """Images ready for the network.

    Attributes:
        x: uint8 (N, C, H, W).
        y: int64 (N,).
        changes: what was done to them, in words; empty when nothing was.
    """

    x: Tensor
    y: Tensor
    changes: str

    @property
    def smallest_class(self) -> int:
        """Number of images of the class that has fewest."""
        return int(torch.bincount(self.y).min())


def find(name: str) -> Source:
    """The source called `name`: a folder (with ``folder:`` before it or not), else a data set.

    Raises:
        DataError: there is no such folder or data set, or it has no classes or images.
    """
    path = Path(name.removeprefix("folder:")).expanduser()
    if path.is_dir():
        return _folder(path)
    if name not in datasets.names():
        known = ", ".join(datasets.names())
        raise datasets.DataError(f"--images: expected a folder with one subfolder per class, or one of {known}, "
                                 f"got {name!r}, which is neither; check the path")  # fmt: skip
    data = datasets.load(name)
    return Source(f"{name} (test images)", data.classes, data.image_shape, data=data)


def _folder(path: Path) -> Source:
    if (path / "train").is_dir() and (path / "test").is_dir():
        path = path / "test"  # the network has not been trained on these
    classes = [p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    numbers = all(name.isascii() and name.isdigit() for name in classes)
    classes.sort(key=int if numbers else None)
    files = [sorted(f for f in (path / name).iterdir() if f.suffix.lower() in ENDINGS) for name in classes]
    empty = [name for name, found in zip(classes, files, strict=True) if not found]
    if not classes or empty:
        got = f"no images in {', '.join(empty[:5])}" if empty else "no subfolders"
        raise datasets.DataError(f"--images: expected one subfolder of PNG or JPEG images per class in {path}, "
                                 f"got {got}; add them")  # fmt: skip
    with _opened(files[0][0]) as first:
        native = (1 if first.mode in ("1", "L", "I", "I;16", "F", "LA") else 3, first.height, first.width)
    return Source(str(path), tuple(classes), native, files)


def read(source: Source, shape: Shape, most: int, seed: int) -> CleanImages:
    """At most `most` images of each class in the network's input shape, drawn with `seed`.

    Raises:
        DataError: a file that is not an image.
    """
    if source.data is not None:
        x, y = _drawn(source.data, most, seed)
        changed = {(x.shape[1], x.shape[2], x.shape[3])}
        x = _fitted(x, shape)
    else:
        generator = np.random.default_rng(seed)
        chosen = [generator.permutation(len(files))[:most] for files in source.files]
        pictures = [(files[i], label) for label, files in enumerate(source.files) for i in chosen[label]]
        both = [_decoded(path, shape) for path, _ in pictures]
        x, y = torch.stack([picture for picture, _ in both]), torch.tensor([label for _, label in pictures])
        changed = {stored for _, stored in both}
    return CleanImages(x, y, _changes(changed, shape))


def _changes(stored: set[Shape], shape: Shape) -> str:
    """What had to be done to images of these shapes, in words."""
    said = []
    sizes = sorted({(h, w) for _, h, w in stored} - {shape[1:]})
    if sizes:
        what = f"from {sizes[0][0]}×{sizes[0][1]}" if len(stored) == 1 else "from several sizes"
        said.append(f"resized {what} to {shape[1]}×{shape[2]}")
    if {c for c, _, _ in stored} - {shape[0]}:
        said.append("turned grey" if shape[0] == 1 else "turned from grey to RGB")
    return ", ".join(said)


def _drawn(data: datasets.ImageDataset, most: int, seed: int) -> tuple[Tensor, Tensor]:
    counts = torch.bincount(data.y_test, minlength=data.num_classes).tolist()
    chosen = torch.cat([
        datasets.sample_per_class(data.y_test, min(most, count), [label], seed=seed)
        for label, count in enumerate(counts)
    ])  # fmt: skip
    return data.x_test[chosen], data.y_test[chosen]


def _fitted(x: Tensor, shape: Shape) -> Tensor:
    """Images of a data set in another size, or grey for RGB and the other way round."""
    functional = torchvision.transforms.functional
    if x.shape[1] != shape[0]:
        x = functional.rgb_to_grayscale(x) if shape[0] == 1 else x.expand(-1, 3, -1, -1)
    return x if x.shape[2:] == shape[1:] else functional.resize(x, list(shape[1:]), antialias=True)


def _decoded(path: Path, shape: Shape) -> tuple[Tensor, Shape]:
    """One file as uint8 (C, H, W), and its shape as stored."""
    with _opened(path) as file:
        try:
            picture = file.convert("L" if shape[0] == 1 else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise _no_image(path, error) from None
        grey = file.mode in ("1", "L", "I", "I;16", "F", "LA")
    stored = (1 if grey else 3, picture.height, picture.width)
    if picture.size != (shape[2], shape[1]):
        picture = picture.resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
    pixels = np.array(picture, dtype=np.uint8).reshape(shape[1], shape[2], shape[0])
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), stored


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise _no_image(path, error) from None


def _no_image(path: Path, error: Exception) -> datasets.DataError:
    return datasets.DataError(f"--images: expected an image, got {path}, which can't be read ({error}); remove it")
