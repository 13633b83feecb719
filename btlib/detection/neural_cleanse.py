"""Neural Cleanse, and RED-A for patches: a mask and a pattern per class, then an outlier test (floor 2)."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from torch import Tensor, nn

from btlib.detection.descent import Inversion
from btlib.detection.images import check_classes, defense_set, undisturbed
from btlib.detection.mask import invert
from btlib.detection.outcome import Detection, Estimates, Rule, shared_warnings

#: After the public implementation, shortened (docs/choices.md): 30 passes over the images for each class.
PUBLIC = Inversion(rounds=30, steps=None, batch_size=64, lr=0.1)
#: The same minimum from many small noisy steps, λ moved at each of them, and one exact correction at the end.
QUICK = Inversion(
    rounds=150, steps=1, batch_size=32, lr=0.2, decay=True, patience=1, multiplier=1.15, fall=2.6, stop_after=1000,
    check=False, bisections=6,
)  # fmt: skip


def neural_cleanse(
    network: nn.Module, images: Tensor, labels: Tensor, *, per_class: int | None = 100, inversion: Inversion = QUICK,
    targets: Sequence[int] | None = None, seed: int = 0, progress: bool = False,
) -> Detection:  # fmt: skip
    """Neural Cleanse: the smallest mask that sends all images to a class (stealthy attack Eq. 5 and 6).

    Args:
        network: images in [0, 1] → logits (N, K); left as it was found.
        images, labels: clean images, uint8 or float in [0, 1], (N, C, H, W), and their classes (N,).
        per_class: images drawn of each class; None: all.
        inversion: `QUICK`, or `PUBLIC` for nearly the public implementation's settings.
        targets: putative targets; None: all.
        seed: of the draw of images, the first mask and the batches.
        progress: show a bar.

    Returns:
        A `Detection`, by default judged by the anomaly index at 2.

    Raises:
        TypeError, ValueError: bad images, labels or settings; a class without an image.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> neural_cleanse(net, data.x_test, data.y_test).verdict().target
        9
    """
    return _masks(
        "Neural Cleanse", False, "mad", network, images, labels, per_class, inversion, targets, seed, progress
    )


def red_a_mask(
    network: nn.Module, images: Tensor, labels: Tensor, *, per_class: int | None = 100, inversion: Inversion = QUICK,
    targets: Sequence[int] | None = None, seed: int = 0, progress: bool = False,
) -> Detection:  # fmt: skip
    """RED-A for perceptible backdoors: Neural Cleanse's mask (L-RED Eq. 12 and 13) with the weights of Eq. 7 and 8.

    The paper leaves this as future work (A.3). Here λ shrinks the mask while Q_t(w), the weighted success, stays at
    the wished rate; classes that the patch no longer moves lose their weight.

    Args:
        network, images, labels, per_class, inversion, targets, seed, progress: as in `neural_cleanse`.

    Returns:
        A `Detection`, by default judged by the calibrated p-value at 0.05: the norms of the other classes spread too
        widely for the anomaly index, which misses attacks that the p-value finds. Weights are in `history`.

    Raises:
        TypeError, ValueError: as in `neural_cleanse`.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> red_a_mask(net, data.x_test, data.y_test).suspect
        9
    """
    return _masks(
        "mask RED-A", True, "calibrated", network, images, labels, per_class, inversion, targets, seed, progress
    )


def _masks(
    name: str, annealed: bool, rule: Rule, network: nn.Module, images: Tensor, labels: Tensor, per_class: int | None,
    inversion: Inversion, targets: Sequence[int] | None, seed: int, progress: bool,
) -> Detection:  # fmt: skip
    began = time.perf_counter()
    data = defense_set(network, images, labels, per_class, seed)
    wanted = check_classes(targets, data.classes)
    with undisturbed(network):
        found = invert(network, data, wanted, inversion, annealed=annealed, seed=seed, progress=progress)
    settings = {**asdict(inversion), "per_class": per_class, "seed": seed}
    seconds = time.perf_counter() - began
    return Detection(name, Estimates(found), rule, seconds, settings, tuple(shared_warnings(found)))
