"""Logits and features of a layer in one forward pass; convolutional layers pooled to the penultimate width."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from btlib.metrics import evaluating
from btlib.networks import Network

_BATCH = 1000


class Described(NamedTuple):
    """Logits (N, K) and features (N, D) of the same images, float32 on the CPU."""

    logits: Tensor
    features: Tensor


def pooled(activations: Tensor, width: int) -> Tensor:
    """Activations of a layer as at most `width` numbers per image (in-flight v1, Table 4: "average pooling").

    A map of C channels is averaged over a grid of rows × columns, the finest, about square, for which
    C·rows·columns ≤ width; where there are more channels than `width`, neighbouring channels are averaged too.
    Features that are no map, (N, D), stay as they are.

    Args:
        activations: (N, C, h, w) or (N, D).
        width: the penultimate layer's number of features.

    Raises:
        ValueError: another number of dimensions.

    Example:
        >>> import torch
        >>> pooled(torch.zeros(2, 16, 5, 5), width=84).shape
        torch.Size([2, 64])
    """
    if activations.ndim == 2:
        return activations
    if activations.ndim != 4:
        raise ValueError(f"activations: expected (N, D) or (N, C, h, w), got {tuple(activations.shape)}; flatten them")
    channels, height, breadth = activations.shape[1:]
    cells = max(1, width // channels)
    rows = min(height, max(1, int(cells**0.5)))
    grid = F.adaptive_avg_pool2d(activations, (rows, min(breadth, cells // rows)))
    if channels > width:
        return F.adaptive_avg_pool1d(grid.flatten(1)[:, None], width)[:, 0]
    return grid.flatten(1)


def check_network(net: nn.Module, layer: str) -> Network:
    """The network, when it has features to look at.

    Raises:
        TypeError: it is not a `btlib.networks.Network`.
        ValueError: it has no such layer.

    Example:
        >>> from btlib import networks
        >>> check_network(networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10), "conv2").num_classes
        10
    """
    if not isinstance(net, Network):
        raise TypeError(f"net: expected a btlib.networks.Network with features and a linear head, got "
                        f"{type(net).__name__}; wrap its parts as Network(body, head, normalize, …)")  # fmt: skip
    if layer not in net.feature_layers:
        raise ValueError(f"layer: expected one of {', '.join(net.feature_layers)}, got {layer!r}; "
                         "see net.feature_layers")  # fmt: skip
    return net


def describe(net: Network, images: Tensor, layer: str = "penultimate") -> Described:
    """Logits and pooled features of many images, in batches; the network is left as it was found.

    Args:
        net: the classifier.
        images: float (N, C, H, W) in [0, 1], already checked.
        layer: one of `net.feature_layers`.

    Example:
        >>> import torch
        >>> from btlib import networks
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
        >>> describe(net, torch.rand(3, 1, 28, 28), "conv2").features.shape
        torch.Size([3, 64])
    """
    weight, width = net.head.weight, net.head.in_features
    parts = []
    with evaluating(net):
        for batch in images.split(_BATCH):
            logits, activations = net.with_features(batch.to(weight), layer)
            parts.append((logits.float().cpu(), pooled(activations, width).float().cpu()))
    return Described(torch.cat([logits for logits, _ in parts]), torch.cat([features for _, features in parts]))
