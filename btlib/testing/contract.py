"""What contract tests share: how checks are run, the form of a sentence, what must be as it was (floor 4)."""

import random
from collections.abc import Callable, Iterable, Mapping
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


def demand(holds: object, sentence: str) -> None:
    """Raise a `ContractError` unless it holds."""
    if not holds:
        raise ContractError(sentence)


def try_all(name: str, checks: Iterable[Callable[[Any], None]], trial: Any) -> None:
    """Run checks on a trial; the `ContractError` names detector, check and error. Random states are put back."""
    states = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            for check in checks:
                try:
                    check(trial)
                except ContractError as error:
                    raise ContractError(f"{name}: {error}") from None
                except Exception as error:
                    said = f"{check.__name__.strip('_')}: it raises {type(error).__name__} ({error})"
                    raise ContractError(f"{name}: {said}") from error
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])


def check_refused(bad: Mapping[str, dict[str, Any]], call: Callable[..., object]) -> None:
    """Each bad input (what is wrong with it → what `call` gets) must end in a ValueError or TypeError with words."""
    for what, given in bad.items():
        try:
            call(**given)
        except ContractError:
            raise
        except Exception as error:
            if isinstance(error, TypeError | ValueError) and str(error):
                continue
            came = f"{type(error).__name__} ({str(error).partition(chr(10))[0]})"
        else:
            came = "an outcome"
        fail(what, "a ValueError or TypeError that says what is wrong", came, "check what comes in, at the door")


class BrokenError(RuntimeError):
    """Raised by a network on purpose."""


def failing(network: nn.Module, at: int | None = None) -> list[int]:
    """Hook a network so that it raises a `BrokenError` at a call, its copies' included; gives the calls so far, [n]."""
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise BrokenError("out of order")

    network.register_forward_pre_hook(count)
    return calls


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
    """Raise a `ContractError` about the first thing that is not as it was."""
    for what, values in before.items():
        if not all(map(_same, values, after[what])):
            fail(what, "as before", f"another {when}", "work within btlib.detection.images.undisturbed, or on copies")


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)
