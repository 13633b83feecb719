"""Searching some of very many classes: which, and what their sizes say of all K (floor 2).

Plain numbers in and out. A short search of all classes ranks them (`screening`). The contenders, those with the
smallest patterns, are searched in full, and beside them a sample of the others: the null that they stand out from.
"""

from functools import lru_cache

import numpy as np

from btlib.detection.gamma import gamma_fit, ratios, shape_of_ratios

_DRAWS = 1_999


def choose(sizes: np.ndarray, contenders: int, others: int, seed: int = 0) -> list[int]:
    """The classes to search: those of the smallest size, and a sample of the rest.

    Args:
        sizes: float (K,), of the patterns of a short search.
        contenders: how many of the smallest.
        others: how many of the rest, drawn without replacement.
        seed: of the sample.

    Returns:
        classes, ascending; all of them where fewer are left than wished.

    Example:
        >>> choose(np.array([5.0, 1.0, 4.0, 9.0, 7.0]), contenders=2, others=9)
        [0, 1, 2, 3, 4]
        >>> 1 in choose(np.array([5.0, 1.0, 4.0, 9.0, 7.0]), contenders=1, others=2)
        True
    """
    order = np.argsort(sizes, kind="stable")
    rest = np.random.default_rng(seed).permutation(order[contenders:])[:others]
    return sorted(int(c) for c in (*order[:contenders], *rest))


def selected_p(
    statistics: np.ndarray, classes: int, contenders: int, draws: int = _DRAWS, seed: int = 0, *, references: int = 0
) -> float:
    """The p-value of the largest statistic among classes that were chosen by `choose`, by Monte Carlo.

    How far log r of the largest lies above those that were drawn at random, in their standard deviations; the null
    does the same to K Gamma variables (or their ratios to references) of which some are chosen. Their logarithms are
    nearly a location-scale family, so that the null hardly depends on the shape. (`anomaly.calibrated_p` would fit the
    other contenders too, and take the largest of K for that of a few.) It takes the short search for a perfect
    ranking; where it ranks by chance, the level is lower than said.

    Args:
        statistics: r_t = 1 / norm, float (T,), of the classes that were searched.
        classes: K, among which they were chosen.
        contenders: how many of them were chosen for their small patterns.
        draws, seed, references: as in `anomaly.calibrated_p`.

    Returns:
        p-value in (0, 1].

    Example:
        >>> r = np.array([1.0, 1.1, 0.9, 1.2, 0.8, 1.05, 1.3, 1.7])
        >>> selected_p(r, classes=200, contenders=2) > selected_p(r, classes=9, contenders=2)
        True
    """
    r = np.sort(np.asarray(statistics, dtype=float))
    others = len(r) - contenders
    shape = float(gamma_fit(r[:others])[0])
    wide = shape_of_ratios(shape, others, references) if references else shape
    null = _null(classes, contenders, others, round(float(np.log(wide)), 1), draws, seed=seed, references=references)
    return float((1 + (null >= _ahead(r[-1], r[:others])).sum()) / (draws + 1))


def _ahead(largest: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(log largest - mean log others) / their standard deviation, along the last axis."""
    logs = np.log(others)
    ahead: np.ndarray = (np.log(largest) - logs.mean(-1)) / logs.std(-1)
    return ahead


@lru_cache(maxsize=16)
def _null(
    classes: int, contenders: int, others: int, log_shape: float, draws: int, *, seed: int, references: int
) -> np.ndarray:
    """How far the largest of K is ahead of some that are not among the largest, (draws,)."""
    r = ratios((draws, classes), float(np.exp(log_shape)), references, np.random.default_rng(seed))
    least = np.partition(r, classes - contenders, axis=1)[:, classes - contenders, None]  # of the contenders
    rest = np.argsort(r >= least, axis=1, kind="stable")[:, :others]  # these are in no order
    return _ahead(r.max(1), np.take_along_axis(r, rest, 1))
