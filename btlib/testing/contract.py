"""What contract tests share: one error, and what must be as it was after a call (floor 3)."""

import random
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn


class ContractError(AssertionError):
    """A detector does not keep the contract; the message says in one sentence what was expected and what came."""


def fail(what: str, expected: str, got: object, fix: str) -> NoReturn:
    """Raise a `ContractError` in the usual form.

    Example:
        >>> fail("norms", "one per class", 3, "give all")
        Traceback (most recent call last):
        ...
        btlib.testing.contract.ContractError: norms: expected one per class, got 3; give all
    """
    raise ContractError(f"{what}: expected {expected}, got {got}; {fix}")


def state_of(network: nn.Module, **given: Tensor) -> dict[str, Any]:
    """All that a detector must leave as it found it, by name: for `check_untouched`.

    Example:
        >>> len(state_of(nn.Linear(1, 1), images=torch.zeros(1)))
        9
    """
    parameters, modules = list(network.parameters()), list(network.modules())
    return {
        "the network's mode (training or evaluation)": [module.training for module in modules],
        "the network's requires_grad": [parameter.requires_grad for parameter in parameters],
        "the network's gradients": [parameter.grad is None for parameter in parameters],
        "the network's weights and buffers": [value.detach().clone() for value in network.state_dict().values()],
        "the network's hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules],
        "torch's random state": [torch.get_rng_state()],
        "numpy's random state": [repr(np.random.get_state(legacy=False))],
        "Python's random state": [random.getstate()],
        **{f"the {name}": [value.clone()] for name, value in given.items()},
    }


def check_untouched(before: dict[str, Any], after: dict[str, Any], when: str = "after the call") -> None:
    """Complain about the first thing that is not as it was.

    Raises:
        ContractError: something is not.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> before = state_of(net)
        >>> check_untouched(before, state_of(net))
        >>> check_untouched(before, state_of(net.eval()))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        btlib.testing.contract.ContractError: the network's mode (training or evaluation): expected as before, got ...
    """
    for what, values in before.items():
        if not all(map(_same, values, after[what])):
            fail(what, "as before", f"another {when}", "work within btlib.detection.images.undisturbed, or on copies")


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


class Fuse:
    """Counts what passes, and blows at one of them; copies of a network share theirs.

    Example:
        >>> fuse = Fuse(at=2)
        >>> fuse.burn()
        >>> fuse.burn()
        Traceback (most recent call last):
        ...
        btlib.testing.contract.Blown: the network fails here on purpose
    """

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count = at, 0

    def burn(self) -> None:
        """One more.

        Raises:
            Blown: it is the one.
        """
        self.count += 1
        if self.count == self.at:
            raise Blown("the network fails here on purpose")

    def __deepcopy__(self, memo: dict[int, Any]) -> "Fuse":
        return self


class Blown(RuntimeError):
    """The error inside a network that a detector has to let through."""


class Fused(nn.Module):
    """A network that passes its input through layers which mind the mode, then through `inner`; it may fail on the way.

    Args:
        inner: images (N, C, H, W) → logits.
        channels: C.
        fuse: burns at every pass.

    Example:
        >>> Fused(nn.Flatten(), 1, Fuse())(torch.ones(1, 1, 1, 2)).tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, inner: nn.Module, channels: int, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse
        self.norm, self.drop, self.inner = nn.BatchNorm2d(channels, eps=0.0), nn.Dropout(0.5), inner
        self.norm.requires_grad_(False)  # a mixture, so that "all on" and "all off" are both wrong
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Images → logits; in evaluation mode those of `inner`."""
        self.fuse.burn()
        logits: Tensor = self.inner(self.drop(self.norm(x)))
        return logits


def refuses(call: Callable[[], object]) -> str | None:
    """None where a call is refused as bad input is, by ValueError or TypeError; else what came instead.

    Example:
        >>> refuses(lambda: int("a")), refuses(lambda: 1 / 0), refuses(lambda: 1)
        (None, 'ZeroDivisionError', 'an int')
    """
    try:
        came = call()
    except (ValueError, TypeError):
        return None
    except ContractError:
        raise
    except Exception as error:
        return type(error).__name__
    return f"an {type(came).__name__}" if type(came).__name__[0] in "aeiou" else f"a {type(came).__name__}"
