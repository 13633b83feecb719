"""ANP: prune the neurons through which a network is misled most easily (floor 3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from btlib.repair.base import History, Repair, Task, require
from btlib.repair.channels import Layer, hidden_layers, outputs_changed, prune, prune_while

#: Thresholds of the mask that are tried, from below; the paper's default is 0.2.
_THRESHOLDS = [step / 20 for step in range(1, 20)]
Noise = Sequence[Tensor]


@dataclass(frozen=True)
class AdversarialNeuronPruning(Repair):
    """ANP: learn a mask over all channels under the worst small change of their weights, and prune where it is small.

    Wu and Wang, "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS 2021, Eq. 3 to 5: minimise over
    masks m in [0, 1] the loss α L(m w, b) + (1 - α) max L((m + δ) w, (1 + ξ) b) with ``|δ|, |ξ| ≤ ε``, one number per
    channel. Channels of a batch normalisation are masked there; without one, at the convolution or linear layer itself.
    The threshold is the largest that held-out clean images allow.

    Attributes:
        steps: of the mask (SGD with momentum 0.9). The paper takes 2,000; masks settle earlier on small networks.
        lr: of the mask.
        epsilon: ε.
        alpha: α, the share of the loss without change.
        batch_size: images per step.
        max_drop: of accuracy on held-out images, by pruning, in [0, 1].

    Raises:
        ValueError: a share or drop outside its range.

    Example:
        >>> AdversarialNeuronPruning().epsilon
        0.4
    """

    name: ClassVar[str] = "adversarial neuron pruning"
    steps: int = 400
    lr: float = 0.2
    epsilon: float = 0.4
    alpha: float = 0.2
    batch_size: int = 128
    max_drop: float = 0.03

    def __post_init__(self) -> None:
        require(self, alpha=(0, 1), max_drop=(0, 1), epsilon=(0, float("inf")))

    def repair(self, task: Task) -> tuple[str, Mapping[str, float], History]:
        """Learn the mask, choose the threshold, prune."""
        layers = hidden_layers(task.network, task.images)
        learned, held = task.split()
        masks = self._masks(learned, layers)
        steps = [partial(_prune_below, layers, masks, threshold) for threshold in _THRESHOLDS]
        taken, accuracies = prune_while(held, steps, self.max_drop)
        history = [
            {"threshold": threshold, "pruned": int((torch.cat(masks) < threshold).sum()), "accuracy": accuracy}
            for threshold, accuracy in zip([0.0, *_THRESHOLDS], accuracies, strict=False)
        ]
        changed = {"pruned": history[taken]["pruned"], "channels": sum(layer.size for layer in layers),
                   "threshold": history[taken]["threshold"]}  # fmt: skip
        summary = f"pruned {changed['pruned']} of {changed['channels']} channels, mask below {changed['threshold']:.2f}"
        return summary, changed, history

    def _masks(self, task: Task, layers: Sequence[Layer]) -> list[Tensor]:
        masks = [torch.ones(layer.size, device=task.labels.device, requires_grad=True) for layer in layers]
        optimizer = torch.optim.SGD(masks, lr=self.lr, momentum=0.9)
        for _ in tqdm(range(self.steps), self.name, disable=not task.progress, leave=False, unit="step"):
            images, labels = next(task.batches(self.batch_size))
            loss = partial(_loss, task, layers, masks, images, labels)
            noise = self._worst_noise(loss, masks)
            optimizer.zero_grad()
            calm = [torch.zeros_like(each) for each in noise]
            (self.alpha * loss(calm) + (1 - self.alpha) * loss(noise)).backward(inputs=masks)
            optimizer.step()
            with torch.no_grad():
                for mask in masks:
                    mask.clamp_(0, 1)
        return [mask.detach() for mask in masks]

    def _worst_noise(self, loss: Callable[[Noise], Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
        """δ and ξ of each layer, (2, channels): from a random start, one signed step of ascent."""
        start = [(2 * torch.rand_like(mask.expand(2, -1)) - 1) * self.epsilon for mask in masks]
        start = [noise.detach().requires_grad_() for noise in start]
        gradients = torch.autograd.grad(loss(start), start)
        worst = [noise + self.epsilon * gradient.sign() for noise, gradient in zip(start, gradients, strict=True)]
        return [noise.detach().clamp(-self.epsilon, self.epsilon) for noise in worst]


def _loss(
    task: Task, layers: Sequence[Layer], masks: Sequence[Tensor], images: Tensor, labels: Tensor, noise: Noise
) -> Tensor:
    """Cross-entropy with weights times (m + δ) and biases times (1 + ξ)."""

    def masked(number: int, output: Tensor) -> Tensor:
        def spread(values: Tensor) -> Tensor:
            return values.reshape(-1, *[1] * (output.ndim - 2))  # one number per channel

        delta, xi = noise[number]
        bias = layers[number].bias
        shift = torch.zeros_like(delta) if bias is None else bias
        return (output - spread(shift)) * spread(masks[number] + delta) + spread(shift * (1 + xi))

    with outputs_changed(layers, masked):
        return cross_entropy(task.network(images), labels)


def _prune_below(layers: Sequence[Layer], masks: Sequence[Tensor], threshold: float) -> None:
    """As in the paper, weights only: a pruned channel puts out its bias."""
    for layer, mask in zip(layers, masks, strict=True):
        prune(layer, mask < threshold, bias=False)
