"""What is reported about an in-flight detector: TPR, FPR, SIA and the whole ROC curve (in-flight 5.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from btlib.datasets import as_float, as_labels
from btlib.inflight.base import InFlightDetector
from btlib.inflight.checks import Embedding, embedded
from btlib.poisoning import source_classes


@dataclass(frozen=True, eq=False)
class Roc:
    """A receiver operating characteristic: how both rates go as the threshold falls.

    Attributes:
        false_positive_rates, true_positive_rates: ascending, from 0 to 1.
        thresholds: scores at or above one are flagged; descending, the first is infinite.
        auc: area under the curve: how often a trigger scores above a clean image.
    """

    false_positive_rates: np.ndarray
    true_positive_rates: np.ndarray
    thresholds: np.ndarray
    auc: float

    def best_tpr(self, fpr: float = 0.05) -> float:
        """The best TPR at an FPR of at most `fpr` (Table 2: "the best TPR at an FPR of around 5%").

        Raises:
            ValueError: a rate outside [0, 1].
        """
        if not 0 <= fpr <= 1:
            raise ValueError(f"fpr: expected a rate in [0, 1], got {fpr}; 0.05 is the paper's")
        return float(self.true_positive_rates[self.false_positive_rates <= fpr + 1e-12].max())


def roc(clean_scores: Tensor, trigger_scores: Tensor) -> Roc:
    """The ROC of scores that are higher when more suspicious, by scikit-learn.

    Args:
        clean_scores: of clean images, (n,).
        trigger_scores: of triggers, (m,).

    Raises:
        TypeError, ValueError: no tensors, no score on one side, or scores that are not finite.

    Example:
        >>> roc(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])).auc
        1.0
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    for name, scores in (("clean_scores", clean_scores), ("trigger_scores", trigger_scores)):
        if not isinstance(scores, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(scores).__name__}; use torch.as_tensor")
        if len(scores) == 0 or not bool(scores.isfinite().all()):
            raise ValueError(f"{name}: expected at least one score and finite ones only, got {len(scores)}, "
                             f"{int((~scores.isfinite()).sum())} not finite; does the attack work at all?")  # fmt: skip
    every = torch.cat([clean_scores, trigger_scores]).double().numpy()
    truth = np.repeat([0, 1], [len(clean_scores), len(trigger_scores)])
    fpr, tpr, thresholds = roc_curve(truth, every, drop_intermediate=False)
    return Roc(fpr, tpr, thresholds, float(roc_auc_score(truth, every)))


@dataclass(frozen=True, eq=False)
class InFlightRates:
    """How a detector does on images it has not seen; each rate in [0, 1].

    Attributes:
        tpr: flagged among triggers (source-class images with the true pattern, predicted as the target).
        fpr: flagged among clean images of the target class that are predicted as the target.
        fpr_misread: flagged among clean images of other classes that are predicted as the target without any
            trigger. The paper does not count them; NaN where there are none.
        sia: triggers flagged with their true class of origin, among all triggers; NaN from a detector that
            infers none.
        roc: over the images counted in `fpr` and `tpr`.
        clean, triggers: how many images were counted.
    """

    tpr: float
    fpr: float
    fpr_misread: float
    sia: float
    roc: Roc
    clean: int
    triggers: int


def measure_rates(
    detector: InFlightDetector, images: Tensor, labels: Tensor, *, trigger: Embedding,
    sources: str | int | Sequence[int] = "all",
) -> InFlightRates:  # fmt: skip
    """TPR, FPR and SIA of a fitted detector (in-flight 5.2) on images kept apart from those it was fitted to.

    Args:
        detector: fitted.
        images: clean, float in [0, 1] or uint8, (N, C, H, W).
        labels: theirs, any integer dtype, (N,).
        trigger: the attacker's true pattern; the detector knows an estimate at most.
        sources: the attack's source classes.

    Raises:
        NotFittedError: before `fit`.
        TypeError, ValueError: bad images or labels, a trigger that makes no images, no image on one side.

    Example:
        >>> from btlib import checkpoints, datasets, inflight
        >>> spec = checkpoints.shipped()["box"]
        >>> network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> data = datasets.load("fashion-mnist")
        >>> detector = inflight.LikelihoodDetector()
        >>> guard = detector.fit(network, *data.clean_images(50, split="train"), target=9, trigger=trigger)
        >>> measure_rates(guard, *data.clean_images(50), trigger=trigger).tpr > 0.95
        True
    """
    clean = detector.inspect(images)
    images, y, target = as_float(images), as_labels(labels, images), clean.target
    attacked = y != target
    if sources != "all":
        chosen = source_classes(sources, target, max(int(y.max()), target) + 1)
        attacked = torch.isin(y, torch.tensor(chosen))
    stamped = detector.inspect(embedded(trigger, images[attacked.to(images.device)]))
    own = (clean.predicted == target) & (y == target)
    misread = (clean.predicted == target) & (y != target)
    hit = stamped.predicted == target
    curve = roc(clean.scores[own], stamped.scores[hit])
    source, flagged = stamped.source[hit], stamped.is_trigger[hit]
    right = flagged & (source == y[attacked][hit])
    return InFlightRates(
        tpr=_share(flagged), fpr=_share(clean.is_trigger[own]), fpr_misread=_share(clean.is_trigger[misread]),
        sia=_share(right) if detector.infers_source else float("nan"), roc=curve,
        clean=int(own.sum()), triggers=int(hit.sum()),
    )  # fmt: skip


def _share(flags: Tensor) -> float:
    return flags.float().mean().item()  # NaN of none
