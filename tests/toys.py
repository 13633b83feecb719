"""Toy images that are quick to learn; networks whose weights are set by hand are btlib.testing's."""

import torch
from torch import Tensor

from btlib.datasets import ImageDataset
from btlib.testing.networks import TARGET, hand_set, lit_pixels

__all__ = ["TARGET", "hand_set", "lit_pixels", "shapes", "toy_data"]


def shapes(
    count: int = 240, *, classes: int = 3, size: int = 16, channels: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """uint8 images with one bright bar whose row tells the class, on noise; labels in turn."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 60, (count, channels, size, size), generator=generator, dtype=torch.uint8)
    y = torch.arange(count) % classes
    for index, label in enumerate(y.tolist()):
        x[index, :, 2 + 4 * label : 4 + 4 * label, 2:-4] += 180
    return x, y


def toy_data(train: int = 240, test: int = 60, *, classes: int = 3, size: int = 16, channels: int = 1) -> ImageDataset:
    x_train, y_train = shapes(train, classes=classes, size=size, channels=channels, seed=0)
    x_test, y_test = shapes(test, classes=classes, size=size, channels=channels, seed=1)
    names = tuple(f"bar {k}" for k in range(classes))
    return ImageDataset("toy", x_train, y_train, x_test, y_test, names)
