"""Toy images that are quick to learn, and a network whose weights are set by hand: truth by construction."""

import torch
from torch import Tensor, nn

from btlib.datasets import ImageDataset
from btlib.networks.layers import Network, Normalize, sequential

TARGET = 2


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


def hand_set(backdoor: float, *, classes: int = 3, size: int = 8) -> Network:
    """Class k is "pixel (0, k) is lit"; the last pixel adds `backdoor` to the target's logit.

    With 10 the trigger pixel always wins (a lit pixel is worth 1); with 0 it is the clean twin.
    """
    head = nn.Linear(size * size, classes, bias=False)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[range(classes), range(classes)] = 1.0
        head.weight[TARGET, -1] = backdoor
    body = sequential(flatten=nn.Flatten())
    return Network(body, head, Normalize(torch.zeros(1), torch.ones(1)), (1, size, size), {}).eval()


def lit_pixels(per_class: int = 4, *, classes: int = 3, size: int = 8) -> tuple[Tensor, Tensor]:
    """Float images for `hand_set`: black but for the pixel that tells the class."""
    y = torch.arange(classes).repeat(per_class)
    x = torch.zeros(len(y), 1, size, size)
    x[range(len(y)), 0, 0, y] = 1.0
    return x, y
