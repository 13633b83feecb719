"""The clean images that a detector works with, checked once (floor 2)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.datasets import check_images, sample_per_class, to_float


@dataclass(frozen=True, eq=False)
class DefenseSet:
    """D = ∪ D_s: a few clean images with labels, on the network's device.

    Attributes:
        images: float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        classes: K, the number of the network's outputs.
    """

    images: Tensor
    labels: Tensor
    classes: int

    @property
    def counts(self) -> Tensor:
        """|D_s|, int64 (K,)."""
        return torch.bincount(self.labels, minlength=self.classes)


def defense_set(
    network: nn.Module, images: Tensor, labels: Tensor, per_class: int | None = None, seed: int = 0
) -> DefenseSet:
    """Check a detector's input and draw `per_class` images of each class.

    Args:
        network: images in [0, 1] → logits (N, K).
        images: uint8, or float in [0, 1], (N, C, H, W).
        labels: int64 (N,), true classes.
        per_class: images to draw of every class; None: all that were given.
        seed: of the draw.

    Raises:
        TypeError, ValueError: bad images; labels that do not fit the images or the network; a class without images;
            outputs that are not (N, K) logits.

    Example:
        >>> from btlib import networks
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> defense_set(net, torch.rand(6, 1, 28, 28), torch.arange(6) % 3, per_class=1).counts.tolist()
        [1, 1, 1]
    """
    images = to_float(images) if images.dtype == torch.uint8 else images
    check_images(images)
    if labels.shape != images.shape[:1] or len(labels) == 0:
        raise ValueError(f"labels: expected one label per image and at least one image, got {tuple(labels.shape)} "
                         f"for {len(images)} images; pass matching tensors")  # fmt: skip
    classes = _outputs(network, images[:1])
    labels = labels.cpu().long()
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels: expected classes in 0…{classes - 1}, the network's outputs, got "
            f"{int(labels.min())}…{int(labels.max())}; use the labels the network was trained on"
        )
    empty = (torch.bincount(labels, minlength=classes) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"images: expected at least one clean image of each of the {classes} classes, got none of "
                         f"{empty}; add one, or every estimate would miss these sources")  # fmt: skip
    if per_class is not None:
        if per_class < 1:
            raise ValueError(f"per_class: expected at least 1, got {per_class}; L-RED uses 1 to 8")
        chosen = sample_per_class(labels, per_class, range(classes), seed=seed)
        images, labels = images[chosen.to(images.device)], labels[chosen]
    place = device_of(network)
    return DefenseSet(images.to(place).float(), labels.to(place), classes)


def device_of(network: nn.Module) -> torch.device:
    """Where the network's parameters or buffers are; the CPU for a network without any.

    Example:
        >>> device_of(nn.Flatten())
        device(type='cpu')
    """
    for tensor in (*network.parameters(), *network.buffers()):
        return tensor.device
    return torch.device("cpu")


def _outputs(network: nn.Module, image: Tensor) -> int:
    with metrics.evaluating(network):
        logits = network(image.to(device_of(network)).float())
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 3:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"network: expected logits (N, K) with K ≥ 3 for images {tuple(image.shape)}, got {got}; "
                         "wrap the network so that it returns logits only")  # fmt: skip
    return int(logits.shape[1])


def check_targets(targets: Sequence[int] | int | None, classes: int) -> list[int]:
    """The putative target classes as a list; None: all K.

    Raises:
        ValueError: a class that does not exist, or one named twice.

    Example:
        >>> check_targets(2, classes=3), check_targets(None, classes=3)
        ([2], [0, 1, 2])
    """
    wanted = range(classes) if targets is None else [targets] if isinstance(targets, int) else list(targets)
    for target in wanted:
        if not 0 <= target < classes:
            raise ValueError(f"targets: expected classes in 0…{classes - 1}, got {target}; classes count from 0")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"targets: expected each class once, got {list(wanted)}; leave the repetitions out")
    return list(wanted)


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[nn.Module]:
    """`metrics.frozen`, and the caller's random state is put back as well.

    Inside, convolutions have their weights in channels-last order: the same numbers in half of the time on a CPU.

    Example:
        >>> with undisturbed(nn.Linear(1, 1)) as network:
        ...     network.training
        False
    """
    place = device_of(network)
    weights = {p: p.data for p in network.parameters() if p.ndim == 4}
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []), metrics.frozen(network):
        try:
            for parameter, found in weights.items():
                parameter.data = found.contiguous(memory_format=torch.channels_last)
            yield network
        finally:
            for parameter, found in weights.items():
                parameter.data = found
