"""A data set in memory: four tensors, the names of the classes, and what loads them (floor 1)."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from btlib.datasets.images import check_count, check_order, sample_per_class, to_float
from btlib.seeds import generator

if TYPE_CHECKING:
    from btlib.datasets.sources import DataSource

TENSORS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class DefenderSplit:
    """The test images as a defender has them: a few clean ones of each class, and others to judge by.

    Attributes:
        images, labels: the defender's, float32 (K·per_class, C, H, W) in [0, 1] and int64, in label order.
        other_images, other_labels: test images that the defender has not seen, likewise.
    """

    images: Tensor
    labels: Tensor
    other_images: Tensor
    other_labels: Tensor


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A labelled image data set in memory.

    Attributes:
        name: what people call it, such as ``"fashion-mnist"``.
        x_train, x_test: uint8 images (N, C, H, W) in 0…255.
        y_train, y_test: int64 labels (N,) in 0…K-1.
        classes: the K class names, in label order.
        source: what loads it, or the whole that it is a part of; None: tensors of your own.

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
    source: "DataSource | None" = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check("train", self.x_train, self.y_train, len(self.classes))
        _check("test", self.x_test, self.y_test, len(self.classes))
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise ValueError(
                f"x_test: expected images of the training shape {tuple(self.x_train.shape[1:])}, "
                f"got {tuple(self.x_test.shape[1:])}; resize one of the two splits"
            )
        object.__setattr__(self, "_made", self._versions())

    def _versions(self) -> list[int]:
        """How often each tensor was changed in place."""
        return [getattr(self, key)._version for key in TENSORS if not getattr(self, key).is_inference()]

    @property
    def whole(self) -> "DataSource | None":
        """The source of which this is all or a part; None for tensors of your own, and once they were changed."""
        return self.source if vars(self)["_made"] == self._versions() else None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self.x_train.shape[1:]
        return int(c), int(h), int(w)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.classes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all images and labels as they are now, as hex: equal for equal data sets only."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for tensor in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @property
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
        return replace(self, source=self.whole, **{key: getattr(self, key).to(device) for key in TENSORS})

    def copy(self) -> "ImageDataset":
        """The same data set in memory of its own: to change it in place changes nobody else's."""
        return replace(self, source=self.whole, **{key: getattr(self, key).clone() for key in TENSORS})

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
        draws = generator(seed)
        parts: dict[str, Any] = {}
        for split, count in (("train", train), ("test", test)):
            x, y = self._split(split)
            if count is None:
                continue
            check_count(split, count, usual=len(y))
            if count > len(y):
                raise ValueError(f"{split}: expected between 1 and {len(y)} images, got {count}; ask for fewer")
            chosen = torch.randperm(len(y), generator=draws)[:count].sort().values.to(y.device)
            parts |= {f"x_{split}": x[chosen], f"y_{split}": y[chosen]}
        return replace(self, source=self.whole, **parts)

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
        check_count("per_class", per_class, usual=100)
        x, y = self._split(split)
        chosen = sample_per_class(y, per_class, range(self.num_classes), seed=seed)
        return to_float(x[chosen]), y[chosen]

    def defender_split(self, per_class: int = 100, *, others: int | None = None, seed: int = 0) -> DefenderSplit:
        """The test images divided: clean ones that a defender owns, and others to judge the defence by.

        Args:
            per_class: the defender's images of each class; 100 is the in-flight paper's (5.1).
            others: of each class, in label order; None: all the rest, in the order of the data set.
            seed: of the draw; the defender's images are those of `clean_images`.

        Raises:
            ValueError: when a class has fewer images.

        Example:
            >>> import torch
            >>> x, y = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1, 0, 1])
            >>> split = ImageDataset("toy", x, y, x, y, ("a", "b")).defender_split(1)
            >>> split.labels.tolist(), len(split.other_images)
            ([0, 1], 4)
        """
        check_count("per_class", per_class, usual=100)
        check_count("others", 1 if others is None else others, usual=300)
        x, y, wanted = self.x_test, self.y_test, per_class + (others or 0)
        drawn = sample_per_class(y, wanted, range(self.num_classes), seed=seed).reshape(self.num_classes, wanted)
        own, rest = drawn[:, :per_class].flatten(), drawn[:, per_class:].flatten()
        if others is None:
            unseen = torch.ones_like(y, dtype=torch.bool)
            unseen[own] = False
            rest = unseen.nonzero().flatten()
        return DefenderSplit(to_float(x[own]), y[own], to_float(x[rest]), y[rest])

    def _split(self, name: str) -> tuple[Tensor, Tensor]:
        if name not in ("train", "test"):
            raise ValueError(f"split: expected 'train' or 'test', got {name!r}; check the spelling")
        return (self.x_train, self.y_train) if name == "train" else (self.x_test, self.y_test)


def _check(split: str, x: Tensor, y: Tensor, num_classes: int) -> None:
    for name, value in ((f"x_{split}", x), (f"y_{split}", y)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}; use torch.as_tensor")
    if x.dtype != torch.uint8 or x.ndim != 4:
        raise ValueError(
            f"x_{split}: expected uint8 images of shape (N, C, H, W), got {x.dtype} {tuple(x.shape)}; "
            "convert floats in [0, 1] with btlib.datasets.to_uint8(x)"
        )
    check_order(x, f"x_{split}")
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise ValueError(
            f"y_{split}: expected int64 labels of shape ({len(x)},), got {y.dtype} {tuple(y.shape)}; "
            "use y.long(), one label per image"
        )
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < num_classes:
        raise ValueError(
            f"y_{split}: expected labels in 0…{num_classes - 1} for {num_classes} classes, "
            f"got {int(y.min())}…{int(y.max())}; number the classes from 0"
        )
