"""What is drawn: axes, labels, ranges, words; and that inputs stay as they were."""

import html
import re
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib import rcParams

from btlib import plots, triggers

ALT = "Two bars: the trigger's class is predicted for nine of ten images."


SHOWN = "<IPython.core.display.HTML object>\n"  # how one page is displayed outside of a notebook


def one_line() -> Any:
    return plots.curves({"clean": [0.8, 0.9]}, xlabel="epoch", ylabel="accuracy")


def test_show_displays_one_picture_with_its_words_and_closes_it(capsys: pytest.CaptureFixture[str]) -> None:
    plots.show(one_line().figure, ALT)
    assert plt.get_fignums() == []
    plots.show_png(plots.png(one_line().figure), ALT)
    assert capsys.readouterr().out == 2 * SHOWN


def test_what_is_shown_is_an_image_with_its_words() -> None:
    page = plots.described(plots.png(one_line().figure), ALT + ' "Less" <than> & more').data
    alt = re.search(r'<img alt="([^"]*)" src="data:image/png;base64,iVBOR', page)
    assert alt is not None, "no <img> with a PNG inside"
    assert "<than>" not in page
    assert html.unescape(alt[1]) == ALT + ' "Less" <than> & more'


@pytest.mark.parametrize("alt", ["", "figure", " " * 40])
def test_a_figure_without_words_is_refused(alt: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=f"got '{alt}'"):
        plots.show(one_line().figure, alt)
    with pytest.raises(ValueError, match=f"got '{alt}'"):
        plots.show_png(b"\x89PNG", alt)
    assert capsys.readouterr().out == ""


def test_png_is_a_png_and_grows_with_dpi() -> None:
    small, large = (plots.png(one_line().figure, dpi=dpi) for dpi in (50, 150))
    assert small[:8] == large[:8] == b"\x89PNG\r\n\x1a\n"
    width = [int.from_bytes(picture[16:20], "big") for picture in (small, large)]
    assert width[1] == pytest.approx(3 * width[0], rel=0.05)
    assert plt.get_fignums() == []


def test_nothing_is_set_for_everybody() -> None:
    before = dict(rcParams)
    one_line()
    plots.class_bars([1.0], ["a"], ylabel="y")
    plots.scatter(np.zeros((2, 2)), ["a", "b"], xlabel="x", ylabel="y")
    plots.heatmap(np.eye(2), xlabel="x", ylabel="y", label="z")
    plots.image_grid(torch.zeros(2, 1, 4, 4))
    assert dict(rcParams) == before


# ---------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("channels", [1, 3])
def test_image_shows_pixels_on_a_fixed_scale(channels: int) -> None:
    picture = torch.linspace(0.2, 0.6, channels * 16).view(channels, 4, 4)
    before = picture.clone()
    ax = plots.image(picture, title="a shoe")
    drawn = np.asarray(ax.images[0].get_array())
    assert drawn.shape == (4, 4, 3), "RGB is not stretched to the image's own range"
    np.testing.assert_allclose(drawn, picture.expand(3, 4, 4).permute(1, 2, 0).numpy())
    assert ax.get_title() == "a shoe"
    assert list(ax.get_xticks()) == []
    assert torch.equal(picture, before)


def test_bytes_are_drawn_as_the_floats_they_stand_for() -> None:
    levels = torch.arange(0, 256, 16, dtype=torch.uint8).view(1, 4, 4)
    drawn = np.asarray(plots.image(levels).images[0].get_array())
    np.testing.assert_allclose(drawn[..., 0], levels[0].numpy() / 255, atol=1e-7)
    grid = plots.image_grid(levels[None])
    np.testing.assert_allclose(np.asarray(grid.axes[0].images[0].get_array()), drawn)
    table = plots.trigger_table({"box": triggers.box((1, 4, 4), size=1)}, levels)
    np.testing.assert_allclose(np.asarray(table.axes[1].images[0].get_array())[:3], drawn[:3])


def test_floats_that_are_no_image_are_refused_not_drawn_white() -> None:
    with pytest.raises(ValueError, match=r"picture: .*got 0…240; divide 8-bit images by 255"):
        plots.image(torch.arange(0.0, 256.0, 16).view(1, 4, 4))
    with pytest.raises(ValueError, match=r"pictures: .*got -1…-1"):
        plots.image_grid(-torch.ones(1, 1, 4, 4))
    assert plt.get_fignums() == []


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (4, 4), (2, 4, 4)])
def test_image_refuses_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {shape}")):
        plots.image(torch.zeros(shape))
    assert plt.get_fignums() == []


def test_image_grid() -> None:
    pictures = torch.rand(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    figure = plots.image_grid(pictures, [f"no. {k}" for k in range(7)], columns=4)
    assert len(figure.axes) == 8
    assert [ax.get_title() for ax in figure.axes] == [*(f"no. {k}" for k in range(7)), ""]
    assert [len(ax.images) for ax in figure.axes] == [1] * 7 + [0]
    np.testing.assert_allclose(np.asarray(figure.axes[5].images[0].get_array())[..., 0], pictures[5, 0].numpy())
    assert len(plots.image_grid(pictures[:2]).axes) == 2, "no empty columns"
    with pytest.raises(ValueError, match="got 3 for 7"):
        plots.image_grid(pictures, ["a", "b", "c"])
    with pytest.raises(ValueError, match="got 0 for 0"):
        plots.image_grid(pictures[:0])


def test_trigger_table_shows_pattern_above_stamped_image() -> None:
    marks = {"white box": triggers.box((1, 8, 8)), "chess_board": triggers.chessboard((1, 8, 8), 15 / 255)}
    picture = torch.full((1, 8, 8), 51 / 255)
    axes = plots.trigger_table(marks, picture).axes
    assert len(axes) == 4
    assert [ax.get_title() for ax in axes] == ["white box", "chess\nboard", "", ""]
    drawn = [np.asarray(ax.images[0].get_array())[..., 0] * 255 for ax in axes]
    assert drawn[0][0, 0] == pytest.approx(127)
    assert drawn[0][-1, -1] == pytest.approx(255)
    assert drawn[1][0, :2] == pytest.approx([142, 127])
    assert drawn[2][[0, -1], [0, -1]] == pytest.approx([51, 255])
    assert drawn[3][0, :2] == pytest.approx([66, 51])
    with pytest.raises(ValueError, match="got none"):
        plots.trigger_table({}, picture)


def test_a_table_that_fails_leaves_no_figure() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 9, 9\)"):
        plots.trigger_table({"box": triggers.box((1, 8, 8))}, torch.zeros(1, 9, 9))
    assert plt.get_fignums() == []


# ---------------------------------------------------------------------------------------------- diagrams


def test_curves_are_told_apart_without_colour() -> None:
    series = {"clean": [0.5, 0.7, 0.9], "poisoned": [0.4, 0.6, 0.8]}
    ax = plots.curves(series, xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    assert [line.get_label() for line in ax.lines] == ["clean", "poisoned"]
    assert list(ax.lines[0].get_xdata()) == [1, 2, 3]
    assert list(ax.lines[1].get_ydata()) == [0.4, 0.6, 0.8]
    assert len({line.get_marker() for line in ax.lines}) == len({line.get_color() for line in ax.lines}) == 2
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_ylim()) == ("epoch", "accuracy", (0, 1))
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["clean", "poisoned"]


def test_curves_on_given_axes() -> None:
    _, own = plt.subplots()
    ax = plots.curves({"a": [1, 2]}, x=[10, 100], xlabel="images", ylabel="rate", ax=own, logx=True)
    assert ax is own
    assert list(ax.lines[0].get_xdata()) == [10, 100]
    assert ax.get_xscale() == "log"
    with pytest.raises(ValueError, match="got 9"):
        plots.curves({str(k): [1] for k in range(9)}, xlabel="x", ylabel="y")


def test_class_bars() -> None:
    values = torch.tensor([0.1, torch.nan, 0.9])
    ax = plots.class_bars(values, ("a", "b", "c"), ylabel="rate", highlight=[2], target=1)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.1, 0.0, 0.9])
    assert [bar.get_hatch() for bar in ax.patches] == [None, None, "//"], "told apart without colour"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b\n(target)", "c"]
    assert ax.get_ylabel() == "rate"
    legend = ax.get_legend()
    assert legend is not None
    assert "source class" in [text.get_text() for text in legend.get_texts()]
    assert torch.isnan(values[1]), "the input was changed"
    with pytest.raises(ValueError, match=r"\(2\), got 3"):
        plots.class_bars(values, ("a", "b"), ylabel="rate")


def test_scatter() -> None:
    points = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    ax = plots.scatter(points, ["clean", "poisoned", "clean"], xlabel="first", ylabel="second",
                       order=["poisoned", "clean"])  # fmt: skip
    drawn = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, points))
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["poisoned", "clean"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("first", "second")
    for wrong, groups in ((points[:, :1], ["a"] * 3), (points, ["a"] * 2), (points[0], ["a"] * 2)):
        with pytest.raises(ValueError, match=re.escape(f"got {wrong.shape}")):
            plots.scatter(wrong, groups, xlabel="x", ylabel="y")


def test_heatmap() -> None:
    table = np.array([[0.0, 0.25, 1.0], [0.5, 0.75, 0.1]])
    ax = plots.heatmap(table, xlabel="right [pixels]", ylabel="down [pixels]", label="rate", x=[0, 4, 8], y=["a", "b"])
    assert [text.get_text() for text in ax.texts] == ["0.00", "0.25", "1.00", "0.50", "0.75", "0.10"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "4", "8"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is at the top"
    assert ax.collections[0].get_clim() == (0.0, 1.0), "the scale is fixed, whatever the values"
    assert len(ax.figure.axes) == 2, "a colour scale"
    for wrong, names in ((np.zeros(3), None), (np.zeros((0, 2)), None), (table, [1, 2])):
        with pytest.raises(ValueError, match="got"):
            plots.heatmap(wrong, xlabel="x", ylabel="y", label="z", x=names)


def test_heatmap_writes_what_it_is_told_also_where_there_is_no_value() -> None:
    words = [["2/3", "0/3"], ["not run", "1/1"]]
    ax = plots.heatmap(np.array([[0.7, 0.0], [np.nan, 1.0]]), xlabel="x", ylabel="y", label="z", text=words)
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places == {"2/3": (0.5, 0.5), "0/3": (1.5, 0.5), "not run": (0.5, 1.5), "1/1": (1.5, 1.5)}
    assert len(ax.texts) == 4
    with pytest.raises(ValueError, match="rows of \\[2, 1\\]"):
        plots.heatmap(np.eye(2), xlabel="x", ylabel="y", label="z", text=[["a", "b"], ["c"]])


def test_colours_differ_in_grey_too() -> None:
    assert len(set(plots.COLORS)) == len(plots.COLORS) == len(set(plots.MARKERS)) == len(plots.MARKERS)


def test_class_bars_hatch_is_seen_and_the_legend_shows_each_kind() -> None:
    ax = plots.class_bars([0.9, 0.1], ("a", "b"), ylabel="rate", highlight=[0])
    source, other = ax.patches
    assert source.get_facecolor() != source.get_edgecolor(), "a hatch in the bar's own colour is invisible"
    legend = ax.get_legend()
    assert legend is not None
    shown = {
        text.get_text(): patch.get_facecolor()
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert shown == {"source class": source.get_facecolor(), "other classes": other.get_facecolor()}


def test_repair_paths_put_success_across_and_accuracy_up() -> None:
    figure, words = plots.repair_paths("Two", {"before": ([1.0], [0.9]), "pruning": ([1.0, 0.2], [0.9, 0.4])})
    before, pruning = figure.axes[0].lines
    assert np.asarray(before.get_xydata()).tolist() == [[1.0, 0.9]]
    assert np.asarray(pruning.get_xydata()).tolist() == [[1.0, 0.9], [0.2, 0.4]]
    assert before.get_marker() != pruning.get_marker()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["before", "pruning"]
    assert words == "Two. before 1 at 0.9; pruning 0.2 at 0.4."
    with pytest.raises(ValueError, match="expected at most 7 beside 'before', got 8"):
        plots.repair_paths("Many", {str(n): ([0.0], [0.0]) for n in range(8)})


def test_one_legend_for_all_panels_names_each_line_once() -> None:
    axes = plots.panels.panels(2)
    for ax in axes:
        ax.plot([0, 1], label="ours")
    axes[1].plot([1, 0], label="theirs")
    axes[0].legend()
    figure, words = plots.panels.finish(axes, "Two lines", ["one", "two"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours", "theirs"]
    assert axes[0].get_legend() is None
    assert words == "Two lines. one; two."
