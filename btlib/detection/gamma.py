"""Gamma variables, and their ratios: fits and tails that the order-statistic tests need (floor 2).

SciPy is imported where it is used: that takes longer than all of btlib.detection.
"""

from functools import lru_cache

import numpy as np


def gamma_fit(statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood Gamma (shape, scale) with location 0 along the last axis, for many samples at once.

    scipy.stats.gamma.fit does one sample at a time, too slow for Monte Carlo; a test holds the two together.

    Args:
        statistics: positive float (..., n).

    Returns:
        shape and scale, float64 (...); equal statistics have an infinite shape, which is cut at 1e8.

    Example:
        >>> shape, scale = gamma_fit(np.array([1.0, 2.0, 3.0]))
        >>> float((shape * scale).round(6))  # the mean
        2.0
    """
    from scipy import special

    mean = statistics.mean(-1)
    gap = np.maximum(np.log(mean) - np.log(statistics).mean(-1), 1e-8)
    shape = (3 - gap + np.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)  # within 1.5 % (Minka 2002)
    for _ in range(6):  # Newton in 1/shape: quadratic, so six steps are exact
        step = (np.log(shape) - special.psi(shape) - gap) / (shape**2 * (1 / shape - special.polygamma(1, shape)))
        shape = np.clip(1 / (1 / shape + step), 1e-3, 1e8)
    return shape, mean / shape


def log_survival(value: float, shape: float, scale: float) -> float:
    """log(1 - G(value)) of a Gamma, also where 1 - G is too small for a double.

    Example:
        >>> round(log_survival(10_000.0, 1.0, 1.0))  # exponential: exactly -10,000
        -10000
    """
    from scipy import special

    direct = float(special.gammaincc(shape, value / scale))
    if direct > 1e-280:
        return float(np.log(direct))
    # Γ(a, x) = exp(-x) x^a / (x + 1 - a - 1(1 - a) / (x + 3 - a - 2(2 - a) / …)), a continued fraction (Legendre) that
    # is soon exact this far out in the tail; evaluated from below.
    x, fraction = value / scale, 0.0
    for n in range(500, 0, -1):
        fraction = n * (n - shape) / (x + 2 * n + 1 - shape - fraction)
    return float(shape * np.log(x) - x - special.gammaln(shape) - np.log(x + 1 - shape - fraction))


def survival(values: np.ndarray, shape: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """1 - G(values) of many Gammas at once; 0 where it is too small for a double.

    Example:
        >>> survival(np.array([1.0]), np.array([1.0]), np.array([1.0])).round(3).tolist()  # exp(-1)
        [0.368]
    """
    from scipy import special

    return special.gammaincc(shape, values / scale)


def ratios(size: tuple[int, int], shape: float, references: int, generator: np.random.Generator) -> np.ndarray:
    """Gamma variables, each divided by the geometric mean of `references` others; by nothing, where there are none.

    Example:
        >>> ratios((2, 3), 5.0, 1, np.random.default_rng(0)).shape
        (2, 3)
    """
    r = generator.gamma(shape, size=size)
    for _ in range(references):
        r *= generator.gamma(shape, size=size) ** (-1 / references)
    return r


def shape_of_ratios(fitted: float, count: int, references: int, left_out: int = 0) -> float:
    """The shape of the Gammas whose ratios a Gamma of the shape `fitted` was fitted to, by simulation.

    Args:
        fitted: shape of the fit.
        count: ratios in the sample.
        references: Gammas in the geometric mean below each.
        left_out: the largest of the sample, which were not fitted.

    Example:
        >>> shape_of_ratios(5.0, count=9, references=1) > 5  # a ratio is wider than what it is made of
        True
    """
    shapes, fits = _fits_by_shape(count, references, left_out)
    return float(np.exp(np.interp(np.log(fitted), np.log(fits), np.log(shapes))))


@lru_cache(maxsize=16)
def _fits_by_shape(count: int, references: int, left_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Shapes, and the typical fit to a null sample of ratios of each, ascending."""
    shapes = np.geomspace(0.3, 3000, 24)
    samples = (np.sort(ratios((400, count), k, references, np.random.default_rng(0))) for k in shapes)
    return shapes, np.maximum.accumulate([np.median(gamma_fit(r[:, : count - left_out])[0]) for r in samples])
