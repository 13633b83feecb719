"""I-BAU: unlearn whatever perturbation fools the network most, with the implicit hypergradient (floor 3)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from btlib import metrics
from btlib.detection.perturbation import clipped
from btlib.repair.base import History, Repair, Task, require
from btlib.training import Recipe, learning_rate, optimizer_for

Answers = Callable[[Tensor], Tensor]  # images → logits

_REGULARISATION = 1e-3  # of ‖δ‖² in the inner objective, as in the authors' code
_STEP = 0.1  # β of the fixed-point map δ ↦ δ - β ∂G/∂δ, likewise
_SEEN, _JUDGED = 50, 250  # images that a step of the ascent looks at, and those that judge what it found
_DIFFERENCE = 0.1  # length in image space of the finite differences: a hundredth of the bound


#: How a round changes the weights.
TUNING = Recipe(epochs=20, batch_size=200, lr=0.01, optimizer="sgd", schedule="one_cycle")


@dataclass(frozen=True)
class ImplicitUnlearning(Repair):
    """Implicit backdoor adversarial unlearning, I-BAU: min over weights, max over one perturbation δ of all images.

    Zeng et al., "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022, Eq. 1 and Algorithm 1.
    Each round finds δ by ascent from nothing, ‖δ‖₂ ≤ `bound`, and goes through all images, some of them with δ.
    The steps' gradient knows that δ answers to the weights (Eq. 4): with Φ, a step of the ascent, as a fixed-point map
    it is ∂F/∂θ + q ∂Φ/∂θ, where q = Σ_k ∂F/∂δ (∂Φ/∂δ)ᵏ with `terms` of them. Products with second derivatives are
    differences of gradients, so that any layer will do.

    Four things are ours; `AS_PUBLISHED` does without. The loss of all images has many hills, and an ascent from
    nothing takes the nearest: the border between classes that look alike. So one more ascent leads towards each class,
    and of all δ the one with the largest loss is taken, which is what Eq. 1 asks for. Images with δ stay in [0, 1]. And
    the network learns what it said itself of the clean images, not their labels: that costs less accuracy.
    Last, no step is longer than `longest` allows.

    Attributes:
        rounds: of ascent and unlearning.
        ascents: steps of each ascent.
        bound: largest ‖δ‖₂, in units of full scale × pixels.
        share: of each batch that wears δ, in [0, 1].
        terms: of q; 0: δ is taken as given, as in adversarial training.
        by_class: ascend towards each class as well.
        clip: images with δ to [0, 1].
        soft: learn the given network's own probabilities of the clean images.
        longest: norm to which the weights' gradient is cut. On three LeNet-5 the longest was 3.03; without a limit the
            weights of a network with batch normalisation, whose statistics stand still here, ran away.
        recipe: of the weights' steps; its epochs are those of one round, its schedule goes through all rounds.

    Raises:
        ValueError: a share or number outside its range.

    Example:
        >>> ImplicitUnlearning(rounds=2).rounds
        2
    """

    name: ClassVar[str] = "implicit unlearning"
    rounds: int = 1
    ascents: int = 8
    bound: float = 3.0
    share: float = 0.03
    terms: int = 1
    by_class: bool = True
    clip: bool = True
    soft: bool = True
    longest: float = 5.0
    recipe: Recipe = TUNING

    def __post_init__(self) -> None:
        require(self, share=(0, 1), rounds=(1, float("inf")), terms=(0, float("inf")), longest=(0, float("inf")))

    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Alternate ascent and unlearning."""
        optimizer, history, steps = optimizer_for(task.network, self.recipe), [], 0
        wanted, per_epoch = self._wanted(task), -(-len(task.labels) // self.recipe.batch_size)
        whole = replace(self.recipe, epochs=self.rounds * self.recipe.epochs)
        for number in tqdm(range(1, self.rounds + 1), self.name, disable=not task.progress, leave=False, unit="round"):
            delta, total = self._search(task), 0.0
            for _ in range(self.recipe.epochs):
                for chosen in torch.randperm(len(wanted)).to(wanted.device).split(self.recipe.batch_size):
                    optimizer.param_groups[0]["lr"] = learning_rate(whole, steps, per_epoch)
                    total += len(chosen) * self._descend(task, optimizer, chosen, wanted[chosen], delta)
                    steps += 1
            loss = total / len(wanted) / self.recipe.epochs
            history.append({"round": number, "loss": loss, "norm": delta.norm().item()})
        return f"{steps} steps against {self.rounds} perturbations", {"rounds": self.rounds, "steps": steps}, history

    def _asked(self, task: Task) -> Answers:
        """What the network says of images with δ."""
        return (lambda images: task.network(clipped(images))) if self.clip else task.network

    def _wanted(self, task: Task) -> Tensor:
        """The probabilities (N, K) that images are to have, with δ or without."""
        if self.soft:
            return metrics.predict(task.network, task.images).to(task.images).softmax(1)
        return one_hot(task.labels, task.num_classes).to(task.images)

    def _search(self, task: Task) -> Tensor:
        """δ (1, C, H, W): of all ascents' the one with the largest loss."""
        found = [self._ascend(task)]
        if self.by_class:
            found += [self._ascend(task, target) for target in range(task.num_classes)]
        ask, (images, labels) = self._asked(task), next(task.batches(_JUDGED))
        with torch.no_grad():
            losses = [cross_entropy(ask(images + delta), labels).item() for delta in found]
        return found[losses.index(max(losses))]

    def _ascend(self, task: Task, target: int | None = None) -> Tensor:
        """What raises the loss of all images, or sends them to the target, by steps of a fifth of the bound."""
        ask, delta = self._asked(task), torch.zeros_like(task.images[:1])
        for _, (images, labels) in zip(range(self.ascents), _endless(task, _SEEN), strict=False):
            if target is None:
                gradient = _for_delta(ask, images, labels, delta)
            else:
                gradient = -_for_delta(ask, images, torch.full_like(labels, target), delta)
            delta = delta - self.bound / 5 * gradient / gradient.norm().clamp_min(1e-12)
            delta = delta * self.bound / delta.norm().clamp_min(self.bound)
        return delta

    def _descend(
        self, task: Task, optimizer: torch.optim.Optimizer, chosen: Tensor, wanted: Tensor, delta: Tensor
    ) -> float:
        """One step of the weights; returns the loss."""
        ask, delta, images = self._asked(task), delta.clone().requires_grad_(), task.images[chosen]
        worn = max(1, round(self.share * len(images)))
        optimizer.zero_grad()
        loss = cross_entropy(ask(torch.cat([images[:worn] + delta, images[worn:]])), wanted)
        loss.backward()
        if self.terms and delta.grad is not None:
            some = slice(0, max(worn, len(images) // 4))  # enough for the inner objective
            self._add_response(ask, images[some], task.labels[chosen[some]], delta.detach(), delta.grad)
        clip_grad_norm_(task.network.parameters(), self.longest)
        optimizer.step()
        return loss.item()

    def _add_response(self, network: Answers, images: Tensor, labels: Tensor, delta: Tensor, slope: Tensor) -> None:
        """Add q ∂Φ/∂θ to the weights' gradients; `slope` is ∂F/∂δ."""
        q = slope
        for _ in range(self.terms - 1):
            h = _DIFFERENCE / q.norm().clamp_min(1e-12)
            ahead, behind = (_for_delta(network, images, labels, delta + sign * h * q) for sign in (1, -1))
            q = slope + q - _STEP * (ahead - behind) / (2 * h)
        h = _DIFFERENCE / q.norm().clamp_min(1e-12)
        for sign in (1, -1):
            (-_STEP * sign / (2 * h) * _inner(network, images, labels, delta + sign * h * q)).backward()


#: The authors' own settings, but for how many steps of the ascent see which images.
AS_PUBLISHED = ImplicitUnlearning(
    rounds=5, ascents=50, bound=10.0, share=0.01, terms=5, by_class=False, clip=False,
    soft=False, longest=float("inf"),
    recipe=Recipe(epochs=1, batch_size=100),
)  # fmt: skip


def _inner(network: Answers, images: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    """G, which the ascent makes small: the loss with its sign changed, and a small price on ‖δ‖²."""
    return _REGULARISATION * delta.square().sum() - cross_entropy(network(images + delta), labels)


def _for_delta(network: Answers, images: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    """∂G/∂δ."""
    delta = delta.detach().requires_grad_()
    return torch.autograd.grad(_inner(network, images, labels, delta), delta)[0]


def _endless(task: Task, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from task.batches(size)
