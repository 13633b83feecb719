"""The clean images that a detector works with, checked once (floor 2)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from btlib import metrics
from btlib.datasets import as_float, as_labels, sample_per_class
from btlib.datasets.images import check_class, check_count, usual_strides
from btlib.metrics.prediction import logits_of
from btlib.networks import images_at_once, layout, reference
from btlib.networks.folding import folded
from btlib.networks.layout import in_layout

#: Images in one pass through a network. With twice as many, maps are so large that every layer asks the system for
#: fresh memory, and LeNet-5 takes twice the time. Fewer where a network keeps more than _AT_ONCE bytes of them.
IMAGES_AT_ONCE = 1024
_AT_ONCE = 2**28


@dataclass(frozen=True, eq=False)
class DefenseSet:
    """D = ∪ D_s: a few clean images with labels, on the network's device.

    Attributes:
        images: float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        num_classes: K, the number of the network's outputs.
        warnings: what was odd about the network, in words.
        at_once: images in one pass through the network, so that memory does not grow with their number.
    """

    images: Tensor
    labels: Tensor
    num_classes: int
    warnings: tuple[str, ...] = ()
    at_once: int = IMAGES_AT_ONCE

    @property
    def counts(self) -> Tensor:
        """|D_s|, int64 (K,)."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    def of_classes(self, classes: Sequence[int] | None, name: str = "sources") -> "DefenseSet":
        """Only the images of some classes; None: all of them.

        Raises:
            TypeError, ValueError: as in `check_classes`, which calls them `name`.
        """
        if classes is None:
            return self
        chosen = torch.tensor(check_classes(classes, self.num_classes, name), device=self.labels.device)
        keep = torch.isin(self.labels, chosen)
        return replace(self, images=self.images[keep], labels=self.labels[keep])


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
            outputs that are not (N, K) logits, or that do not change with the image.

    Example:
        >>> from btlib import networks
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> defense_set(net, torch.rand(6, 1, 28, 28), torch.arange(6) % 3, per_class=1).counts.tolist()
        [1, 1, 1]
    """
    images = as_float(images)
    shown = torch.cat([images[:1], torch.full_like(images[:1], 0.5)])  # an image and a grey one
    logits, odd = logits_of(network, shown, least=3)
    classes = int(logits.shape[1])
    labels = as_labels(labels, images, classes)
    empty = (torch.bincount(labels, minlength=classes) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"images: expected at least one clean image of each of the {classes} classes, got none of "
                         f"{empty}; add one, or every estimate would miss these sources")  # fmt: skip
    if per_class is not None:
        check_count("per_class", per_class, usual=8)
        chosen = sample_per_class(labels, per_class, range(classes), seed=seed)
        images, labels = images[chosen.to(images.device)], labels[chosen]
    device = reference(network).device
    data = DefenseSet(images.to(device).float(), labels.to(device), classes, odd)
    with undisturbed(network):
        _check_slopes(network, data)
        return replace(data, at_once=pass_size(network, data.images[:1]))


def _check_slopes(network: nn.Module, data: DefenseSet) -> None:
    """Where no gradient is, no pattern can be looked for, and "nothing found" would be a lie."""
    ranks = torch.arange(1.0, data.num_classes + 1, device=data.images.device)  # so that logits do not cancel
    for part in data.images.split(64):
        part = part.detach().requires_grad_()
        total = (network(part).float() @ ranks).sum()
        if total.requires_grad:
            (slope,) = torch.autograd.grad(total, part, allow_unused=True)
            if slope is not None and bool(slope.any()):
                return
    raise ValueError(
        "network: expected logits that change with the image, got gradients of zero everywhere, so it "
        "could not be judged; let it return logits, not classes, and neither round nor saturate"
    )


def pass_size(network: nn.Module, image: Tensor) -> int:
    """How many images may go through a network in one pass with gradients: what autograd keeps of one is counted.

    Args:
        network: frozen.
        image: float (1, C, H, W).

    Example:
        >>> [pass_size(nn.ReLU(), torch.zeros(1, 3, size, size)) for size in (8, 2048)]
        [1024, 1]
    """
    weights = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(image.detach().requires_grad_())
    least = 4 * image.numel() * image.element_size()  # of the stamped image and its gradient, where nothing is kept
    del logits  # until here, lest two tensors have one address
    most = images_at_once(IMAGES_AT_ONCE, image.device)
    return max(1, min(most, _AT_ONCE * most // IMAGES_AT_ONCE // max(least, sum(kept.values()))))


def scores(network: nn.Module, images: Tensor, at_once: int) -> Tensor:
    """Logits of any number of images; where they are too many for one pass, the gradient goes through it once more.

    Example:
        >>> scores(nn.Flatten(), torch.zeros(7, 1, 2, 2, requires_grad=True), at_once=3).shape
        torch.Size([7, 4])
    """
    if len(images) <= at_once:
        return network(images)
    parts = images.split(at_once)
    return torch.cat([checkpoint(network, part, use_reentrant=False) for part in parts])


def check_classes(wanted: Sequence[int] | int | None, num_classes: int, name: str = "targets") -> list[int]:
    """Classes that a caller named, as a list of integers; None: all K.

    Args:
        wanted: one class, or several, each once.
        num_classes: K.
        name: of the argument, for the message.

    Raises:
        TypeError: a class that is no integer.
        ValueError: a class that does not exist, one named twice, or none at all.
    """
    many = isinstance(wanted, Iterable) and getattr(wanted, "ndim", 1) > 0  # a tensor may be one class
    several: Iterable[Any] = range(num_classes) if wanted is None else cast(Iterable, wanted) if many else [wanted]
    found = [check_class(one, num_classes, name) for one in several]
    if not found:
        raise ValueError(f"{name}: expected at least one class, got none; leave it out for all classes")
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: expected each class once, got {found}; leave the repetitions out")
    return found


@contextmanager
def undisturbed(network: nn.Module, images: Tensor | None = None) -> Iterator[nn.Module]:
    """`metrics.frozen`, and the caller's random state is put back as well.

    Inside, convolutions have their weights in the order that is fastest (`networks.layout`), and batch normalisation is
    folded into them (`networks.folding`): the same function in up to half of the time on a CPU.

    Args:
        network: the classifier.
        images: one or more, float (N, C, H, W), on its device, to try both on.

    Example:
        >>> with undisturbed(nn.Linear(1, 1)) as network:
        ...     network.training, network.weight.requires_grad
        (False, False)
    """
    images = None if images is None else usual_strides(images)
    device = reference(network).device
    random_state = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with random_state, metrics.frozen(network), folded(network, images):
        order = layout(network, device, images)
        with in_layout(network, order), _in_usual_order(network, order):
            yield network


@contextmanager
def _in_usual_order(network: nn.Module, order: torch.memory_format) -> Iterator[None]:
    """Inside, a stranger's network is given images in the usual order; those of one channel may pass for the other."""
    if order == torch.channels_last or getattr(network, "any_layout", False):
        yield
        return
    handle = network.register_forward_pre_hook(lambda _, given: (usual_strides(given[0]), *given[1:]))
    try:
        yield
    finally:
        handle.remove()
