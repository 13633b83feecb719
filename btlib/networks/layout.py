"""The memory order in which a network computes fastest, where it is safe."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from btlib.networks.layers import PooledConv2d


def layout(network: nn.Module, device: torch.device, images: Tensor | None = None) -> torch.memory_format:
    """The memory order in which a network computes fastest.

    Channels-last where there are convolutions: convolving and above all pooling gain. The layers of this module that
    pool by themselves are faster in the usual order, on a CPU. So is, for safety, every network that is not btlib's:
    many flatten with ``view``, which wants the usual order. With images it is tried whether one works in the other.

    Args:
        network: a classifier or generator.
        device: where it computes.
        images: one or more, float (N, C, H, W), on that device.

    Example:
        >>> net, image = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU()), torch.zeros(1, 3, 8, 8)
        >>> layout(net, torch.device("cpu")), layout(net, torch.device("cpu"), image)
        (torch.contiguous_format, torch.channels_last)
    """
    kinds = {type(module) for module in network.modules()}
    pays = nn.Conv2d in kinds and not (PooledConv2d in kinds and device.type == "cpu")
    if not pays or not (getattr(network, "any_layout", False) or _same_in_channels_last(network, images)):
        return torch.contiguous_format
    return torch.channels_last


@torch.no_grad()
def _same_in_channels_last(network: nn.Module, images: Tensor | None) -> bool:
    """Whether a network says the same of these images in the other order; it must be in evaluation mode."""
    if images is None:
        return False
    usual = network(images)
    try:
        with in_layout(network, torch.channels_last):
            return torch.allclose(usual, network(images), rtol=1e-4, atol=1e-4)
    except RuntimeError:
        return False


@contextmanager
def in_layout(network: nn.Module, order: torch.memory_format) -> Iterator[nn.Module]:
    """Inside, a network's convolutions have their weights in this order; they are put back."""
    weights = {p: p.data for p in network.parameters() if p.ndim == 4}
    try:
        for parameter, found in weights.items():
            parameter.data = found.contiguous(memory_format=order)
        yield network
    finally:
        for parameter, found in weights.items():
            parameter.data = found
