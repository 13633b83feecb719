"""Pruning by rules: channels that clean images hardly use, and channels that amplify most (floor 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from btlib.repair.base import History, Repair, Task, require
from btlib.repair.channels import Layer, hidden_layers, outputs, prune, prune_while
from btlib.repair.finetuning import TUNING, tune
from btlib.training import Recipe


@dataclass(frozen=True)
class FinePruning(Repair):
    """Prune the channels that clean images use least, then fine-tune.

    Liu et al., "Fine-Pruning", RAID 2018, 4.2 and 4.3: channels of the last convolution, in the order of their mean
    activation on clean images, as long as accuracy on held-out clean images falls by no more than is allowed.

    Attributes:
        max_drop: of accuracy on held-out images, by pruning, in [0, 1].
        recipe: of the fine-tuning.

    Raises:
        ValueError: a drop outside its range.

    Example:
        >>> FinePruning(max_drop=0.02).max_drop
        0.02
    """

    name: ClassVar[str] = "fine-pruning"
    max_drop: float = 0.04
    recipe: Recipe = TUNING

    def __post_init__(self) -> None:
        require(self, max_drop=(0, 1))

    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Prune while accuracy allows it, and fine-tune."""
        layers = hidden_layers(task.network, task.images)
        layer = next((each for each in reversed(layers) if isinstance(each.weights, nn.Conv2d)), layers[-1])
        learned, held = task.split()
        order = mean_activation(task.network, layer, learned.images).argsort()
        steps = [partial(prune, layer, channel) for channel in order[:-1]]
        pruned, accuracies = prune_while(held, steps, self.max_drop)
        tuned = tune(task, self.recipe)
        summary = f"pruned {pruned} of {layer.size} channels of {layer.name}, then {len(tuned)} epochs"
        tried = [{"pruned": number, "accuracy": accuracy} for number, accuracy in enumerate(accuracies)]
        return summary, {"pruned": pruned, "channels": layer.size, "epochs": len(tuned)}, [*tried, *tuned]


def mean_activation(network: nn.Module, layer: Layer, images: Tensor) -> Tensor:
    """Of each channel, behind a rectifier: the mean over all images and places, float (channels,).

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2))
        >>> nn.init.ones_(net[0].weight), nn.init.zeros_(net[0].bias)  # doctest: +ELLIPSIS
        (...)
        >>> mean_activation(net, Layer("0", net[0]), torch.tensor([[-2.0], [6.0]])).tolist()
        [3.0, 3.0]
    """

    def total(output: Tensor) -> Tensor:
        return len(output) * output.relu().transpose(0, 1).flatten(1).mean(1)  # batches may be of different sizes

    [totals] = outputs(network, images, [layer], total)
    return totals.sum(0) / len(images)


@dataclass(frozen=True)
class ChannelLipschitz(Repair):
    """Prune the channels that can amplify a change of the image most; no image is looked at.

    Zheng et al., "Data-free Backdoor Removal based on Channel Lipschitzness", ECCV 2022, Eq. 8 and Algorithm 1: of each
    convolution with batch normalisation, channels whose Lipschitz bound is more than `u` standard deviations above
    the mean of their layer. The bound is the largest singular value of a channel's kernel (channels × pixels), times
    ``|γ|/σ`` of its normalisation.

    Attributes:
        u: standard deviations; the paper has 3.

    Raises:
        ValueError: a negative `u`; a network without convolutions followed by batch normalisation.

    Example:
        >>> ChannelLipschitz().u
        3.0
    """

    name: ClassVar[str] = "channel Lipschitzness"
    u: float = 3.0

    def __post_init__(self) -> None:
        require(self, u=(0, float("inf")))

    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Prune the outliers of each layer."""
        layers = [layer for layer in hidden_layers(task.network, task.images) if _normalised(layer)]
        if not layers:
            raise ValueError("network: expected convolutions followed by batch normalisation, got none; "
                             "choose another of repair.REPAIRS")  # fmt: skip
        history = []
        for layer in layers:
            bounds = lipschitz_bounds(layer)
            outliers = bounds > bounds.mean() + self.u * bounds.std()
            prune(layer, outliers)
            history.append({"pruned": int(outliers.sum()), "largest": float(bounds.max() / bounds.mean())})
        pruned, channels = sum(int(row["pruned"]) for row in history), sum(layer.size for layer in layers)
        return f"pruned {pruned} of {channels} channels", {"pruned": pruned, "channels": channels}, history


def _normalised(layer: Layer) -> bool:
    return isinstance(layer.weights, nn.Conv2d) and getattr(layer.norm, "running_var", None) is not None


def lipschitz_bounds(layer: Layer) -> Tensor:
    """Of each channel of a convolution with batch normalisation: the paper's upper bound, float (channels,)."""
    variance: Tensor = layer.norm.running_var + layer.norm.eps  # type: ignore[union-attr, operator]
    kernels: Tensor = layer.weights.weight.flatten(2)  # type: ignore[operator]
    return (torch.linalg.matrix_norm(kernels, ord=2) * (layer.weight / variance.sqrt()).abs()).detach()
