"""Algorithm 1 of L-RED on many problems at once (floor 2).

A problem is a target, some images and weights over their classes. Problems share their forward passes and do not
influence each other; one that has reached π leaves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib.detection.images import DefenseSet, scores
from btlib.detection.outcome import Estimate
from btlib.detection.rows import Rows, histories
from btlib.detection.weights import anneal, focus, settle
from btlib.triggers import Trigger


@dataclass(frozen=True)
class Search:
    """How the pattern is searched for.

    `FAITHFUL` is Algorithm 1, `FAST` its limit for δ → 0 in few steps, `FOCUSED` that with weights which a single
    source class can move.

    Attributes:
        delta: δ, length of a step, ‖·‖₂ in units of full scale.
        pi: π, wished misclassification, in (0, 1).
        max_norm: search no further than this, τmax·δ; no perturbation of an image is that long.
        settle: iterate the weights to their fixed point before each step; Algorithm 1 updates them once.
        bisections: halvings of the last step, to find where Q crosses π; Algorithm 1 takes its end.
        focused: the temperature looks where images are misclassified, see `weights.focus`; Eq. 7 looks everywhere.
    """

    delta: float = 1e-4
    pi: float = 0.9
    max_norm: float = 30.0
    settle: bool = False
    bisections: int = 0
    focused: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value, fine in (
            ("delta", self.delta, 0 < self.delta <= 10), ("pi", self.pi, 0 < self.pi < 1),
            ("max_norm", self.max_norm, self.max_norm > self.delta),
            ("bisections", self.bisections, self.bisections >= 0),
        ):  # fmt: skip
            if not fine:
                raise ValueError(f"{name}: expected a positive value in its range, got {value}; see Search")

    @property
    def max_steps(self) -> int:
        """τmax."""
        return int(self.max_norm / self.delta)


#: Of the perturbations of clean classes: 2.1 to 4.5 on LeNet-5 (results/detection-verdicts.json); to foresee the time.
USUAL_NORM = 3.0

FAITHFUL = Search()
FAST = Search(delta=0.1, settle=True, bisections=6)
FOCUSED = replace(FAST, focused=True)


_AT_ONCE = 2**28  # bytes of the perturbations that are searched together

#: (source, or None for all; target)
Problem = tuple[int | None, int]


class _Problems(Rows):
    """Tensors of P problems that are still searched."""

    def __init__(self, data: DefenseSet, problems: Sequence[Problem]) -> None:
        device, images = data.images.device, [_members(data, s, t) for s, t in problems]
        sizes, longest = torch.tensor([len(i) for i in images], device=device), max(map(len, images))
        # Rows of unequal length are filled with an image that has no share in anything.
        self.index = torch.stack([torch.cat([i, i[:1].expand(longest - len(i))]) for i in images])  # (P, M)
        real = torch.arange(longest, device=device) < sizes[:, None]
        self.share = real / data.counts[data.labels[self.index]]  # (P, M): 1/|D_s| for the images of s
        self.allowed = self.by_class(data, self.share) > 0.5  # (P, K)
        self.weights = self.allowed / self.allowed.sum(1, keepdim=True)  # w^(0)
        self.target = torch.tensor([t for _, t in problems], device=device)
        self.row = torch.arange(len(problems), device=device)
        self.v = torch.zeros(len(problems), *data.images.shape[1:], device=device)
        self.before = self.v  # v of the iteration before

    def by_class(self, data: DefenseSet, values: Tensor) -> Tensor:
        """Sums over the images of each class: (P, M) → (P, K)."""
        sums = torch.zeros(len(values), data.num_classes, device=values.device)
        return sums.scatter_add_(1, data.labels[self.index], values)


def _members(data: DefenseSet, source: int | None, target: int) -> Tensor:
    members = (data.labels != target if source is None else data.labels == source).nonzero().flatten()
    if len(members) == 0:
        raise ValueError(f"sources: expected images of classes other than the target {target}, got none; name others")
    return members


def clipped(images: Tensor) -> Tensor:
    """[·]_c of Eq. 1 with the gradient of the identity on all of [0, 1], its ends included.

    torch.clamp has gradient 0 at the ends (since 2.x), so a perturbation that starts at 0 could never brighten a
    black pixel, and on images with a black background most of the pattern would not be found.

    Args:
        images: float, any shape.

    Returns:
        float in [0, 1], same shape.

    Example:
        >>> x = torch.zeros(1, requires_grad=True)
        >>> torch.autograd.grad(clipped(x).sum(), x)[0].item()
        1.0
    """
    return torch.where((images >= 0) & (images <= 1), images, images.detach().clamp(0, 1))


def _look(
    network: nn.Module, data: DefenseSet, at: _Problems, update: Callable, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """q_st (P, K), the updated weights (P, K) and ∇_v J_t (P, C, H, W; zeros unless wanted) at v, by shared batches."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in torch.arange(len(at.row)).split(max(1, data.at_once // at.index.shape[1])):
        part = at.take(rows.to(at.row.device))
        v = part.v.detach().requires_grad_(gradient)
        stamped = clipped(data.images[part.index] + v[:, None])  # Eq. 1, (P, M, C, H, W)
        with torch.set_grad_enabled(gradient):
            logits = scores(network, stamped.flatten(0, 1), data.at_once).reshape(*part.index.shape, -1)
        hits = (logits.argmax(2) == part.target[:, None]).float()
        rates = part.by_class(data, hits * part.share)
        weights = update(rates, part.weights, part.allowed)
        slope = torch.zeros_like(v)
        if gradient:
            log_p = logits.log_softmax(2).gather(2, part.target[:, None, None].expand(*part.index.shape, 1))[..., 0]
            counted = part.share * weights.gather(1, data.labels[part.index])
            surrogate = (log_p * counted).sum()  # J_t, over all problems
            (slope,) = torch.autograd.grad(surrogate, v)
        found.append((rates, weights, slope))
    rates, weights, slope = (torch.cat(each) for each in zip(*found, strict=True))
    return rates, weights, slope


def _unchanged(rates: Tensor, weights: Tensor, allowed: Tensor) -> Tensor:
    return weights


def _update(annealed: bool, search: Search) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if not annealed:
        return _unchanged
    update = focus if search.focused else anneal
    return partial(settle, pi=search.pi, update=update) if search.settle else update


def perturb(
    network: nn.Module, data: DefenseSet, problems: Sequence[Problem], annealed: bool, search: Search,
    progress: bool = False,
) -> list[Estimate]:  # fmt: skip
    """The smallest perturbation of every problem (L-RED Algorithm 1).

    Args:
        network: frozen, see `images.undisturbed`.
        data: clean images.
        problems: (source or None for all classes, target).
        annealed: update the weights by Eq. 7 and 8; else they stay uniform.
        search: settings.
        progress: show a bar.

    Returns:
        one estimate per problem, in their order.

    Raises:
        ValueError: a problem without images.

    Example:
        >>> from btlib import networks
        >>> from btlib.detection import images
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> few = images.defense_set(net, torch.rand(6, 1, 28, 28), torch.arange(6) % 3)
        >>> with images.undisturbed(net):
        ...     perturb(net, few, [(None, 0)], True, Search(delta=1.0, max_norm=2.0))[0].target
        0
    """
    at_once = max(1, _AT_ONCE // (4 * data.images[0].numel() * data.images.element_size()))
    if len(problems) > at_once:
        groups = [problems[start : start + at_once] for start in range(0, len(problems), at_once)]
        return [e for group in groups for e in perturb(network, data, group, annealed, search, progress)]
    update = _update(annealed, search)
    # Line 5 judges by the weights of the iteration before (w⁰: uniform), and these are the ones that are put out; where
    # weights settle, the settled ones of every place.
    judged_by = update if search.settle else _unchanged
    open_ = _Problems(data, problems)
    found: dict[int, Estimate] = {}
    records: list[tuple[Tensor, ...]] = []
    with tqdm(total=len(problems), desc="estimates", disable=not progress) as bar:
        for step in range(search.max_steps + 1):
            rates, weights, slope = _look(network, data, open_, update if step else judged_by, gradient=True)
            judged = weights if search.settle else open_.weights
            q = (rates * judged).sum(1)
            if step % max(1, round(0.01 / search.delta)) == 0:
                records.append((open_.row, torch.full_like(q, step), open_.v.flatten(1).norm(dim=1), q, judged))
            reached = (q > search.pi) & (step > 0)
            length = slope.flatten(1).norm(dim=1)
            ends = reached | (length == 0) | (step == search.max_steps)
            if bool(ends.any()):
                last = _Last(open_.take(ends), reached[ends], rates[ends], judged[ends], step)
                last.back_up(network, data, judged_by, search)
                found.update(last.estimates(data, problems))
                bar.update(int(ends.sum()))
                open_, weights, slope, length = open_.take(~ends), weights[~ends], slope[~ends], length[~ends]
            if len(open_.row) == 0:
                break
            open_.weights, open_.before = weights, open_.v
            open_.v = open_.v + search.delta * slope / length[:, None, None, None]  # Eq. 5
    return [replace(found[i], history=h) for i, h in enumerate(histories(records, len(problems)))]


@dataclass
class _Last:
    """Problems in their last iteration."""

    at: _Problems
    reached: Tensor
    rates: Tensor
    weights: Tensor
    step: int

    def back_up(self, network: nn.Module, data: DefenseSet, update: Callable, search: Search) -> None:
        """Bisect the last step for the place where Q crosses π."""
        start, way = self.at.before, self.at.v - self.at.before
        low, high = torch.zeros(len(way), device=way.device), torch.ones(len(way), device=way.device)
        for _ in range(search.bisections if bool(self.reached.any()) else 0):
            middle = (low + high) / 2
            self.at.v = start + middle[:, None, None, None] * way
            rates, weights, _ = _look(network, data, self.at, update, gradient=False)
            above = ((rates * weights).sum(1) > search.pi) & self.reached
            high, low = torch.where(above, middle, high), torch.where(above, low, middle)
            self.rates = torch.where(above[:, None], rates, self.rates)
            self.weights = torch.where(above[:, None], weights, self.weights)
        self.at.v = start + torch.where(self.reached, high, 1.0)[:, None, None, None] * way

    def estimates(self, data: DefenseSet, problems: Sequence[Problem]) -> dict[int, Estimate]:
        """Row in the caller's list → estimate."""
        at, counts, found = self.at, data.counts.float().cpu(), {}
        every = [each.cpu() for each in (at.v.clamp(-1, 1), at.allowed, self.rates, self.weights, self.reached)]
        for row, v, present, rates, weights, reached in zip(at.row.tolist(), *every, strict=True):
            source, target = problems[row]
            mask = (v != 0).any(0, keepdim=True).float()
            trigger = Trigger("additive", v.clone(), mask, bits=None, name=f"estimate {target}")
            images = int(counts[present].sum())
            found[row] = Estimate(
                target, trigger, float(v.norm()), float((rates * counts)[present].sum() / images),
                rates.masked_fill(~present, torch.nan), weights, self.step, (self.step + 1) * images, bool(reached),
                source=source,
            )  # fmt: skip
        return found
