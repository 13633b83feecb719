"""One step of mask inversion: embedding, loss, Adam, λ (floor 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from btlib.detection.images import DefenseSet, scores
from btlib.detection.outcome import uniform
from btlib.detection.rows import Rows
from btlib.detection.weights import anneal

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


class Inversions(Rows):
    """State of T inversions that go on: mask and pattern, Adam's moments, λ, the smallest mask so far.

    Args:
        image_shape: (C, H, W).
        num_classes: K.
        targets: the classes to invert.
        seed: of the first mask and pattern, the same for every class.
        device: where the images are.

    Example:
        >>> Inversions((1, 28, 28), 10, targets=[3, 8]).raw.shape
        torch.Size([2, 2, 28, 28])
    """

    def __init__(
        self, image_shape: tuple[int, ...], num_classes: int, targets: Sequence[int], *, seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        channels, *size = image_shape
        first = torch.rand(1 + channels, *size, generator=torch.Generator().manual_seed(seed))
        raw = torch.atanh((first - 0.5) * (2 - 1e-6)).to(device).expand(len(targets), *first.shape)
        self.raw = raw.clone()  # (T, 1 + C, H, W): mask and pattern before tanh
        self.first, self.second = torch.zeros_like(self.raw), torch.zeros_like(self.raw)  # Adam's moments
        self.cost = torch.zeros(len(targets), device=device)  # λ
        self.good = torch.zeros(len(targets), device=device)
        self.bad = torch.zeros(len(targets), device=device)
        self.best = torch.full((len(targets),), torch.inf, device=device)
        self.best_round = torch.zeros(len(targets), device=device)
        self.best_raw = self.raw.clone()
        self.target = torch.tensor(targets, device=device)
        self.row = torch.arange(len(targets), device=device)
        self.weights = torch.stack([uniform(num_classes, t) for t in targets]).to(device)
        self.rates = torch.zeros(len(targets), num_classes, device=device)


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
        images: float (B, C, H, W), or (T, B, C, H, W) where each mask has images of its own.
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


def descend(
    network: nn.Module, data: DefenseSet, at: Inversions, batch: Tensor, *, lr: float, taken: int,
    annealed: bool = False,
) -> Tensor:  # fmt: skip
    """One Adam step on Eq. 6 for every class.

    Args:
        network: frozen.
        data: clean images.
        at: the state, changed in place.
        batch: int64 (B,), which of the images.
        lr: step size.
        taken: steps taken so far, this one included.
        annealed: weigh source classes, see `invert`.

    Returns:
        float (T,), success on the batch of the masks as they were before the step.

    Example:
        >>> from btlib import metrics, networks
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> few = DefenseSet(torch.rand(6, 1, 28, 28), torch.arange(6) % 3, 3)
        >>> at = Inversions((1, 28, 28), 3, targets=[0, 1])
        >>> with metrics.frozen(net):
        ...     descend(net, few, at, torch.arange(6), lr=0.1, taken=1).shape
        torch.Size([2])
    """
    raw = at.raw.detach().requires_grad_()
    labels = data.labels[batch]
    logits = scores(network, stamp(data.images[batch], raw), data.at_once).reshape(len(raw), len(batch), -1)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), at.target.repeat_interleave(len(batch)), reduction="none")
    loss = loss.reshape(len(raw), len(batch))
    hits = (logits.detach().argmax(2) == at.target[:, None]).float()
    if annealed:
        one_hot = nn.functional.one_hot(labels, data.num_classes).float()  # (B, K)
        there = one_hot.sum(0)
        fresh = hits @ one_hot / there.clamp_min(1)
        at.rates = torch.where(there > 0, _MEMORY * at.rates + (1 - _MEMORY) * fresh, at.rates)
        allowed = torch.arange(data.num_classes, device=batch.device) != at.target[:, None]
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


def adjust_cost(at: Inversions, works: Tensor, inversion: Inversion) -> None:
    """Neural Cleanse's schedule for λ: up while the pattern works, down while it does not.

    Args:
        at: the state, changed in place.
        works: bool (T,), whether the wished success was reached in this round.
        inversion: settings.

    Example:
        >>> at = Inversions((1, 28, 28), 3, targets=[0])
        >>> adjust_cost(at, torch.tensor([True]), Inversion(1, 1, 6, 0.1))
        >>> round(at.cost.item(), 6)
        0.001
    """
    fresh = works & (at.cost == 0)
    at.good = torch.where(works & ~fresh, at.good + 1, 0.0)
    at.bad = torch.where(works, 0.0, at.bad + 1)
    up, down = at.good >= inversion.patience, at.bad >= inversion.patience
    factor = torch.where(up, inversion.multiplier, torch.where(down, inversion.multiplier**-inversion.fall, 1.0))
    at.cost = torch.where(fresh, inversion.start, at.cost * factor)
    at.good, at.bad = torch.where(up, 0.0, at.good), torch.where(down, 0.0, at.bad)
