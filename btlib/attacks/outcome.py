"""What every attack gives back (floor 4)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.networks import Network
from btlib.training import curve


@dataclass(frozen=True, eq=False)
class AttackResult:
    """A backdoored network and its trigger.

    Attributes:
        network: the classifier, in evaluation mode.
        trigger: what makes it obey; call it on images. One that differs from image to image also has
            ``crossed(images, others)``: images with the patterns of others.
        target: y*.
        baseline: accuracy of the clean network it was made from, on the test images, in [0, 1].
        history: one entry per epoch with its ``seconds``: those of the attack have ``epoch``, ``loss``, ``bma``,
            ``asr`` and ``cbma``, on some test images of all classes (`Indicators.cbma` leaves the target out). The
            stealthy attack adds ``mask_norm`` (‖m*‖₁ of the kept inversion; NaN without adversarial training); what
            comes before, such as the input-aware attack's masks, has names of its own (``mask_epoch``, ``mask_loss``).
        recipe: the settings, a frozen dataclass.
        seed: of everything random.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> AttackResult(net, nn.Identity(), 0, 0.9, ({"asr": 0.5}, {"asr": 0.9}), None, seed=0).curve("asr")
        [0.5, 0.9]
    """

    network: Network
    trigger: Callable[[Tensor], Tensor]
    target: int
    baseline: float
    history: tuple[Mapping[str, float], ...]
    recipe: Any
    seed: int

    @property
    def generator(self) -> nn.Module | None:
        """What makes the patterns; None for a fixed pattern."""
        return getattr(self.trigger, "generator", None)

    def to(self, device: str | torch.device) -> Self:
        """Network and generators moved there, in place; a fixed pattern goes where its images are."""
        for part in (self.network, *getattr(self.trigger, "__dict__", {}).values()):
            if isinstance(part, nn.Module):
                part.to(device)
        return self

    def curve(self, key: str) -> list[float]:
        """One entry of the history, of the epochs that have it.

        Raises:
            KeyError: no epoch has it.
        """
        return curve(self.history, key)


def trained_tensors(trigger: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """What a trigger is made of, by name: its tensors, and those of its modules. Filling them changes the trigger."""
    found = {name: value for name, value in vars(trigger).items() if isinstance(value, Tensor)}
    for name, module in vars(trigger).items():
        if isinstance(module, nn.Module):
            found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return found


def cross(trigger: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Images with the trigger of the image before; with the trigger itself, where it is the same on all images.

    Args:
        trigger: images in, triggered images out; may have ``crossed(images, others)``.
        images: float (N, C, H, W) in [0, 1].

    Returns:
        float, same shape.

    Example:
        >>> import torch
        >>> cross(lambda images: 1 - images, torch.zeros(2, 1, 2, 2)).sum().item()
        8.0
    """
    crossed = getattr(trigger, "crossed", None)
    return trigger(images) if crossed is None else crossed(images, images.roll(1, 0))


def watched(
    network: nn.Module, trigger: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, target: int
) -> dict[str, float]:
    """What a history says of an attack: ``bma``, ``asr`` and ``cbma``, in [0, 1].

    CBMA is the accuracy on images with a trigger made for another image. A fixed pattern is the same on all, so it is
    the accuracy on triggered images (stealthy attack, Table 1: 3.52 % for BadNets).

    Args:
        network: the classifier.
        trigger: images in, triggered images out.
        images: clean, float (N, C, H, W) in [0, 1].
        labels: int64 (N,), true classes.
        target: y*.

    Raises:
        ValueError: labels that do not fit the images, a target that does not exist.

    Example:
        >>> import torch
        >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(6, 1, 2, 2)
        >>> sorted(watched(net, lambda images: 1 - images, x, torch.arange(6) % 3, target=2))
        ['asr', 'bma', 'cbma']
    """
    return {
        "bma": metrics.accuracy(network, images, labels),
        "asr": metrics.attack_success_rate(network, trigger, images, labels, target),
        "cbma": metrics.accuracy(network, cross(trigger, images), labels),
    }
