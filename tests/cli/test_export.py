"""Widgets as still pictures, equations, and cells as slides without a network."""

import nbformat
import pytest

from btlib.cli.export import slides_page
from btlib.cli.mathml import equation, to_mathml
from btlib.cli.widget_state import STATE, VIEW, freeze_widgets, widget_outputs

DOT = "iVBORw0KGgo="


def notebook_with(output, state=None):
    cell = nbformat.v4.new_code_cell("show()", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    if state is not None:
        notebook.metadata.widgets = {STATE: {"state": state}}
    return notebook


def model(name, buffers=(), **state):
    return {"model_name": f"{name}Model", "state": state, "buffers": list(buffers)}


@pytest.fixture
def widgets():
    """A box of a slider, a picture, words, a progress bar and an Output."""
    outputs = [
        {"output_type": "display_data", "data": {"text/html": "<b>table</b>"}},
        {
            "output_type": "display_data",
            "data": {"image/png": DOT},
            "metadata": {"image/png": {"alt": "curve"}},
        },
        {"output_type": "error", "ename": "ValueError", "evalue": "<no>", "traceback": []},
    ]
    state = {
        "box": model("VBox", children=[f"IPY_MODEL_{name}" for name in ("s", "i", "h", "p", "o", "gone")]),
        "s": model("IntSlider", description="strength", value=4),
        "i": model("Image", buffers=[{"data": DOT}], format="png", tooltip="a coat & its trigger"),
        "h": model("HTML", value="<em>10/10</em>"),
        "p": model("FloatProgress", value=10.0),
        "o": model("Output", outputs=outputs),
    }
    view = nbformat.v4.new_output("display_data", {VIEW: {"model_id": "box"}, "text/plain": "VBox(...)"})
    return notebook_with(view, state)


def test_widgets_become_still_pictures(widgets):
    freeze_widgets(widgets)
    page = widgets.cells[0].outputs[0].data["text/html"]
    wanted = [
        "strength: 4",
        'alt="a coat &amp; its trigger"',
        "<em>10/10</em>",
        "<b>table</b>",
        'alt="curve"',
        "&lt;no&gt;",
    ]
    places = [page.index(part) for part in wanted]
    assert places == sorted(places)
    assert "10.0" not in page
    assert "widgets" not in widgets.metadata


def test_a_progress_bar_is_not_shown_after_the_run():
    parts = {"l": model("HTML", value="networks: 91%"), "p": model("FloatProgress"), "r": model("HTML", value="10/11")}
    box = model("HBox", children=[f"IPY_MODEL_{part}" for part in parts])
    view = nbformat.v4.new_output("display_data", {VIEW: {"model_id": "box"}})
    notebook = notebook_with(view, {"box": box, **parts})
    freeze_widgets(notebook)
    assert notebook.cells[0].outputs == []


def test_errors_inside_widgets_are_found(widgets):
    assert [output.get("ename") for output in widget_outputs(widgets)] == [None, None, "ValueError"]


@pytest.mark.parametrize(
    "output",
    [
        nbformat.v4.new_output("display_data", {"text/html": '<img alt="nine coats">', "image/png": DOT}),
        nbformat.v4.new_output("display_data", {"image/png": DOT}, metadata={"image/png": {"alt": "nine coats"}}),
    ],
)
def test_alternative_text_survives(output):
    assert 'alt="nine coats"' in slides_page(notebook_with(output).cells, "x")


@pytest.mark.parametrize(
    ("tex", "part"),
    [
        (r"\arg\min_m \|m\|_1", "arg&#x02009;min"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtr>"),
        (r"\operatorname*{arg\,max}_t s_t", "arg&#x02009;max"),
        (r"\mathbb{E}[x]", "<math"),
        (r"\unknown{x} < 1", '<code class="tex">\\unknown{x} &lt; 1</code>'),
        (r"\frac{", '<code class="tex">\\frac{</code>'),
    ],
)
def test_equations_are_drawn_or_kept_as_source(tex, part):
    assert part in to_mathml(tex)


def test_an_equation_of_an_environment_is_drawn_without_it():
    assert equation(r"\begin{equation} w_4 \end{equation}") == equation(" w_4 ")


def test_a_hint_stays_inside_its_fold():
    text = "<details><summary>Hint</summary>\n\nlook at `q`\n\n</details>"
    page = slides_page([nbformat.v4.new_markdown_cell(text)], "x")
    assert page.index("<details>") < page.index("<code>q</code>") < page.index("</details>")


def test_every_way_to_write_an_equation_is_drawn():
    environments = r"\begin{align*} z_3 &= 1 \end{align*}", r"\begin{equation} w_4 \end{equation}"
    text = "\n\n".join(["One $x_1$, two", "$$y_2$$", *environments])
    page = slides_page([nbformat.v4.new_markdown_cell(text)], "x")
    assert page.count("<msub>") == 4
    assert page.count('class="equation"') == 3
