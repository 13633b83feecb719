"""What students can touch: each slider moves the picture and the words."""

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch
from toys import hand_set, lit_pixels

from btlib import plots, triggers, widgets
from btlib.datasets import to_uint8
from btlib.networks import Network

CLASSES = ("left", "<middle>", "right")


@pytest.fixture
def network() -> Network:
    return hand_set(10.0)


@pytest.fixture
def explorer(network: Network) -> ipywidgets.VBox:
    x, _ = lit_pixels(2)
    return widgets.trigger_explorer(network, triggers.single_pixel((1, 8, 8)), x, CLASSES)


def controls(explorer: ipywidgets.VBox) -> dict[str, ipywidgets.Widget]:
    which, strength, down, right, canvas, words = explorer.children
    return {
        "image": which,
        "strength": strength,
        "up/down": down,
        "left/right": right,
        "canvas": canvas,
        "words": words,
    }


def test_the_explorer_opens_on_the_stamped_image(explorer: ipywidgets.VBox) -> None:
    parts = controls(explorer)
    for name in ("image", "strength", "up/down", "left/right"):
        assert parts[name].description == name
    assert (parts["image"].min, parts["image"].max) == (0, 5)
    assert (parts["strength"].min, parts["strength"].max, parts["strength"].value) == (0, 1, 1)
    assert parts["canvas"].value[:4] == b"\x89PNG"
    assert "At strength 1.00 the network says <b>right</b> (100%)" in parts["words"].value
    assert "aria-live" in parts["words"].value


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("image", 1, "right"), ("strength", 0.0, "left"), ("up/down", -3, "left"), ("left/right", -3, "left")],
)
def test_each_slider_moves_the_picture(explorer: ipywidgets.VBox, name: str, value: float, says: str) -> None:
    parts = controls(explorer)
    before = parts["canvas"].value
    parts[name].value = value
    moved = parts["canvas"].value
    assert moved != before
    assert f"<b>{says}</b>" in parts["words"].value
    parts[name].value = {"image": 0, "strength": 1.0}.get(name, 0)
    assert parts["canvas"].value == before, "back where it was, another picture"
    assert plt.get_fignums() == [], "figures pile up behind the slider"


def test_the_words_follow_and_are_escaped(explorer: ipywidgets.VBox) -> None:
    parts = controls(explorer)
    parts["strength"].value = 0.0
    parts["image"].value = 1
    assert "At strength 0.00 the network says <b>&lt;middle&gt;</b>" in parts["words"].value


def test_no_slider_leads_out_of_the_image(explorer: ipywidgets.VBox) -> None:
    parts = controls(explorer)
    for name in ("up/down", "left/right"):
        for end in (parts[name].min, parts[name].max):
            parts[name].value = end
            assert parts["canvas"].value[:4] == b"\x89PNG"
        assert parts[name].max - parts[name].min == 7, "every row and column once"


def test_the_picture_is_the_one_drawn_without_a_widget(explorer: ipywidgets.VBox, network: Network) -> None:
    parts = controls(explorer)
    parts["strength"].value, parts["up/down"].value = 0.5, -2
    x, _ = lit_pixels(2)
    drawn = widgets.draw_trigger(network, triggers.single_pixel((1, 8, 8)), x[0], CLASSES, strength=0.5, down=-2)
    assert parts["canvas"].value == drawn


def test_bytes_and_floats_are_drawn_alike(network: Network) -> None:
    x, _ = lit_pixels(1)
    box = triggers.box((1, 8, 8))
    drawn = widgets.draw_trigger(network, box, x[0], CLASSES)
    assert widgets.draw_trigger(network, box, to_uint8(x)[0], CLASSES) == drawn
    explorer = widgets.trigger_explorer(network, box, to_uint8(x), CLASSES)
    assert controls(explorer)["canvas"].value == drawn
    with pytest.raises(ValueError, match="divide 8-bit images by 255"):
        widgets.trigger_explorer(network, box, 255 * x, CLASSES)


def test_drawing_leaves_network_and_picture_alone(network: Network) -> None:
    x, _ = lit_pixels(1)
    before, state = x.clone(), torch.get_rng_state()
    network.train()
    widgets.draw_trigger(network, triggers.box((1, 8, 8)), x[0], CLASSES)
    assert network.training
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert plt.get_fignums() == []


def test_what_does_not_fit_is_refused(network: Network) -> None:
    x, _ = lit_pixels(1)
    box = triggers.box((1, 8, 8))
    for pictures, says in (
        (x[:0], r"got \(0, 1, 8, 8\)"),
        (x[0], r"got \(1, 8, 8\)"),
        (x[..., :7], r"got \(1, 8, 7\)"),
    ):
        with pytest.raises(ValueError, match=says):
            widgets.trigger_explorer(network, box, pictures, CLASSES)
    with pytest.raises(ValueError, match=r"got 1\.5"):
        widgets.draw_trigger(network, box, x[0], CLASSES, strength=1.5)
    with pytest.raises(ValueError, match=r"classes: .*3.* got 2"):
        widgets.draw_trigger(network, box, x[0], ("a", "b"))
    assert plt.get_fignums() == []


def test_a_slider_draws_what_its_function_says() -> None:
    seen: list[float] = []

    def draw(value: float) -> tuple[bytes, str]:
        seen.append(value)
        return plots.png(plt.figure()), f"<{value}>"

    box = widgets.slider(draw, (1.0, 1.5, 2.0), "threshold", start=1.5)
    control, canvas, words = box.children
    assert control.description == "threshold"
    assert canvas.value[:4] == b"\x89PNG"
    assert "&lt;1.5&gt;" in words.value
    control.value = 2.0
    assert seen == [1.5, 2.0]
    assert "&lt;2.0&gt;" in words.value
    with pytest.raises(ValueError, match=r"got 3\.0"):
        widgets.slider(draw, (1.0, 2.0), "threshold", start=3.0)


def test_a_cell_is_measured_only_when_asked_for() -> None:
    asked = []

    def measure(row: str, column: str) -> tuple[bytes, str]:
        if row == "broken":
            raise RuntimeError("no such cell")
        asked.append((row, column))
        figure, ax = plt.subplots()
        ax.set_title(row + column)
        return plots.png(figure), f"{row} & {column}"

    box = widgets.measure_on_demand(measure, ["a", "b", "broken"], ["c", "d"], ("attack", "defence"))
    first, second, button, canvas, words = box.children
    assert (first.description, second.description, asked) == ("attack", "defence", [])
    first.value, second.value = "b", "d"
    assert (asked, canvas.layout.display) == ([], "none")
    assert "b, d: not measured yet" in words.value
    button.click()
    assert asked == [("b", "d")]
    assert "b &amp; d" in words.value
    shown = canvas.value
    assert (shown[:4], canvas.layout.display, button.disabled) == (b"\x89PNG", None, False)
    first.value = "a"
    assert (canvas.layout.display, "a, d: not measured yet" in words.value) == ("none", True)
    button.click()
    assert canvas.value != shown
    first.value = "broken"
    button.click()
    assert "not measured: no such cell" in words.value
    assert not button.disabled
