"""Tables of numbers as coloured cells, by seaborn."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import Tensor

from btlib.plots.panels import SMALL, Drawn, finish

NARROW = 0.4  # inches: no number can be read in a narrower cell


def contrast(one: Any, other: Any) -> float:
    """The contrast of two colours as WCAG 2 defines it, from 1 to 21; small text needs 4.5.

    Example:
        >>> round(contrast("white", "black"))
        21
    """
    low, high = sorted(_luminance(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: Any) -> float:
    channels = np.array(to_rgb(color))
    return float(np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
                 @ (0.2126, 0.7152, 0.0722))  # fmt: skip


def heatmap(
    values: np.ndarray | Tensor, *, xlabel: str, ylabel: str, label: str, x: Sequence[object] | None = None,
    y: Sequence[object] | None = None, vlim: tuple[float, float] = (0.0, 1.0),
    text: Sequence[Sequence[str]] | None = None, ax: Axes | None = None, scale: bool = True,
) -> Axes:  # fmt: skip
    """A table (rows, columns) as coloured cells, with each value written in its cell.

    Args:
        values: numbers; the first row is drawn at the top. A cell without one (NaN) stays grey.
        xlabel, ylabel: what columns and rows are, with units.
        label: what the values are, for the colour scale.
        x, y: names of the columns and rows; default 0, 1, 2, …
        vlim: range of the colour scale, fixed so that two maps can be compared.
        text: what to write into the cells instead of their values, grey ones too; a table of the same shape.
        ax: where to draw; None: a new figure.
        scale: whether the colour scale stands beside it.

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
    size = (2.4 + 0.5 * len(columns), 1.1 + 0.36 * len(rows))
    ax = ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]
    written: dict[str, Any] = {"annot": True, "fmt": ".2f"} if text is None else {"annot": np.array(text), "fmt": ""}
    sns.heatmap(table, vmin=vlim[0], vmax=vlim[1], cmap="cividis", annot_kws={"fontsize": SMALL}, linewidths=0.5,
                xticklabels=columns, yticklabels=rows, cbar=scale, cbar_kws={"label": label}, ax=ax,
                **written)  # fmt: skip
    ax.set_facecolor("0.9")
    if text is not None:  # seaborn writes nothing where there is no value
        for i, j in np.argwhere(np.isnan(table)):
            ax.text(j + 0.5, i + 0.5, text[i][j], ha="center", va="center", fontsize=SMALL)
    _write_legibly(ax, table, vlim)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(axis="y", rotation=0)
    return ax


def _write_legibly(ax: Axes, table: np.ndarray, vlim: tuple[float, float]) -> None:
    """Black or white, whichever stands out more: at least 4.58 on any colour."""
    shade = plt.get_cmap("cividis")
    for written in ax.texts:
        value = table[int(written.get_position()[1]), int(written.get_position()[0])]
        behind = "0.9" if np.isnan(value) else shade((value - vlim[0]) / (vlim[1] - vlim[0]))
        written.set_color(max(("black", "white"), key=lambda color: contrast(color, behind)))


def heat_maps(
    about: str, tables: Mapping[str, Any], *, xlabel: Sequence[str] | str, ylabel: str,
    text: Mapping[str, Any] | None = None, vlim: tuple[float, float] = (0.0, 1.0),
    cell: tuple[float, float] = (0.6, 0.4), limit: float | None = None,
) -> Drawn:  # fmt: skip
    """Coloured tables side by side, on one colour scale; each says in its title what it shows.

    Values are written where cells are wide enough. The description names all of a small table, and the lowest and
    the highest cell of a large one.

    Args:
        about: what is seen, in a sentence.
        tables: what the values are → a pandas table with names of rows and columns.
        xlabel: what the columns are; one for all, or one for each table.
        ylabel: what the rows are.
        text: what to write into the cells instead, tables of the same shapes.
        vlim: range of the colour scales.
        cell: width and height of a cell, in inches.
        limit: marked on the colour scale.

    Example:
        >>> import pandas as pd
        >>> heat_maps("Rates", {"rate": pd.DataFrame({"box": {"STRIP": 0.5}})}, xlabel="attack", ylabel="filter")[1]
        'Rates. STRIP: box 0.5.'
    """
    wide = [frame.shape[1] for frame in tables.values()]
    size = (1.9 + cell[0] * sum(wide), 1.4 + cell[1] * max(frame.shape[0] for frame in tables.values()))
    axes = list(
        plt.subplots(1, len(wide), figsize=size, width_ratios=wide, squeeze=False, layout="constrained")[1].flat
    )
    labels = [xlabel] * len(wide) if isinstance(xlabel, str) else list(xlabel)
    words = []
    for ax, (label, frame), below in zip(axes, tables.items(), labels, strict=True):
        said = text[label] if text is not None else None
        names = [str(name).replace(" ", "\n", 1) for name in frame.columns]
        first, last = ax is axes[0], ax is axes[-1]
        written = said.to_numpy().tolist() if said is not None else None
        if cell[0] < NARROW:
            written = [[""] * frame.shape[1]] * len(frame)
        heatmap(frame.to_numpy(float), xlabel=below, ylabel=ylabel if first else "", label="", vlim=vlim, ax=ax,
                x=names, y=list(frame.index) if first else [""] * len(frame), scale=last,
                text=written)  # fmt: skip
        if last and limit is not None:
            bar = ax.collections[0].colorbar.ax
            bar.axhline(limit, color="white", linewidth=2)
            bar.annotate(
                "limit ", (0, limit), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=SMALL
            )
        ax.set_title(label, fontsize=10)
        ax.tick_params(left=first)
        if cell[0] < NARROW:
            ax.set_xticks(ax.get_xticks(), list(frame.columns), rotation=90)
        elif max(map(len, names)) > 10 * cell[0] / 0.6:
            ax.set_xticks(ax.get_xticks(), names, rotation=40, ha="right")
        words += [f"{label}: {_ends(frame)}"] if frame.size > 60 and said is None else _cells(frame, said)
    return finish(axes, about, words)


def _cells(frame: Any, said: Any) -> list[str]:
    """All cells of a table in words, row by row."""
    return [
        f"{row}: {', '.join(f'{name} {n}' if said is not None else f'{name} {n:.2g}' for name, n in cells.items())}"
        .replace("\n", " ")
        for row, cells in (frame if said is None else said).iterrows()
    ]  # fmt: skip


def _ends(frame: Any) -> str:
    """The lowest and the highest cell of a table in words."""
    cells = frame.to_numpy(float)
    words = []
    for word, place in (("lowest", np.nanargmin(cells)), ("highest", np.nanargmax(cells))):
        row, column = np.unravel_index(place, cells.shape)
        words.append(f"{word} {cells[row, column]:.2g} ({frame.index[row]} and {frame.columns[column]})")
    return ", ".join(words).replace("\n", " ")
