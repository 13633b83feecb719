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
    """Complain unless it holds.

    Raises:
        ContractError: it does not.
    """
    if not holds:
        raise ContractError(sentence)


def try_all(name: str, checks: Iterable[Callable[[Any], None]], trial: Any) -> None:
    """Run checks in order, on the same trial; the first that fails is named, random states are put back.

    Args:
        name: the detector's, which begins the sentence.
        checks: functions of a trial that raise a `ContractError` where something is amiss.
        trial: what they are given.

    Raises:
        ContractError: a promise is broken, or a check ends in another error.
    """
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
    """Every bad input is answered with a ValueError or TypeError that has words.

    Args:
        bad: what is wrong with it → what `call` is given.
        call: the detector's door.

    Raises:
        ContractError: something is taken, or refused otherwise.
    """
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
    """Let a network raise a `BrokenError` at a call, those of its copies included.

    Args:
        network: changed in place, by a hook.
        at: the number of that call; None: never.

    Returns:
        one number: the calls so far.
    """
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
    """Complain about the first thing that is not as it was.

    Raises:
        ContractError: something is not.
    """
    for what, values in before.items():
        if not all(map(_same, values, after[what])):
            fail(what, "as before", f"another {when}", "work within btlib.detection.images.undisturbed, or on copies")


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)
