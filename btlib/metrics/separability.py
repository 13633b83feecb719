"""Whether triggers lie among the target's clean images in feature space: what latent-space defences rest on."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from btlib.datasets import as_float, as_labels
from btlib.metrics.prediction import logits_of, predict
from btlib.metrics.success import embedded
from btlib.poisoning import source_classes


def separability(
    network: nn.Module, trigger: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, target: int,
    sources: str | int | Sequence[int] | None = None, *, layer: str = "penultimate",
) -> float:  # fmt: skip
    """How well a line tells triggers from the target's clean images by their features: .5 not at all, 1 wholly.

    "Latent separability" (Qi et al. 2023), as the area under the ROC curve of a linear discriminant with shrunken
    covariance, cross-validated five times. Only images that the network calls the target count, on both sides: others
    are no success, and a guard never sees them.

    Args:
        network: the classifier, with ``features(images, layer)``.
        trigger: images in, triggered images out.
        images: clean float or uint8 images (N, C, H, W).
        labels: true classes (N,).
        target: t*.
        sources: S*; None or ``"all"``: every class but the target.
        layer: whose features.

    Returns:
        a number in [0, 1]; NaN where fewer than ten images of either kind are called the target.

    Raises:
        TypeError, ValueError: images, labels, target, sources or a trigger that do not fit, a network without features.

    Example:
        >>> from btlib import networks, triggers
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3, seed=0)
        >>> x, y = torch.rand(9, 1, 28, 28), torch.arange(9) % 3
        >>> separability(net, triggers.box((1, 28, 28)), x, y, target=2)
        nan
    """
    images = as_float(images)
    if not hasattr(network, "features"):
        raise TypeError(f"network: expected one with features(images, layer), got {type(network).__name__}; "
                        "give it that method, see networks.Network")  # fmt: skip
    classes = logits_of(network, images[:1])[0].shape[1]
    labels = as_labels(labels, images, classes)
    attacked = torch.isin(labels, torch.tensor(source_classes(sources, target, classes), device=labels.device))
    kinds = [_called(network, kind, target) for kind in (embedded(trigger, images[attacked]), images[labels == target])]
    if min(len(kind) for kind in kinds) < 10:
        return float("nan")
    return _auc(*(predict(network, kind, layer=layer).double().numpy() for kind in kinds))


def _called(network: nn.Module, images: Tensor, target: int) -> Tensor:
    """Those images that the network calls the target."""
    return images[predict(network, images).argmax(1) == target] if len(images) else images


def _auc(triggers: np.ndarray, clean: np.ndarray) -> float:
    """Area under the ROC curve of a linear discriminant that has not seen the rows it judges."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows, truth = np.concatenate([triggers, clean]), np.repeat([1, 0], [len(triggers), len(clean)])
    line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(roc_auc_score(truth, cross_val_predict(line, rows, truth, cv=folds, method="decision_function")))
