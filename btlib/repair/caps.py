"""MM-BM: cap every neuron's activation, as tightly as clean images allow (floor 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib import metrics
from btlib.repair.base import History, Repair, Task, require
from btlib.repair.channels import hidden_layers, outputs, outputs_changed

_FACTOR = 1.2  # by which λ moves: the authors' α


class Capped(nn.Module):
    """A layer whose outputs are at most `caps`: min(layer(x), caps).

    A cap in front of a rectifier or a pooling is the same cap behind it: both keep order.

    Example:
        >>> Capped(nn.Identity(), torch.tensor([1.0, 2.0]))(torch.tensor([[3.0, 1.5]])).tolist()
        [[1.0, 1.5]]
    """

    caps: Tensor

    def __init__(self, layer: nn.Module, caps: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("caps", caps)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer puts out, capped."""
        return torch.minimum(self.layer(x), self.caps)


def with_caps(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network with a cap behind each layer that has one in a repaired network's state dict, which then fits.

    Args:
        network: as it was before the repair; is changed in place.
        weights: a state dict, of a capped network or of any other.

    Example:
        >>> repaired = nn.Sequential(Capped(nn.Linear(2, 3), torch.ones(3)), nn.Linear(3, 2)).state_dict()
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> with_caps(net, repaired).load_state_dict(repaired)
        <All keys matched successfully>
    """
    layers = dict(network.named_modules())
    for key, caps in weights.items():
        name, _, last = key.rpartition(".")
        if last == "caps" and name in layers and not hasattr(layers[name], "caps"):
            _replace(network, layers[name], Capped(layers[name], torch.zeros_like(caps)))
    return network


@dataclass(frozen=True)
class ActivationCaps(Repair):
    """Cap every hidden neuron's activation, as tightly as clean images allow; the weights stay.

    Wang et al., "MM-BD", IEEE S&P 2024, VI (MM-BM): over the caps z, minimise the mean squared change of the logits
    on clean images plus λ times the size of z; λ grows while accuracy allows it and shrinks while not. Caps start at
    the largest activation on clean images and are counted in shares of it, so that all layers weigh alike. Kept are
    the smallest that held-out clean images allow.

    Attributes:
        epochs: of the optimisation (Adam). 0: the largest activations themselves.
        lr: of the shares.
        weight: λ at the beginning.
        batch_size: images per step.
        max_drop: of accuracy on held-out images that the network knew, in [0, 1].

    Raises:
        ValueError: a drop outside its range.

    Example:
        >>> ActivationCaps(max_drop=0.02).max_drop
        0.02
    """

    name: ClassVar[str] = "activation caps"
    epochs: int = 30
    lr: float = 0.03
    weight: float = 1.0
    batch_size: int = 100
    max_drop: float = 0.03

    def __post_init__(self) -> None:
        require(self, epochs=(0, float("inf")), max_drop=(0, 1))

    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Choose the caps and put them behind the layers."""
        layers = hidden_layers(task.network, task.images)
        learned, held = task.split()
        tops = [rows.amax(0).clamp_min(0) for rows in outputs(task.network, learned.images, layers, _largest)]
        shares = [torch.ones_like(top) for top in tops]
        first, history = held.accuracy(), []
        kept, size, weight = [share.clone() for share in shares], 1.0, self.weight

        def capped(number: int, output: Tensor) -> Tensor:
            return torch.minimum(output, tops[number] * shares[number])

        optimizer = torch.optim.Adam([share.requires_grad_() for share in shares], lr=self.lr)
        given = metrics.predict(task.network, learned.images).to(task.labels.device)
        for epoch in tqdm(range(1, self.epochs + 1), self.name, disable=not task.progress, leave=False, unit="epoch"):
            with outputs_changed(layers, capped):
                for chosen in torch.randperm(len(given)).to(given.device).split(self.batch_size):
                    change = (task.network(learned.images[chosen]) - given[chosen]).square().mean()
                    _step(optimizer, shares, change + weight * sum(share.square().mean() for share in shares))
                accuracy = held.accuracy()
            now = float(torch.cat([share.detach().flatten() for share in shares]).mean())
            allowed = first - accuracy <= self.max_drop + 1e-6
            if allowed and now < size:
                kept, size = [share.detach().clone() for share in shares], now
            history.append({"epoch": epoch, "accuracy": accuracy, "size": now, "weight": weight})
            weight = weight * _FACTOR if allowed else weight / _FACTOR
        for layer, top, share in zip(layers, tops, kept, strict=True):
            _replace(task.network, layer.end, Capped(layer.end, top * share))
        summary = f"caps on {len(layers)} layers, at {size:.2f} of the largest clean activation in the mean"
        return summary, {"layers": len(layers), "size": size}, history


def _largest(output: Tensor) -> Tensor:
    return output.amax(0)


def _step(optimizer: torch.optim.Optimizer, shares: Sequence[Tensor], loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward(inputs=shares)
    optimizer.step()
    with torch.no_grad():
        for share in shares:
            share.clamp_(0, 1)


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child is old and parent is not new:
                setattr(parent, name, new)
