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

from btlib.detection.descent import Inversion, Inversions, adjust_cost, descend, squash, stamp
from btlib.detection.images import DefenseSet
from btlib.detection.outcome import Estimate
from btlib.detection.rows import histories
from btlib.metrics.success import margin
from btlib.triggers import Trigger

_STOP = 0.9  # π of Algorithm 1
HARD = 0.1  # of the images; those that are the hardest to move say what a smaller mask can do


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
    at_once = max(1, data.at_once // inversion.batch_size)  # classes; more do not fit into one pass
    groups = [targets[start : start + at_once] for start in range(0, len(targets), at_once)]
    judge = _Judge(network, data, annealed)
    with tqdm(total=inversion.rounds * len(groups), desc="inversion", disable=not progress) as bar:
        found = [_search(judge, group, inversion, seed=seed, bar=bar) for group in groups]
    return [estimate for group in found for estimate in group]


def _search(judge: "_Judge", targets: Sequence[int], inversion: Inversion, *, seed: int, bar: tqdm) -> list[Estimate]:
    """The search for as many classes as fit into one pass."""
    network, data, annealed = judge.network, judge.data, judge.annealed
    shape, where = tuple(data.images.shape[1:]), data.images.device
    open_ = Inversions(shape, data.num_classes, targets, seed=seed, device=where)
    generator = torch.Generator().manual_seed(seed + 1)
    records: list[tuple[Tensor, ...]] = []
    found: dict[int, Estimate] = {}
    steps, taken, seen = inversion.steps or -(-len(data.images) // inversion.batch_size), 0, 0
    total = inversion.rounds * steps + 1
    batches = _batches(len(data.images), inversion.batch_size, generator)
    for round_ in range(inversion.rounds):
        for _ in range(steps):
            batch = next(batches).to(data.images.device)
            used, taken, seen = open_.raw, taken + 1, seen + len(batch)
            lr = inversion.lr * (min(1.0, 2 - 2 * taken / total) if inversion.decay else 1.0)
            success = descend(network, data, open_, batch, lr=lr, taken=taken, annealed=annealed)
        if inversion.check:
            used = open_.raw
            success = judge.success(judge.rates(used, open_.target), open_)
        size = squash(used[:, 0]).sum((1, 2))
        kept = (open_.weights,) if annealed else ()
        records.append((open_.row, torch.full_like(size, taken), size, success, *kept))
        _keep_smallest(open_, used, size, success >= inversion.success, round_)
        adjust_cost(open_, success >= inversion.success, inversion)
        ends = (round_ - open_.best_round >= inversion.stop_after) & open_.best.isfinite()
        ends |= torch.full_like(ends, round_ == inversion.rounds - 1)
        if bool(ends.any()):
            found.update(_finish(judge, open_.take(ends), inversion, taken, seen))
            open_ = open_.take(~ends)
        bar.update()
        if len(open_.row) == 0:
            break
    told = histories(records, len(targets))
    if not annealed:  # weights that stay what they are take no memory
        told = [h | {"weights": found[i].weights.expand(len(h["step"]), -1)} for i, h in enumerate(told)]
    return [replace(found[i], history=h) for i, h in enumerate(told)]


def _batches(images: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of indices without end; every pass over the images is shuffled anew."""
    while True:
        yield from torch.randperm(images, generator=generator).split(size)


@dataclass(frozen=True)
class _Judge:
    """How well masks work, by all images."""

    network: nn.Module
    data: DefenseSet
    annealed: bool

    def rates(self, raw: Tensor, target: Tensor) -> Tensor:
        """q_st, (T, K)."""
        return self.by_class(self.look(raw, target)[0])

    @torch.no_grad()
    def look(self, raw: Tensor, target: Tensor, chosen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Whether images become the target, float (T, N), and by how much its logit is ahead; `chosen`: (T, n)."""
        hits, ahead, images = [], [], self.data.images
        count = len(images) if chosen is None else chosen.shape[1]
        for part in torch.arange(count, device=raw.device).split(max(1, self.data.at_once // len(raw))):
            stamped = stamp(images[part if chosen is None else chosen[:, part]], raw)
            logits = self.network(stamped).reshape(len(raw), len(part), -1)
            hits.append((logits.argmax(2) == target[:, None]).float())
            wanted = target.repeat_interleave(logits.shape[1])
            ahead.append(margin(logits.flatten(0, 1), wanted).reshape(logits.shape[:2]))
        return torch.cat(hits, 1), torch.cat(ahead, 1)

    def by_class(self, hits: Tensor) -> Tensor:
        """(T, N) → (T, K)."""
        one_hot = nn.functional.one_hot(self.data.labels, self.data.num_classes).float()
        return hits @ one_hot / one_hot.sum(0).clamp_min(1)

    def success(self, rates: Tensor, at: Inversions) -> Tensor:
        """The success that counts, (T,): Q_t with annealed weights, else the share of all images."""
        return (rates * self._weights(at)).sum(1)

    def hardest(self, ahead: Tensor, at: Inversions) -> Tensor:
        """Images, int64 (T, N), the furthest from their target first; last those that hardly count."""
        weights = self._weights(at).expand(len(ahead), -1)
        idle = weights < 0.01 * weights.amax(1, keepdim=True)
        return ahead.masked_fill(idle[:, self.data.labels], torch.inf).argsort(1)

    def _weights(self, at: Inversions) -> Tensor:
        return at.weights if self.annealed else self.data.counts / len(self.data.labels)


def _keep_smallest(at: Inversions, used: Tensor, size: Tensor, works: Tensor, round_: int) -> None:
    """Remember the smallest mask that works, with the very parameters that were judged."""
    better = works & (size < at.best)
    at.best = torch.where(better, size, at.best)
    at.best_raw = torch.where(better[:, None, None, None], used, at.best_raw)
    at.best_round = torch.where(better, float(round_), at.best_round)


def _finish(judge: _Judge, at: Inversions, inversion: Inversion, taken: int, seen: int) -> dict[int, Estimate]:
    """Judge the final masks by all images; with bisections, find the factor on the mask that just succeeds."""
    data, kept = judge.data, at.best.isfinite() & (not inversion.decay)
    raw = torch.where(kept[:, None, None, None], at.best_raw, at.raw)
    raw, rates = _rescale(judge, at, raw, inversion)
    success = judge.success(rates, at)
    if (
        judge.annealed
    ):  # read the weights at the temperature where Algorithm 1 stops: success near 1 leaves one class only
        others = torch.arange(data.num_classes, device=raw.device) != at.target[:, None]
        at.weights = (rates / -math.log(_STOP)).masked_fill(~others, -torch.inf).softmax(1)
    counts, found = data.counts.cpu().float(), {}
    every = [each.cpu() for each in (squash(raw), rates, at.weights, success >= inversion.success)]
    for row, target, both, by_class, weights, works in zip(at.row.tolist(), at.target.tolist(), *every, strict=True):
        others = torch.arange(data.num_classes) != target
        by_class = by_class.masked_fill(~others | (counts == 0), torch.nan)
        trigger = Trigger("blend", both[1:].clone(), both[:1].clone(), bits=None, name=f"estimate {target}")
        found[row] = Estimate(
            target, trigger, float(both[0].sum()), float((by_class * counts)[others].nansum() / counts[others].sum()),
            by_class, weights, taken, seen, bool(works),
        )  # fmt: skip
    return found


def _rescale(judge: _Judge, at: Inversions, raw: Tensor, inversion: Inversion) -> tuple[Tensor, Tensor]:
    """The smallest factor in [0.5, 2] on the mask with the wished success on all images, by bisection in its log.

    Returns the parameters and their q_st. Without bisections the factor is 1. All images are looked at with the first
    mask and with the last; between them those that are the hardest to move decide, which the last look confirms.
    """
    if not inversion.bisections:
        return raw, judge.rates(raw, at.target)
    power, rates = _bisect(judge, at, raw, inversion, HARD)
    wrong = (power < 1) & (judge.success(rates, at) < inversion.success)
    if bool(wrong.any()):  # an image that was easy to move is not
        power[wrong], rates[wrong] = _bisect(judge, at.take(wrong), raw[wrong], inversion, 1.0)
    return _scaled(raw, power), rates


def _scaled(raw: Tensor, power: Tensor) -> Tensor:
    """Parameters of 2^power times the mask."""
    larger = (squash(raw[:, :1]) * 2 ** power[:, None, None, None]).clamp(1e-6, 1 - 1e-6)
    return torch.cat([torch.atanh(2 * larger - 1), raw[:, 1:]], 1)


def _bisect(judge: _Judge, at: Inversions, raw: Tensor, inversion: Inversion, share: float) -> tuple[Tensor, Tensor]:
    """The factor's power (T,) and q_st with it; after the first look only a share of the images is looked at."""
    low, high = torch.full((len(raw),), -1.0, device=raw.device), torch.full((len(raw),), 1.0, device=raw.device)
    chosen = None
    for _ in range(inversion.bisections):
        middle = (low + high) / 2
        hits, ahead = judge.look(_scaled(raw, middle), at.target, chosen)
        if chosen is not None:
            hits = torch.ones(len(raw), len(judge.data.labels), device=raw.device).scatter_(1, chosen, hits)
        elif share < 1:
            chosen = judge.hardest(ahead, at)[:, : math.ceil(share * ahead.shape[1])]
        works = judge.success(judge.by_class(hits), at) >= inversion.success
        high, low = torch.where(works, middle, high), torch.where(works, low, middle)
    return high, judge.rates(_scaled(raw, high), at.target)
