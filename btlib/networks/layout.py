"""The memory order in which a network computes fastest, where it is safe."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from btlib.networks.checks import check_network
from btlib.networks.layers import PooledConv2d


def layout(network: nn.Module, device: torch.device, images: Tensor | None = None) -> torch.memory_format:
    """The memory order in which a network computes fastest.

    Channels-last where there are convolutions: convolving and above all pooling gain. The layers of this module that
    pool by themselves are faster in the usual order, on a CPU. A network that is not btlib's has, for safety, the usual
    order, unless it was seen with images that it says the same in the other.

    Args:
        network: a classifier or generator.
        device: where it computes.
        images: one or more, float (N, C, H, W), on that device.

    Example:
        >>> net, image = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU()), torch.zeros(1, 3, 8, 8)
        >>> layout(net, torch.device("cpu")), layout(net, torch.device("cpu"), image)
        (torch.contiguous_format, torch.channels_last)
    """
    check_network(network)
    kinds = {type(module) for module in network.modules()}
    pays = nn.Conv2d in kinds and not (PooledConv2d in kinds and device.type == "cpu")
    if not pays or not (getattr(network, "any_layout", False) or _same_in_channels_last(network, images)):
        return torch.contiguous_format
    return torch.channels_last


def images_at_once(on_cpu: int, device: torch.device) -> int:
    """How many images to pass through a network together.

    Caches decide on a CPU. A GPU wants more of them; it gets that number for each 20 GiB that this process may have of
    it, up to four times. A ResNet-18 that is searched for a pattern keeps about 2 MiB of each image of 32×32 (counted).

    Args:
        on_cpu: how many are fastest on a CPU.
        device: where the network computes.

    Example:
        >>> images_at_once(1000, torch.device("cpu"))
        1000
    """
    if device.type != "cuda":
        return on_cpu
    share = torch.cuda.get_per_process_memory_fraction(device) * torch.cuda.get_device_properties(device).total_memory
    return on_cpu * max(1, min(4, int(share / (20 * 2**30))))


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


class _ViewsMayCopy(TorchFunctionMode):
    """Inside, ``x.view(sizes)`` copies where the order of memory wants it, as ``reshape`` does: the same numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.view and not kwargs and not isinstance(args[-1], torch.dtype):
            func = torch.Tensor.reshape
        return func(*args, **(kwargs or {}))


@contextmanager
def in_layout(network: nn.Module, order: torch.memory_format) -> Iterator[nn.Module]:
    """Inside, a network's convolutions have their weights in this order; they are put back.

    Public networks flatten with ``view``, which wants the usual order: in the other one it is taken for ``reshape``.
    """
    weights = {p: p.data for p in network.parameters() if p.ndim == 4}
    theirs = order == torch.channels_last and not getattr(network, "any_layout", False)
    try:
        for parameter, found in weights.items():
            parameter.data = found.contiguous(memory_format=order)
        with _ViewsMayCopy() if theirs else nullcontext():
            yield network
    finally:
        for parameter, found in weights.items():
            parameter.data = found
