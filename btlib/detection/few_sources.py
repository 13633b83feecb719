"""Few sources, from pairs of classes beside clean networks: which target has two sources that are too easy (floor 2).

Not in the papers. A trigger for two source classes, with images of the others that carry it and keep their label,
moves two of K(K-1) pairs, and no size by class shows it. Similar classes are easy pairs by nature (a boot and a
sneaker), which hides them among the pairs of one network; beside a clean network of the same task they stand out.
Plain numbers in and out.
"""

from functools import lru_cache

import numpy as np

SOURCES = 2  # the easiest ones of each class that are looked at
_FREEDOM = 6  # of Student's t: an excess kurtosis of 3, the largest seen between clean networks (docs/choices.md)
_DRAWS = 1_999


def residuals(norms: np.ndarray, references: np.ndarray) -> np.ndarray:
    """What is left of log(norm / reference) without what is usual for its source and for its target.

    Both are taken out by means and then by medians in turn (Tukey's median polish): a few pairs do not move them, but a
    class that all others reach easily does. That is what the sizes by class are for.

    Args:
        norms: positive float (K, K) by source and target, NaN where both are one class.
        references: likewise, (m, K, K), of clean networks.

    Returns:
        float64 (K, K), NaN where both are one class.

    Raises:
        ValueError: other shapes, fewer than four classes, a pair without a norm that is finite and positive.

    Example:
        >>> easy = np.full((5, 5), 40.0)
        >>> np.fill_diagonal(easy, np.nan)
        >>> clean = easy.copy()
        >>> easy[1, 3] = 4.0
        >>> float(residuals(easy, clean[None])[1, 3].round(2))
        -2.3
    """
    norms, references = np.asarray(norms, dtype=float), np.asarray(references, dtype=float)
    classes = len(norms)
    if norms.shape != (classes, classes) or references.shape[1:] != norms.shape or len(references) == 0 or classes < 4:
        raise ValueError("references: expected norms (m, K, K) of all pairs of four or more classes, as those of shape "
                         f"{norms.shape} beside them, got shape {references.shape}; use networks of the same classes, "
                         "searched by the same detector for all targets")  # fmt: skip
    pairs = ~np.eye(classes, dtype=bool)
    if not all(np.isfinite(each[pairs]).all() and (each[pairs] > 0).all() for each in (norms, *references)):
        raise ValueError("norms, references: expected a finite positive number for each pair of two classes, got "
                         "others; every estimate must have a size")  # fmt: skip
    return _polished(np.log(norms) - np.log(references).mean(0))


def sizes(left: np.ndarray) -> np.ndarray:
    """How large the patterns from each target's two easiest sources are, relative to the usual.

    Args:
        left: float (…, K, K), see `residuals`.

    Returns:
        float (…, K), geometric means; the smallest is the suspect's.

    Example:
        >>> left = np.zeros((5, 5))
        >>> left[[0, 1], 3] = -np.log(4)
        >>> sizes(left).round(2).tolist()
        [1.0, 1.0, 1.0, 0.25, 1.0]
    """
    found: np.ndarray = np.exp(np.sort(left, -2)[..., :SOURCES, :].mean(-2))  # NaN comes last
    return found


def calibrated_p(left: np.ndarray, draws: int = _DRAWS, seed: int = 0) -> float:
    """The p-value of the smallest of `sizes`, by Monte Carlo.

    Its logarithm is measured in deviations of the other targets' residuals. The null has a Student's t of six degrees
    of freedom in place of each pair, and goes the same way.

    Args:
        left: float (K, K), see `residuals`.
        draws, seed: of the simulation.

    Returns:
        p-value in (0, 1].

    Example:
        >>> left = np.random.default_rng(0).normal(size=(10, 10))
        >>> np.fill_diagonal(left, np.nan)
        >>> left[[2, 5], 7] = -9
        >>> calibrated_p(left) < 0.01
        True
    """
    return float((1 + (_null(len(left), draws, seed) >= _suspicion(left)).sum()) / (draws + 1))


def _suspicion(left: np.ndarray) -> np.ndarray:
    """How far the suspect's two easiest sources lie below the usual, in deviations of the others, (…,).

    But for a factor, which is the same in the null: a sum does for a mean.
    """
    two, squares = np.log(sizes(left)), np.nansum(left**2, -2)
    suspect = two.argmin(-1)[..., None]
    elsewhere = squares.sum(-1) - np.take_along_axis(squares, suspect, -1)[..., 0]
    lead = -two.min(-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a network beside itself leaves nothing: no suspicion
        found: np.ndarray = np.where(lead == 0, 0.0, lead / np.sqrt(elsewhere))
    return found


def sources(left: np.ndarray, target: int, share: float = 0.5) -> tuple[int, ...]:
    """The source classes of a target: those with at least `share` of its smallest residual.

    Args:
        left: float (K, K), see `residuals`.
        target: a column.
        share: in (0, 1].
    """
    column = left[:, target]
    return tuple(int(s) for s in np.flatnonzero(column <= share * np.nanmin(column)))


@lru_cache(maxsize=16)
def _null(classes: int, draws: int, seed: int) -> np.ndarray:
    """The suspicion of clean networks, (draws,)."""
    logs = np.random.default_rng(seed).standard_t(_FREEDOM, size=(draws, classes, classes))
    logs[:, np.eye(classes, dtype=bool)] = np.nan
    return _suspicion(_polished(logs))


def _polished(logs: np.ndarray) -> np.ndarray:
    """Without what is usual for rows and columns, (…, K, K): first by means, so that no scale of either matters."""
    for usual, turns in ((_mean, 30), (_median, 8)):
        for _ in range(turns):
            for axis in (-1, -2):
                logs = logs - usual(logs, axis)
    return logs


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """As numpy's nanmean where one of each row and column is NaN."""
    mean: np.ndarray = np.nansum(values, axis, keepdims=True) / (values.shape[axis] - 1)
    return mean


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """As numpy's nanmedian where one of each row and column is NaN; much faster."""
    count, ordered = values.shape[axis] - 1, np.sort(values, axis)  # NaN comes last
    middle: np.ndarray = np.take(ordered, [(count - 1) // 2, count // 2], axis).mean(axis, keepdims=True)
    return middle
