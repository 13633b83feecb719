"""What contract tests share: the form of a sentence, and what must be as it was after a call (floor 4)."""

import random
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from btlib.testing.errors import ContractError


def fail(what: str, expected: str, got: object, fix: str) -> NoReturn:
    """Raise a `ContractError` in the usual form.

    Example:
        >>> fail("norms", "one per class", 3, "give all")
        Traceback (most recent call last):
        ...
        btlib.testing.errors.ContractError: norms: expected one per class, got 3; give all
    """
    raise ContractError(f"{what}: expected {expected}, got {got}; {fix}")


def state_of(network: nn.Module, **given: Tensor) -> dict[str, list[Any]]:
    """All that a detector must leave as it found it, by name: for `check_untouched`."""
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


def check_untouched(before: dict[str, list[Any]], after: dict[str, list[Any]], when: str = "after the call") -> None:
    """Complain about the first thing that is not as it was.

    Raises:
        ContractError: something is not.
    """
    for what, values in before.items():
        if not all(map(_same, values, after[what])):
            fail(what, "as before", f"another {when}", "work within btlib.detection.images.undisturbed, or on copies")


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)
