"""Channels of any classifier: where they are, what they put out, and how to prune them (floor 3)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.repair.base import Task

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_BATCH = 250


@dataclass(frozen=True, eq=False)
class Layer:
    """A hidden layer of channels (of neurons, where it is linear).

    Attributes:
        name: of its convolution or linear module in the network.
        weights: that module.
        norm: the batch normalisation that follows it; None without one.
    """

    name: str
    weights: nn.Module
    norm: nn.Module | None = None

    @property
    def end(self) -> nn.Module:
        """What scales and shifts each channel last: the batch normalisation, else the convolution."""
        return self.norm or self.weights

    @property
    def weight(self) -> Tensor:
        """Of `end`, a row per channel."""
        return self.end.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """What `end` adds to each channel."""
        return self.end.bias  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.weight)


def hidden_layers(network: nn.Module, images: Tensor) -> list[Layer]:
    """All convolutions and linear layers in the order of computation, but for the last one, which makes the logits.

    Args:
        network: any classifier.
        images: at least one, on the network's device.

    Raises:
        ValueError: there is no hidden layer.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
        >>> [(layer.name, layer.size, layer.norm is net[1]) for layer in hidden_layers(net, torch.zeros(1, 1, 4, 4))]
        [('0', 4, True)]
    """
    put_out: dict[nn.Module, Tensor] = {}
    norm_of: dict[nn.Module, nn.Module] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(module, _NORMS):
            put_out[module] = output
        elif module.affine:
            norm_of.update({made: module for made, tensor in put_out.items() if tensor is inputs[0]})

    names = {module: name for name, module in network.named_modules()}
    with ExitStack() as hooks, metrics.evaluating(network):
        for module in names:
            if isinstance(module, (nn.Conv2d, nn.Linear, *_NORMS)):
                hooks.callback(module.register_forward_hook(note).remove)
        network(images[:1])
    hidden = list(put_out)[:-1]
    if not hidden:
        raise ValueError("network: expected hidden convolutions or linear layers, got none; fine-tune it instead")
    return [Layer(names[module], module, norm_of.get(module)) for module in hidden]


def prune(layer: Layer, channels: Tensor, *, bias: bool = True) -> None:
    """Set channels' weights to zero, in place; with `bias` also what is added to them, so that they put out 0.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> prune(Layer("", net), torch.tensor([1]))
        >>> net(torch.ones(1, 2))[0, 1].item()
        0.0
    """
    with torch.no_grad():
        layer.weight[channels] = 0
        if bias and layer.bias is not None:
            layer.bias[channels] = 0


def prune_while(held: Task, steps: Iterable[Callable[[], None]], max_drop: float) -> tuple[int, list[float]]:
    """Take steps as long as accuracy falls by no more than `max_drop`; the one too far is taken back.

    Args:
        held: the network that the steps change, with held-out clean images.
        steps: each prunes some more.
        max_drop: from the accuracy before the first step, in [0, 1].

    Returns:
        how many steps were taken, and the accuracy before and after each, that of the refused one included.
    """
    accuracies = [held.accuracy()]
    for taken, step in enumerate(steps):
        before = deepcopy(held.network.state_dict())
        step()
        accuracies.append(held.accuracy())
        if accuracies[0] - accuracies[-1] > max_drop + 1e-6:  # accuracies are float32
            held.network.load_state_dict(before)
            return taken, accuracies
    return len(accuracies) - 1, accuracies


@contextmanager
def outputs_changed(layers: Sequence[Layer], change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Inside, layer number i puts out ``change(i, output)``; the network itself is not changed."""

    def hook(number: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return change(number, output)

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            hooks.callback(layer.end.register_forward_hook(partial(hook, number)).remove)
        yield


def outputs(
    network: nn.Module, images: Tensor, layers: Sequence[Layer], reduce: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """``reduce(output)`` of each layer, one row per batch of images.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> [means] = outputs(net, torch.ones(4, 2), [Layer("0", net[0])], lambda output: output.mean(0))
        >>> means.shape
        torch.Size([1, 3])
    """
    found: list[list[Tensor]] = [[] for _ in layers]

    def keep(number: int, output: Tensor) -> Tensor:
        found[number].append(reduce(output))
        return output

    with outputs_changed(layers, keep), torch.no_grad():
        for batch in images.split(_BATCH):
            network(batch)
    return [torch.stack(rows) for rows in found]
