"""Images at the library's doors: bytes in 0…255 or floats in [0, 1], and draws of so many of each class (floor 1)."""

from collections.abc import Iterable
from numbers import Integral
from operator import index
from typing import Any

import torch
from torch import Tensor

from btlib.seeds import generator

#: (channels, height, width) of an image.
Shape = tuple[int, int, int]


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
        ValueError: wrong number of dimensions, channels at the end, NaN, or values outside [0, 1] by more than 1e-6.

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
    if ndim is not None:
        check_order(images, name)
    if images.numel() == 0:
        return
    low, high = (float(v) for v in images.detach().aminmax())
    if not (low >= -1e-6 and high <= 1 + 1e-6):  # also false for NaN
        raise ValueError(
            f"{name}: expected values in [0, 1], got {low:g}…{high:g}; "
            "divide 8-bit images by 255, and leave normalisation to the network"
        )


def check_order(images: Tensor, name: str) -> None:
    """Channels come before rows and columns: a network that flattens images would take them in any order, in silence.

    Raises:
        ValueError: more than four channels of rows of at most four pixels: channels at the end.

    Example:
        >>> check_order(torch.zeros(2, 28, 28, 3), "images")
        Traceback (most recent call last):
        ...
        ValueError: images: expected (N, C, H, W), got channels at the end in (2, 28, 28, 3); use images.movedim(-1, -3)
    """
    channels, height, width = images.shape[-3:]
    if min(channels, height) > 4 >= width:
        expected = "(N, C, H, W)" if images.ndim == 4 else "(C, H, W)"
        raise ValueError(f"{name}: expected {expected}, got channels at the end in {tuple(images.shape)}; "
                         f"use {name}.movedim(-1, -3)")  # fmt: skip


def as_float(images: Tensor, *, name: str = "images", ndim: int | None = 4) -> Tensor:
    """What a public door takes for images, as float in [0, 1]: uint8 is converted, floats are checked.

    They lie in memory as usual, since many networks flatten with ``view``.

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
    return usual_strides(images)


def as_labels(labels: Tensor, images: Tensor, num_classes: int | None = None) -> Tensor:
    """What a public door takes for labels, as int64 on the CPU.

    Args:
        labels: any integer dtype, (N,), at least one.
        images: (N, …).
        num_classes: K; None: only negative labels are refused.

    Raises:
        TypeError: no tensor.
        ValueError: fractions, another number of labels than images, or classes that do not exist.

    Example:
        >>> import torch
        >>> as_labels(torch.tensor([0, 2], dtype=torch.uint8), torch.rand(2, 1, 2, 2), num_classes=3)
        tensor([0, 2])
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels: expected a tensor of integers, got {type(labels).__name__}; use torch.as_tensor")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != images.shape[:1] or not whole or len(labels) == 0:
        raise ValueError(f"labels: expected one integer label per image and at least one image, got {labels.dtype} "
                         f"{tuple(labels.shape)} for {len(images)} images; pass matching tensors")  # fmt: skip
    labels = labels.cpu().long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        known = "0 or more" if num_classes is None else f"0…{num_classes - 1}"
        raise ValueError(f"labels: expected classes in {known}, got {low}…{high}; "
                         "use the labels the network was trained on")  # fmt: skip
    return labels


def check_class(one: int, num_classes: int, name: str = "target") -> int:
    """A class that a caller named (in the argument `name`), as a plain integer.

    Raises:
        TypeError, ValueError: no integer, or a class that does not exist.
    """
    said = f"{name}: expected a class in 0…{num_classes - 1}, got {one!r}; classes count from 0"
    try:
        number = index(one)
    except TypeError:
        raise TypeError(said) from None
    if not 0 <= number < num_classes:
        raise ValueError(said)
    return number


def usual_strides(x: Tensor) -> Tensor:
    """The same numbers in the usual layout, with its strides: one channel also passes for channels-last.

    Args:
        x: maps (N, C, H, W).
    """
    return x.contiguous().flatten().view(x.shape)


def check_count(name: str, count: object, usual: int, *, least: int = 1) -> None:
    """A number of things is an integer of at least 1, or `least`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(count, bool) or not (isinstance(count, Integral) and int(count) >= least):
        raise ValueError(f"{name}: expected an integer of {least} or more, got {count}; {usual} is usual")


def check_shape(shape: Iterable[int]) -> Shape:
    """The shape of an image, if it is (channels, height, width).

    Raises:
        ValueError: it is not.

    Example:
        >>> check_shape([1, 28, 28])
        (1, 28, 28)
    """
    found: tuple[Any, ...] = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(found) != 3 or not all(isinstance(each, Integral) and int(each) >= 1 for each in found):
        raise ValueError(f"image_shape: expected (channels, height, width), got {shape!r}; use data.image_shape")
    channels, height, width = map(int, found)
    return channels, height, width


def sample_per_class(labels: Tensor, per_class: int, classes: Iterable[int], *, seed: int = 0) -> Tensor:
    """Indices of `per_class` random images of each of `classes`, in class order.

    Args:
        labels: int64 (N,).
        per_class: images wanted of each class.
        classes: labels, in the order wanted.
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
    if per_class:  # none are asked for where nothing is poisoned
        check_count("per_class", per_class, usual=100)
    draws = generator(seed)
    chosen = []
    for label in classes:
        members = (labels == label).nonzero().flatten().cpu()
        if len(members) < per_class:
            raise ValueError(
                f"per_class: expected at most {len(members)} (all images of class {label}), got {per_class}; "
                "lower per_class or leave the class out"
            )
        chosen.append(members[torch.randperm(len(members), generator=draws)[:per_class]])
    empty = torch.zeros(0, dtype=torch.int64)
    return torch.cat(chosen or [empty]).to(labels.device)
