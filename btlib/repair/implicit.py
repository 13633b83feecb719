"""I-BAU: unlearn whatever perturbation fools the network most, with the implicit hypergradient (floor 3)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from btlib.repair.base import History, Repair, Task, require

_REGULARISATION = 1e-3  # of ‖δ‖² in the inner objective, as in the authors' code
_STEP = 0.1  # β of the fixed-point map δ ↦ δ - β ∂G/∂δ, likewise
_DIFFERENCE = 0.1  # length in image space of the finite differences: a hundredth of the bound


@dataclass(frozen=True)
class ImplicitUnlearning(Repair):
    """Implicit backdoor adversarial unlearning, I-BAU: min over weights, max over one perturbation δ of all images.

    Zeng et al., "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022, Eq. 1 and Algorithm 1.
    Each round finds δ by ascent from nothing, ‖δ‖₂ ≤ `bound`, and goes through all images once, some of them with δ.
    The steps' gradient knows that δ answers to the weights (Eq. 4): with Φ, a step of the ascent, as a fixed-point map
    it is ∂F/∂θ + q ∂Φ/∂θ, where q = Σ_k ∂F/∂δ (∂Φ/∂δ)ᵏ with `terms` of them. Products with second derivatives are
    differences of gradients, so that any layer will do.

    Attributes:
        rounds: of ascent and unlearning.
        ascents: steps of the ascent in each round.
        bound: largest ‖δ‖₂, in units of full scale × pixels.
        share: of each batch that wears δ, in [0, 1].
        terms: of q; 0: δ is taken as given, as in adversarial training.
        lr: of the weights' first step (Adam); it falls to nothing, in a straight line.
        batch_size: images per step.

    Raises:
        ValueError: a share or number outside its range.

    Example:
        >>> ImplicitUnlearning(rounds=2).rounds
        2
    """

    name: ClassVar[str] = "implicit unlearning"
    rounds: int = 10
    ascents: int = 15
    bound: float = 3.0
    share: float = 0.05
    terms: int = 1
    lr: float = 1e-3
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(self, share=(0, 1), rounds=(1, float("inf")), terms=(0, float("inf")))

    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Alternate ascent and unlearning."""
        optimizer = torch.optim.Adam(task.network.parameters(), lr=self.lr)
        history, steps = [], 0
        decay = torch.optim.lr_scheduler.LinearLR(
            optimizer, 1.0, 0.0, total_iters=self.rounds * -(-len(task.labels) // self.batch_size)
        )
        for number in tqdm(range(1, self.rounds + 1), self.name, disable=not task.progress, leave=False, unit="round"):
            delta = self._ascend(task)
            total = 0.0
            for images, labels in task.batches(self.batch_size):
                total += len(labels) * self._descend(task.network, optimizer, images, labels, delta)
                decay.step()
                steps += 1
            history.append({"round": number, "loss": total / len(task.labels), "norm": delta.norm().item()})
        return f"{steps} steps against {self.rounds} perturbations", {"rounds": self.rounds, "steps": steps}, history

    def _ascend(self, task: Task) -> Tensor:
        """δ (1, C, H, W): what raises the loss of all images most, by steps of a fifth of the bound."""
        delta = torch.zeros_like(task.images[:1])
        for _, (images, labels) in zip(range(self.ascents), _endless(task, 100), strict=False):
            gradient = _for_delta(task.network, images, labels, delta)
            delta = delta - self.bound / 5 * gradient / gradient.norm().clamp_min(1e-12)
            delta = delta * self.bound / delta.norm().clamp_min(self.bound)
        return delta

    def _descend(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, delta: Tensor
    ) -> float:
        """One step of the weights; returns the loss."""
        delta = delta.clone().requires_grad_()
        worn = max(1, round(self.share * len(images)))
        optimizer.zero_grad()
        loss = cross_entropy(network(torch.cat([images[:worn] + delta, images[worn:]])), labels)
        loss.backward()
        if self.terms and delta.grad is not None:
            some = slice(0, max(worn, len(images) // 4))  # enough for the inner objective
            self._add_response(network, images[some], labels[some], delta.detach(), delta.grad)
        optimizer.step()
        return loss.item()

    def _add_response(self, network: nn.Module, images: Tensor, labels: Tensor, delta: Tensor, slope: Tensor) -> None:
        """Add q ∂Φ/∂θ to the weights' gradients; `slope` is ∂F/∂δ."""
        q = slope
        for _ in range(self.terms - 1):
            h = _DIFFERENCE / q.norm().clamp_min(1e-12)
            ahead, behind = (_for_delta(network, images, labels, delta + sign * h * q) for sign in (1, -1))
            q = slope + q - _STEP * (ahead - behind) / (2 * h)
        h = _DIFFERENCE / q.norm().clamp_min(1e-12)
        for sign in (1, -1):
            (-_STEP * sign / (2 * h) * _inner(network, images, labels, delta + sign * h * q)).backward()


def _inner(network: nn.Module, images: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    """G, which the ascent makes small: the loss with its sign changed, and a small price on ‖δ‖²."""
    return _REGULARISATION * delta.square().sum() - cross_entropy(network(images + delta), labels)


def _for_delta(network: nn.Module, images: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    """∂G/∂δ."""
    delta = delta.detach().requires_grad_()
    return torch.autograd.grad(_inner(network, images, labels, delta), delta)[0]


def _endless(task: Task, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from task.batches(size)
