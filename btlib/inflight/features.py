"""Logits and features of a layer in one forward pass; convolutional layers pooled to the penultimate width."""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from btlib.metrics import evaluating
from btlib.networks import Network, images_at_once, reference

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


class Trace(NamedTuple):
    """Logits (N, K), activations of a layer, and the number of features that maps of it are pooled to."""

    logits: Tensor
    activations: Tensor
    width: int


def trace(network: nn.Module, images: Tensor, layer: str) -> Trace:
    """One forward pass that also catches what a layer puts out.

    Args:
        network: any module, images → logits (N, K).
        images: float (N, C, H, W) in [0, 1], where the network computes.
        layer: one of `network.feature_layers` of a `btlib.networks.Network`; the dotted name of any submodule; or
            ``"penultimate"``: what the last `nn.Linear` that runs takes in.

    Raises:
        ValueError: no such layer, one that does not run, or one that does not put out (N, D) or (N, C, h, w).

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
        >>> trace(network, torch.rand(2, 1, 2, 2), "penultimate").activations.shape
        torch.Size([2, 6])
    """
    if isinstance(network, Network) and layer in network.feature_layers:
        return Trace(*network.with_features(images, layer), network.head.in_features)
    modules = {name: module for name, module in network.named_modules(remove_duplicate=False) if name}
    taken, given = _Catch(), _Catch()
    hooks = [module.register_forward_pre_hook(taken.inputs, with_kwargs=True) for module in modules.values()
             if isinstance(module, nn.Linear)]  # fmt: skip
    if layer in modules:
        hooks.append(modules[layer].register_forward_hook(given.output))
    try:
        logits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if layer != "penultimate" and layer not in modules:
        raise ValueError(f"layer: expected {_choices(network, modules)}, got {layer!r}; check the spelling")
    found = given if layer in modules else taken
    if found.what is None:
        raise ValueError(f"layer: expected {_choices(network, modules)}, got {layer!r}, which does not run; "
                         "name a layer that does")  # fmt: skip
    if not isinstance(found.what, Tensor) or found.what.ndim not in (2, 4) or len(found.what) != len(images):
        got = tuple(found.what.shape) if isinstance(found.what, Tensor) else type(found.what).__name__
        raise ValueError(f"layer: expected a tensor (N, D) or (N, C, h, w) from {layer!r}, got {got}; "
                         f"choose {_choices(network, modules)}")  # fmt: skip
    return Trace(logits, found.what, taken.width or found.what.shape[1])


class _Catch:
    """Hooks that keep the last thing a module took in or put out; a copy, since a later layer may write over it."""

    what: object = None
    width: int = 0

    def inputs(self, module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        self.what, self.width = _copy((*args, *kwargs.values())[0]), cast(nn.Linear, module).in_features

    def output(self, module: nn.Module, args: tuple[object, ...], output: object) -> None:
        self.what = _copy(output)


def _copy(value: object) -> object:
    return value.clone() if isinstance(value, Tensor) else value


def _choices(network: nn.Module, modules: Mapping[str, nn.Module]) -> str:
    """Layers that may be named, the deepest first."""
    known = getattr(network, "feature_layers", ("penultimate",))
    leaves = [name for name, module in modules.items() if not list(module.children())][::-1][:10]
    return f"{', '.join(known)} or a submodule such as {', '.join(leaves)}"


def describe(network: nn.Module, images: Tensor, layer: str = "penultimate") -> Described:
    """Logits and pooled features of many images, in batches; the network is left as it was found.

    Args:
        network: the classifier.
        images: float (N, C, H, W) in [0, 1], already checked.
        layer: see `trace`.

    Raises:
        ValueError: see `trace`; logits or features that are NaN.

    Example:
        >>> import torch
        >>> from btlib import networks
        >>> network = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
        >>> describe(network, torch.rand(3, 1, 28, 28), "conv2").features.shape
        torch.Size([3, 64])
    """
    like, parts = reference(network), []
    with evaluating(network):
        for batch in images.split(images_at_once(_BATCH, like.device)):
            logits, activations, width = trace(network, batch.to(like), layer)
            parts.append((logits.float().cpu(), pooled(activations, width).float().cpu()))
    logits, features = (torch.cat(each) for each in zip(*parts, strict=True))
    if bool(logits.isnan().any() or features.isnan().any()):
        raise ValueError(f"network: expected numbers from {layer!r} and the output, got NaN; check its weights")
    return Described(logits, features)
