"""Curves, told apart with any colour vision."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from btlib.plots.panels import Drawn, finish, panels

#: Okabe and Ito's palette: told apart with any colour vision, and in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES = ("-", "--", "-.", ":", "-", "--", "-.", ":")

Series = Mapping[str, Sequence[float] | np.ndarray]


def curves(
    series: Series, *, x: Sequence[float] | np.ndarray | None = None, xlabel: str, ylabel: str,
    ax: Axes | None = None, ylim: tuple[float, float] | None = None, logx: bool = False,
) -> Axes:  # fmt: skip
    """Lines told apart by colour, marker, dashes and legend; where two coincide both are seen.

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
    for place, (name, values) in enumerate(series.items()):
        few = len(values) <= 25
        ax.plot(x if x is not None else range(1, len(values) + 1), values, color=COLORS[place], linestyle=STYLES[place],
                marker=MARKERS[place] if few else None, label=name, linewidth=max(1.2, 2.8 - 0.6 * place))  # fmt: skip
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if x is None:
        ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    if ylim:
        ax.set_ylim(*ylim)
    if logx:
        ax.set_xscale("log")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax


def curve_panels(
    about: str, series: Mapping[str, Series], *, x: Sequence[float] | np.ndarray | None = None, xlabel: str,
    levels: Mapping[str, float] | None = None, points: Mapping[str, Any] | None = None,
    ylim: tuple[float, float] | None = None, log: str = "", names: Sequence[str] | None = None,
    begins: tuple[str, float] | None = None,
) -> Drawn:  # fmt: skip
    """Curves in one panel for each quantity, over a common abscissa.

    Args:
        about: what is seen, in a sentence.
        series: quantity with its unit → curves, as in `curves`.
        x: their abscissae; default 1, 2, 3, …
        xlabel: with its unit.
        levels: legend entry → where a horizontal line is drawn, in every panel.
        points: curve → further values (x, y), drawn as dots in its colour.
        ylim: range of the ordinates; None: each its own.
        log: letters of the logarithmic axes, such as "x" or "xy".
        names: names of the places in `x`, written instead of numbers.
        begins: legend entry and place of a vertical line, where something begins.

    Example:
        >>> figure, words = curve_panels("Training", {"accuracy": {"clean": [0.8, 0.9]}}, xlabel="epoch")
        >>> words
        'Training. accuracy: clean 0.8, 0.9.'
    """
    axes = panels(len(series))
    words = []
    for ax, (quantity, lines) in zip(axes, series.items(), strict=True):
        curves(lines, x=x, xlabel=xlabel, ylabel=quantity, ax=ax, ylim=ylim, logx="x" in log)
        for name, color in zip(lines, COLORS, strict=False):
            if points and name in points:
                x_of, y_of = points[name]
                ax.scatter(x_of, y_of, color=color, s=14, alpha=0.5)
        for (name, level), style in zip((levels or {}).items(), (":", "--", "-."), strict=False):
            ax.axhline(level, color="0.2", linestyle=style, linewidth=1.2, label=name)
        if begins:
            ax.axvline(begins[1], color="0.4", linestyle="--", linewidth=1, label=begins[0])
        if "y" in log:
            ax.set_yscale("log")
        if names is not None and x is not None:
            ax.set_xticks(x, names)
            ax.minorticks_off()
        words.append(f"{quantity}: " + ", ".join(f"{name} {_course(values)}" for name, values in lines.items()))
    words += [f"{name} at {place:.3g}" for name, place in [*(levels or {}).items(), *([begins] if begins else [])]]
    return finish(axes, about, words)


def _course(values: Sequence[float] | np.ndarray) -> str:
    """How a curve runs, in words: all of a short one, else a few of its values."""
    values = [float(value) for value in values if value == value]
    kept = values if len(values) <= 6 else [values[i] for i in np.linspace(0, len(values) - 1, 5).round().astype(int)]
    return ("" if len(values) <= 6 else "by way of ") + ", ".join(f"{float(value):.3g}" for value in kept)


def roc_curves(about: str, rocs: Mapping[str, Mapping[str, Any]], *, decided: Mapping[str, Any], fpr: float) -> Drawn:
    """One panel for each network: ROC curves of several detectors, and where one of them decides by itself.

    Args:
        about: what is seen, in a sentence.
        rocs: network → detector → its `inflight.Roc`.
        decided: legend entry → network → (FPR, TPR), drawn as a star.
        fpr: a false-positive rate to mark.

    Example:
        >>> from btlib import inflight
        >>> import torch
        >>> roc = inflight.roc(torch.zeros(3), torch.ones(3))
        >>> roc_curves("One detector", {"box": {"STRIP": roc}}, decided={}, fpr=0.05)[1]
        'One detector. box: AUC STRIP 1.00.'
    """
    axes = panels(len(rocs), width=4.8, height=3.6, sharex=True, sharey=True)
    words = []
    for ax, (network, of) in zip(axes, rocs.items(), strict=True):
        for (name, roc), color, style in zip(of.items(), COLORS, STYLES, strict=False):
            ax.step(roc.false_positive_rates, roc.true_positive_rates, style, color=color, linewidth=2.2, where="post",
                    label=name)  # fmt: skip
        for name, places in decided.items():
            ax.plot(*places[network], "*", color="black", markersize=12, clip_on=False, zorder=5, label=name)
        ax.axvline(fpr, color="0.6", linewidth=1, label=f"FPR {fpr:g}")
        ax.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03), title=network, xlabel="false-positive rate",
               ylabel="true-positive rate")  # fmt: skip
        ax.label_outer()
        words.append(f"{network}: AUC " + ", ".join(f"{name} {roc.auc:.2f}" for name, roc in of.items()))
    return finish(axes, about, words)
