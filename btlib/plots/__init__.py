"""Figures (floor 4): one idea each, colour-blind-safe, every one shown with its description in words.

A plotting function takes data, draws on `ax` (or makes its own figure) and returns the axes; it never shows,
saves or sets global parameters. `show` puts a finished figure into the notebook with its alt text.
"""

from btlib.plots.display import described, png, show, show_png
from btlib.plots.images import image, image_grid, trigger_table
from btlib.plots.lines import COLORS, MARKERS, class_bars, curves
from btlib.plots.maps import heatmap, scatter
from btlib.plots.repair import paired_bars, pruning_path, repair_paths

__all__ = [
    "COLORS", "MARKERS", "class_bars", "curves", "described", "heatmap", "image", "image_grid", "paired_bars", "png",
    "pruning_path", "repair_paths", "scatter", "show", "show_png", "trigger_table",
]  # fmt: skip
