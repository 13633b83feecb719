"""What the in-flight detectors share: fitting to a network, a threshold, and the report they hand out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from btlib.datasets import check_images
from btlib.poisoning import source_classes

NO_SOURCE = -1
#: What embeds a pattern: a `Trigger`, or any other function from images to images.
Embedding = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class InspectionReport:
    """What a detector says of a batch. A score is higher when more suspicious.

    Attributes:
        is_trigger: bool (N,). Only images predicted as the target can be flagged (in-flight 3, defender's goals).
        source: int64 (N,): the inferred class of origin of a flagged image (-1 from detectors that infer none),
            the prediction of every other image.
        scores: float32 (N,); -inf for images that are not predicted as the target: no score would flag them.
        predicted: int64 (N,), what the network says.
        target: the class under guard.
        threshold: a score above it is flagged.
        warnings: why the fit is not to be trusted, in words; empty when nothing speaks against it.
    """

    is_trigger: Tensor
    source: Tensor
    scores: Tensor
    predicted: Tensor
    target: int
    threshold: float
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.predicted)


class Measured(NamedTuple):
    """Of every image: the network's class, the score, and the inferred source (None: the detector infers none)."""

    predicted: Tensor
    scores: Tensor
    source: Tensor | None = None


class InFlightDetector(ABC):
    """A detector that is fitted to one network and then judges one image at a time.

    After `fit`: ``net_``, ``target_``, ``image_shape_``, ``threshold_`` and ``warnings_``. A second fit forgets
    the first; `inspect` changes nothing.

    Attributes:
        infers_source: whether `inspect` names the class a trigger comes from; else its source is -1.
    """

    infers_source = False
    net_: nn.Module
    target_: int
    image_shape_: tuple[int, ...]
    threshold_: float
    warnings_: tuple[str, ...]

    def fit(self, net: nn.Module, x: Tensor, y: Tensor, *, target: int, trigger: Embedding | None = None) -> Self:
        """Learn from the defender's clean images; the network is left as it was found.

        Args:
            net: the network found to be attacked.
            x: clean float images (N, C, H, W) in [0, 1], of all classes.
            y: their labels (N,).
            target: the class t that a post-training detector named.
            trigger: the pattern it estimated, or any function from images to images. STRIP needs none.

        Returns:
            itself.

        Raises:
            TypeError, ValueError: images or labels that do not fit, no image of the target, no trigger.
        """
        self.__dict__.pop("threshold_", None)  # a fit that fails half-way leaves no half-fitted detector
        check_fitting_images(net, x, y, target)
        shape = getattr(trigger, "image_shape", tuple(x.shape[1:]))
        if shape != tuple(x.shape[1:]):
            raise ValueError(f"trigger: expected one for images of shape {tuple(x.shape[1:])}, got "
                             f"{shape}; use the pattern estimated on this network")  # fmt: skip
        self.net_, self.target_, self.image_shape_, self.warnings_ = net, target, tuple(x.shape[1:]), ()
        self.threshold_ = self._fit(net, x, y.cpu(), target, trigger)
        return self

    def scores(self, images: Tensor) -> Tensor:
        """How suspicious each image is, whatever it is predicted as, float32 (N,), higher is more.

        Raises:
            NotFittedError, TypeError, ValueError: as `inspect`.
        """
        self._check(images)
        return self._measure(images).scores

    def inspect(self, images: Tensor) -> InspectionReport:
        """Judge images.

        Args:
            images: float (N, C, H, W) in [0, 1].

        Raises:
            NotFittedError: before `fit`.
            TypeError, ValueError: images that are not floats in [0, 1] of the fitted shape.
        """
        self._check(images)
        predicted, scores, inferred = self._measure(images)
        judged = predicted == self.target_
        scores = torch.where(judged, scores, -torch.inf)
        flagged = judged & (scores > self.threshold_)
        source = torch.where(
            flagged, torch.full_like(predicted, NO_SOURCE) if inferred is None else inferred, predicted
        )
        return InspectionReport(flagged, source, scores, predicted, self.target_, self.threshold_, self.warnings_)

    @abstractmethod
    def _fit(self, net: nn.Module, x: Tensor, y: Tensor, target: int, trigger: Embedding | None) -> float:
        """Learn; returns the threshold."""

    @abstractmethod
    def _measure(self, images: Tensor) -> Measured:
        """Predictions and scores of checked images."""

    def _check(self, images: Tensor) -> None:
        if not hasattr(self, "threshold_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit(net, x, y, target=…, trigger=…) first")
        check_images(images)
        if tuple(images.shape[1:]) != self.image_shape_:
            raise ValueError(f"images: expected shape (N, {', '.join(map(str, self.image_shape_))}) as in fit, "
                             f"got {tuple(images.shape)}; resize them")  # fmt: skip

    def _needed(self, trigger: Embedding | None) -> Embedding:
        if trigger is None:
            raise ValueError(f"trigger: {type(self).__name__} expected a pattern, got None; "
                             "pass the one that a post-training detector estimated")  # fmt: skip
        return trigger

    def _threshold_on(self, clean_images: Tensor, fpr: float) -> float:
        """The threshold of a rival: from clean images predicted as the target, the only ones that are judged."""
        clean = self._measure(clean_images)
        judged = clean.scores[clean.predicted == self.target_]
        threshold, warning = threshold_at(judged, fpr)
        self.warnings_ += (warning,) if warning else ()
        return threshold


def check_fitting_images(net: nn.Module, x: Tensor, y: Tensor, target: int) -> None:
    """The one check of a detector's fitting images.

    Raises:
        TypeError, ValueError: see `InFlightDetector.fit`.

    Example:
        >>> import torch
        >>> check_fitting_images(nn.Identity(), torch.rand(1, 1, 2, 2), torch.tensor([0]), target=1)
        Traceback (most recent call last):
        ...
        ValueError: y: expected clean images of the target class 1, got none; add some, or check the target
    """
    check_images(x, name="x")
    if y.shape != x.shape[:1] or y.dtype.is_floating_point or len(y) == 0:
        raise ValueError(f"y: expected one integer label per image and at least one image, got {y.dtype} "
                         f"{tuple(y.shape)} for {len(x)} images; pass matching tensors")  # fmt: skip
    shape, classes = getattr(net, "image_shape", None), getattr(net, "num_classes", None)
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"x: expected images of shape {tuple(shape)} for this network, got {tuple(x.shape[1:])}; "
                         "load the data set at that size")  # fmt: skip
    if classes is not None:
        source_classes("all", target, classes)  # complains about a target that does not exist
        if not 0 <= int(y.min()) <= int(y.max()) < classes:
            raise ValueError(f"y: expected labels in 0…{classes - 1}, got {int(y.min())}…{int(y.max())}; "
                             "use the labels the network was trained on")  # fmt: skip
    if not bool((y == target).any()):
        raise ValueError(f"y: expected clean images of the target class {target}, got none; "
                         "add some, or check the target")  # fmt: skip


def check_rate(name: str, rate: float) -> None:
    """A rate lies strictly between 0 and 1.

    Raises:
        ValueError: it does not.

    Example:
        >>> check_rate("fpr", 0.05)
    """
    if not 0 < rate < 1:
        raise ValueError(f"{name}: expected a rate between 0 and 1, got {rate}; 0.05 is the in-flight paper's")


def threshold_at(clean_scores: Tensor, fpr: float) -> tuple[float, str | None]:
    """The threshold that a new clean score passes with a probability of at most `fpr`, and a warning or None.

    It is the k-th largest of n clean scores with k = ⌊fpr·(n+1)⌋: a new score of the same kind is equally likely
    to fall between any two of them. Reading off the quantile of the n scores themselves promises too much.

    Args:
        clean_scores: (n,), of images that were not fitted to.
        fpr: in (0, 1).

    Raises:
        ValueError: no score, or a rate outside (0, 1).

    Example:
        >>> import torch
        >>> threshold_at(torch.arange(99.0), fpr=0.05)
        (94.0, None)
    """
    check_rate("fpr", fpr)
    count = len(clean_scores)
    if count == 0:
        raise ValueError("x: expected clean images predicted as the target, got none; check target and network")
    rank = int(fpr * (count + 1) + 1e-9)  # 1e-9: 0.29 · 100 must not become 28
    warning = None
    if rank == 0:
        warning = (f"a false-positive rate of {fpr:g} can't be set from {count} clean images of the target: "
                   f"the threshold is their largest score, good for 1/{count + 1}")  # fmt: skip
    ordered = clean_scores.double().sort(descending=True).values
    return float(ordered[max(rank, 1) - 1]), warning
