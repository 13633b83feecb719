"""A network for measuring: in evaluation mode, and afterwards as it was found."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from btlib.networks import Network, check_network, check_precision


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode without gradients, each of its modules left in the mode it was found in.

    One that is not ours works on a copy of its input: some normalise in place.

    Example:
        >>> with evaluating(nn.Linear(1, 1)) as network:
        ...     network.training
        False
    """
    with _evaluation_mode(network), torch.inference_mode():
        yield network


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode with gradients for its inputs only; modes and `requires_grad` are put back.

    Inversion differentiates with respect to images; gradients for the weights would cost a third of its time. A network
    that is not ours works on a copy of its input.

    Example:
        >>> with frozen(nn.Linear(1, 1)) as network:
        ...     network.weight.requires_grad
        False
    """
    check_precision(network)
    wanted = {parameter: parameter.requires_grad for parameter in network.parameters()}
    with torch.inference_mode(False), _evaluation_mode(network), torch.enable_grad():
        try:
            for parameter in wanted:
                parameter.requires_grad_(False)
            yield network
        finally:
            for parameter, mode in wanted.items():
                parameter.requires_grad_(mode)


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    check_network(network)
    training = {module: module.training for module in network.modules()}
    network.eval()
    ours = isinstance(network, Network)  # and leaves its input alone
    handle = None if ours else network.register_forward_pre_hook(_copied)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()
        for module, mode in training.items():
            module.training = mode


def _copied(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.clone() if isinstance(each, Tensor) else each for each in given)
