"""Copies of a stranger's network that can be trained, and the clean images divided into those that train and judge."""

from copy import deepcopy

import torch
from torch import nn

from btlib import training
from btlib.cli.scan_images import CleanImages
from btlib.datasets import ImageDataset
from btlib.files import printable
from btlib.networks import reference
from btlib.training import Recipe

HELD_OUT = 5  # every so-manyth image of a class judges the copy


class NotTrainedError(ValueError):
    """No copy could be trained as wished; the message says why, in words."""


def divided(images: CleanImages) -> ImageDataset:
    """The images, every fifth of each class as the test part.

    Raises:
        NotTrainedError: a class has fewer than five.
    """
    counts = images.y.bincount()
    if int(counts.min()) < HELD_OUT:
        raise NotTrainedError(f"it needs {HELD_OUT} clean images of each class, there are {int(counts.min())} of class "
                              f"{int(counts.argmin())}")  # fmt: skip
    order = images.y.argsort(stable=True)
    x, y = images.x[order], images.y[order]
    held = torch.arange(len(y)) % HELD_OUT == HELD_OUT // 2
    return ImageDataset("clean images", x[~held], y[~held], x[held], y[held], tuple(map(str, range(len(counts)))))


def copied(network: nn.Module) -> nn.Module:
    """A copy whose weights can be changed.

    Raises:
        NotTrainedError: it can't be copied, or its file holds weights that stay as they are.
    """
    try:
        copy = deepcopy(network)
    except Exception as error:  # whatever a stranger's module raises
        raise NotTrainedError(f"this network can't be copied ({type(error).__name__})") from None
    learnable = [each for each in copy.parameters() if each.is_floating_point()]
    if not learnable:
        raise NotTrainedError("the weights in such a file can't be changed")
    for parameter in learnable:
        parameter.requires_grad_(True)
    return copy.eval()


def trained(network: nn.Module, data: ImageDataset, recipe: Recipe, seed: int) -> None:
    """Train a copy where it is.

    Raises:
        NotTrainedError: it is no network that can be trained.
    """
    try:
        training.fit(network, data, recipe, seed=seed, device=reference(network).device)
    except Exception as error:  # parts may be fixed, and some networks only answer in evaluation mode
        said = printable(" ".join(str(error).split())) or type(error).__name__
        raise NotTrainedError(f"training failed on this network ({said})") from None
