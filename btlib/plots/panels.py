"""Panels side by side with one legend, and the numbers that were drawn in words."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: What a named figure returns: the figure, and its description for those who can't see it. `show(*drawn)` shows both.
Drawn = tuple[Figure, str]
SMALL = 9  # points: the smallest letters of any figure
WIDEST = 10.0  # inches: a page is 960 pixels wide, and shrinks what is wider, letters too


def panels(count: int, *, width: float = 4.4, height: float = 3.3, columns: int = 0, **shared: Any) -> list[Axes]:
    """So many axes in one figure: up to three side by side, four in a square, never wider than a page shows.

    Example:
        >>> len(panels(3))
        3
    """
    columns = columns or (2 if count == 4 else min(count, 3))
    rows = -(-count // columns)
    size = (max(min(width * columns, WIDEST), 5.5), height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return list(axes.flat[:count])


def finish(axes: Sequence[Axes], about: str, words: Iterable[str], *, ncols: int = 4, legend: bool = True) -> Drawn:
    """One legend below all panels, where it covers nothing; the figure and its description."""
    figure = cast(Figure, axes[0].get_figure(root=True))
    entries: dict[str, Any] = {}
    for ax in axes if legend else ():
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
        if (own := ax.get_legend()) is not None:
            own.remove()
    if entries:
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", frameon=False,
                             ncols=min(ncols, len(entries)), fontsize=SMALL)  # fmt: skip
    return figure, f"{about.rstrip('.')}. {'; '.join(words)}."


def listed(values: Iterable[float]) -> str:
    """Numbers in words, to three digits."""
    return ", ".join(f"{value:.3g}" for value in values)
