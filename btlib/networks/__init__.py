"""The papers' classifiers, each built for (channels, size, classes), taking images in [0, 1] (floor 1)."""

from collections.abc import Callable

import torch
from torch import nn

from btlib.datasets import ImageDataset, Shape
from btlib.datasets.images import check_count, check_shape
from btlib.networks.checks import check_network, check_precision, reference
from btlib.networks.gtsrb_cnn import gtsrb_cnn
from btlib.networks.layers import Network, Normalize
from btlib.networks.layout import images_at_once, layout
from btlib.networks.lenet5 import lenet5
from btlib.networks.littlenet import littlenet
from btlib.networks.small_resnet import small_resnet
from btlib.networks.torchvision_nets import densenet, mobilenet_v2, resnet18, resnet34
from btlib.networks.vgg import vgg9, vgg16
from btlib.registry import Registry
from btlib.seeds import check_seed

__all__ = ["NETWORKS", "Network", "build", "check_network", "check_precision", "images_at_once", "layout", "reference"]

# name → (factory(channels, size) -> body, features, feature layers; smallest image side it can take)
_Factory = Callable[[int, int], tuple[nn.Sequential, int, dict[str, str]]]
#: By the names that `build` knows.
NETWORKS: Registry[tuple[_Factory, int]] = Registry({
    "lenet5": (lenet5, 12),
    "littlenet": (littlenet, 16),
    "vgg9": (vgg9, 16),
    "vgg16": (vgg16, 32),
    "gtsrb_cnn": (gtsrb_cnn, 24),
    "small_resnet": (small_resnet, 16),
    "resnet18": (resnet18, 16),
    "resnet34": (resnet34, 16),
    "mobilenet_v2": (mobilenet_v2, 16),
    "densenet": (densenet, 16),
})  # fmt: skip


def build(
    name: str, data: ImageDataset | None = None, *, image_shape: Shape | None = None,
    num_classes: int | None = None, seed: int = 0,
) -> Network:  # fmt: skip
    """Build an untrained network for a data set.

    Args:
        name: one of `NETWORKS`.
        data: gives image shape, number of classes and the pixel statistics of the first, normalising layer.
        image_shape, num_classes: instead of `data`; pixels are then normalised with mean 0.5 and deviation 0.25.
        seed: of the initial weights; the caller's random state is left alone.

    Returns:
        A `Network`: logits (N, K) for images (N, C, H, W) in [0, 1].

    Raises:
        ValueError: unknown name, neither data nor shape, images that are not square or too small.

    Example:
        >>> build("lenet5", image_shape=(1, 28, 28), num_classes=10).feature_layers
        ('penultimate', 'fc1', 'conv2', 'conv1')
    """
    factory, smallest = NETWORKS.find(name, argument="network")
    if data is not None:
        image_shape, num_classes = data.image_shape, data.num_classes
        mean, std = data.pixel_statistics
    elif image_shape is not None and num_classes is not None:
        image_shape = check_shape(image_shape)
        mean, std = torch.full((image_shape[0],), 0.5), torch.full((image_shape[0],), 0.25)
    else:
        raise ValueError("data: expected a data set, or image_shape and num_classes, got neither; pass one")
    channels, height, width = image_shape
    check_count("num_classes", num_classes, usual=10, least=2)
    if height != width or height < smallest:
        raise ValueError(f"image_shape: expected for {name} square images of at least {smallest}×{smallest}, "
                         f"got {height}×{width}; load the data set with size=32")  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_seed(seed))
        body, features, layers = factory(channels, height)
        return Network(body, nn.Linear(features, num_classes), Normalize(mean, std), image_shape, layers)
