"""Named figures: what was drawn is what was given, the words hold the numbers, and everything can be read."""

from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from btlib import inflight, plots, triggers
from btlib.detection import Detection, Estimate, anomaly
from btlib.detection.outcome import Estimates
from btlib.plots.panels import Drawn, finish, panels

NORMS = (8.0, 9.0, 2.0, 10.0)
CLASSES = ("coat", "bag", "boot", "shirt")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def detection() -> Detection:
    patch = triggers.box((1, 8, 8))
    ones = torch.ones(4)
    found = (Estimate(t, patch, norm, 1.0, ones, ones / 4, 1, 1, True) for t, norm in enumerate(NORMS))
    return Detection("neural cleanse", Estimates(found), "mad", 1.0)


ROC = inflight.roc(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]))
FIGURES: dict[str, Callable[[], Drawn]] = {
    "curves": lambda: plots.curve_panels("A", {"rate": {"a": [0.25, 0.5]}}, xlabel="x", levels={"limit": 0.9}),
    "roc": lambda: plots.roc_curves("A", {"box": {"a": ROC}}, decided={"star": {"box": (0.1, 0.25)}}, fpr=0.05),
    "by class": lambda: plots.bars_by_class("A", {"": [0.25, 0.5]}, ("a", "b"), ylabel="y", level=("limit", 0.3)),
    "norms": lambda: plots.norms_by_class("A", {"net": detection()}, CLASSES, unit="pixels", target=2),
    "grouped": lambda: plots.grouped_bars("A", {"y": {"a": [0.25], "b": [0.5]}}, ["name"], level=("limit", 0.3)),
    "stacked": lambda: plots.stacked_bars("A", {"table": {"done": 3, "not run": 25}}, xlabel="rows"),
    "clouds": lambda: plots.clouds("A", {"PCA": {"a": np.full((3, 2), 0.25)}}, labels={"PCA": ("x", "y")}),
    "histograms": lambda: plots.histograms(
        "A", {"box": {"a": [0.25] * 4}}, xlabel="x", limits=(0, 1), lines={"t": 0.5}
    ),
    "dots": lambda: plots.dots("A", {"y": {"a": {"n": [0.25]}, "b": {"n": [0.5]}}}, xlabel="x", joined=True, log=True),
    "intervals": lambda: plots.intervals("A", {"3": (0.25, 1.0)}, xlabel="x", ylabel="y"),
    "published": lambda: plots.published_and_ours("A", {"box": (0.9, 0, 0.25, 0.1)}, xlabel="x", allowed=0.02),
    "maps": lambda: plots.heat_maps("A", {"y": pd.DataFrame({"c": {"r": 0.25}})}, xlabel="x", ylabel="y"),
    "estimates": lambda: plots.estimates(
        "A 0.25", {"net": detection()}, CLASSES, target=2, true=triggers.box((1, 8, 8))
    ),
    "null": lambda: plots.null_of_largest("A 2", {"net": [0.3, 0.4, 0.5, 0.6, 2.0]}),
    "repairs": lambda: plots.repair_paths("A", {"before": ([1.0], [0.9]), "caps": ([0.25], [0.88])}),
    "sketch": lambda: (lambda drawn: (drawn[0], f"A 2 {drawn[1]}"))(plots.shortcut_sketch()),
    "judged": lambda: plots.judged_image("A", torch.zeros(1, 4, 4), {"a": 0.25}, title="t", xlabel="x", highlight="a"),
}


def letters(figure: Figure) -> list[Text]:
    figure.canvas.draw()
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


@pytest.mark.parametrize("name", FIGURES)
def test_a_named_figure_can_be_read_and_says_its_numbers(name: str) -> None:
    figure, words = FIGURES[name]()
    assert words.startswith("A")
    assert any(number in words for number in ("0.25", "25", "2", "0.88")), words
    assert min(text.get_fontsize() for text in letters(figure)) >= 9
    assert figure.get_figwidth() <= 10.5, "wider than a page: it would be shrunk, letters too"
    in_axes = [ax.get_legend() for ax in figure.axes if ax.get_legend() is not None]
    assert not in_axes or name == "clouds", "a legend inside the axes covers something"


def test_curves_and_levels_are_drawn_as_given() -> None:
    shown = {"rate": {"a": [1, 2, 3], "b": [3, 2, 1]}, "size": {"a": [9, 9, 8]}}
    more = {"levels": {"limit": 2.5}, "points": {"a": ([1, 1], [5, 6])}}
    figure, words = plots.curve_panels("Two", shown, xlabel="step", **more)
    rate, size = figure.axes
    assert [list(line.get_ydata()) for line in rate.lines] == [[1, 2, 3], [3, 2, 1], [2.5, 2.5]]
    assert [list(line.get_ydata()) for line in size.lines] == [[9, 9, 8], [2.5, 2.5]]
    assert np.asarray(rate.collections[0].get_offsets()).tolist() == [[1, 5], [1, 6]]
    assert rate.lines[0].get_linewidth() > rate.lines[1].get_linewidth(), "twins that coincide are both seen"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "limit"]
    assert words == "Two. rate: a 1, 2, 3, b 3, 2, 1; size: a 9, 9, 8; limit at 2.5."


def test_norms_have_their_median_and_the_line_where_the_index_is_two() -> None:
    figure, words = FIGURES["norms"]()
    ax = figure.axes[0]
    assert [bar.get_height() for bar in ax.patches] == list(NORMS)
    assert [bar.get_hatch() for bar in ax.patches] == [None, None, "//", None]
    median, edge = (float(line.get_ydata()[0]) for line in ax.lines)
    assert median == 8.5
    assert edge == pytest.approx(8.5 - 2 * 1.4826 * 1.0)  # distances to it: .5, .5, 6.5, 1.5
    assert "boot 2" in words
    assert f"largest index {6.5 / 1.4826:.1f}" in ax.get_title()


def test_shares_of_a_histogram_add_up_and_ends_are_counted() -> None:
    groups = {"box": {"clean": [0.1, 0.1, 0.9, 7.0], "triggers": [-3.0, 0.9]}}
    figure, _ = plots.histograms("A", groups, xlabel="score", limits=(0, 1), bins=11)
    clean, _, stamped, _ = (patch.get_data().values for patch in figure.axes[0].patches)
    assert clean.sum() == pytest.approx(1)
    assert clean[[1, 9]].tolist() == [0.5, 0.5]
    assert stamped[[0, 9]].tolist() == [0.5, 0.5]


def test_dots_stand_beside_one_another_and_pairs_are_joined() -> None:
    figure, _ = plots.dots("A", {"y": {"a": {"n": [1.0, 2.0]}, "b": {"n": [3.0, 4.0]}}}, xlabel="x", joined=True)
    first, second, *joins = figure.axes[0].lines
    assert list(first.get_ydata()) == [1, 2]
    assert list(second.get_ydata()) == [3, 4]
    assert max(first.get_xdata()) < min(second.get_xdata())
    assert [list(join.get_ydata()) for join in joins] == [[1, 3], [2, 4]]


def test_differences_and_not_28_rows_on_one_scale() -> None:
    figure, words = plots.published_and_ours("A", {"box": (0.99, 0.0, 0.97, 0.01)}, xlabel="x", allowed=0.02)
    drawn = [float(line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_marker() in "os"]
    assert drawn == pytest.approx([0, -0.02])
    assert words == "A. box: published 0.99, ours 0.97."


@pytest.mark.parametrize("value", np.linspace(0, 1, 21))
def test_every_cell_of_a_heat_map_has_contrast(value: float) -> None:
    figure, _ = plots.heat_maps("A", {"rate": pd.DataFrame({"c": {"r": value}})}, xlabel="x", ylabel="y")
    (written,) = figure.axes[0].texts
    behind = plt.get_cmap("cividis")(value)
    assert plots.contrast(written.get_color(), behind) >= 4.5


def test_large_tables_are_told_by_their_ends_and_narrow_cells_hold_no_number() -> None:
    cells = pd.DataFrame(np.arange(64.0).reshape(8, 8) / 64, list("abcdefgh"), list("ABCDEFGH"))
    figure, words = plots.heat_maps("A", {"z": cells}, xlabel="x", ylabel="y", cell=(0.3, 0.3), limit=0.5)
    assert words == "A. z: lowest 0 (a and A), highest 0.98 (h and H)."
    assert not any(text.get_text() for text in figure.axes[0].texts)
    assert [text.get_text().strip() for text in figure.axes[-1].texts] == ["limit"]
    assert [float(line.get_ydata()[0]) for line in figure.axes[-1].lines] == [0.5]


def test_a_p_value_is_drawn_as_the_published_rule_has_it() -> None:
    values = 1 / np.array([2.6, 2.4, 1.9, 2.8, 2.7, 2.9, 2.1, 4.0, 1.5, 0.4])
    figure, words = plots.null_of_largest("A", {"attacked": values, "even": np.linspace(0.3, 0.5, 10)})
    p = np.exp(anomaly.published_log_p(np.sort(values)))
    assert f"attacked: largest 2.5, p {p:.2g}" in words
    attacked, others = figure.axes
    assert [len(ax.child_axes) for ax in (attacked, others)] == [1, 0]  # only a small p-value needs a second look


def test_contrast_is_that_of_wcag() -> None:
    assert plots.contrast("black", "white") == pytest.approx(21)
    assert plots.contrast("#777777", "white") == pytest.approx(4.48, abs=0.005)  # the well-known grey that just fails


def test_tables_are_read_by_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda thing: shown.append(thing.data))
    plots.table({"<net>": {"ACC": 0.98765, "agrees": True, "SIA": None, "of": "< 2", "n": 3}}, digits=2)
    plots.table([{"a": 1, "b": 0.5}], index="a", folded=True, caption="all & more")
    plots.say("one **of** three")
    plots.say(["one"])
    plots.say("one", "two")
    page, folded, alone, listed, two = shown
    for cell in (">0.99<", ">yes<", ">–<", ">&lt; 2<", ">3<", "&lt;net&gt;"):
        assert cell in page
    assert folded.startswith("<details><summary>all &amp; more</summary>")
    assert " id=" not in page + folded  # a page holds many tables, and an id only once
    assert (alone, listed, two) == ("one **of** three", "* one", "* one\n* two")
    assert plots.as_frame({"a": {"b": 1}}).loc["a", "b"] == 1


def test_one_legend_for_all_panels_below_them() -> None:
    axes = panels(2)
    for ax in axes:
        ax.plot([1], label="both")
        ax.legend()
    figure, words = finish(axes, "Two panels.", ["a", "b"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["both"]
    assert all(ax.get_legend() is None for ax in axes)
    assert words == "Two panels. a; b."
