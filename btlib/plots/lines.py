"""Curves and bars, told apart with any colour vision."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

#: Okabe and Ito's palette: told apart with any colour vision, and in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def curves(
    series: Mapping[str, Sequence[float]], *, x: Sequence[float] | None = None, xlabel: str, ylabel: str,
    ax: Axes | None = None, ylim: tuple[float, float] | None = None, logx: bool = False,
) -> Axes:  # fmt: skip
    """Lines told apart by colour, marker and legend.

    Args:
        series: legend entry → values.
        x: their common abscissae; default 1, 2, 3, …
        xlabel, ylabel: with units.
        ylim: range of the ordinate.
        logx: logarithmic abscissa.

    Raises:
        ValueError: more series than can be told apart.

    Example:
        >>> curves({"clean": [0.8, 0.9]}, xlabel="epoch", ylabel="accuracy").get_xlabel()
        'epoch'
    """
    if len(series) > len(MARKERS):
        raise ValueError(f"series: expected at most {len(MARKERS)}, got {len(series)}; use several figures")
    ax = ax if ax is not None else plt.subplots(figsize=(5.5, 3.2), layout="constrained")[1]
    for (name, values), color, marker in zip(series.items(), COLORS, MARKERS, strict=False):
        ax.plot(x if x is not None else range(1, len(values) + 1), values, color=color, marker=marker, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if ylim:
        ax.set_ylim(*ylim)
    if logx:
        ax.set_xscale("log")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax


def class_bars(
    values: Tensor | Sequence[float], classes: Sequence[str], *, ylabel: str, highlight: Sequence[int] = (),
    target: int | None = None, highlight_label: str = "source class", others_label: str = "other classes",
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """One bar per class, as in L-RED's Figure 2; source classes are coloured and hatched, the target has no bar.

    Args:
        values: one per class, in the unit that `ylabel` names.
        classes: their names.
        ylabel: of the axis.
        highlight: classes to colour and hatch.
        target: the class that gets no bar; None: all have one.
        highlight_label, others_label: what the legend calls the two kinds.
        ax: where to draw; None: a new figure.

    Raises:
        ValueError: a number of values that differs from the number of classes.

    Example:
        >>> len(class_bars([0.1, 0.9], ("a", "b"), ylabel="rate", highlight=[1]).patches)
        2
    """
    heights = np.asarray(values, dtype=float)
    if len(heights) != len(classes):
        raise ValueError(f"values: expected one per class ({len(classes)}), got {len(heights)}; pass all classes")
    ax = ax if ax is not None else plt.subplots(figsize=(6.5, 3.2), layout="constrained")[1]
    bars = ax.bar(range(len(classes)), np.nan_to_num(heights), color=COLORS[5])
    others = [index for index in range(len(classes)) if index not in highlight and index != target]
    for index in highlight:
        bars[index].set(facecolor=COLORS[1], hatch="//", edgecolor="white")  # `color` would colour the hatch too
    for indices, label in ((highlight, highlight_label), (others, others_label)):
        if len(indices):  # the legend shows the first bar of each kind
            bars[indices[0]].set_label(label)
    names = [f"{name}\n(target)" if index == target else name for index, name in enumerate(classes)]
    ax.set_xticks(range(len(classes)), names, rotation=40, ha="right", fontsize=8)
    ax.set(ylabel=ylabel)
    ax.grid(axis="y", alpha=0.3)
    if highlight:
        ax.legend(frameon=False)
    return ax
