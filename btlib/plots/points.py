"""Points and distributions."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from btlib.plots.lines import COLORS, MARKERS
from btlib.plots.panels import SMALL, Drawn, finish, listed, panels

Values = Tensor | Sequence[float] | np.ndarray


def scatter(
    points: np.ndarray | Tensor, groups: Sequence[str], *, xlabel: str, ylabel: str, ax: Axes | None = None,
    order: Sequence[str] | None = None, **settings: Any,
) -> Axes:  # fmt: skip
    """Points (N, 2) coloured and marked by group, by seaborn.

    Raises:
        ValueError: not (N, 2), or a number of groups that differs.

    Example:
        >>> scatter(np.zeros((2, 2)), ["a", "b"], xlabel="x", ylabel="y").get_ylabel()
        'y'
    """
    import seaborn as sns

    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2 or len(groups) != len(points):
        raise ValueError(f"points: expected shape ({len(groups)}, 2), got {points.shape}; project to two dimensions")
    ax = ax if ax is not None else plt.subplots(figsize=(5.5, 4.5), layout="constrained")[1]
    names = list(order) if order is not None else sorted(set(groups))
    style = {"s": 22, "alpha": 0.7, "linewidth": 0} | settings
    palette = list(COLORS[: len(names)]) if len(names) <= len(COLORS) else "viridis"
    named = {"hue": list(groups), "style": list(groups), "hue_order": names, "style_order": names}
    sns.scatterplot(x=points[:, 0], y=points[:, 1], **named, palette=palette, ax=ax, **style)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, fontsize=SMALL, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def clouds(
    about: str, groups: Mapping[str, Mapping[str, np.ndarray | Tensor]], *, labels: Mapping[str, tuple[str, str]],
    shared: bool = False, named: Mapping[str, Sequence[str]] | None = None,
) -> Drawn:  # fmt: skip
    """Panels of points in two dimensions, coloured and marked by group.

    Args:
        about: what is seen and where the groups lie, in a sentence.
        groups: title → group → points (N, 2).
        labels: title → what is right and what is up.
        shared: one pair of axes for all panels.
        named: group → a name for each of its points, written beside it.

    Example:
        >>> clouds("Two groups", {"PCA": {"clean": np.eye(2)}}, labels={"PCA": ("first", "second")})[1]
        'Two groups. PCA: clean around (0.5, 0.5).'
    """
    axes = panels(len(groups), width=5.4, height=4.4, sharex=shared, sharey=shared)
    words = []
    for ax, (title, given) in zip(axes, groups.items(), strict=True):
        of = {name: np.asarray(points) for name, points in given.items()}
        members = [name for name, points in of.items() for _ in points]
        every = np.concatenate(list(of.values()))
        scatter(every, members, order=list(of), xlabel=labels[title][0], ylabel=labels[title][1], ax=ax,
                s=20 if len(every) > 50 else 60)  # fmt: skip
        ax.legend(frameon=False, fontsize=SMALL, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
        for name, points in of.items():
            for words_beside, place in zip((named or {}).get(name, ()), points, strict=False):
                ax.annotate(words_beside, tuple(place), textcoords="offset points", xytext=(6, -12), fontsize=SMALL)
        ax.set_title(title, fontsize=10)
        centres = {name: points.mean(0) for name, points in of.items() if len(points)}
        words.append(f"{title}: " + ", ".join(f"{n} around ({x:.2g}, {y:.2g})" for n, (x, y) in centres.items()))
    return finish(axes, about, words, legend=False)  # each panel has its own groups


def histograms(
    about: str, groups: Mapping[str, Mapping[str, Values]], *, xlabel: str, limits: tuple[float, float] | None = None,
    lines: Mapping[str, float] | None = None, top: float | None = None, bins: int = 34,
) -> Drawn:  # fmt: skip
    """Panels of distributions, as shares of each group; what lies outside the limits is counted at their ends.

    Args:
        about: what is seen, in a sentence.
        groups: title → group → values.
        xlabel: what they are, with their unit.
        limits: of the abscissa; None: of all values, but for the outermost half per cent.
        lines: legend entry → where a vertical line is drawn.
        top: end of the ordinate.
        bins: how many.

    Example:
        >>> histograms("Scores", {"box": {"clean": [0.0, 1.0, 2.0]}}, xlabel="score", limits=(0, 2))[1]
        'Scores. box: median clean 1.'
    """
    axes = panels(len(groups), sharey=True, width=4.6 if len(groups) > 1 else 7.0)
    words = []
    for ax, (title, of) in zip(axes, groups.items(), strict=True):
        values = {name: np.asarray(of[name], dtype=float) for name in of}
        values = {name: numbers[np.isfinite(numbers)] for name, numbers in values.items()}
        low, high = limits or np.quantile(np.concatenate(list(values.values())), (0.005, 0.995))
        edges = np.linspace(float(low), float(high), bins)
        for place, (name, numbers) in enumerate(values.items()):
            k = 2 if name == "triggers" else place  # one colour in every figure
            heights = np.histogram(np.clip(numbers, edges[0], edges[-1]), edges)[0] / max(len(numbers), 1)
            ax.stairs(heights, edges, color=COLORS[k], linewidth=1.8, linestyle=("-", "--", "-.", ":")[k], label=name)
            ax.stairs(
                heights, edges, color=COLORS[k], alpha=0.2, fill=True, hatch=("", "//", "xx", "..")[k], linewidth=0
            )
        for (name, where), style in zip((lines or {}).items(), ("-", "--"), strict=False):
            ax.axvline(where, color="black", linewidth=1.3, linestyle=style, label=name)
        ax.set(xlabel=xlabel, ylabel="share of images")
        ax.set_title(title, fontsize=10)
        if top:
            ax.set_ylim(0, top)
        ax.label_outer()
        ax.set_xlabel(xlabel)
        words.append(f"{title}: median " + ", ".join(f"{n} {np.median(v):.2g}" for n, v in values.items() if len(v)))
    words += [f"{name} at {place:.3g}" for name, place in (lines or {}).items()]
    return finish(axes, about, words)


def dots(
    about: str, values: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], *, xlabel: str,
    joined: bool = False, log: bool = False, level: tuple[str, float] | None = None,
    ylim: tuple[float, float] | None = None,
) -> Drawn:  # fmt: skip
    """A dot for each network, beside one another by group, in one panel for each quantity.

    Args:
        about: what is seen, in a sentence.
        values: quantity → group (legend entry) → name below the dots → one number per network.
        xlabel: what the names are.
        joined: a thin line from each network's dot to its dot of the next group.
        log: logarithmic ordinate.
        level: legend entry and height of a horizontal line.
        ylim: range of the ordinates.

    Example:
        >>> dots("Rates", {"TPR": {"box": {"STRIP": [0.9, 1.0]}}}, xlabel="filter")[1]
        'Rates. TPR: box STRIP 0.9, 1.'
    """
    axes = panels(len(values), width=5.0, height=3.7)
    words = []
    for ax, (quantity, groups) in zip(axes, values.items(), strict=True):
        names = list(dict.fromkeys(name for of in groups.values() for name in of))
        shifts = np.linspace(-0.2, 0.2, len(groups)) if len(groups) > 1 else [0.0]
        for k, (group, of) in enumerate(groups.items()):
            x = [names.index(name) + shifts[k] for name, numbers in of.items() for _ in numbers]
            ax.plot(
                x, [n for numbers in of.values() for n in numbers], MARKERS[k], color=COLORS[k], alpha=0.8, label=group
            )
            words += [f"{quantity}: {group} {name} {_span(numbers)}" for name, numbers in of.items() if len(numbers)]
        for k, (before, after) in enumerate(
            zip(groups.values(), list(groups.values())[1:], strict=False) if joined else ()
        ):
            for name in before:
                for pair in zip(before[name], after.get(name, ()), strict=False):
                    ax.plot(
                        names.index(name) + np.asarray(shifts[k : k + 2]), pair, color="0.6", linewidth=0.8, zorder=0
                    )
        if level:
            ax.axhline(level[1], color="black", linestyle=":", linewidth=1.2, label=level[0])
        ax.set(xlabel=xlabel, ylabel=quantity, xlim=(-0.5, len(names) - 0.5))
        ax.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names], fontsize=SMALL)
        if log:
            ax.set_yscale("log")
            ax.set_yticks(ticks := [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10], [f"{tick:g}" for tick in ticks])
            ax.minorticks_off()
            ax.set_ylim(
                *(0.8, 1.25) * np.array([min(y := [n for o in groups.values() for v in o.values() for n in v]), max(y)])
            )
        if ylim:
            ax.set_ylim(*ylim)
        ax.grid(axis="y", alpha=0.3)
    return finish(axes, about, words)


def _span(numbers: Sequence[float]) -> str:
    """A few numbers in words, of many the lowest and the highest."""
    return listed(numbers) if len(numbers) <= 6 else f"{len(numbers)} from {min(numbers):.3g} to {max(numbers):.3g}"


def intervals(about: str, ranges: Mapping[str, tuple[float, float]], *, xlabel: str, ylabel: str) -> Drawn:
    """A standing bar from low to high for each name, its low end written below it.

    Example:
        >>> intervals("Rates that fit", {"3": (0.29, 1.0)}, xlabel="networks", ylabel="rate")[1]
        'Rates that fit. 3: 0.29 to 1.'
    """
    (ax,) = panels(1, width=6.4, height=3.1)
    lows, highs = zip(*ranges.values(), strict=True)
    ax.vlines(range(len(ranges)), lows, highs, color=COLORS[0], linewidth=6)
    for place, low in enumerate(lows):
        ax.annotate(f"{low:.2f}", (place, low), xytext=(0, -3), textcoords="offset points", ha="center", va="top",
                    fontsize=SMALL)  # fmt: skip
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(min(lows) - 0.13, max(highs) + 0.05))
    ax.set_xticks(range(len(ranges)), list(ranges))
    return finish([ax], about, [f"{name}: {low:.3g} to {high:.3g}" for name, (low, high) in ranges.items()])


def published_and_ours(
    about: str, rows: Mapping[str, tuple[float, float, float, float]], *, xlabel: str, allowed: float
) -> Drawn:
    """How far each of our numbers lies from the published one, both with the spread they are given with.

    Args:
        about: what is seen, in a sentence.
        rows: name → published, its spread, ours, its spread; a spread of 0 has no bar.
        xlabel: what the difference is.
        allowed: the difference that still agrees, drawn as a band.

    Example:
        >>> published_and_ours("Shares", {"box": (0.99, 0.0, 0.98, 0.01)}, xlabel="ours less theirs", allowed=0.02)[1]
        'Shares. box: published 0.99, ours 0.98.'
    """
    (ax,) = panels(1, width=8.4, height=1.4 + 0.27 * max(len(rows), 3))
    places = np.arange(len(rows))
    published, off_published, ours, off = np.array(list(rows.values()) or np.empty((0, 4))).T
    ax.axvspan(-allowed, allowed, color="0.9", label=f"within {allowed:g}")
    ax.errorbar(
        0 * published, places - 0.15, xerr=off_published, fmt="o", color=COLORS[0], mfc="white", label="published"
    )
    ax.errorbar(ours - published, places + 0.15, xerr=off, fmt="s", color=COLORS[1], label="ours, mean ± sd")
    ax.set_yticks(
        places, [f"{name}  ({value:.3g})" for name, value in zip(rows, published, strict=True)], fontsize=SMALL
    )
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.set(xlabel=xlabel)
    return finish([ax], about, [f"{name}: published {row[0]:.3g}, ours {row[2]:.3g}" for name, row in rows.items()])
