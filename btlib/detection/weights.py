"""The annealed weights over source classes, L-RED Eq. 7 and 8, and a form that one class can move (floor 2)."""

from collections.abc import Callable

import torch
from torch import Tensor


def anneal(rates: Tensor, weights: Tensor, allowed: Tensor) -> Tensor:
    """One update of the weights: T = -log Q (Eq. 7), w_s ∝ exp(q_st / T) (Eq. 8); uniform where Q = 0.

    Args:
        rates: float (P, K), q_st of every problem: share of D_s classified as t.
        weights: float (P, K), w of the iteration before; rows sum to 1.
        allowed: bool (P, K), false for the target class.

    Returns:
        float (P, K), rows sum to 1; where Q = 1 the limit T → 0, equal weights on the largest rates.

    Example:
        >>> allowed = torch.tensor([[True, True, False]])  # the third class is the target
        >>> anneal(torch.tensor([[0.5, 0.0, 0.9]]), allowed / 2, allowed).round(decimals=2)
        tensor([[0.5900, 0.4100, 0.0000]])
    """
    misclassified = (weights * rates).sum(1, keepdim=True)  # Q_t
    temperature = -misclassified.clamp(max=1).log()  # infinite where Q = 0: no rate makes a difference
    exponent = rates / temperature.clamp_min(1e-6)
    return exponent.masked_fill(~allowed, -torch.inf).softmax(1)


def squared_shares(rates: Tensor, allowed: Tensor) -> Tensor:
    """Classes counted by the square of their rate, u_s = q_st² / Σ q_ct²: scattered errors hardly count.

    Args:
        rates, allowed: as in `anneal`.

    Returns:
        float (P, K), rows sum to 1, or are 0 where nothing is misclassified.

    Example:
        >>> squared_shares(torch.tensor([[0.6, 0.2, 0.9]]), torch.tensor([[True, True, False]]))
        tensor([[0.9000, 0.1000, 0.0000]])
    """
    squares = (rates * allowed).square()
    return squares / squares.sum(1, keepdim=True).clamp_min(1e-12)


def focus(rates: Tensor, weights: Tensor, allowed: Tensor) -> Tensor:
    """Eq. 8 with a temperature that looks where images are misclassified: Q = Σ u q in Eq. 7. Not in the paper.

    By Eq. 7 and 8 one fully misclassified class of nine, which no other moves with, ends with a weight of .184 and
    goes no further; here it gets all, and a few errors in other classes do not hold it (docs/choices.md).

    Args:
        rates, allowed: as in `anneal`.
        weights: has no part in it.

    Returns:
        as `anneal`.
    """
    return anneal(rates, squared_shares(rates, allowed), allowed)


def settle(
    rates: Tensor, weights: Tensor, allowed: Tensor, pi: float = 0.9, most: int = 300,
    update: Callable[[Tensor, Tensor, Tensor], Tensor] = anneal,
) -> Tensor:  # fmt: skip
    """Iterate an update until Q exceeds π or the weights stand still: what Algorithm 1 does while v hardly moves.

    With δ → 0 the weights are updated any number of times at (almost) the same v, and line 5 stops as soon as
    Q(v, w) > π. So this is that limit, at the price of operations on K numbers instead of passes through a network.

    Args:
        rates, weights, allowed: as in `anneal`.
        pi: π; rows with Q(v, w) > π are left as they are.
        most: iterations after which it stops in any case.
        update: `anneal` or `focus`.

    Returns:
        float (P, K).

    Example:
        >>> q, uniform = torch.tensor([[0.8, 0.5, 0.0]]), torch.tensor([[0.5, 0.5, 0.0]])
        >>> settle(q, uniform, torch.tensor([[True, True, False]]))[0, 0] > 0.6
        tensor(True)
    """
    still = torch.zeros((), dtype=torch.bool, device=weights.device)
    look = 1 if weights.device.type == "cpu" else 16  # elsewhere each look waits for all that was asked before
    for step in range(1, most + 1):
        running = ((weights * rates).sum(1, keepdim=True) <= pi) & ~still
        new = torch.where(running, update(rates, weights, allowed), weights)
        still |= (new - weights).abs().max() < 1e-5
        weights = new
        if step % look == 0 and bool(still):
            break
    return weights
