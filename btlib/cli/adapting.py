"""Networks that return something else than logits: tuples, dictionaries, probabilities."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from btlib import metrics

#: Under which names networks return their logits, the likeliest first.
_NAMES = ("logits", "out", "output", "pred", "scores")
_LEAST = 1e-30  # the logarithm of a probability that single precision gave up is cut here


class ForeignError(ValueError):
    """A network that can't be loaded or scanned; the message says what was expected and what to do."""


class _LogitsOnly(nn.Module):
    """A network of which one output is returned, as float32 (N, K)."""

    def __init__(self, network: nn.Module, key: str | int | None = None) -> None:
        super().__init__()
        self.network, self.key = network, key

    def forward(self, x: Tensor) -> Tensor:
        """Images → logits."""
        found = self.network(x)
        return (found if self.key is None else found[self.key]).flatten(1).float()


class _Logarithm(nn.Module):
    """Probabilities made logits again."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Images → log-probabilities."""
        return self.network(x).clamp_min(_LEAST).log()


def unadapted(network: nn.Module) -> nn.Module:
    """The network inside what `adapted` wrapped around it.

    Example:
        >>> unadapted(_Logarithm(nn.Flatten()))
        Flatten(start_dim=1, end_dim=-1)
    """
    while isinstance(network, _LogitsOnly | _Logarithm):
        network = network.network
    return network


def adapted(network: nn.Module, images: Tensor, output: str | None = None) -> tuple[nn.Module, list[str]]:
    """A network that returns logits, from one that returns them among other things or as probabilities.

    Args:
        network: in evaluation mode.
        images: a few, float (N, C, H, W) in [0, 1].
        output: name or number of the output that holds the logits; None: found.

    Returns:
        the network, wrapped or with its last softmax taken off where that was needed, and what was done, in words.

    Raises:
        ForeignError: outputs of which none or several may be logits, or `output` where there is one; sigmoids; a single
            logit.
    """
    said = []
    with metrics.evaluating(network):
        found = network(images)
    if not isinstance(found, Tensor):
        key, name = _key(found, output)
        network, found = _LogitsOnly(network, key).eval(), found[key].float()
        said.append(f"of the network's outputs {name!r} is taken for the logits")
    elif output is not None:
        raise ForeignError(f"--output: expected none, since the network has one output, got {output}; leave it out")
    if found.ndim > 2 and found.shape[2:].numel() == 1 or found.dtype in (torch.half, torch.bfloat16, torch.double):
        network, found = _LogitsOnly(network).eval(), found.flatten(1).float()
    if found.ndim == 2 and found.shape[1] == 1:
        raise ForeignError(
            "WEIGHTS: expected one output per class, got a single one (yes or no); backdoors of two-class networks "
            "with one output are not looked for: let the network return two logits, (0, x)"
        )
    if (
        found.ndim != 2
        or len(found) != len(images)
        or not found.is_floating_point()
        or not bool(((found >= 0) & (found <= 1)).all())
    ):
        return network, said
    if metrics.probabilities(found):
        bare = _without_softmax(network, images, found)
        if bare is not None:
            return bare, [*said, "the network ends in a softmax, which was taken off"]
        return _Logarithm(network).eval(), [
            *said,
            "the network returns probabilities, of which the logarithm is taken; where it is certain, little is left "
            "to differentiate: a network that returns logits is judged better",
        ]
    if bool((found > 0).all()) and float(found.std()) > 0:
        raise ForeignError(
            "WEIGHTS: expected logits of classes that exclude each other, got numbers in 0…1 that do not sum to 1 "
            "(a sigmoid for each class?); return what goes into the sigmoid"
        )
    return network, said


def _key(found: Any, output: str | None) -> tuple[str | int, str | int]:
    """Which of several outputs are the logits: how to get them, and their name."""
    if isinstance(found, Mapping):
        parts: dict[str | int, Any] = {str(key): value for key, value in found.items()}
    elif isinstance(found, tuple | list):
        parts = dict(zip(getattr(found, "_fields", range(len(found))), found, strict=True))
    else:
        raise ForeignError(
            f"WEIGHTS: expected logits (N, K), got {type(found).__name__}; let the network return logits"
        )
    keys = {name: name if isinstance(found, Mapping) else place for place, name in enumerate(parts)}
    may_be = [key for key, value in parts.items()
              if isinstance(value, Tensor) and value.ndim == 2 and value.is_floating_point()]  # fmt: skip
    listed = ", ".join(f"{key} {tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__}"
                       for key, v in parts.items())  # fmt: skip
    if output is not None:
        chosen = int(output) if output.isdigit() and 0 in parts else output
        if chosen not in may_be:
            raise ForeignError(f"--output: expected one of the network's outputs ({listed}), got {output}")
        return keys[chosen], chosen
    named = [key for key in _NAMES if key in may_be]
    if named or len(may_be) == 1:
        return keys[(named or may_be)[0]], (named or may_be)[0]
    raise ForeignError(
        f"--output: expected the name of the output with the logits, got none; there are {listed or 'no outputs'}"
    )


def _without_softmax(network: nn.Module, images: Tensor, probabilities: Tensor) -> nn.Module | None:
    """A copy without the softmax layer at its end; None where there is none, or the copy says something else."""
    last = [name for name, module in network.named_modules() if type(module) is nn.Softmax]
    if not last:
        return None
    bare = copy.deepcopy(network)
    parent, _, child = last[-1].rpartition(".")
    bare.get_submodule(parent)._modules[child] = nn.Identity()
    with metrics.evaluating(bare):
        logits = bare(images)
    same = isinstance(logits, Tensor) and torch.allclose(logits.softmax(1), probabilities, atol=1e-5)
    return bare.eval() if same else None
