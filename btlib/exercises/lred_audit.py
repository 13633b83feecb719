"""Exercises on judging L-RED: counting its verdicts, where its weights rest, squared shares (lesson 11)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from btlib.detection import weights
from btlib.exercises.answers import same_number, same_tensor
from btlib.exercises.attempt import tensor
from btlib.exercises.core import register

# ---------------------------------------------------------------------------------------- counting verdicts


def count_verdicts(suspects: Tensor, p_values: Tensor, targets: Tensor, level: float = 0.05) -> Tensor:
    """Shares: attacked networks whose target is named; that and sure; clean networks that are accused."""
    attacked, sure, named = targets >= 0, p_values < level, suspects == targets
    return torch.stack([
        named[attacked].float().mean(), (named & sure)[attacked].float().mean(), sure[~attacked].float().mean()
    ])  # fmt: skip


@register("count_verdicts", count_verdicts, "Sure of the wrong class is wrong, and the clean are counted apart.",
          convert=tensor)  # fmt: skip
def _check_count_verdicts(answer: Callable[..., Tensor]) -> None:
    suspects = torch.tensor([0, 0, 9, 1, 2, 7, 2, 5, 4, 6])
    targets = torch.tensor([0, 0, 9, 4, 2, -1, -1, -1, 4, 1])
    p = torch.tensor([0.01, 0.2, 0.001, 0.12, 0.03, 0.04, 0.05, 0.6, 0.05, 0.003])  # two are just at the level
    causes = _wrong_counts(suspects, p, targets)
    otherwise = "something else than the three shares"
    same_tensor(answer(suspects, p, targets), count_verdicts(suspects, p, targets), otherwise, causes, tolerance=1e-4)
    cause = "with level=0.25 it goes wrong: use the level that is given"
    expected = count_verdicts(suspects, p, targets, 0.25)
    same_tensor(answer(suspects, p, targets, level=0.25), expected, cause, tolerance=1e-4)


def _wrong_counts(suspects: Tensor, p: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """What typical mistakes give, by their cause."""
    attacked, sure, named = targets >= 0, p < 0.05, suspects == targets

    def three(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        return torch.stack([one.float().mean() for one in (first, second, third)])

    right = named & sure
    shares = three(named[attacked], right[attacked], sure[~attacked])
    return {
        "an accusation of the wrong class counts as right: name and p-value must both fit":
            three(named[attacked], sure[attacked], sure[~attacked]),
        "\"right\" does not ask whether it is sure": three(named[attacked], named[attacked], sure[~attacked]),
        "the third is of all networks: only clean ones are accused wrongly here":
            three(named[attacked], right[attacked], sure),
        "the third counts clean networks that are left alone: count those accused":
            three(named[attacked], right[attacked], ~sure[~attacked]),
        "the shares are of all networks: the first two are of the attacked, the third of the clean ones":
            three(named, right, sure & ~attacked),
        "class 0 is a class: clean networks are those with -1":
            three(named[targets > 0], right[targets > 0], sure[targets <= 0]),
        "the first two are of all networks: a clean one has no target to name": three(named, right, sure[~attacked]),
        "p-values are read the wrong way: a small one accuses":
            three(named[attacked], (named & ~sure)[attacked], ~sure[~attacked]),
        "a p-value at the level does not accuse: it must be below":
            three(named[attacked], (named & (p <= 0.05))[attacked], (p <= 0.05)[~attacked]),
        "these are counts: divide": shares * torch.tensor([attacked.sum(), attacked.sum(), (~attacked).sum()]),
        "\"right\" is a share of those named: it is one of all attacked":
            torch.stack([shares[0], shares[1] / shares[0], shares[2]]),
    }  # fmt: skip


# ---------------------------------------------------------------------------------------- where weights rest


def resting_share(fooled: int, others: int, rounds: int = 300) -> float:
    """Q after rounds of Eq. 7 and 8 from equal weights, where q is 1 for the fooled classes and 0 for the others."""
    share = fooled / (fooled + others)
    for _ in range(rounds):
        if share > 1 - 1e-12:  # T = 0: nothing moves any more
            return 1.0
        temperature = -math.log(share)
        share = fooled / (fooled + others * math.exp(-1 / temperature))
    return share


@register("resting_share", resting_share, "One of nine rests at .184: the walk goes on as if nothing had been found.")
def _check_resting_share(answer: Callable[..., float]) -> None:
    otherwise = "something else than Eq. 7 and 8, again and again"
    same_number(answer(1, 8), resting_share(1, 8), otherwise, _wrong_rests(1, 8), tolerance=1e-3)
    cause = "with one round it goes wrong: start from equal weights, and renew them `rounds` times"
    same_number(answer(1, 8, rounds=1), resting_share(1, 8, 1), cause, tolerance=1e-4)
    otherwise = "with two fooled classes of nine it goes wrong"
    same_number(answer(2, 7, rounds=2), resting_share(2, 7, 2), otherwise, _wrong_rests(2, 7, 2), tolerance=1e-4)
    cause = "two fooled classes get all the weight: there T is 0, and the share stays at 1"
    same_number(answer(2, 7), 1.0, cause, tolerance=1e-3)


def _wrong_rests(fooled: int, others: int, rounds: int = 300) -> dict[str, float]:
    """What typical mistakes give, by their cause."""

    def rest(temperature: Callable[[float], float], start: float = fooled / (fooled + others), turns: int = rounds,
             raised: Callable[[float], float] = lambda share: 1.0) -> float:  # fmt: skip
        share = start
        for _ in range(turns):
            if not 1e-12 < share < 1 - 1e-12:
                break
            exponent = max(-700.0, min(700.0, -raised(share) / temperature(share)))
            share = fooled / (fooled + others * math.exp(exponent))
        return share

    return {
        "this is the share at the start: renew the weights": fooled / (fooled + others),
        "this is what one round gives: T falls as Q grows, so renew both, again and again":
            rest(lambda q: -math.log(q), turns=1),
        "T = -log Q, with a minus": rest(math.log),
        "T is 1 - Q here: Eq. 7 says T = -log Q": rest(lambda q: 1 - q),
        "all weight on the fooled: is the logarithm to base 10? Eq. 7 has the natural one":
            rest(lambda q: -math.log10(q)),
        "the logarithm is to base 2: Eq. 7 has the natural one": rest(lambda q: -math.log2(q)),
        "the exponent is q/T, and q is 1 for a fooled class: its weight is not in it":
            rest(lambda q: -math.log(q), raised=lambda share: share),
        "the target is counted: it has no weight": rest(lambda q: -math.log(q), fooled / (fooled + others + 1), 1),
        "this is the weight of one class: Q is the sum over those that are fooled":
            resting_share(fooled, others, rounds) / fooled,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------- squared shares


@register("squared_shares", weights.squared_shares, "Ask those who moved, and hardly listen to a scattered error.",
          convert=tensor)  # fmt: skip
def _check_squared_shares(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    allowed = torch.tensor([[True, True, True, False], [False, True, True, True]])
    rates = torch.tensor([[0.6, 0.2, 0.0, 1.0], [0.9, 0.5, 0.25, 0.25]])  # the target's own rate means nothing
    own, everyone = rates * allowed, rates.square()
    squares = own.square()
    got = answer(rates, allowed)
    causes = {
        "the target has a share: its own images are not misclassified": everyone / everyone.sum(1, keepdim=True),
        "the target is taken out after dividing: the shares should sum to 1": squares / everyone.sum(1, keepdim=True),
        "the square is missing": own / own.sum(1, keepdim=True),
        "the sum is squared, not the rates one by one": squares / own.sum(1, keepdim=True).square(),
        "these are squares, not shares: divide by their sum": squares,
        "this divides by the number of classes: divide by the sum of the squares":
            squares / allowed.sum(1, keepdim=True),
        "this divides by the largest: divide by the sum": squares / squares.amax(1, keepdim=True),
        "all problems share one sum: each row has its own": squares / squares.sum(),
        "this is a softmax: shares are plain proportions": rates.masked_fill(~allowed, -torch.inf).softmax(1),
        "all goes to the best class: every class counts, by the square of its rate":
            (own == own.amax(1, keepdim=True)).float(),
    }  # fmt: skip
    expected = weights.squared_shares(rates, allowed)
    same_tensor(got, expected, "something else than q_st² / Σ q_ct²", causes, tolerance=1e-4)
    half = torch.tensor([[0.0], [1.0]])
    cause = "where nothing is misclassified 0/0 is NaN: return zeros there (clamp_min on the sum), other rows as ever"
    same_tensor(answer(rates * half, allowed), expected * half, cause, tolerance=1e-4)
