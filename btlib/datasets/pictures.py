"""Picture files as uint8 pixels, whatever is in them: 16 bits, a palette, something to see through (floor 1)."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor
from tqdm.auto import tqdm

from btlib.datasets.images import Shape
from btlib.datasets.readers import DataError

if TYPE_CHECKING:
    from PIL import Image

#: torchvision's.
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_GREY = ("1", "L", "LA", "La", "I", "F")  # and 16 bits, "I;16…"


def decode(paths: Sequence[Path | BinaryIO], shape: Shape, title: str = "") -> tuple[Tensor, list[str]]:
    """Picture files in one shape.

    Grey becomes RGB or the other way round as the shape wants, another size is resized (bilinear), 16 bits are scaled
    to 8, what can be seen through is laid on white, photographs taken on their side are turned upright (EXIF).

    Args:
        paths: the files, or files that are open for reading.
        shape: (C, H, W), C 1 or 3.
        title: of the progress bar; empty: none.

    Returns:
        uint8 images (N, C, H, W), and what was done to some of them, in words.

    Raises:
        DataError: a file that is not a picture, or has values of an unknown scale.
    """
    channels, height, width = shape
    out = torch.empty(len(paths), height, width, channels, dtype=torch.uint8)

    def read(index: int) -> tuple[Shape, list[str]]:
        pixels, stored, said = _read(paths[index], shape)
        out[index] = pixels
        return stored, said

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        each = pool.map(read, range(len(paths)))
        told = list(tqdm(each, f"reading {title}", len(paths), leave=False, unit="image", disable=not title))
    changes = [
        *fitting({stored for stored, _ in told}, shape),
        *sorted({change for _, said in told for change in said}),
    ]
    return out.permute(0, 3, 1, 2).contiguous(), changes


def stored_shape(path: Path) -> Shape:
    """(C, H, W) of a picture file, upright; C is 1 for grey ones, else 3.

    Raises:
        DataError: not a picture.
    """
    with _opened(path) as picture:
        channels, height, width = _shape(picture)
        return (channels, width, height) if _orientation(picture) >= 5 else (channels, height, width)


def fitting(stored: set[Shape], shape: Shape) -> list[str]:
    """What has to be done to images of these shapes, in words.

    Example:
        >>> fitting({(3, 8, 8)}, (1, 8, 8))
        ['turned grey']
    """
    said = []
    sizes = sorted({(h, w) for _, h, w in stored} - {shape[1:]})
    if sizes:
        what = f"from {sizes[0][0]}×{sizes[0][1]}" if len(stored) == 1 else "from several sizes"
        said.append(f"resized {what} to {shape[1]}×{shape[2]}")
    if {c for c, _, _ in stored} - {shape[0]}:
        said.append("turned grey" if shape[0] == 1 else "turned from grey to RGB")
    return said


def _read(path: Path | BinaryIO, shape: Shape) -> tuple[Tensor, Shape, list[str]]:
    import numpy as np
    from PIL import Image, ImageOps

    channels, height, width = shape
    with _opened(path) as file:
        turned = ["turned upright"] if _orientation(file) > 1 else []
        upright = ImageOps.exif_transpose(file) if turned else file
        stored = _shape(upright)
        picture, change = _eight_bits(upright)
        picture = picture.convert("RGB" if channels == 3 else "L")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(picture).reshape(height, width, channels)), stored, turned + change


def _orientation(picture: "Image.Image") -> int:
    """What EXIF says of how the camera was held: 1 upright, to 8."""
    try:
        told: Any = picture.getexif().get(0x0112)
    except Exception:  # a broken note in a picture that may be whole
        return 1
    return told if told in range(1, 9) else 1


def _eight_bits(picture: "Image.Image") -> tuple["Image.Image", list[str]]:
    """The picture in eight bits and without transparency, and what that took."""
    import numpy as np
    from PIL import Image

    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen), ["laid on white"]
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture, []
    most = 1.0 if picture.mode == "F" else 65535.0
    values = np.asarray(picture, dtype=np.float64)
    if not (values.min() >= 0 and values.max() <= most):  # also for NaN
        raise ValueError(f"expected values in 0…{most:g}, got {values.min():g}…{values.max():g}; "
                         f"mode {picture.mode} says no scale, save it with eight bits")  # fmt: skip
    return Image.fromarray((values * (255 / most)).round().astype(np.uint8)), ["scaled to eight bits"]


def _shape(picture: "Image.Image") -> Shape:
    grey = picture.mode in _GREY or picture.mode.startswith("I;16")
    return (1 if grey else 3, picture.height, picture.width)


@contextmanager
def _opened(path: Path | BinaryIO) -> Iterator["Image.Image"]:
    """A picture file; all of PIL's ways of saying "not an image" become a `DataError` that names it."""
    from PIL import Image

    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise DataError(f"{path}: expected a picture, got a pipe or device, which is never read; remove it")
    try:
        with Image.open(path) as picture:
            picture.load()  # TIFF is turned by that
            yield picture
    except Exception as error:  # damaged files raise errors of a dozen classes
        name = path if isinstance(path, Path) else "the picture"
        raise DataError(f"{name}: it cannot be read as an image ({error}); mend or remove it") from error
