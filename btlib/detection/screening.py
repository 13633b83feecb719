"""A short search of all classes, to see which deserve a full one (floor 2)."""

import numpy as np
from torch import Tensor, nn

from btlib.detection.descent import Inversion
from btlib.detection.images import defense_set, undisturbed
from btlib.detection.mask import invert
from btlib.seeds import check_seed

#: A tenth of the gradients of `neural_cleanse.QUICK`, and no look at all images but one.
SHORT = Inversion(
    rounds=30, steps=1, batch_size=16, lr=0.5, decay=True, patience=1, multiplier=1.5, fall=2.6, stop_after=1000,
    check=False,
)  # fmt: skip


def screen(
    network: nn.Module, images: Tensor, labels: Tensor, *, per_class: int = 1, seed: int = 0, progress: bool = False
) -> np.ndarray:
    """How large a mask each class seems to need, by a tenth of Neural Cleanse's search; the order is what counts.

    Args:
        network, images, labels: as in `Detector`.
        per_class: images drawn of each class.
        seed: of the draw, the first mask and the batches.
        progress: show a bar.

    Returns:
        float64 (K,): the mask's size divided by the success it has.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> int(screen(net, data.x_test, data.y_test, per_class=10).argmin())
        9
    """
    seed = check_seed(seed)
    data = defense_set(network, images, labels, per_class, seed)
    with undisturbed(network, data.images[:2]):
        found = invert(network, data, range(data.num_classes), SHORT, annealed=False, seed=seed, progress=progress)
    return np.array([estimate.norm / max(estimate.success, 1e-3) for estimate in found])
