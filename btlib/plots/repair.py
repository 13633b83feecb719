"""Figures of a repair: what two kinds of images excite, how far pruning goes, accuracy against success."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from btlib.plots.lines import COLORS, MARKERS


def paired_bars(
    pair: Mapping[str, Sequence[float]], names: Sequence[str], *, xlabel: str, ylabel: str, ax: Axes | None = None
) -> Axes:  # fmt: skip
    """Two bars for each name side by side, such as before and after.

    Args:
        pair: legend entry → values, two of them; the second's bars are hatched.
        names: one for each pair of bars.
        xlabel, ylabel: with units.

    Raises:
        ValueError: not two series, or of another length than the names.

    Example:
        >>> bars = paired_bars({"before": [3.0, 1.0], "after": [3.0, 2.0]}, ("a", "b"), xlabel="class", ylabel="norm")
        >>> len(bars.patches)
        4
    """
    if len(pair) != 2 or any(len(values) != len(names) for values in pair.values()):
        got = {name: len(values) for name, values in pair.items()}
        raise ValueError(f"pair: expected two series of {len(names)} values, got {got}; one value for each name")
    ax = ax if ax is not None else plt.subplots(figsize=(7.5, 3.2), layout="constrained")[1]
    places = np.arange(len(names))
    for (name, values), shift, color, hatch in zip(pair.items(), (-0.2, 0.2), COLORS, ("", "///"), strict=False):
        ax.bar(places + shift, values, width=0.4, label=name, color=color, hatch=hatch, edgecolor="white", linewidth=0)
    long = max(map(len, names)) > 3
    ax.set_xticks(places, names, fontsize=8, rotation=40 if long else 0, ha="right" if long else "center")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(axis="y", alpha=0.3)
    ax.legend(frameon=False)
    return ax


def pruning_path(
    accuracy: Sequence[float], success: Sequence[float], chosen: int, *, ax: Axes | None = None
) -> Axes:  # fmt: skip
    """Accuracy and attack success with 0, 1, 2, … channels pruned, and where the defender stops.

    Args:
        accuracy: on held-out clean images: what the defender sees.
        success: of the attacker's trigger: what she doesn't see.
        chosen: channels that she prunes.

    Example:
        >>> pruning_path([0.9, 0.9, 0.8], [1.0, 1.0, 0.2], chosen=1).get_xlabel()
        'channels pruned'
    """
    ax = ax if ax is not None else plt.subplots(figsize=(7.0, 3.4), layout="constrained")[1]
    ax.plot(accuracy, color=COLORS[0], marker=MARKERS[0], label="accuracy on held-out pictures: she sees it")
    ax.plot(success, color=COLORS[1], marker=MARKERS[1], linestyle="--", label="attack success: the laboratory's")
    ax.axvline(chosen, color="0.4", linewidth=1)
    ax.annotate(f"she stops: {chosen}", (chosen, 0.02), xytext=(4, 0), textcoords="offset points", color="0.25")
    ax.set(xlabel="channels pruned", ylabel="rate", ylim=(0, 1.05), xlim=(-0.3, len(accuracy) - 0.7))
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def repair_paths(
    paths: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, ax: Axes | None = None
) -> Axes:  # fmt: skip
    """Success (across, should fall) against accuracy (up, should stay): each repair a point, or a path step by step.

    Args:
        paths: name → successes and accuracies, one of each or one for each step. "before" is drawn as a star.

    Raises:
        ValueError: more repairs than can be told apart.

    Example:
        >>> repair_paths({"before": ([1.0], [0.9]), "caps": ([0.03], [0.89])}).get_xlabel()
        'attack success rate (should fall)'
    """
    kinds = [(marker, color) for marker, color in zip(MARKERS, COLORS, strict=True) if marker != "*"]
    others = [name for name in paths if name != "before"]
    if len(others) > len(kinds):
        raise ValueError(
            f"paths: expected at most {len(kinds)} beside 'before', got {len(others)}; use several figures"
        )
    ax = ax if ax is not None else plt.subplots(figsize=(7.5, 4.0), layout="constrained")[1]
    style = dict(zip(others, kinds, strict=False)) | {"before": ("*", "black")}
    for name, (success, accuracy) in paths.items():
        marker, color = style[name]
        size, front = (14.0, 4) if marker == "*" else (7.0, 3)
        ax.plot(success, accuracy, marker=marker, color=color, label=name, markersize=size, zorder=front, linewidth=1,
                markeredgecolor="white", alpha=0.9)  # fmt: skip
    ax.set(xlabel="attack success rate (should fall)", ylabel="accuracy (should stay)", xlim=(-0.04, 1.04))
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
