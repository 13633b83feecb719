"""Whether something is a network, and where it computes."""

from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn


def check_network(network: object) -> None:
    """The one check of what is given for a network.

    Raises:
        TypeError: it is none; what it is, and how to make one of it.

    Example:
        >>> check_network({"conv1.weight": torch.zeros(6, 1, 5, 5)})
        Traceback (most recent call last):
        ...
        TypeError: network: expected an nn.Module, got dict; build it, and fill it with load_state_dict
    """
    if isinstance(network, nn.Module):
        return
    usual = "build it, and fill it with load_state_dict" if isinstance(network, Mapping) else "load or build it first"
    if isinstance(network, type) and issubclass(network, nn.Module):
        usual = f"call it: {network.__name__}(…)"
    raise TypeError(f"network: expected an nn.Module, got {type(network).__name__}; {usual}")


def check_precision(network: nn.Module) -> None:
    """What searches or trains wants more than half precision, in which slopes and small steps become zero.

    Raises:
        TypeError: weights in half precision.

    Example:
        >>> check_precision(nn.Linear(1, 1).half())
        Traceback (most recent call last):
        ...
        TypeError: network: expected weights in single or double precision, got torch.float16; call network.float()
    """
    dtype = reference(network).dtype
    if dtype.itemsize < 4:
        raise TypeError(f"network: expected weights in single or double precision, got {dtype}; call network.float()")


def reference(network: nn.Module) -> Tensor:
    """A tensor where the network computes, for `images.to(reference(network))`: its first with floating point.

    Counters and seeds are no such. A network without any parameter or buffer has an empty float32 tensor on the CPU.

    Example:
        >>> reference(nn.Flatten()).device
        device(type='cpu')
    """
    check_network(network)
    tensors = chain(network.parameters(), network.buffers())
    return next((each for each in tensors if each.is_floating_point()), torch.zeros(0))
