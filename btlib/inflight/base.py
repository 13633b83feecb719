"""What the in-flight detectors share: settings, fitting to a network, and the report they hand out."""

import inspect as inspection
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from btlib.datasets import as_float, as_labels
from btlib.inflight.checks import (
    Embedding,
    Patterns,
    check_like,
    check_target,
    embedded,
    probe,
    threshold_at,
)
from btlib.memory import enough_memory

NO_SOURCE = -1


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

    Settings go into the constructor, which checks them and stores each under its own name; so `repr`, `==` and
    scikit-learn's `clone` work. What `fit` learns ends in an underscore: ``network_``, ``target_``, ``num_classes_``,
    ``image_shape_``, ``threshold_`` and ``warnings_``. A second fit forgets the first, a fit that fails leaves
    nothing, `inspect` changes nothing.

    A detector of your own defines `_fit` and `_measure`; `btlib.testing.check_in_flight_detector` tries it.

    Attributes:
        infers_source: whether `inspect` names the class a trigger comes from; else its source is -1.
    """

    infers_source = False
    network_: nn.Module
    target_: int
    num_classes_: int
    image_shape_: tuple[int, ...]
    threshold_: float
    warnings_: tuple[str, ...]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name, as scikit-learn has it; `deep` changes nothing."""
        return {name: getattr(self, name) for name in inspection.signature(type(self)).parameters}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({settings})"

    def __eq__(self, other: object) -> bool:
        """The same kind with the same settings, fitted or not."""
        return (
            isinstance(other, InFlightDetector)
            and type(self) is type(other)
            and self.get_params() == other.get_params()
        )

    __hash__ = None  # type: ignore[assignment]  # a setting may be changed

    @enough_memory("the fit of a detector")
    def fit(
        self, network: nn.Module, images: Tensor, labels: Tensor, *, target: int,
        trigger: Patterns | None = None,
    ) -> Self:  # fmt: skip
        """Learn from the defender's clean images; the network is left as it was found.

        Args:
            network: the one found to be attacked: images in [0, 1] → logits (N, K).
            images: clean, float in [0, 1] or uint8, (N, C, H, W), of all classes.
            labels: theirs, any integer dtype, (N,).
            target: the class t that a post-training detector named.
            trigger: the pattern it estimated, or any function from images to images. STRIP needs none, and
                `LikelihoodDetector` takes several estimates as well.

        Returns:
            itself.

        Raises:
            TypeError, ValueError: images, labels or a network that do not fit, no image of the target, no trigger, or
                several where one is wanted.
        """
        self._forget()
        try:
            images = as_float(images)
            self.num_classes_, doubts = probe(network, images)
            labels = as_labels(labels, images, self.num_classes_)
            self.target_ = check_target(target, labels, self.num_classes_)
            self.network_, self.image_shape_, self.warnings_ = network, tuple(images.shape[1:]), doubts
            # Several patterns are refused by whoever embeds one.
            threshold = self._fit(images, labels, cast(Embedding | None, trigger))
            if math.isnan(threshold):
                raise ValueError("network: expected finite scores of the clean images, got NaN; check its weights")
            self.threshold_ = threshold
        except BaseException:
            self._forget()
            raise
        return self

    def scores(self, images: Tensor) -> Tensor:
        """How suspicious each image is, whatever it is predicted as, float32 (N,), higher is more.

        Raises:
            NotFittedError, TypeError, ValueError: as `inspect`.
        """
        images = self._checked(images)
        return _sound(self._score(images)) if len(images) else torch.zeros(0)

    @enough_memory("the inspection of images")
    def inspect(self, images: Tensor) -> InspectionReport:
        """Judge images.

        Args:
            images: float in [0, 1] or uint8, (N, C, H, W).

        Raises:
            NotFittedError: before `fit`.
            TypeError, ValueError: images that are neither uint8 nor floats in [0, 1], or not of the fitted shape;
                a network that gives NaN.
        """
        images = self._checked(images)
        nothing = Measured(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        predicted, scores, inferred = self._measure(images) if len(images) else nothing
        judged = predicted == self.target_
        scores = torch.where(judged, _sound(scores), -torch.inf)
        flagged = judged & (scores > self.threshold_)
        source = torch.where(
            flagged, torch.full_like(predicted, NO_SOURCE) if inferred is None else inferred, predicted
        )
        return InspectionReport(flagged, source, scores, predicted, self.target_, self.threshold_, self.warnings_)

    @abstractmethod
    def _fit(self, images: Tensor, labels: Tensor, trigger: Embedding | None) -> float:
        """Learn; returns the threshold.

        Images are float, labels int64 on the CPU, all of it checked. ``network_``, ``target_``, ``num_classes_`` and
        ``image_shape_`` are there already; what speaks against the fit is added to ``warnings_``.
        """

    @abstractmethod
    def _measure(self, images: Tensor) -> Measured:
        """Predictions and scores of checked images, at least one."""

    def _score(self, images: Tensor) -> Tensor:
        return self._measure(images).scores

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _checked(self, images: Tensor) -> Tensor:
        if not hasattr(self, "threshold_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(f"{type(self).__name__} is not fitted; "
                                 "call fit(network, images, labels, target=…, trigger=…) first")  # fmt: skip
        return check_like(images, self.image_shape_)

    def _embedded(self, trigger: Embedding | None, images: Tensor) -> Tensor:
        return embedded(trigger, images, who=type(self).__name__)

    def _threshold_on(self, clean_images: Tensor, fpr: float) -> float:
        """The threshold of a rival: from clean images predicted as the target, the only ones that are judged."""
        clean = self._measure(clean_images)
        judged = clean.scores[clean.predicted == self.target_]
        threshold, warning = threshold_at(_sound(judged), fpr)
        self.warnings_ += (warning,) if warning else ()
        return threshold


def _sound(scores: Tensor) -> Tensor:
    """Scores without NaN, which no threshold would ever flag."""
    if bool(scores.isnan().any()):
        raise ValueError(f"network: expected a score for every image, got NaN for {int(scores.isnan().sum())} of "
                         f"{len(scores)}; check its weights")  # fmt: skip
    return scores
