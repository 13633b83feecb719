"""RED-P, RED-U, RED-A and RED-A': the smallest perturbation that sends images to a class (L-RED, floor 2).

All are one procedure on "problems": a target, some images, and weights over source classes. RED-A has one problem
per class with annealed weights (Algorithm 1), RED-U the same with uniform weights, RED-P one per pair of classes.
Problems share their forward passes.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from btlib.detection.images import DefenseSet, check_classes, defense_set, undisturbed
from btlib.detection.outcome import Detection, Estimate, Estimates, shared_warnings
from btlib.detection.perturbation import FAST, Search, perturb


def red_a(
    network: nn.Module, images: Tensor, labels: Tensor, *, per_class: int | None = 8, search: Search = FAST,
    targets: Sequence[int] | None = None, seed: int = 0, progress: bool = False,
) -> Detection:  # fmt: skip
    """RED-A: annealed weights find source classes and pattern together (L-RED 3, Algorithm 1).

    Args:
        network: images in [0, 1] → logits (N, K); left as it was found.
        images, labels: clean images, uint8 or float in [0, 1], (N, C, H, W), and their classes (N,).
        per_class: images drawn of each class; 8 in the paper, 2 is RED-A'. None: all.
        search: `FAITHFUL` (Algorithm 1, δ = 1e-4), `FAST` (the same limit in about 500 times fewer gradients), or
            `FOCUSED` (not in the paper: also finds one source class that no other class moves with; it needs
            several images of each class).
        targets: putative targets; None: all. With fewer than three the outcome has norms but no p-value.
        seed: of the draw of images.
        progress: show a bar.

    Returns:
        A `Detection`, by default judged by the published p-value at θ = 0.05; weights and Q by iteration are in
        each estimate's `history`.

    Raises:
        TypeError, ValueError: bad images, labels or settings; a class without an image.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["three-sources"])
        >>> red_a(net, data.x_test, data.y_test, per_class=4).verdict().target
        9
    """
    name = ("focused " if search.focused else "") + ("RED-A'" if per_class == 2 else "RED-A")
    return _all_sources(name, True, network, images, labels, per_class, search, targets, seed, progress)


def red_u(
    network: nn.Module, images: Tensor, labels: Tensor, *, per_class: int | None = 8, search: Search = FAST,
    targets: Sequence[int] | None = None, seed: int = 0, progress: bool = False,
) -> Detection:  # fmt: skip
    """RED-U: as RED-A with the weights fixed to uniform, the assumption that all classes are sources (L-RED 4.3).

    Args:
        network, images, labels, per_class, search, targets, seed, progress: as in `red_a`.

    Returns:
        A `Detection`.

    Raises:
        TypeError, ValueError: as in `red_a`.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["chessboard"])
        >>> red_u(net, data.x_test, data.y_test, per_class=4).verdict().target
        9
    """
    return _all_sources("RED-U", False, network, images, labels, per_class, search, targets, seed, progress)


def additive_estimation(
    network: nn.Module, images: Tensor, labels: Tensor, target: int, *, sources: Sequence[int] | None = None,
    search: Search = FAST,
) -> Estimate:  # fmt: skip
    """The perturbation for one class from all images given: L-RED Eq. 2 on the union of the source classes.

    The in-flight paper's detector for chessboards (5.1); a guard is fitted with its `trigger`.

    Args:
        network, images, labels, search: as in `red_a`; every image given is used.
        target: t.
        sources: classes whose images count; None: all but the target.

    Returns:
        An `Estimate`.

    Raises:
        TypeError, ValueError: as in `red_a`; sources without an image.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["chessboard"])
        >>> additive_estimation(net, data.x_test[:200], data.y_test[:200], target=9).success >= 0.9
        True
    """
    data = defense_set(network, images, labels)
    (target,) = check_classes([target], data.classes, "target")
    chosen = check_classes(sources, data.classes, "sources")
    keep = torch.isin(data.labels, torch.tensor(chosen, device=data.labels.device))
    kept = DefenseSet(data.images[keep], data.labels[keep], data.classes)
    with undisturbed(network):
        return perturb(network, kept, [(None, target)], False, search)[0]


def red_p(
    network: nn.Module, images: Tensor, labels: Tensor, *, per_class: int | None = 8, search: Search = FAST,
    seed: int = 0, progress: bool = False,
) -> Detection:  # fmt: skip
    """RED-P: one perturbation for each of the K(K-1) pairs (source, target) (L-RED Eq. 2).

    Args:
        network, images, labels, per_class, search, seed, progress: as in `red_a`.

    Returns:
        A `Detection`; `pairs` has all estimates, `estimates[t]` the smallest that leads to t.

    Raises:
        TypeError, ValueError: as in `red_a`.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> data = datasets.load("fashion-mnist")
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["one-source"])
        >>> len(red_p(net, data.x_test, data.y_test, per_class=1).pairs)
        90
    """
    began = time.perf_counter()
    data = defense_set(network, images, labels, per_class, seed)
    pairs = [(s, t) for t in range(data.classes) for s in range(data.classes) if s != t]
    with undisturbed(network):
        found = perturb(network, data, pairs, False, search, progress)
    best = [min((e for e in found if e.target == t), key=lambda e: e.norm) for t in range(data.classes)]
    seconds, settings = time.perf_counter() - began, _settings(search, per_class, seed)
    return Detection("RED-P", Estimates(best), "published", seconds, settings, tuple(shared_warnings(best)), found)


def _all_sources(
    name: str, annealed: bool, network: nn.Module, images: Tensor, labels: Tensor, per_class: int | None,
    search: Search, targets: Sequence[int] | None, seed: int, progress: bool,
) -> Detection:  # fmt: skip
    began = time.perf_counter()
    data = defense_set(network, images, labels, per_class, seed)
    problems = [(None, t) for t in check_classes(targets, data.classes)]
    with undisturbed(network):
        found = perturb(network, data, problems, annealed, search, progress)
    seconds, settings = time.perf_counter() - began, _settings(search, per_class, seed)
    warnings = shared_warnings(found)
    if annealed and search.focused and int(data.counts.max()) == 1:
        warnings.append("one image of each class: a single misclassified image takes all weight of a focused search; "
                        "give several, or search as printed (FAST)")  # fmt: skip
    return Detection(name, Estimates(found), "published", seconds, settings, tuple(warnings))


def _settings(search: Search, per_class: int | None, seed: int) -> dict[str, float | int | None]:
    return {**asdict(search), "per_class": per_class, "seed": seed}
