"""The invisible attack with an L2-regularised trigger: one faint pattern for all images (floor 4).

Li et al., "Invisible backdoor attacks on deep neural networks via steganography and regularization" (2020), its
universal attack; a baseline in the stealthy attack's Table 1. There is no public code: docs/choices.md says what was
chosen. A pattern of small L2 norm is sought that excites, in a clean network, the neurons that speak for the target;
the network is then fine-tuned on images with that pattern.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from btlib import metrics, poisoning, training
from btlib.attacks.outcome import AttackResult, watched
from btlib.attacks.stealthy import clean_network
from btlib.datasets import ImageDataset, to_float
from btlib.networks import Network
from btlib.resume import ResumeFile
from btlib.training import Recipe, place, seeded
from btlib.triggers import Trigger


@dataclass(frozen=True)
class InvisibleRecipe:
    """Settings of the attack (docs/choices.md).

    Attributes:
        target: y*.
        psnr: how faint the pattern is, in dB: its L2 norm is at most 10^(-psnr/20)·√(C·H·W).
        anchors: neurons of the penultimate layer to excite.
        scale: they shall reach so many times what images of the target class excite in them.
        steps: Adam steps for the pattern.
        batch_size: images per step.
        per_class: images of every other class that get the pattern and the target's label; the originals stay.
        training: fine-tuning of the clean network.
        watch: test images used for the history.

    Raises:
        ValueError: a value outside its range.

    Example:
        >>> InvisibleRecipe().psnr
        30.0
    """

    target: int = 8
    psnr: float = 30.0
    anchors: int = 8
    scale: float = 2.0
    steps: int = 300
    batch_size: int = 128
    per_class: int = 600
    training: Recipe = field(default_factory=lambda: Recipe(epochs=5, batch_size=256, lr=2e-3, schedule="one_cycle"))
    watch: int = 2000

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("psnr", "anchors", "scale", "steps", "batch_size", "per_class", "watch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}; see InvisibleRecipe")


def run(
    data: ImageDataset, recipe: InvisibleRecipe | None = None, seed: int = 0, *, network: Network | None = None,
    progress: bool = True, resume: str | Path | None = None, device: str | torch.device | None = None,
) -> AttackResult:  # fmt: skip
    """Backdoor a network with one optimised, faint pattern (Li et al. 2020).

    Args:
        data: clean images.
        recipe: the settings.
        seed: of the pattern's start, the draw of poisoned images and the batches.
        network: the clean network to start from, not changed itself; None: a LittleNet, loaded or trained.
        progress: show bars.
        resume: a file that always holds the last finished epoch; beside it, ending in ``.trigger``, the pattern.
            Where they exist, the attack goes on from them.
        device: where to train; default: the GPU when there is one, else the CPU.

    Returns:
        An `AttackResult` on `device`; its trigger is an additive `Trigger`.

    Raises:
        ValueError: a target that does not exist, too few images of a class, a resume file of another attack.

    Example:
        >>> from btlib import datasets, networks
        >>> data = datasets.load("fashion-mnist").subset(train=256, test=100)
        >>> net, quick = networks.build("lenet5", data, seed=0), Recipe(epochs=1)
        >>> result = run(data, InvisibleRecipe(steps=2, per_class=5, training=quick), network=net, progress=False)
        >>> result.trigger.kind
        'additive'
    """
    recipe = recipe or InvisibleRecipe()
    where, clean = place(device), network if network is not None else clean_network(data, seed)
    victim = copy.deepcopy(clean).requires_grad_(True).to(where)
    victim.card = None
    chosen = torch.randperm(len(data.y_test), generator=torch.Generator().manual_seed(seed))[: recipe.watch]
    seen = to_float(data.x_test[chosen]), data.y_test[chosen]

    kept = {"pattern": torch.zeros(data.image_shape)}
    file = ResumeFile(f"{resume}.trigger" if resume else None, recipe, seed, data, where)
    with seeded(seed, where):
        if not file.restore(pattern=kept):
            kept["pattern"] = optimize(victim, data, recipe, progress)
            file.save([{"steps": recipe.steps}], pattern=kept)
    trigger = Trigger("additive", kept["pattern"], torch.ones(1, *data.image_shape[1:]), name="invisible")
    poisoned = poisoning.poison(data, trigger, recipe.target, "all", recipe.per_class, "add", seed)

    def watch(epoch: int, network: nn.Module) -> Mapping[str, float]:
        return watched(network, trigger, *seen, recipe.target)

    baseline = metrics.accuracy(clean, data.x_test, data.y_test)
    done = training.fit(victim, poisoned, recipe.training, seed, progress, on_epoch=watch, resume=resume, device=where)
    return AttackResult(victim, trigger, recipe.target, baseline, done.history, recipe, seed)


def optimize(network: Network, data: ImageDataset, recipe: InvisibleRecipe, progress: bool = False) -> Tensor:
    """The pattern: faint noise that excites the target's neurons in a clean network, on all images alike.

    Minimises the mean of (a(x + Δ) - scale·a*)² over images and anchors by Adam, where a are the activations of
    the anchors and a* those of the target's images, with ‖Δ‖₂ held below its limit. Torch's random state is used.

    Args:
        network: the clean network, left as it is.
        data: clean images; training images are used.
        recipe: the settings.
        progress: show a bar.

    Returns:
        float (C, H, W) in [-1, 1], on the CPU.

    Raises:
        ValueError: a target that does not exist, or without training images.

    Example:
        >>> from btlib import datasets, networks
        >>> data = datasets.load("fashion-mnist").subset(train=256)
        >>> optimize(networks.build("lenet5", data, seed=0), data, InvisibleRecipe(steps=2)).shape
        torch.Size([1, 28, 28])
    """
    of_target = data.x_train[data.y_train == recipe.target]
    if len(of_target) == 0:
        raise ValueError(f"target: expected a class with training images, got {recipe.target}; the data set has "
                         f"classes 0…{data.num_classes - 1}")  # fmt: skip
    where = network.head.weight.device
    anchors = find_anchors(network, recipe.target, recipe.anchors)
    wished = recipe.scale * metrics.predict(network, of_target, layer="penultimate")[:, anchors.cpu()].mean(0).to(where)
    limit = 10 ** (-recipe.psnr / 20) * math.sqrt(math.prod(data.image_shape))
    pattern = torch.randn(data.image_shape).to(where)
    pattern = (pattern * limit / pattern.norm()).requires_grad_()
    optimizer = torch.optim.Adam([pattern], lr=0.1 * limit / math.sqrt(pattern.numel()))
    x = data.x_train.to(where)
    with metrics.frozen(network):
        for _ in tqdm(range(recipe.steps), "trigger", leave=False, disable=not progress, unit="step"):
            images = to_float(x[torch.randint(len(x), (recipe.batch_size,)).to(where)])
            excited = network.features((images + pattern).clamp(0, 1))[:, anchors]
            loss = (excited - wished).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                pattern.mul_((limit / pattern.norm()).clamp(max=1))  # back onto the ball
    return pattern.detach().cpu().clamp(-1, 1)


def find_anchors(network: Network, target: int, count: int) -> Tensor:
    """The neurons of the penultimate layer that speak most for a class: weight to it, less the mean to the others.

    Args:
        network: a classifier with a linear head.
        target: the class.
        count: how many; at most all.

    Returns:
        int64 (count,), the strongest first.

    Raises:
        ValueError: a target that does not exist.

    Example:
        >>> from btlib import networks
        >>> find_anchors(networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10), 3, 2).shape
        torch.Size([2])
    """
    weight = network.head.weight.detach()
    if not 0 <= target < len(weight):
        raise ValueError(f"target: expected a class in 0…{len(weight) - 1}, got {target}; see data.classes")
    others = (weight.sum(0) - weight[target]) / (len(weight) - 1)
    return (weight[target] - others).argsort(descending=True)[:count]
