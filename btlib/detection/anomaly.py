"""From the sizes of K estimates to a verdict: MAD index, order-statistic p-values (floor 2).

All functions take plain numbers, so they can be tested, taught and reused without a network.
"""

from functools import lru_cache

import numpy as np

from btlib.detection.gamma import gamma_fit, log_survival, ratios, shape_of_ratios, survival

_CONSISTENCY = 1.4826  # makes the MAD of a normal sample estimate its standard deviation
_DRAWS = 9_999


def mad_index(norms: np.ndarray) -> np.ndarray:
    """Neural Cleanse's anomaly index: (median - norm) / (1.4826 · MAD), with the true median.

    torch.median returns the lower of two middle values, which inflates the index by a quarter for K = 10.
    Only a norm below the median is suspicious, so the sign is kept: positive below it.

    Args:
        norms: float (K,), sizes of the estimates.

    Returns:
        float64 (K,); all zero when the MAD is zero and the norms equal, ±inf where they differ then.

    Raises:
        ValueError: fewer than three norms, or one that is not finite and positive.

    Example:
        >>> mad_index(np.array([10.0, 11.0, 12.0, 13.0, 1.0])).round(2).tolist()
        [0.67, 0.0, -0.67, -1.35, 6.74]
    """
    norms = _checked(norms, "norms")
    below = np.median(norms) - norms
    mad = np.median(np.abs(below))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, 0.0, below / (_CONSISTENCY * mad))


def published_log_p(statistics: np.ndarray) -> float:
    """Log of the order-statistic p-value as published: pv = 1 - G(r_max)^K (L-RED 3.2).

    G is a Gamma fitted to all statistics but the largest. Leaving the largest out of a true null sample makes the
    fit too narrow, so this rejects more often than it says: see `calibrated_p`.

    Args:
        statistics: r_t = 1 / norm, float (K,), K ≥ 3.

    Returns:
        log pv ≤ 0.

    Raises:
        ValueError: fewer than three statistics, or one that is not finite and positive.

    Example:
        >>> bool(published_log_p(np.array([1.0, 1.1, 0.9, 1.2, 30.0])) < -100)
        True
    """
    r = np.sort(_checked(statistics, "statistics"))
    shape, scale = gamma_fit(r[:-1])
    return float(_order_statistic(log_survival(float(r[-1]), float(shape), float(scale)), len(r)))


def relative(norms: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Norms divided by those of clean networks of the same task: what a class is like by nature drops out.

    If log norm = network + class + rest, as a class that is small by nature suggests, the logarithm of this ratio is
    network + rest: the classes of a clean network become exchangeable, which the order-statistic test assumes. The
    rests of the references come in; `calibrated_p` is told how many there are.

    Args:
        norms: positive float (K,).
        references: positive float (m, K), m ≥ 1 clean networks.

    Returns:
        norms / geometric mean of the references by class, float64 (K,).

    Raises:
        ValueError: other shapes, or a norm that is not finite and positive.

    Example:
        >>> relative(np.array([4.0, 10.0]), np.array([[1.0, 20.0], [4.0, 5.0]])).round(9).tolist()
        [2.0, 1.0]
    """
    norms, references = np.asarray(norms, dtype=float), np.asarray(references, dtype=float)
    if references.ndim != 2 or len(references) == 0 or references.shape[1:] != norms.shape:
        raise ValueError(f"references: expected norms (m, {len(norms)}) of at least one clean network, got shape "
                         f"{references.shape}; use networks of the same classes")  # fmt: skip
    if not all(np.isfinite(each).all() and (each > 0).all() for each in (norms, references)):
        raise ValueError("norms, references: expected finite positive numbers, got others; every estimate must have "
                         "a size")  # fmt: skip
    return norms / np.exp(np.log(references).mean(0))


def calibrated_p(statistics: np.ndarray, draws: int = _DRAWS, seed: int = 0, *, references: int = 0) -> float:
    """The p-value of `published_log_p` itself under its own null, by Monte Carlo (a parametric bootstrap).

    Samples of K from the Gamma fitted to all but the largest statistic are put through the published rule; the
    p-value is the share of them that look at least as extreme. The logarithm of a Gamma variable is nearly a
    location-scale family, so the result hardly depends on the fitted shape.

    Args:
        statistics: r_t = 1 / norm, float (K,).
        draws: simulated null samples; the smallest p-value that can be reported is 1 / (draws + 1).
        seed: of the simulation.
        references: of how many clean networks the norms are relative to, see `relative`. The null is then a Gamma
            divided by the geometric mean of that many others, with the spread that was seen; a Gamma's left tail
            becomes the ratio's right one, so the plain null would reject too often.

    Returns:
        p-value in (0, 1].

    Raises:
        ValueError: as in `published_log_p`.

    Example:
        >>> calibrated_p(np.array([1.0, 1.1, 0.9, 1.2, 30.0]), draws=99)
        0.01
    """
    r = np.sort(_checked(statistics, "statistics"))
    shape = float(gamma_fit(r[:-1])[0])
    if references:  # of the Gammas in the ratio, which is wider than they are
        shape = shape_of_ratios(shape, len(r), references, left_out=1)
    null = _null_log_p(len(r), float(np.exp(np.round(np.log(shape), 1))), draws, seed, references)
    return float((1 + (null <= published_log_p(r)).sum()) / (draws + 1))


def pairs_log_p(norms: np.ndarray) -> float:
    """RED-P's log p-value: the smallest of K(K-1) norms against the pairs of the other target classes.

    Args:
        norms: float (K, T) by source and target, T = K in the paper; NaN where both are one class.

    Returns:
        log pv = log(1 - G(r_max)^(T(K-1))), G fitted to the (T-1)(K-1) pairs that do not lead to the suspect.

    Raises:
        ValueError: a norm that is not positive, or fewer than three targets.

    Example:
        >>> norms = np.full((4, 4), 5.0) + np.arange(16).reshape(4, 4) / 10
        >>> norms[0, 3] = 0.1
        >>> np.fill_diagonal(norms, np.nan)
        >>> bool(pairs_log_p(norms) < np.log(0.05))
        True
    """
    r_max, null, count = _split_pairs(norms)
    shape, scale = gamma_fit(null)
    return float(_order_statistic(log_survival(r_max, float(shape), float(scale)), count))


def calibrated_pairs_p(norms: np.ndarray, draws: int = 1_999, seed: int = 0) -> float:
    """The Monte-Carlo p-value of `pairs_log_p`, as in `calibrated_p`; it takes pairs for independent.

    Example:
        >>> norms = np.full((4, 4), 5.0) + np.arange(16).reshape(4, 4) / 10
        >>> np.fill_diagonal(norms, np.nan)
        >>> 0 < calibrated_pairs_p(norms, draws=99) <= 1
        True
    """
    _, observed, count = _split_pairs(norms)
    sources, targets = np.shape(norms)
    shape, _ = gamma_fit(observed)
    r = np.random.default_rng(seed).gamma(shape, size=(draws, targets, sources - 1))
    best = r.max(2).argmax(1)
    others = r[np.arange(targets)[None] != best[:, None]].reshape(draws, -1)
    null = _vector_log_p(r.max((1, 2)), others, count)
    return float((1 + (null <= pairs_log_p(norms)).sum()) / (draws + 1))


def _split_pairs(norms: np.ndarray) -> tuple[float, np.ndarray, int]:
    norms = np.asarray(norms, dtype=float)
    off = ~np.isnan(norms)
    _checked(norms[off], "norms")
    if norms.shape[1] < 3 or (off.sum(0) != len(norms) - 1).any():
        raise ValueError(f"norms: expected at least three targets, each with K - 1 = {len(norms) - 1} sources, got "
                         f"{off.sum(0).tolist()}; NaN stands where source and target are one class")  # fmt: skip
    r = np.where(off, 1 / np.where(off, norms, 1.0), 0.0)
    suspect = int(r.max(0).argmax())
    elsewhere = off.copy()
    elsewhere[:, suspect] = False
    return float(r.max()), r[elsewhere], int(off.sum())


@lru_cache(maxsize=64)
def _null_log_p(classes: int, shape: float, draws: int, seed: int, references: int = 0) -> np.ndarray:
    """Published log p-values of `draws` samples of `classes` Gamma variables, or of their ratios to references."""
    r = np.sort(ratios((draws, classes), shape, references, np.random.default_rng(seed)), axis=1)
    return _vector_log_p(r[:, -1], r[:, :-1], classes)


def _vector_log_p(r_max: np.ndarray, null: np.ndarray, count: int) -> np.ndarray:
    shape, scale = gamma_fit(null)
    with np.errstate(divide="ignore"):
        return _order_statistic(np.log(survival(r_max, shape, scale)), count)


def _order_statistic(log_survival: float | np.ndarray, count: int) -> np.ndarray:
    """log(1 - (1 - S)^count) from log S; for a tiny S it is log(count · S)."""
    tail = np.exp(log_survival)
    with np.errstate(divide="ignore"):
        exact = np.log(-np.expm1(count * np.log1p(-tail)))
    return np.where(tail < 1e-12, np.log(count) + log_survival, exact)


def _checked(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 3 or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"{name}: expected at least three finite positive numbers, got {values!r}; "
                         "one per class, and every estimate must have a size")  # fmt: skip
    return values


def false_alarm_rate(num_classes: int, shape: float, level: float, samples: int, seed: int = 0) -> dict[str, float]:
    """How often each rule rejects a true Gamma null: the measured level of a stated level.

    Args:
        num_classes: K.
        shape: of the simulated Gamma.
        level: θ, in (0, 1).
        samples: simulated networks.
        seed: of the simulation.

    Returns:
        ``published`` and ``calibrated``: shares in [0, 1].

    Example:
        >>> sorted(false_alarm_rate(10, 5.0, 0.05, 20))
        ['calibrated', 'published']
    """
    from scipy import stats  # here, as in btlib.detection.gamma

    r = stats.gamma.rvs(shape, size=(samples, num_classes), random_state=np.random.default_rng([seed, 1]))
    published = np.array([published_log_p(row) for row in r]) < np.log(level)
    calibrated = np.array([calibrated_p(row) for row in r]) < level
    return {"published": float(published.mean()), "calibrated": float(calibrated.mean())}
