"""The annealed weights over source classes, L-RED Eq. 7 and 8 (floor 2)."""

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
        >>> q, uniform = torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[0.5, 0.5, 0.0]])
        >>> anneal(q, uniform, torch.tensor([[True, True, False]]))  # Q = 1/4, so T = log 4
        tensor([[0.5892, 0.4108, 0.0000]])
    """
    misclassified = (weights * rates).sum(1, keepdim=True)  # Q_t
    temperature = -misclassified.clamp(1e-12, 1).log()
    exponent = rates / temperature.clamp_min(1e-6)
    new = exponent.masked_fill(~allowed, -torch.inf).softmax(1)
    uniform = allowed / allowed.sum(1, keepdim=True)
    return torch.where(misclassified > 0, new, uniform)


def settle(rates: Tensor, weights: Tensor, allowed: Tensor, pi: float = 0.9, most: int = 300) -> Tensor:
    """Iterate `anneal` until Q exceeds π or the weights stand still: what Algorithm 1 does while v hardly moves.

    With δ → 0 the weights are updated any number of times at (almost) the same v, and line 5 stops as soon as
    Q(v, w) > π. So this is that limit, at the price of operations on K numbers instead of passes through a network.

    Args:
        rates, weights, allowed: as in `anneal`.
        pi: π; rows with Q(v, w) > π are left as they are.
        most: iterations after which it stops in any case.

    Returns:
        float (P, K).

    Example:
        >>> q, uniform = torch.tensor([[0.8, 0.5, 0.0]]), torch.tensor([[0.5, 0.5, 0.0]])
        >>> settle(q, uniform, torch.tensor([[True, True, False]]))[0, 0] > 0.6
        tensor(True)
    """
    for _ in range(most):
        running = (weights * rates).sum(1, keepdim=True) <= pi
        new = torch.where(running, anneal(rates, weights, allowed), weights)
        settled = bool((new - weights).abs().max() < 1e-5)
        weights = new
        if settled:
            break
    return weights
