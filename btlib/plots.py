"""Figures (floor 4): one idea each, colour-blind-safe, every one shown with its description in words.

A plotting function takes data, draws on `ax` (or makes its own figure) and returns the axes; it never shows,
saves or sets global parameters. `show` puts a finished figure into the notebook with its alt text.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from btlib.triggers import Trigger

#: Okabe and Ito's palette: told apart with any colour vision, and in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def show(figure: Figure, alt: str, *, dpi: int = 110) -> None:
    """Display a figure in a notebook with a description for those who can't see it, and close it.

    Args:
        figure: a finished matplotlib figure.
        alt: what is seen and what it means, in a sentence or two.
        dpi: resolution, dots per inch.

    Raises:
        ValueError: an empty or much too short description.

    Example:
        >>> fig, ax = plt.subplots()
        >>> show(fig, "")
        Traceback (most recent call last):
        ...
        ValueError: alt: expected a sentence that says what is seen, got ''; describe the figure in words
    """
    show_png(png(figure, dpi=dpi), alt)


def show_png(picture: bytes, alt: str) -> None:
    """Display a PNG, such as `widgets.draw_trigger` makes, with a description for those who can't see it.

    Args:
        picture: PNG bytes.
        alt: what is seen and what it means, in a sentence or two.

    Raises:
        ValueError: an empty or much too short description.

    Example:
        >>> show_png(png(plt.figure()), "nothing")
        Traceback (most recent call last):
        ...
        ValueError: alt: expected a sentence that says what is seen, got 'nothing'; describe the figure in words
    """
    if len(alt.strip()) < 20:
        raise ValueError(f"alt: expected a sentence that says what is seen, got {alt!r}; describe the figure in words")
    from IPython.display import HTML, display  # comes with Jupyter; figures of `scan` are drawn without

    # nbconvert's lab template drops the alt text of a PNG output; in an <img> it survives everywhere.
    data = base64.b64encode(picture).decode()
    display(HTML(f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}" style="max-width: 100%">'))


def png(figure: Figure, *, dpi: int = 110) -> bytes:
    """A figure as PNG bytes, with its margins trimmed.

    Example:
        >>> png(plt.figure())[:4]
        b'\\x89PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return buffer.getvalue()


def image(picture: Tensor, *, ax: Axes | None = None, title: str = "", scale: float = 1.0) -> Axes:
    """One image (C, H, W), float in [0, 1], on a fixed grey or RGB scale; `scale` magnifies differences around 0.

    Raises:
        ValueError: not (C, H, W) with 1 or 3 channels.

    Example:
        >>> import torch
        >>> image(torch.zeros(1, 4, 4)).get_title()
        ''
    """
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"picture: expected shape (1, H, W) or (3, H, W), got {tuple(picture.shape)}; "
                         "take one image from the batch")  # fmt: skip
    ax = ax if ax is not None else plt.subplots(figsize=(2, 2), layout="constrained")[1]
    pixels = (picture.detach().cpu().float() * scale).clamp(0, 1).permute(1, 2, 0).numpy()
    ax.imshow(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels, interpolation="nearest")
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])  # the frame stays: a white box on a white page has no edge
    ax.spines[:].set(color="0.6", linewidth=0.5)
    return ax


def image_grid(pictures: Tensor, titles: Sequence[str] | None = None, *, columns: int = 5, size: float = 1.5) -> Figure:
    """A grid of images (N, C, H, W), row by row, with a title each.

    Args:
        pictures: float in [0, 1].
        titles: N of them, or None.
        columns: images per row.
        size: inches per image.

    Raises:
        ValueError: no images, or a number of titles that differs.

    Example:
        >>> import torch
        >>> len(image_grid(torch.zeros(3, 1, 4, 4), columns=2).axes)
        4
    """
    count = len(pictures)
    if count == 0 or (titles is not None and len(titles) != count):
        raise ValueError(f"titles: expected one per image and at least one image, got {len(titles or [])} for {count}")
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + 0.25) * rows), squeeze=False,
                                layout="constrained")  # fmt: skip
    for index, ax in enumerate(axes.flat):
        if index < count:
            image(pictures[index], ax=ax, title=titles[index] if titles else "")
        else:
            ax.set_axis_off()
    return figure


def trigger_table(triggers: Mapping[str, Trigger], picture: Tensor) -> Figure:
    """Each trigger in a column: its pattern with the papers' 127/255 offset, and `picture` stamped with it.

    Args:
        triggers: title → trigger.
        picture: a clean image (C, H, W), float in [0, 1].

    Raises:
        ValueError: no triggers.

    Example:
        >>> import torch
        >>> from btlib import triggers
        >>> len(trigger_table({"box": triggers.box((1, 8, 8))}, torch.zeros(1, 8, 8)).axes)
        2
    """
    if not triggers:
        raise ValueError("triggers: expected at least one, got none; pass {'box': trigger}")
    stamped = [trigger(picture) for trigger in triggers.values()]  # before a figure is opened: it may complain
    figure, axes = plt.subplots(2, len(triggers), figsize=(1.35 * len(triggers), 3.2), squeeze=False,
                                layout="constrained")  # fmt: skip
    for column, (name, trigger) in enumerate(triggers.items()):
        image(trigger.offset_display(), ax=axes[0, column], title=name.replace("_", "\n"))
        image(stamped[column], ax=axes[1, column])
    return figure


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


def scatter(
    points: np.ndarray | Tensor, groups: Sequence[str], *, xlabel: str, ylabel: str, ax: Axes | None = None,
    order: Sequence[str] | None = None, **settings: Any,
) -> Axes:  # fmt: skip
    """Points (N, 2) coloured and marked by group.

    Raises:
        ValueError: not (N, 2), or a number of groups that differs.

    Example:
        >>> scatter(np.zeros((2, 2)), ["a", "b"], xlabel="x", ylabel="y").get_ylabel()
        'y'
    """
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
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def heatmap(
    values: np.ndarray | Tensor, *, xlabel: str, ylabel: str, label: str, x: Sequence[object] | None = None,
    y: Sequence[object] | None = None, vlim: tuple[float, float] = (0.0, 1.0),
    text: Sequence[Sequence[str]] | None = None, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """A table (rows, columns) as coloured cells, with each value written in its cell.

    Args:
        values: numbers; the first row is drawn at the top. A cell without one (NaN) stays grey.
        xlabel, ylabel: what columns and rows are, with units.
        label: what the values are, for the colour scale.
        x, y: names of the columns and rows; default 0, 1, 2, …
        vlim: range of the colour scale, fixed so that two maps can be compared.
        text: what to write into the cells instead of their values, grey ones too; a table of the same shape.

    Raises:
        ValueError: not a table, or a number of names or texts that differs.

    Example:
        >>> heatmap(np.eye(2), xlabel="right [pixels]", ylabel="down [pixels]", label="rate").get_xlabel()
        'right [pixels]'
    """
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"values: expected a table (rows, columns), got shape {table.shape}; stack the rows")
    rows, columns = (list(range(n)) if names is None else list(names)
                     for n, names in zip(table.shape, (y, x), strict=True))  # fmt: skip
    if (len(rows), len(columns)) != table.shape:
        raise ValueError(f"x, y: expected {table.shape[1]} and {table.shape[0]} names, got {len(columns)} and "
                         f"{len(rows)}; name every column and row")  # fmt: skip
    if text is not None and [len(row) for row in text] != [len(columns)] * len(rows):
        raise ValueError(f"text: expected a table of {len(rows)} rows and {len(columns)} columns, got rows of "
                         f"{[len(row) for row in text]}; write something into every cell")  # fmt: skip
    size = (2.2 + 0.42 * len(columns), 1.0 + 0.36 * len(rows))
    ax = ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]
    written: dict[str, Any] = {"annot": True, "fmt": ".2f"} if text is None else {"annot": np.array(text), "fmt": ""}
    sns.heatmap(table, vmin=vlim[0], vmax=vlim[1], cmap="cividis", annot_kws={"fontsize": 7}, linewidths=0.5,
                xticklabels=columns, yticklabels=rows, cbar_kws={"label": label}, ax=ax, **written)  # fmt: skip
    ax.set_facecolor("0.9")
    if text is not None:  # seaborn writes nothing where there is no value
        for i, j in np.argwhere(np.isnan(table)):
            ax.text(j + 0.5, i + 0.5, text[i][j], ha="center", va="center", fontsize=7)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(axis="y", rotation=0)
    return ax
