"""Inversion of small patches: a pattern and a mask per class (floor 2).

One procedure serves Neural Cleanse, where all images count alike, and the mask form of RED-A, where source classes
have annealed weights. Classes share their forward passes and do not influence each other.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib.detection.images import DefenseSet
from btlib.detection.outcome import Estimate, histories, uniform
from btlib.detection.weights import anneal
from btlib.triggers import Trigger

_STOP = 0.9  # π of Algorithm 1
_MEMORY = 0.8  # of the misclassification rates, from step to step, where weights are annealed


@dataclass(frozen=True)
class Inversion:
    """How Eq. 6 (stealthy attack) is minimised: Adam on mask and pattern, with a dynamic λ.

    Attributes:
        rounds: λ and the stopping rule act once per round.
        steps: Adam steps per round; None: as many as one pass over the images takes.
        batch_size: images per step and class.
        lr: Adam's step size.
        decay: lower the step size to zero over the second half, and end with the last mask; else the smallest that
            worked is kept.
        success: wished success rate, in (0, 1].
        start: λ's first value; it is used from the first round that works.
        patience: good (or bad) rounds in a row before λ is raised (or lowered).
        multiplier: λ is multiplied by it, or divided by its power `fall`.
        fall: see multiplier.
        stop_after: rounds without a smaller mask after which a class is done.
        check: judge a round's mask by all images (True), or by the batch it was last used on (False).
        bisections: at the end, halvings of a factor on the mask, to find where the wished success is just reached.
    """

    rounds: int
    steps: int | None
    batch_size: int
    lr: float
    decay: bool = False
    success: float = 0.99
    start: float = 1e-3
    patience: int = 5
    multiplier: float = 2.0
    fall: float = 1.5
    stop_after: int = 25
    check: bool = True
    bisections: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("rounds", "batch_size", "lr", "start", "patience", "stop_after", "fall"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}; see Inversion")
        if not 0 < self.success <= 1 or not self.multiplier > 1:
            raise ValueError(f"success, multiplier: expected (0, 1] and above 1, got {self.success} and "
                             f"{self.multiplier}; the public defaults are 0.99 and 2")  # fmt: skip


class Classes:
    """State of the T classes that are still inverted, one row each; rows leave when a class is done."""

    def __init__(self, data: DefenseSet, targets: Sequence[int], inversion: Inversion, seed: int) -> None:
        shape, place = data.images.shape[1:], data.images.device
        generator = torch.Generator().manual_seed(seed)
        first = torch.rand(1 + shape[0], *shape[1:], generator=generator)  # the same start for every class
        raw = torch.atanh((first - 0.5) * (2 - 1e-6)).to(place).expand(len(targets), *first.shape)
        self.raw = raw.clone()  # (T, 1 + C, H, W): mask and pattern before tanh
        self.first, self.second = torch.zeros_like(self.raw), torch.zeros_like(self.raw)  # Adam's moments
        self.cost = torch.zeros(len(targets), device=place)  # λ
        self.good = torch.zeros(len(targets), device=place)
        self.bad = torch.zeros(len(targets), device=place)
        self.best = torch.full((len(targets),), torch.inf, device=place)
        self.best_round = torch.zeros(len(targets), device=place)
        self.best_raw = self.raw.clone()
        self.target = torch.tensor(targets, device=place)
        self.row = torch.arange(len(targets), device=place)
        self.weights = torch.stack([uniform(data.classes, t) for t in targets]).to(place)
        self.rates = torch.zeros(len(targets), data.classes, device=place)

    def take(self, rows: Tensor) -> "Classes":
        """These rows only."""
        taken = object.__new__(Classes)
        vars(taken).update({name: value[rows] for name, value in vars(self).items()})
        return taken


def squash(raw: Tensor) -> Tensor:
    """Any real number → [0, 1]: (tanh + 1) / 2, the parametrisation of mask and pattern.

    Example:
        >>> squash(torch.zeros(1)).item()
        0.5
    """
    return (raw.tanh() + 1) / 2


def stamp(images: Tensor, raw: Tensor) -> Tensor:
    """A(x, m, Δ) = (1 - m)·x + m·Δ (stealthy attack Eq. 5) for T masks and B images.

    Args:
        images: float (B, C, H, W).
        raw: float (T, 1 + C, H, W), mask and pattern before `squash`.

    Returns:
        float (T·B, C, H, W) in [0, 1].

    Example:
        >>> stamp(torch.zeros(2, 1, 4, 4), torch.zeros(3, 2, 4, 4)).shape
        torch.Size([6, 1, 4, 4])
    """
    both = squash(raw)[:, None]
    mask, pattern = both[:, :, :1], both[:, :, 1:]
    return (images + mask * (pattern - images)).flatten(0, 1)


def invert(
    network: nn.Module, data: DefenseSet, targets: Sequence[int], inversion: Inversion, *, annealed: bool,
    seed: int = 0, progress: bool = False,
) -> list[Estimate]:  # fmt: skip
    """The smallest mask per class (stealthy attack Eq. 6; L-RED Eq. 13 with Eq. 7 and 8 when annealed).

    Args:
        network: frozen, see `images.undisturbed`.
        data: clean images.
        targets: putative target classes.
        inversion: settings.
        annealed: weigh source classes as RED-A does, and leave images of the target out; else all images count alike.
        seed: of the first mask and of the batches.
        progress: show a bar.

    Returns:
        one estimate per target, in their order.

    Example:
        >>> from btlib import networks
        >>> from btlib.detection import images
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> few = images.defense_set(net, torch.rand(6, 1, 28, 28), torch.arange(6) % 3)
        >>> with images.undisturbed(net):
        ...     len(invert(net, few, [0, 2], Inversion(2, 1, 6, 0.1), annealed=False))
        2
    """
    open_ = Classes(data, targets, inversion, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    records: list[tuple[Tensor, ...]] = []
    found: dict[int, Estimate] = {}
    steps, taken, seen = inversion.steps or -(-len(data.images) // inversion.batch_size), 0, 0
    total = inversion.rounds * steps + 1
    batches = _batches(len(data.images), inversion.batch_size, generator)
    with tqdm(total=inversion.rounds, desc="inversion", disable=not progress) as bar:
        for round_ in range(inversion.rounds):
            for _ in range(steps):
                batch = next(batches).to(data.images.device)
                used, taken, seen = open_.raw, taken + 1, seen + len(batch)
                lr = inversion.lr * (min(1.0, 2 - 2 * taken / total) if inversion.decay else 1.0)
                success = _step(network, data, open_, batch, lr, taken, annealed)
            if inversion.check:
                used = open_.raw
                success = _weigh(_rates(network, data, used, open_.target), open_, data, annealed)
            size = squash(used[:, 0]).sum((1, 2))
            records.append((open_.row, torch.full_like(size, taken), size, success, open_.weights))
            _keep_smallest(open_, used, size, success >= inversion.success, round_)
            _adjust_cost(open_, success >= inversion.success, inversion)
            ends = (round_ - open_.best_round >= inversion.stop_after) & open_.best.isfinite()
            ends |= torch.full_like(ends, round_ == inversion.rounds - 1)
            if bool(ends.any()):
                found.update(_finish(network, data, open_.take(ends), inversion, annealed, taken, seen))
                open_ = open_.take(~ends)
            bar.update()
            if len(open_.row) == 0:
                break
    return [replace(found[i], history=h) for i, h in enumerate(histories(records, len(targets)))]


def _batches(images: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of indices without end; every pass over the images is shuffled anew."""
    while True:
        yield from torch.randperm(images, generator=generator).split(size)


def _step(
    network: nn.Module, data: DefenseSet, at: Classes, batch: Tensor, lr: float, taken: int, annealed: bool
) -> Tensor:
    """One Adam step for every class; the success of the masks before it, (T,)."""
    raw = at.raw.detach().requires_grad_()
    labels = data.labels[batch]
    logits = network(stamp(data.images[batch], raw)).reshape(len(raw), len(batch), -1)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), at.target.repeat_interleave(len(batch)), reduction="none")
    loss = loss.reshape(len(raw), len(batch))
    hits = (logits.detach().argmax(2) == at.target[:, None]).float()
    if annealed:
        one_hot = nn.functional.one_hot(labels, data.classes).float()  # (B, K)
        there = one_hot.sum(0)
        fresh = hits @ one_hot / there.clamp_min(1)
        at.rates = torch.where(there > 0, _MEMORY * at.rates + (1 - _MEMORY) * fresh, at.rates)
        allowed = torch.arange(data.classes, device=batch.device) != at.target[:, None]
        success = (at.weights * at.rates).sum(1)  # Q_t
        at.weights = anneal(at.rates, at.weights, allowed)  # Eq. 7 and 8
        share = at.weights[:, labels] / data.counts[labels]  # w_s / |D_s|
        loss = (loss * share * len(data.images) / len(batch)).sum(1)
    else:
        success, loss = hits.mean(1), loss.mean(1)
    total = (loss + at.cost * squash(raw[:, 0]).sum((1, 2))).sum()  # Eq. 6, over all classes
    (slope,) = torch.autograd.grad(total, raw)
    at.first.mul_(0.5).add_(slope, alpha=0.5)  # Adam with the public betas (0.5, 0.9)
    at.second.mul_(0.9).addcmul_(slope, slope, value=0.1)
    scale = (at.second / (1 - 0.9**taken)).sqrt_().add_(1e-8)
    at.raw = raw.detach() - lr / (1 - 0.5**taken) * at.first / scale
    return success


@torch.no_grad()
def _rates(network: nn.Module, data: DefenseSet, raw: Tensor, target: Tensor) -> Tensor:
    """q_st over all images, (T, K)."""
    hits = []
    for part in data.images.split(max(1, 4096 // len(raw))):
        logits = network(stamp(part, raw)).reshape(len(raw), len(part), -1)
        hits.append((logits.argmax(2) == target[:, None]).float())
    one_hot = nn.functional.one_hot(data.labels, data.classes).float()
    return torch.cat(hits, 1) @ one_hot / one_hot.sum(0).clamp_min(1)


def _weigh(rates: Tensor, at: Classes, data: DefenseSet, annealed: bool) -> Tensor:
    """The success that counts: Q_t with annealed weights, else the share of all images."""
    return (rates * (at.weights if annealed else data.counts / len(data.labels))).sum(1)


def _keep_smallest(at: Classes, used: Tensor, size: Tensor, works: Tensor, round_: int) -> None:
    """Remember the smallest mask that works, with the very parameters that were judged."""
    better = works & (size < at.best)
    at.best = torch.where(better, size, at.best)
    at.best_raw = torch.where(better[:, None, None, None], used, at.best_raw)
    at.best_round = torch.where(better, float(round_), at.best_round)


def _adjust_cost(at: Classes, works: Tensor, inversion: Inversion) -> None:
    """Neural Cleanse's schedule for λ: up while the pattern works, down while it does not."""
    fresh = works & (at.cost == 0)
    at.good = torch.where(works & ~fresh, at.good + 1, 0.0)
    at.bad = torch.where(works, 0.0, at.bad + 1)
    up, down = at.good >= inversion.patience, at.bad >= inversion.patience
    factor = torch.where(up, inversion.multiplier, torch.where(down, inversion.multiplier**-inversion.fall, 1.0))
    at.cost = torch.where(fresh, inversion.start, at.cost * factor)
    at.good, at.bad = torch.where(up, 0.0, at.good), torch.where(down, 0.0, at.bad)


def _finish(
    network: nn.Module, data: DefenseSet, at: Classes, inversion: Inversion, annealed: bool, taken: int, seen: int
) -> dict[int, Estimate]:
    """Judge the final masks by all images; with bisections, find the factor on the mask that just succeeds."""
    kept = at.best.isfinite() & (not inversion.decay)
    raw = torch.where(kept[:, None, None, None], at.best_raw, at.raw)
    if inversion.bisections:
        raw = _rescale(network, data, at, raw, inversion, annealed)
    rates = _rates(network, data, raw, at.target)
    success = _weigh(rates, at, data, annealed)
    if annealed:  # read the weights at the temperature where Algorithm 1 stops: success near 1 leaves one class only
        others = torch.arange(data.classes, device=raw.device) != at.target[:, None]
        at.weights = (rates / -math.log(_STOP)).masked_fill(~others, -torch.inf).softmax(1)
    counts, found = data.counts.cpu().float(), {}
    for i, row in enumerate(at.row.tolist()):
        target, both, by_class = int(at.target[i]), squash(raw[i]).cpu(), rates[i].cpu()
        others = torch.arange(data.classes) != target
        by_class = by_class.masked_fill(~others, torch.nan)
        trigger = Trigger("blend", both[1:], both[:1], bits=None, name=f"estimate {target}")
        found[row] = Estimate(
            target, trigger, float(both[0].sum()), float((by_class * counts)[others].sum() / counts[others].sum()),
            by_class, at.weights[i].cpu(), taken, seen, bool(success[i] >= inversion.success),
        )  # fmt: skip
    return found


def _rescale(
    network: nn.Module, data: DefenseSet, at: Classes, raw: Tensor, inversion: Inversion, annealed: bool
) -> Tensor:
    """The smallest factor in [0.5, 2] on the mask with the wished success on all images, by bisection in its log."""
    low, high = torch.full((len(raw),), -1.0, device=raw.device), torch.full((len(raw),), 1.0, device=raw.device)
    mask = squash(raw[:, :1])

    def scaled(power: Tensor) -> Tensor:
        larger = (mask * 2 ** power[:, None, None, None]).clamp(1e-6, 1 - 1e-6)
        return torch.cat([torch.atanh(2 * larger - 1), raw[:, 1:]], 1)

    for _ in range(inversion.bisections):
        middle = (low + high) / 2
        works = _weigh(_rates(network, data, scaled(middle), at.target), at, data, annealed) >= inversion.success
        high, low = torch.where(works, middle, high), torch.where(works, low, middle)
    return scaled(high)
