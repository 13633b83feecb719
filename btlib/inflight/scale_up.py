"""SCALE-UP: brighten the image again and again; a trigger's prediction does not move (Guo et al. 2023)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from btlib.datasets import as_float
from btlib.inflight.base import InFlightDetector, Measured
from btlib.inflight.checks import Embedding, check_rate
from btlib.metrics import predict
from btlib.metrics.prediction import logits_of

FACTORS = (3, 5, 7, 9, 11)  # the paper's set S


class ScaleUpDetector(InFlightDetector):
    """An image that keeps its class however often its pixels are multiplied is suspicious.

    Guo et al., "SCALE-UP", ICLR 2023. The score is the scaled prediction consistency (`scaled_consistency`). The
    data-free form flags what is above a fixed threshold; the data-limited one asks how consistent clean images of the
    same class are. Its standardisation by their mean and deviation keeps the order within a class, and only one class
    is judged here, so that form is a threshold set from clean images of the target.

    Args:
        factors: by which pixels are multiplied, above 1.
        threshold: in [0, 1), of the data-free form (public code: 0.5); None: the data-limited form.
        fpr: false-positive rate on clean images predicted as the target that sets the threshold where that is None.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> network = checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> images, labels = datasets.load("fashion-mnist").clean_images(10)
        >>> boots = images[labels == 9]
        >>> ScaleUpDetector().fit(network, images, labels, target=9).scores(boots).mean().item() > 0.9
        True
    """

    def __init__(
        self, factors: Sequence[float] = FACTORS, *, threshold: float | None = None, fpr: float = 0.05
    ) -> None:  # fmt: skip
        _check_factors(factors)
        if threshold is not None and not 0 <= threshold < 1:
            raise ValueError(f"threshold: expected a share in [0, 1), got {threshold}; 0.5 is the public code's")
        check_rate("fpr", fpr)
        self.factors, self.threshold, self.fpr = factors, threshold, fpr

    def _fit(self, images: Tensor, labels: Tensor, trigger: Embedding | None) -> float:
        if self.threshold is not None:
            return self.threshold
        return self._threshold_on(images[(labels == self.target_).to(images.device)], self.fpr)

    def _measure(self, images: Tensor) -> Measured:
        predicted = predict(self.network_, images).argmax(1)
        return Measured(predicted, _consistency(self.network_, images, predicted, self.factors))


def scaled_consistency(network: nn.Module, images: Tensor, factors: Sequence[float] = FACTORS) -> Tensor:
    """SPC: the share of factors n for which ``min(n·x, 1)`` is given the same class as x (SCALE-UP, Section 4).

    Args:
        network: images in [0, 1] → logits (N, K).
        images: float in [0, 1] or uint8, (N, C, H, W).
        factors: above 1; pixels are cut off at white.

    Returns:
        float32 (N,) in [0, 1], on the CPU.

    Raises:
        TypeError, ValueError: bad images or factors, a network that gives no logits.

    Example:
        >>> dark_or_bright = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
        >>> _ = dark_or_bright[1].weight.data.copy_(torch.tensor([[0.5], [1.0]]))
        >>> scaled_consistency(dark_or_bright, torch.tensor([[[[0.2]]]]))
        tensor([1.])
    """
    _check_factors(factors)
    images = as_float(images)
    if len(images):
        logits_of(network, images[:1])
    return _consistency(network, images, predict(network, images).argmax(1), factors)


def _consistency(network: nn.Module, images: Tensor, predicted: Tensor, factors: Sequence[float]) -> Tensor:
    kept = torch.zeros(len(images))
    for factor in factors:
        kept += predict(network, (images * factor).clamp(max=1)).argmax(1) == predicted
    return kept / len(factors)


def _check_factors(factors: Sequence[float]) -> None:
    if len(factors) == 0 or not all(factor > 1 for factor in factors):
        raise ValueError(f"factors: expected one or more above 1, got {factors!r}; (3, 5, 7, 9, 11) are the paper's")
