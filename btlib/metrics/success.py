"""How often a network is right, and how often a trigger succeeds."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from btlib.datasets import as_float, as_labels
from btlib.datasets.images import check_class
from btlib.metrics.prediction import predict
from btlib.poisoning import source_classes


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images classified as labelled (ACC, CTA, BMA in the three papers), in [0, 1].

    Raises:
        TypeError, ValueError: images or labels that do not fit, no images, or a network that gives no logits (N, K).

    Example:
        >>> from btlib import networks
        >>> import torch
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
        >>> 0 <= accuracy(net, torch.rand(3, 1, 28, 28), torch.tensor([0, 1, 2])) <= 1
        True
    """
    said, classes = _answers(network, images)
    return (said == as_labels(labels, images, classes)).float().mean().item()


def attack_success_rate(
    network: nn.Module, trigger: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, target: int,
    sources: str | int | Sequence[int] | None = None,
) -> float:  # fmt: skip
    """Share of triggered source-class images classified as the target (ASR: L-RED 4.2, in-flight 5.2), in [0, 1].

    Images whose true class is the target are left out: they would be classified so without any trigger.

    Args:
        network: the classifier.
        trigger: the true or an estimated pattern: images in, triggered images out.
        images: clean float or uint8 images (N, C, H, W).
        labels: true classes (N,).
        target: t*.
        sources: S*; None or ``"all"``: every class but the target.

    Raises:
        ValueError: no image of a source class; and what `success_by_class` raises.

    Example:
        >>> from btlib import networks, triggers
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
        >>> x, y = torch.rand(3, 1, 28, 28), torch.tensor([0, 1, 2])
        >>> 0 <= attack_success_rate(net, triggers.box((1, 28, 28)), x, y, target=9) <= 1
        True
    """
    rates = success_by_class(network, trigger, images, labels, target)
    counts = torch.bincount(labels.cpu().long(), minlength=len(rates))
    chosen = source_classes("all" if sources is None else sources, target, len(rates))
    weights = counts[list(chosen)].double()
    if weights.sum() == 0:
        raise ValueError(f"labels: expected images of the source classes {chosen}, got none; check the labels")
    present = weights > 0
    return float((rates[list(chosen)].double()[present] * weights[present]).sum() / weights.sum())


def success_by_class(
    network: nn.Module, trigger: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, target: int
) -> Tensor:
    """Share of each class's triggered images classified as the target: collateral damage (L-RED A.5, Figure 2a).

    Returns:
        float32 (K,) in [0, 1]; NaN for the target itself and for classes without images.

    Raises:
        TypeError, ValueError: images, labels or a target that do not fit, a trigger that changes the images' shape, or
            a network that gives no logits (N, K).

    Example:
        >>> from btlib import networks, triggers
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> x, y = torch.rand(3, 1, 28, 28), torch.tensor([0, 1, 2])
        >>> success_by_class(net, triggers.box((1, 28, 28)), x, y, target=2).isnan().tolist()
        [False, False, True]
    """
    images = as_float(images)
    said, classes = _answers(network, embedded(trigger, images))
    labels = as_labels(labels, images, classes)
    check_class(target, classes)
    counts = torch.bincount(labels, minlength=classes)
    rates = torch.bincount(labels, weights=(said == target).float(), minlength=classes).float() / counts
    rates[target] = torch.nan
    return rates


def embedded(trigger: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Triggered images, of the shape that they had.

    Raises:
        TypeError: nothing that can be called, such as a list of patterns.
        ValueError: the trigger gives something else.

    Example:
        >>> embedded(lambda images: 1 - images, torch.zeros(1, 1, 1, 1)).item()
        1.0
    """
    if not callable(trigger):
        raise TypeError(f"trigger: expected one pattern, a function from images to images, got a "
                        f"{type(trigger).__name__}; pass a Trigger")  # fmt: skip
    stamped = trigger(images)
    if not isinstance(stamped, Tensor) or stamped.shape != images.shape:
        got = tuple(stamped.shape) if isinstance(stamped, Tensor) else type(stamped).__name__
        raise ValueError(f"trigger: expected one that gives images {tuple(images.shape)} back, got {got}; "
                         "a pattern keeps number and size of images")  # fmt: skip
    return stamped


def _answers(network: nn.Module, images: Tensor) -> tuple[Tensor, int]:
    """The class of each image, int64 (N,), and K. Where a logit is NaN it is -1: no class, so never a success."""
    if isinstance(images, Tensor) and len(images) == 0:
        raise ValueError("images: expected at least one, got none; pass the images that are to be counted")
    logits = predict(network, images)
    if logits.ndim != 2:
        raise ValueError(f"network: expected logits (N, K) for {len(images)} images, got {tuple(logits.shape)}; "
                         "flatten its output, one row per image")  # fmt: skip
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1), logits.shape[1]


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """g_c - max_{k≠c} g_k, float (N,).

    Args:
        logits: float (N, K).
        targets: int64 (N,), c.

    Example:
        >>> margin(torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0]]), torch.tensor([1, 0])).tolist()
        [2.0, -4.0]
    """
    own = logits.gather(1, targets[:, None])[:, 0]
    return own - logits.scatter(1, targets[:, None], -torch.inf).amax(1)
