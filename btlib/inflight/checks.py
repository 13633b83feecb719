"""What the in-flight detectors are given: checked once, at the public door, with one sentence for each fault."""

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from btlib.datasets import as_float, check_images
from btlib.datasets.images import check_class
from btlib.metrics import success
from btlib.metrics.prediction import logits_of

#: What embeds a pattern: a `Trigger`, or any other function from images to images.
Embedding = Callable[[Tensor], Tensor]
#: One, or several estimates of one.
Patterns = Embedding | Sequence[Embedding]
_PROBED = 16  # images that tell what a network puts out


def check_rate(name: str, rate: float) -> None:
    """A rate lies strictly between 0 and 1.

    Raises:
        ValueError: it does not.
    """
    if not 0 < rate < 1:
        raise ValueError(f"{name}: expected a rate between 0 and 1, got {rate}; 0.05 is the in-flight paper's")


def check_target(target: int, labels: Tensor, num_classes: int) -> int:
    """The target class as a plain integer; there are images of it.

    Raises:
        TypeError, ValueError: a fraction, a class that does not exist, or no image of it.
    """
    number = check_class(target, num_classes)
    if not bool((labels == number).any()):
        raise ValueError(f"labels: expected clean images of the target class {number}, got none; "
                         "add some, or check the target")  # fmt: skip
    return number


def probe(network: nn.Module, images: Tensor) -> tuple[int, tuple[str, ...]]:
    """What a network puts out, asked once: the number of classes, and a warning where it is probabilities.

    Args:
        network: images in [0, 1] → logits (N, K).
        images: float (N, C, H, W) in [0, 1].

    Raises:
        TypeError, ValueError: no image, or no finite tensor (N, K).
    """
    shape, few = getattr(network, "image_shape", None), images[:_PROBED]
    if len(few) == 0 or (shape is not None and tuple(few.shape[1:]) != tuple(shape)):
        wanted = "" if shape is None else f" of shape {tuple(shape)} for this network"
        raise ValueError(f"images: expected at least one{wanted}, got {len(images)} of {tuple(images.shape[1:])}; "
                         "load the data set at that size")  # fmt: skip
    logits, odd = logits_of(network, few)
    if not bool(logits.isfinite().all()):
        raise ValueError("network: expected finite logits, got NaN or infinity; check its weights")
    return logits.shape[1], odd


def patterns_of(trigger: Patterns | None, *, who: str = "") -> tuple[Embedding | None, ...]:
    """The patterns, one or several.

    Raises:
        ValueError: an empty list.

    Example:
        >>> len(patterns_of([abs, abs])), len(patterns_of(abs))
        (2, 1)
    """
    if not isinstance(trigger, list | tuple):
        return (cast("Embedding | None", trigger),)
    if not trigger:
        raise ValueError(f"trigger: {who} expected at least one pattern, got an empty list; "
                         "pass those that a post-training detector estimated")  # fmt: skip
    return tuple(trigger)


def embedded(trigger: Embedding | None, images: Tensor, *, who: str = "") -> Tensor:
    """Images with the pattern, checked.

    Args:
        trigger: the pattern.
        images: float (N, C, H, W) in [0, 1].
        who: asks for it, for the message where there is none.

    Raises:
        TypeError, ValueError: no pattern, or one that does not turn images into as many images in [0, 1].

    Example:
        >>> import torch
        >>> embedded(lambda x: 1 - x, torch.zeros(2, 1, 1, 1)).flatten().tolist()
        [1.0, 1.0]
    """
    if trigger is None:
        raise ValueError(f"trigger: {who} expected a pattern, got None; "
                         "pass the one that a post-training detector estimated")  # fmt: skip
    stamped = success.embedded(trigger, images)
    check_images(stamped, name="trigger(images)")
    return stamped


def check_like(images: Tensor, image_shape: tuple[int, ...]) -> Tensor:
    """Images to judge, as float in [0, 1], of the shape that was fitted to.

    Raises:
        TypeError, ValueError: they are not.
    """
    images = as_float(images)
    if tuple(images.shape[1:]) != image_shape:
        raise ValueError(f"images: expected shape (N, {', '.join(map(str, image_shape))}) as in fit, "
                         f"got {tuple(images.shape)}; resize them")  # fmt: skip
    return images


def threshold_at(clean_scores: Tensor, fpr: float) -> tuple[float, str | None]:
    """The threshold that a new clean score passes with a probability of at most `fpr`, and a warning or None.

    It is the k-th largest of n clean scores with k = ⌊fpr·(n+1)⌋: a new score of the same kind is equally likely
    to fall between any two of them. Reading off the quantile of the n scores themselves promises too much.

    Args:
        clean_scores: (n,), of images that were not fitted to.
        fpr: in (0, 1).

    Raises:
        ValueError: no score, or a rate outside (0, 1).
    """
    check_rate("fpr", fpr)
    count = len(clean_scores)
    if count == 0:
        raise ValueError("images: expected clean ones predicted as the target, got none; check target and network")
    rank = int(fpr * (count + 1) + 1e-9)  # 1e-9: 0.29 · 100 must not become 28
    warning = None
    if rank == 0:
        warning = (f"a false-positive rate of {fpr:g} can't be set from {count} clean images of the target: "
                   f"the threshold is their largest score, good for 1/{count + 1}")  # fmt: skip
    ordered = clean_scores.double().sort(descending=True).values
    return float(ordered[max(rank, 1) - 1]), warning
