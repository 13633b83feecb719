"""The clean images of a scan: a folder per class, or a data set by its name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from btlib import datasets
from btlib.datasets import DataSource, ImageDataset, Shape
from btlib.datasets.folders import ClassFolders, class_folders, parts
from btlib.datasets.pictures import decode, fitting, stored_shape
from btlib.files import printable, read_text


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the clean images are, before the network's input is known.

    Attributes:
        name: the folder or data set, for titles.
        classes: their names, in the order of the network's outputs.
        native: (C, H, W) of the images as stored; of the first one, in a folder.
        images: class folders, or a data set; None: there are none.
    """

    name: str
    classes: tuple[str, ...]
    native: Shape
    images: ClassFolders | ImageDataset | None

    def for_outputs(self, count: int) -> "Origin":
        """The same for a network of `count` outputs; without images these are called by their numbers.

        Raises:
            DataError: another number of classes: labels would mean nothing.
        """
        if self.images is None and not self.classes:
            return replace(self, classes=tuple(map(str, range(count))))
        if len(self.classes) != count:
            raise datasets.DataError(f"--images: expected {count} classes, the network's outputs, got "
                                     f"{len(self.classes)} in {self.name}; give one subfolder per output")  # fmt: skip
        return self

    def ordered(self, names: Sequence[str]) -> "Origin":
        """The same images with the classes in another order.

        Raises:
            DataError: names that are not those of the classes, or not once each.
        """
        if self.images is None:
            return replace(self, classes=tuple(names))
        if sorted(names) != sorted(self.classes):
            differ = sorted(set(names) ^ set(self.classes))[:6] or ["a name that stands there twice"]
            raise datasets.DataError(
                f"--classes: expected each of the {len(self.classes)} classes in {self.name} once, got {len(names)} "
                f"names, with a difference in {', '.join(differ)}; mend the file"
            )
        order = [self.classes.index(name) for name in names]
        if isinstance(self.images, ImageDataset):
            place = torch.tensor(order).argsort()
            y_train, y_test = place[self.images.y_train], place[self.images.y_test]
            images = replace(self.images, classes=tuple(names), y_train=y_train, y_test=y_test, source=None)
            return replace(self, classes=tuple(names), images=images)
        files = tuple(self.images.files[i] for i in order)
        return replace(self, classes=tuple(names), images=ClassFolders(tuple(names), files))

    def named_by(self, names: Sequence[str]) -> tuple["Origin", list[str]]:
        """The same with the names that a network's own file gives its outputs, in their order; and what is to be said.

        Case does not matter. Where the names are others altogether, nothing changes and that is said.
        """
        mine, theirs = ([" ".join(each.casefold().split()) for each in them] for them in (self.classes, names))
        if not self.classes or mine == theirs:
            return replace(self, classes=tuple(names)), []
        if sorted(mine) == sorted(theirs) and len(set(mine)) == len(mine):
            return self.ordered([self.classes[mine.index(each)] for each in theirs]), []
        return self, [f"the network calls its outputs {', '.join(names[:3])}, …, the images' classes are called "
                      f"{', '.join(self.classes[:3])}, …: they are taken in this order"]  # fmt: skip


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
        return int(torch.bincount(self.y).min()) if len(self.y) else 0


def none_at_all(size: int | None) -> Origin:
    """No images: the input's size is what was told, or in the network's file."""
    return Origin("none", (), (3, size or 32, size or 32), None)


def find(name: str | DataSource | ImageDataset) -> Origin:
    """The images called `name`: a folder (with ``folder:`` before it or not), else a data set.

    Raises:
        DataError: there is no such folder or data set, or it has no classes or images.
    """
    if isinstance(name, str):
        path = Path(name.removeprefix("folder:")).expanduser()
        if path.is_dir():
            divided = parts(path)
            return _in_folder(divided[1] if divided else path)  # the network has not been trained on these
        known = [kind for kind in datasets.names() if ":" not in kind]
        if ":" not in name and name not in known:
            raise datasets.DataError(f"--images: expected a folder with one subfolder per class, or one of "
                                     f"{', '.join(known)}, got {name!r}, which is neither; check the path")  # fmt: skip
    data = datasets.load(name)
    return Origin(f"{data.name} (test images)", data.classes, data.image_shape, data)


def names_in(path: Path) -> list[str]:
    """The names in a file, one a line; of lines with commas the last part, as in ``3,cat``.

    Raises:
        DataError: no such file, or not text.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise datasets.DataError(
            f"--classes: expected a text file with a name a line, got {path} ({error}); pass one"
        ) from error
    return [line.rpartition(",")[2].strip().strip('"') for line in lines if line.strip()]


def _in_folder(path: Path) -> Origin:
    found = class_folders(path)
    return Origin(printable(str(path)), found.classes, stored_shape(found.files[0][0]), found)


def read(origin: Origin, shape: Shape, most: int, seed: int) -> CleanImages:
    """At most `most` images of each class in the network's input shape, drawn with `seed`.

    Raises:
        DataError: a file that is not an image.
    """
    if origin.images is None:
        return CleanImages(torch.zeros(0, *shape, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), "")
    if isinstance(origin.images, ImageDataset):
        x, y = _drawn(origin.images, most, seed)
        return CleanImages(_fitted(x, shape), y, ", ".join(fitting({origin.images.image_shape}, shape)))
    generator = np.random.default_rng(seed)
    files = [[each[i] for i in generator.permutation(len(each))[:most]] for each in origin.images.files]
    drawn = ClassFolders(origin.classes, tuple(map(tuple, files)))
    x, changes = decode(list(chain(*drawn.files)), shape)
    return CleanImages(x, drawn.labels, ", ".join(changes))


def _drawn(data: ImageDataset, most: int, seed: int) -> tuple[Tensor, Tensor]:
    counts = torch.bincount(data.y_test, minlength=data.num_classes).tolist()
    chosen = torch.cat([
        datasets.sample_per_class(data.y_test, min(most, count), [label], seed=seed)
        for label, count in enumerate(counts)
    ])  # fmt: skip
    return data.x_test[chosen], data.y_test[chosen]


def _fitted(x: Tensor, shape: Shape) -> Tensor:
    """Images of a data set in another size, or grey for RGB and the other way round."""
    from torchvision.transforms import functional

    if x.shape[1] != shape[0]:
        x = functional.rgb_to_grayscale(x) if shape[0] == 1 else x.expand(-1, 3, -1, -1)
    return x if x.shape[2:] == shape[1:] else functional.resize(x, list(shape[1:]), antialias=True)
