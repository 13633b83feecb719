"""What a p-value is the area of."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from btlib.detection import anomaly, gamma
from btlib.plots.lines import COLORS
from btlib.plots.panels import SMALL, Drawn, finish, panels


def null_of_largest(about: str, statistics: Mapping[str, Sequence[float] | np.ndarray]) -> Drawn:
    """The Gamma fitted to all statistics but the largest, the density of the largest of K, and what lies beyond it.

    A p-value below .05 is too small an area to be seen: the tail is drawn once more, magnified.

    Args:
        about: what is seen, in a sentence.
        statistics: title → one number per class, larger is more suspicious (L-RED 3.2: r = 1 / norm).

    Example:
        >>> null_of_largest("One network", {"clean": [0.3, 0.4, 0.5, 0.6]})[1]
        'One network. clean: largest 0.6, p 0.059.'
    """
    axes = panels(len(statistics), width=5.0, height=3.8)
    words = []
    for ax, (title, values) in zip(axes, statistics.items(), strict=True):
        r = np.sort(np.asarray(values, dtype=float))
        p = float(np.exp(anomaly.published_log_p(r)))
        _densities(ax, r)
        ax.set(xlabel="r = 1 / ‖v‖₂", ylabel="density")
        ax.set_ylim(bottom=-0.05 * ax.get_ylim()[1])
        ax.set_title(f"{title}: p = {p:.2g}", fontsize=10)
        if p < 0.05:
            tail = ax.inset_axes((0.66, 0.4, 0.32, 0.48))
            top = 2 * _densities(tail, r) + 1e-9
            tail.set(xlim=(0.95 * r[-1], max(1.35 * r[-1], tail.get_xlim()[1])), ylim=(-0.1 * top, top), yticks=[])
            tail.set_title("the tail, magnified", fontsize=SMALL)
            tail.tick_params(labelsize=SMALL)
        words.append(f"{title}: largest {r[-1]:.3g}, p {p:.2g}")
    return finish(axes, about, words, ncols=3)


def _densities(ax: Axes, r: np.ndarray) -> float:
    """Draw both densities and the statistics, which are sorted; the height of the second at the largest."""
    shape, scale = gamma.gamma_fit(r[:-1])
    null = stats.gamma(float(shape), scale=float(scale))
    grid = np.linspace(0, max(1.35 * r[-1], float(null.ppf(0.9999))), 600)
    largest = len(r) * null.pdf(grid) * null.cdf(grid) ** (len(r) - 1)
    beyond = grid >= r[-1]
    ax.plot(grid, null.pdf(grid), color=COLORS[0], linestyle="--", label="null: one innocent r")
    ax.plot(grid, largest, color=COLORS[2], label=f"null: the largest of {len(r)}")
    ax.fill_between(grid[beyond], largest[beyond], color=COLORS[1], alpha=0.6, label="p-value (area)")
    ax.plot(r[:-1], np.zeros(len(r) - 1), "|", color="black", markersize=14, label=f"the {len(r) - 1} others")
    ax.plot(r[-1], 0, "v", color=COLORS[1], markersize=10, label="the largest r")
    return float(np.interp(r[-1], grid, largest))
