"""Neural Cleanse, and RED-A for patches: a mask and a pattern per class, then an outlier test (floor 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from btlib.detection.costs import Passes
from btlib.detection.descent import Inversion
from btlib.detection.detector import Detector
from btlib.detection.images import DefenseSet
from btlib.detection.mask import HARD, invert
from btlib.detection.outcome import Detection, Estimate
from btlib.detection.verdict import Rule

#: After the public implementation, shortened (docs/choices.md): 30 passes over the images for each class.
PUBLIC = Inversion(rounds=30, steps=None, batch_size=64, lr=0.1)
#: The same minimum from many small noisy steps, λ moved at each of them, and one exact correction at the end.
QUICK = Inversion(
    rounds=150, steps=1, batch_size=32, lr=0.2, decay=True, patience=1, multiplier=1.15, fall=2.6, stop_after=1000,
    check=False, bisections=6,
)  # fmt: skip
#: For one pair of classes: its images are alike, and fewer steps of fewer images do.
PAIRS = replace(QUICK, rounds=100, batch_size=8, multiplier=1.2)


@dataclass(frozen=True, kw_only=True)
class _MaskDetector(Detector):
    per_class: int | None = 100
    inversion: Inversion = QUICK
    size_name = "size of the mask [pixels]"
    _annealed: ClassVar[bool]

    def _estimate(self, network: nn.Module, data: DefenseSet, targets: Sequence[int]) -> list[Estimate]:
        return invert(
            network, data, targets, self.inversion, annealed=self._annealed, seed=self.seed, progress=self.progress
        )

    def passes(self, images: int, num_classes: int, targets: int) -> Passes:
        """As in `Detector`: all steps and looks; early stops are not foreseen."""
        told, batches = self.inversion, -(-images // self.inversion.batch_size)  # the last of a pass may be smaller
        whole, rest = divmod(told.rounds * (told.steps or batches), batches)
        full = told.rounds * told.check + (2 if told.bisections else 1)
        looks = images * full + HARD * images * max(0, told.bisections - 1)
        return Passes(targets * (whole * images + min(images, rest * told.batch_size)), targets * looks)


@dataclass(frozen=True, kw_only=True)
class NeuralCleanse(_MaskDetector):
    """Neural Cleanse: the smallest mask that sends all images to a class (stealthy attack Eq. 5 and 6).

    By default judged by the anomaly index at 2.

    Attributes:
        per_class, seed, progress: as in `Detector`; the seed is also that of the first mask and of the batches.
        inversion: `QUICK`, or `PUBLIC` for nearly the public implementation's settings.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> NeuralCleanse(per_class=20)(net, data.x_test, data.y_test).verdict().target
        9
    """

    rule: ClassVar[Rule] = "mad"
    title = "Neural Cleanse"
    _annealed = False


@dataclass(frozen=True, kw_only=True)
class MaskRedA(_MaskDetector):
    """RED-A for perceptible backdoors: Neural Cleanse's mask (L-RED Eq. 12 and 13) with the weights of Eq. 7 and 8.

    The paper leaves this as future work (A.3). Here λ shrinks the mask while Q_t(w), the weighted success, stays at
    the wished rate; classes that the patch no longer moves lose their weight (`history` has the weights).

    By default judged by the calibrated p-value at 0.05: the norms of the other classes spread too widely for the
    anomaly index, which misses attacks that the p-value finds.

    Attributes:
        per_class, inversion, seed, progress: as in `NeuralCleanse`.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> MaskRedA(per_class=20)(net, data.x_test, data.y_test).suspect
        9
    """

    title = "mask RED-A"
    _annealed = True


@dataclass(frozen=True, kw_only=True)
class MaskRedP(_MaskDetector):
    """RED-P for patches: the smallest mask for each of the K(K-1) pairs (L-RED Eq. 2 with the mask of A.3).

    Not in the papers. `Detection.pairs` has all estimates. Alone it is judged as RED-P; beside clean networks
    (`Detection.against`) by pairs, which finds triggers of two sources that spread to no other class (`few_sources`).

    Attributes:
        per_class, inversion, seed, progress: as in `NeuralCleanse`.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> from btlib.detection import Inversion
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["one-source"])
        >>> short = Inversion(rounds=2, steps=1, batch_size=4, lr=0.2)
        >>> len(MaskRedP(per_class=4, inversion=short)(net, data.x_test, data.y_test).pairs)
        90
    """

    per_class: int | None = 20
    inversion: Inversion = PAIRS
    title = "mask RED-P"
    by_pairs = True
    _annealed = False

    def _estimate(self, network: nn.Module, data: DefenseSet, targets: Sequence[int]) -> list[Estimate]:
        found = []
        for source in data.labels.unique().tolist():
            others, images = [t for t in targets if t != source], data.of_classes([source])
            estimates = invert(network, images, others, self.inversion, annealed=False, seed=self.seed,
                               progress=self.progress)  # fmt: skip
            found += [replace(estimate, source=source) for estimate in estimates]
        return found

    def passes(self, images: int, num_classes: int, targets: int) -> Passes:
        """As in `Detector`: each source's images, for all other targets."""
        one = super().passes(-(-images // num_classes), 2, targets)
        return Passes(num_classes * one.gradients, num_classes * one.looks)


def neural_cleanse(
    network: nn.Module, images: Tensor, labels: Tensor, *, targets: Sequence[int] | None = None, **settings: Any
) -> Detection:
    """`NeuralCleanse(**settings)`, called: see there and in `Detector`."""
    return NeuralCleanse(**settings)(network, images, labels, targets=targets)


def mask_red_a(
    network: nn.Module, images: Tensor, labels: Tensor, *, targets: Sequence[int] | None = None, **settings: Any
) -> Detection:
    """`MaskRedA(**settings)`, called: see there and in `Detector`."""
    return MaskRedA(**settings)(network, images, labels, targets=targets)
