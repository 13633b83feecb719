"""What checks say of an answer: what was expected, what came, and a likely cause."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from btlib.exercises.core import WrongAnswer

NOTHING = "the function returns nothing: is there a return?"
_NONE: Mapping[str, Any] = {}


def same_tensor(
    got: Any, expected: Tensor, otherwise: str, causes: Mapping[str, Any] = _NONE, *, tolerance: float = 1e-6
) -> None:
    """Complain unless `got` is a tensor like `expected`.

    Args:
        got: the answer.
        expected: the right one.
        otherwise: the likely cause of any other value.
        causes: well-known causes, each with the wrong value (or a tuple of them) that it leads to; the first that
            fits is named.
        tolerance: of each element.

    Raises:
        WrongAnswer: another type, shape, or a value that differs by more than `tolerance`.
    """
    returned(got, "a tensor")
    if not isinstance(got, Tensor):
        raise WrongAnswer("a tensor", f"{type(got).__name__}", "the function should return a tensor")
    if got.shape != expected.shape:
        cause = "an axis has another length" if got.ndim == expected.ndim else "a dimension is lost or added"
        raise WrongAnswer(f"shape {tuple(expected.shape)}", f"shape {tuple(got.shape)}", cause)
    mine, right = (x.detach().cpu().double() for x in (got, expected))
    difference = (mine - right).abs()
    if not torch.all(difference <= tolerance):  # false for NaN too
        place = tuple(int(i) for i in torch.unravel_index(difference.nan_to_num(torch.inf).argmax(), difference.shape))
        cause = cause_of(got, causes, otherwise)
        raise WrongAnswer(f"{float(right[place]):.4f} at {place}", f"{float(mine[place]):.4f}", cause)


def same_number(
    got: Any, expected: float, otherwise: str, causes: Mapping[str, Any] = _NONE, *, tolerance: float = 1e-6
) -> None:
    """Complain unless `got` is a number (or a one-element tensor) like `expected`; arguments as in `same_tensor`.

    Raises:
        WrongAnswer: not a number, or one that differs by more than `tolerance`.
    """
    value = number(got, f"{expected:.4f}")
    if not abs(value - expected) <= tolerance:
        if causes and value == math.floor(expected):
            otherwise = "it is rounded down (a // or an int() where a fraction is wanted?), or nothing is counted"
        raise WrongAnswer(f"{expected:.4f}", f"{value:.4f}", cause_of(got, causes, otherwise))


def number(got: Any, what: str) -> float:
    """The answer as a number; a tensor or array of one will do.

    Raises:
        WrongAnswer: it is something else, such as a text or a truth; says that `what` is expected.
    """
    returned(got, what)
    try:
        if isinstance(got, str | bytes | bool):
            raise TypeError("no number")
        return float(got.detach() if isinstance(got, Tensor) else got)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WrongAnswer(what, f"{type(got).__name__}", "the function should return a number") from error


def cause_of(got: Any, causes: Mapping[str, Any], otherwise: str) -> str:
    """The first cause whose wrong result `got` is, else `otherwise`."""
    for cause, wrong in causes.items():
        if any(alike(got, one) for one in (wrong if isinstance(wrong, tuple) else (wrong,))):
            return cause
    return otherwise


def alike(got: Any, value: Any) -> bool:
    """Whether two tensors or numbers are the same but for rounding."""
    try:
        a, b = (torch.as_tensor(x).detach().cpu().double() for x in (got, value))
    except (TypeError, ValueError, RuntimeError):
        return False
    comparable = a.shape == b.shape or a.numel() == b.numel() == 1
    return comparable and torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def returned(got: Any, what: object) -> None:
    """Complain of a function without a result, where `what` was expected."""
    if got is None:
        raise WrongAnswer(what, None, NOTHING)


def truth(got: Any) -> bool | None:
    """The answer as True, False or None; a tensor or array of one such, 0 and 1 will do.

    Raises:
        WrongAnswer: it is something else; a text would count as true.
    """
    value = got.item() if isinstance(got, Tensor | np.ndarray | np.generic) and np.prod(got.shape) == 1 else got
    if value is None or isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return None if value is None else bool(value)
    raise WrongAnswer("True or False", f"{type(got).__name__}", "return the comparison itself")


def two(got: Any, what: str) -> tuple[Any, Any]:
    """The two results of an answer, in any container that has an order.

    Raises:
        WrongAnswer: there are not two; says that `what` is expected.
    """
    returned(got, what)
    try:
        first, second = got
    except (TypeError, ValueError) as error:
        raise WrongAnswer(what, type(got).__name__, f"return both, as `return {what}`") from error
    if isinstance(got, str | set | dict):
        raise WrongAnswer(what, type(got).__name__, "which is which? Return a pair")
    return first, second


def whole_numbers(got: Any, what: str, example: str) -> list[int]:
    """The answer as sorted whole numbers.

    Raises:
        WrongAnswer: it is no list of such; says that `what` is expected, such as `example`.
    """
    returned(got, what)
    try:
        if isinstance(got, str | bytes):
            raise TypeError("digits are no numbers")
        given = list(got)
        if any(isinstance(one, bool) or str(getattr(one, "dtype", "")).endswith("bool") for one in given):
            raise TypeError("truths are no numbers of classes")
        numbers = [float(number) for number in given]
        if any(number != int(number) for number in numbers):
            raise ValueError("a fraction is no number of a class")
        return sorted(int(number) for number in numbers)
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongAnswer(what, type(got).__name__, f"return {what}, such as {example}") from error


class LinearNet(nn.Module):
    """A network without bias, its weights set by hand: images (N, C, H, W) → logits (N, K).

    Args:
        rows: K rows of C·H·W weights.
    """

    def __init__(self, rows: list[list[float]] | Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(rows))

    def forward(self, x: Tensor) -> Tensor:
        """Images → logits."""
        return x.flatten(1) @ self.weight.T
