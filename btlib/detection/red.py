"""RED-P, RED-U, RED-A and RED-A': the smallest perturbation that sends images to a class (L-RED, floor 2).

All are one procedure on "problems": a target, some images, and weights over source classes. RED-A has one problem
per class with annealed weights (Algorithm 1), RED-U the same with uniform weights, RED-P one per pair of classes.
Problems share their forward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from btlib.detection.costs import Passes
from btlib.detection.detector import Detector
from btlib.detection.images import DefenseSet, check_classes, defense_set, undisturbed
from btlib.detection.outcome import Detection, Estimate
from btlib.detection.perturbation import FAST, USUAL_NORM, Problem, Search, perturb
from btlib.detection.verdict import Rule


@dataclass(frozen=True, kw_only=True)
class _PerturbationDetector(Detector):
    per_class: int | None = 8
    search: Search = FAST
    rule: ClassVar[Rule] = "published"
    size_name = "length of the perturbation"
    _annealed: ClassVar[bool] = False

    def _problems(self, data: DefenseSet, targets: Sequence[int]) -> list[Problem]:
        return [(None, t) for t in targets]

    def _estimate(self, network: nn.Module, data: DefenseSet, targets: Sequence[int]) -> list[Estimate]:
        return perturb(network, data, self._problems(data, targets), self._annealed, self.search, self.progress)

    def passes(self, images: int, num_classes: int, targets: int) -> Passes:
        """As in `Detector`, for perturbations of a usual length."""
        each = targets * images * (num_classes - 1) / num_classes  # by one problem for each target or by K - 1
        return Passes(each * USUAL_NORM / self.search.delta, each * self.search.bisections)


@dataclass(frozen=True, kw_only=True)
class RedA(_PerturbationDetector):
    """RED-A: annealed weights find source classes and pattern together (L-RED 3, Algorithm 1).

    By default judged by the published p-value at θ = 0.05; weights and Q by iteration are in each estimate's `history`.

    Attributes:
        per_class: images drawn of each class; 8 in the paper, 2 is RED-A'. None: all.
        search: `FAITHFUL` (Algorithm 1, δ = 1e-4), `FAST` (the same limit in about 500 times fewer gradients), or
            `FOCUSED` (not in the paper: also finds one source class that no other class moves with; it needs
            several images of each class).
        seed, progress: as in `Detector`.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["three-sources"])
        >>> RedA(per_class=4)(net, data.x_test, data.y_test).verdict().target
        9
    """

    _annealed = True

    @property
    def title(self) -> str:
        """RED-A or RED-A', focused or not."""
        return ("focused " if self.search.focused else "") + ("RED-A'" if self.per_class == 2 else "RED-A")

    def _warnings(self, data: DefenseSet) -> list[str]:
        if not self.search.focused or int(data.counts.max()) > 1:
            return []
        return ["one image of each class: a single misclassified image takes all weight of a focused search; "
                "give several, or search as printed (FAST)"]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RedU(_PerturbationDetector):
    """RED-U: as RED-A with the weights fixed to uniform, the assumption that all classes are sources (L-RED 4.3).

    Attributes:
        per_class, search, seed, progress: as in `RedA`.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["chessboard"])
        >>> RedU(per_class=4)(net, data.x_test, data.y_test).verdict().target
        9
    """

    title = "RED-U"


@dataclass(frozen=True, kw_only=True)
class RedP(_PerturbationDetector):
    """RED-P: one perturbation for each of the K(K-1) pairs (source, target) (L-RED Eq. 2).

    `Detection.pairs` has all estimates, `estimates[t]` the smallest that leads to t.

    Attributes:
        per_class, search, seed, progress: as in `RedA`.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["one-source"])
        >>> len(RedP(per_class=1)(net, data.x_test, data.y_test).pairs)
        90
    """

    title = "RED-P"
    by_pairs = True

    def _problems(self, data: DefenseSet, targets: Sequence[int]) -> list[Problem]:
        return [(s, t) for t in targets for s in range(data.num_classes) if s != t and data.counts[s]]


def red_a(
    network: nn.Module, images: Tensor, labels: Tensor, *, targets: Sequence[int] | None = None, **settings: Any
) -> Detection:
    """`RedA(**settings)`, called: see there and in `Detector`."""
    return RedA(**settings)(network, images, labels, targets=targets)


def red_u(
    network: nn.Module, images: Tensor, labels: Tensor, *, targets: Sequence[int] | None = None, **settings: Any
) -> Detection:
    """`RedU(**settings)`, called: see there and in `Detector`."""
    return RedU(**settings)(network, images, labels, targets=targets)


def red_p(
    network: nn.Module, images: Tensor, labels: Tensor, *, targets: Sequence[int] | None = None, **settings: Any
) -> Detection:
    """`RedP(**settings)`, called: see there and in `Detector`."""
    return RedP(**settings)(network, images, labels, targets=targets)


def additive_estimation(
    network: nn.Module, images: Tensor, labels: Tensor, target: int, *, sources: Sequence[int] | None = None,
    search: Search = FAST,
) -> Estimate:  # fmt: skip
    """The perturbation for one class from all images given: L-RED Eq. 2 on the union of the source classes.

    The in-flight paper's detector for chessboards (5.1); a guard is fitted with its `trigger`.

    Args:
        network, images, labels: as in `Detector`; every image given is used.
        target: t.
        sources: classes whose images count; None: all but the target.
        search: as in `RedA`.

    Returns:
        An `Estimate`.

    Raises:
        TypeError, ValueError: as in `Detector`; sources without an image.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["chessboard"])
        >>> additive_estimation(net, data.x_test[:200], data.y_test[:200], target=9).success >= 0.9
        True
    """
    data = defense_set(network, images, labels)
    (target,) = check_classes([target], data.num_classes, "target")
    kept = data.of_classes(sources)
    with undisturbed(network, kept.images[:2]):
        return perturb(network, kept, [(None, target)], False, search)[0]
