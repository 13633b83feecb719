"""Bars: by class, side by side, and stacked; told apart with any colour vision."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from btlib.detection import Detection
from btlib.plots.lines import COLORS
from btlib.plots.panels import SMALL, Drawn, finish, listed, panels

Values = Tensor | Sequence[float] | np.ndarray
HATCHES = ("", "//", "xx", "..", "\\\\")


def class_bars(
    values: Values, classes: Sequence[str], *, ylabel: str, highlight: Sequence[int] = (),
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
    ax.set_xticks(range(len(classes)), names, rotation=40, ha="right", fontsize=SMALL)
    ax.set(ylabel=ylabel)
    ax.grid(axis="y", alpha=0.3)
    if highlight:
        ax.legend(frameon=False)
    return ax


def bars_by_class(
    about: str, values: Mapping[str, Values], classes: Sequence[str], *, ylabel: str,
    highlight: Sequence[Sequence[int]] = (), target: int | None = None, labels: tuple[str, str] = ("source class", ""),
    level: tuple[str, float] | None = None, marks: Mapping[str, Values] | None = None, top: float | None = None,
) -> Drawn:  # fmt: skip
    """A panel of `class_bars` for each title, on one scale.

    Args:
        about: what is seen, in a sentence.
        values: title → one number per class.
        classes: their names.
        ylabel: of all panels.
        highlight: for each panel, the classes to colour and hatch.
        target: the class that gets no bar.
        labels: what the legend calls coloured and other bars.
        level: legend entry and height of a horizontal line.
        marks: legend entry → one number per class, drawn as short lines on the first panel.
        top: end of the ordinate.

    Example:
        >>> bars_by_class("Rates", {"clean": [0.1, 0.9]}, ("a", "b"), ylabel="rate")[1]
        'Rates. clean: a 0.1, b 0.9.'
    """
    axes = panels(len(values), width=4.9, height=3.7, sharey=True)
    words = []
    for place, (ax, (title, heights)) in enumerate(zip(axes, values.items(), strict=True)):
        chosen = highlight[place] if highlight else ()
        class_bars(heights, classes, ylabel=ylabel if place == 0 else "", highlight=chosen, target=target, ax=ax,
                   highlight_label=labels[0], others_label=labels[1] or "other classes")  # fmt: skip
        ax.set_title(title, fontsize=10)
        if level:
            ax.axhline(level[1], color="black", linewidth=1, linestyle="--", label=level[0])
        for name, heights_marked in (marks or {}).items() if place == 0 else ():
            ax.plot(range(len(classes)), heights_marked, "_", color="black", markersize=14, label=name)
        pairs = [
            f"{name} {float(h):.3g}" for i, (name, h) in enumerate(zip(classes, heights, strict=True)) if i != target
        ]
        words.append(f"{title}: {', '.join(pairs)}")
    if top is not None:
        axes[0].set_ylim(top=top)
    words += [f"{name}: {listed(map(float, of))}" for name, of in (marks or {}).items()]
    return finish(axes, about, words)


def norms_by_class(
    about: str, detections: Mapping[str, Detection], classes: Sequence[str], *, unit: str, target: int | None = None,
    limit: float | None = 2.0,
) -> Drawn:  # fmt: skip
    """Sizes of the estimates by class, with their median and the line below which the anomaly index passes a limit.

    Args:
        about: what is seen, in a sentence.
        detections: title → what a detector returned.
        classes: names of the classes.
        unit: of the sizes, such as "pixels".
        target: the attacker's class, coloured and hatched; None: none is.
        limit: of the anomaly index; None: no lines.

    Example:
        >>> import torch
        >>> from btlib import detection, networks
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> x, y = torch.rand(6, 1, 28, 28), torch.arange(6) % 3
        >>> found = detection.red_u(net, x, y, per_class=None)
        >>> len(norms_by_class("Sizes", {"new": found}, ("a", "b", "c"), unit="full scale", target=0)[0].axes)
        1
    """
    axes = panels(len(detections), width=4.9, height=3.7, sharey=True)
    words = []
    for place, (ax, (title, found)) in enumerate(zip(axes, detections.items(), strict=True)):
        class_bars(found.norms, classes, ylabel=f"size of the estimate [{unit}]" if place == 0 else "", ax=ax,
                   highlight=[] if target is None else [target], highlight_label="the attacker's target")  # fmt: skip
        if limit is not None:
            median = float(np.nanmedian(found.norms))
            edge = median - limit * 1.4826 * float(np.nanmedian(np.abs(found.norms - median)))
            ax.axhline(median, color="black", linewidth=1.2, label="median")
            ax.axhline(edge, color="#8A3B6A", linestyle="--", linewidth=1.5, label=f"anomaly index {limit:g}")
            title = f"{title}: largest index {np.nanmax(found.anomaly_index):.1f}"
        ax.set_title(title, fontsize=10)
        sizes = [f"{name} {norm:.3g}" for name, norm in zip(classes, found.norms, strict=True) if np.isfinite(norm)]
        words.append(f"{title}: {', '.join(sizes)} {unit}")
    axes[0].set_ylim(bottom=0)
    return finish(axes, about, words)


def grouped_bars(
    about: str, values: Mapping[str, Mapping[str, Values]], names: Sequence[str], *, xlabel: str = "",
    level: tuple[str, float] | None = None, ylim: tuple[float, float] | None = None,
) -> Drawn:  # fmt: skip
    """Several bars for each name, in one panel for each quantity.

    Args:
        about: what is seen, in a sentence.
        values: quantity with its unit → legend entry → one number per name.
        names: what stands below the bars.
        xlabel: what they are.
        level: legend entry and height of a horizontal line.
        ylim: range of the ordinates; None: each its own.

    Example:
        >>> grouped_bars("Sizes", {"pixels": {"before": [9.0], "after": [3.0]}}, ["coat"])[1]
        'Sizes. pixels: before coat 9; pixels: after coat 3.'
    """
    axes = panels(len(values), width=5.2, height=3.8)
    place = np.arange(len(names))
    entries = list(dict.fromkeys(name for groups in values.values() for name in groups))  # one look each, everywhere
    words = []
    for ax, (quantity, groups) in zip(axes, values.items(), strict=True):
        width = 0.8 / len(groups)
        for k, (name, heights) in enumerate(groups.items()):
            numbers = np.nan_to_num(np.asarray(heights, dtype=float))
            look = entries.index(name)
            ax.bar(place + (k + 0.5) * width - 0.4, numbers, width, facecolor=(COLORS[5], *COLORS[1:5])[look],
                   hatch=HATCHES[look], edgecolor="white", label=name)  # fmt: skip
            words.append(
                f"{quantity}: {name} " + ", ".join(f"{n} {h:.3g}" for n, h in zip(names, numbers, strict=True))
            )
        if level:
            ax.axhline(level[1], color="black", linewidth=1, linestyle="--", label=level[0])
        ax.set(xlabel=xlabel, ylabel=quantity)
        if ylim:
            ax.set_ylim(*ylim)
        long = max(map(len, names)) * len(names) > 60
        ax.set_xticks(place, names, fontsize=SMALL, rotation=40 if long else 0, ha="right" if long else "center")
        ax.grid(axis="y", alpha=0.3)
    return finish(axes, about, words)


def stacked_bars(about: str, counts: Mapping[str, Mapping[str, int]], *, xlabel: str) -> Drawn:
    """One lying bar for each name, divided by kind.

    Args:
        about: what is seen, in a sentence.
        counts: name → kind → how many; the same kinds everywhere.
        xlabel: what is counted.

    Example:
        >>> stacked_bars("Rows", {"table 1": {"done": 3, "not run": 1}}, xlabel="rows")[1]
        'Rows. table 1: done 3, not run 1.'
    """
    (ax,) = panels(1, width=7.6, height=0.9 + 0.3 * len(counts))
    left = np.zeros(len(counts))
    kinds = list(next(iter(counts.values())))
    for kind, hatch, shade in zip(kinds, HATCHES, (COLORS[2], "0.75", "0.85", "0.9", "0.97"), strict=False):
        lengths = np.array([of[kind] for of in counts.values()])
        ax.barh(list(counts), lengths, left=left, color=shade, hatch=hatch, edgecolor="0.4", label=kind)
        left += lengths
    ax.invert_yaxis()
    ax.set(xlabel=xlabel)
    words = [f"{name}: " + ", ".join(f"{kind} {n}" for kind, n in of.items() if n) for name, of in counts.items()]
    return finish([ax], about, words, ncols=5)
