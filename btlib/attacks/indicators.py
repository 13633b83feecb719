"""The six indicators of an attack: one column of the stealthy attack's Table 1 (floor 4)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from btlib import detection, metrics
from btlib.attacks.outcome import cross
from btlib.datasets import ImageDataset, sample_per_class, to_float
from btlib.inflight import blend_entropy
from btlib.inflight.checks import embedded
from btlib.networks import Network
from btlib.seeds import generator


@dataclass(frozen=True)
class Indicators:
    """One attack by the six indicators of 3.2.

    Attributes:
        bma, baseline: accuracy of the backdoored and of the clean network, in [0, 1].
        asr: attack success rate, images of the target class left out, in [0, 1].
        psnr: of triggered against clean images, dB. Those that the trigger leaves as they were, such as white ones
            under a white box, have no finite one and are left out; inf where all are so.
        ssim: the same, in [-1, 1].
        cbma: accuracy on images of the other classes with a pattern made for another image, in [0, 1]; for a fixed
            pattern every image has the same one, so it is the accuracy on triggered images.
        anomaly_index: Neural Cleanse's, of the target class; negative when its mask is larger than the median.
        flagged: the class that Neural Cleanse flags (index > 2), or None.
        mask_norm, other_mask_norm: ‖m‖₁ of the target class, and the median of the other classes.
        entropy_ratio: STRIP's mean entropy of triggered images over that of clean ones, images and overlays added as in
            its public code (docs/choices.md).
        entropy_ratio_halved: the same with blends of one half each (in-flight 5.2), which halve the trigger too.
    """

    bma: float
    baseline: float
    asr: float
    psnr: float
    ssim: float
    cbma: float
    anomaly_index: float
    flagged: int | None
    mask_norm: float
    other_mask_norm: float
    entropy_ratio: float
    entropy_ratio_halved: float


def indicators(
    network: Network, trigger: Callable[[Tensor], Tensor], data: ImageDataset, target: int, *, baseline: float,
    images: int = 2000, per_class: int = 100, overlays: int = 100, inversion: detection.Inversion = detection.QUICK,
    seed: int = 0,
) -> Indicators:  # fmt: skip
    """Measure the six indicators on the test images (stealthy attack 3.2, Table 1).

    Args:
        network: the backdoored classifier.
        trigger: images in, triggered images out: a fixed `Trigger`, or one with ``crossed(images, others)``.
        data: clean images; only the test part is used.
        target: y*.
        baseline: accuracy of the clean network.
        images: test images for invisibility and entropy (the paper shows 2,000); accuracies are of all.
        per_class: clean images of each class for Neural Cleanse.
        overlays: STRIP's N.
        inversion: Neural Cleanse's settings.
        seed: of every draw.

    Returns:
        `Indicators`.

    Raises:
        ValueError: a target that does not exist.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data, net = datasets.load("fashion-mnist"), checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> box = checkpoints.shipped()["box"].make_trigger()
        >>> quick = detection.Inversion(2, 1, 8, 0.1)
        >>> indicators(net, box, data, 9, baseline=0.9, images=50, per_class=2, overlays=5, inversion=quick).asr > 0.9
        True
    """
    draws = generator(seed)
    chosen = torch.randperm(len(data.y_test), generator=draws)
    chosen = chosen[data.y_test[chosen] != target]
    x = to_float(data.x_test[chosen[:images]])
    stamped = embedded(trigger, x)
    moved = (stamped != x).flatten(1).any(1)
    every = sample_per_class(data.y_test, -(-overlays // data.num_classes), range(data.num_classes), seed=seed)
    every = every[torch.randperm(len(every), generator=draws)[:overlays]]  # 43 classes: some lose one, none all
    over = to_float(data.x_test[every])
    found = detection.neural_cleanse(
        network, data.x_test, data.y_test, per_class=per_class, inversion=inversion, seed=seed
    )
    others = torch.arange(data.num_classes) != target
    everything = to_float(data.x_test)

    def entropy_ratio(weight: float | None) -> float:
        triggered, clean = (blend_entropy(network, images, over, weight).mean() for images in (stamped, x))
        return float(triggered / clean)

    return Indicators(
        bma=metrics.accuracy(network, everything, data.y_test), baseline=baseline,
        asr=metrics.attack_success_rate(network, trigger, everything, data.y_test, target),
        psnr=metrics.psnr(x[moved], stamped[moved]) if bool(moved.any()) else math.inf, ssim=metrics.ssim(x, stamped),
        cbma=metrics.accuracy(network, cross(trigger, to_float(data.x_test[chosen])), data.y_test[chosen]),
        anomaly_index=float(found.anomaly_index[target]), flagged=found.verdict().target,
        mask_norm=float(found.norms[target]), other_mask_norm=float(np.median(found.norms[others.numpy()])),
        entropy_ratio=entropy_ratio(None), entropy_ratio_halved=entropy_ratio(0.5),
    )  # fmt: skip
