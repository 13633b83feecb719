"""Figures (floor 4): one idea each, colour-blind-safe, every one shown with its description in words.

A drawing function takes data, draws on `ax` (or makes its own figure) and returns the axes. A named figure takes a
sentence and data, and returns the figure and its description, in which the numbers are what was drawn:
`show(*norms_by_class(…))`. None of them shows, saves or sets global parameters but `show`, `say` and `table`, which
put something into the notebook.
"""

from btlib.plots.bars import bars_by_class, class_bars, grouped_bars, norms_by_class, stacked_bars
from btlib.plots.display import described, png, show, show_png
from btlib.plots.images import estimates, image, image_grid, judged_image, trigger_table
from btlib.plots.lines import COLORS, MARKERS, curve_panels, curves, roc_curves
from btlib.plots.maps import contrast, heat_maps, heatmap
from btlib.plots.nulls import null_of_largest
from btlib.plots.points import clouds, dots, histograms, intervals, published_and_ours, scatter
from btlib.plots.repair import repair_paths
from btlib.plots.sketches import shortcut_sketch
from btlib.plots.tables import as_frame, say, table

__all__ = [
    "COLORS", "MARKERS", "as_frame", "bars_by_class", "class_bars", "clouds", "contrast", "curve_panels", "curves",
    "described", "dots", "estimates", "grouped_bars", "heat_maps", "heatmap", "histograms", "image", "image_grid",
    "intervals", "judged_image", "norms_by_class", "null_of_largest", "png", "published_and_ours", "repair_paths",
    "roc_curves", "say", "scatter", "shortcut_sketch", "show", "show_png", "stacked_bars", "table", "trigger_table",
]  # fmt: skip
