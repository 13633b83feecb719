"""Points in a plane and tables of numbers, by seaborn."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from btlib.plots.lines import COLORS


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
    import seaborn as sns

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
