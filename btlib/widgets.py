"""What students can touch (floor 5): the only module that imports ipywidgets.

Each widget draws with an ordinary function that a lesson also calls once by itself, since an error inside a
widget's callback does not stop a notebook.
"""

import html
from collections.abc import Callable, Sequence
from typing import Any

try:
    import ipywidgets
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("widgets: expected ipywidgets, which btlib[course] brings, got none; "
                              "python -m pip install 'btlib[course]'", name=error.name) from error  # fmt: skip
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from btlib import metrics, plots
from btlib.triggers import Trigger


def draw_trigger(
    network: nn.Module, trigger: Trigger, picture: Tensor, classes: Sequence[str],
    *, strength: float = 1.0, down: int = 0, right: int = 0,
) -> bytes:  # fmt: skip
    """The stamped image beside what the network makes of it, as PNG bytes.

    Args:
        network: the classifier.
        trigger: the pattern at full strength.
        picture: a clean image (C, H, W), float in [0, 1] or uint8.
        classes: class names.
        strength: in [0, 1], see `Trigger.faded`.
        down, right: shift in pixels, see `Trigger.moved`.

    Raises:
        ValueError: a picture, strength or trigger that do not fit.

    Example:
        >>> import torch
        >>> from btlib import networks, triggers
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=2)
        >>> draw_trigger(net, triggers.box((1, 28, 28)), torch.zeros(1, 28, 28), ("a", "b"))[:4]
        b'\\x89PNG'
    """
    stamped = trigger.moved(down, right).faded(strength)(picture)
    chances = metrics.predict(network, stamped[None]).softmax(1)[0]
    if len(classes) != len(chances):
        raise ValueError(f"classes: expected the {len(chances)} names of the network's classes, got {len(classes)}; "
                         "pass data.classes")  # fmt: skip
    figure, (left, bars) = plt.subplots(1, 2, figsize=(7, 3), width_ratios=(1, 1.6), layout="constrained")
    plots.image(stamped, ax=left, title="what the network sees")
    best = int(chances.argmax())
    colors = [plots.COLORS[1] if index == best else plots.COLORS[5] for index in range(len(classes))]
    bars.barh(range(len(classes)), chances.tolist(), color=colors)
    bars.set_yticks(range(len(classes)), classes, fontsize=9)
    bars.invert_yaxis()
    bars.set(xlim=(0, 1), xlabel="probability", title=f"it says: {classes[best]} ({chances[best]:.0%})")
    return plots.png(figure, dpi=90)


def trigger_explorer(
    network: nn.Module, trigger: Trigger, pictures: Tensor, classes: Sequence[str]
) -> ipywidgets.Widget:
    """Sliders that choose an image, fade the trigger and move it; the prediction follows.

    Args:
        network: the classifier.
        trigger: the pattern at full strength.
        pictures: clean images (N, C, H, W), float in [0, 1] or uint8.
        classes: class names.

    Returns:
        A widget to display.

    Raises:
        ValueError: no pictures, or of another shape than the trigger's.

    Example:
        >>> import torch
        >>> from btlib import networks, triggers
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=2)
        >>> trigger_explorer(net, triggers.box((1, 28, 28)), torch.zeros(2, 1, 28, 28), ("a", "b")).children[0].max
        1
    """
    if pictures.ndim != 4 or len(pictures) == 0:
        raise ValueError(f"pictures: expected (N, C, H, W) with N ≥ 1, got {tuple(pictures.shape)}; pass a batch")
    _, height, width = trigger.image_shape
    slider = {"continuous_update": False, "style": {"description_width": "5em"}, "layout": {"width": "22em"}}
    which = ipywidgets.IntSlider(0, 0, len(pictures) - 1, description="image", **slider)
    strength = ipywidgets.FloatSlider(1.0, min=0.0, max=1.0, step=0.05, description="strength", **slider)
    down = ipywidgets.IntSlider(0, 1 - height, 0, description="up/down", **slider)
    right = ipywidgets.IntSlider(0, 1 - width, 0, description="left/right", **slider)
    canvas = ipywidgets.Image(format="png", layout={"width": "560px"})
    words = ipywidgets.HTML()  # the picture in words, for those who can't see it

    def redraw(_: object = None) -> None:
        chosen, settings = pictures[which.value], {"down": down.value, "right": right.value}
        canvas.value = draw_trigger(network, trigger, chosen, classes, strength=strength.value, **settings)
        stamped = trigger.moved(**settings).faded(strength.value)(chosen)
        chances = metrics.predict(network, stamped[None]).softmax(1)[0]
        best = int(chances.argmax())
        words.value = (f"<span aria-live='polite'>At strength {strength.value:.2f} the network says "
                       f"<b>{html.escape(classes[best])}</b> ({chances[best]:.0%}).</span>")  # fmt: skip

    for control in (which, strength, down, right):
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([which, strength, down, right, canvas, words])


def _png(picture: bytes | Figure) -> bytes:
    return picture if isinstance(picture, bytes) else plots.png(picture, dpi=90)


def slider(
    draw: Callable[[Any], tuple[bytes | Figure, str]], values: Sequence[Any], description: str, start: Any
) -> ipywidgets.Widget:
    """A slider over `values` above a picture and a sentence, both from a function that a lesson also calls by itself.

    Args:
        draw: value → a figure (or PNG bytes), and what it shows in words, as the named figures of `plots` return.
        values: what the slider can be set to, in order.
        description: of the slider, with the unit.
        start: where it stands first, one of `values`.

    Returns:
        A widget to display.

    Raises:
        ValueError: a start that is not among the values.

    Example:
        >>> from matplotlib import pyplot as plt
        >>> slider(lambda x: (plt.figure(), f"x is {x}"), (1.0, 2.0), "x", start=2.0).children[2].value
        "<span aria-live='polite'>x is 2.0</span>"
    """
    if start not in values:
        raise ValueError(f"start: expected one of {list(values)}, got {start}; choose a value the slider has")
    control = ipywidgets.SelectionSlider(
        options=list(values), value=start, description=description, continuous_update=False,
        style={"description_width": "initial"}, layout={"width": "32em"},
    )  # fmt: skip
    canvas = ipywidgets.Image(format="png", layout={"width": "760px"})
    words = ipywidgets.HTML()  # the picture in words, for those who can't see it

    def redraw(_: object = None) -> None:
        picture, said = draw(control.value)
        canvas.value = _png(picture)
        words.value = f"<span aria-live='polite'>{html.escape(said)}</span>"

    control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([control, canvas, words])


def measure_on_demand(
    measure: Callable[[str, str], tuple[bytes | Figure, str]], rows: Sequence[str], columns: Sequence[str],
    names: tuple[str, str] = ("row", "column"),
) -> ipywidgets.Widget:  # fmt: skip
    """Two lists and a button that measures the cell they name; nothing is measured before it is pressed.

    Args:
        measure: one of `rows`, one of `columns` → a figure (or PNG bytes), and what it shows in words.
        rows, columns: what can be chosen.
        names: what the two lists are, for their labels.

    Returns:
        A widget to display.

    Example:
        >>> from matplotlib import pyplot as plt
        >>> box = measure_on_demand(lambda row, column: (plt.figure(), f"{row} by {column}"), ["a"], ["b"])
        >>> box.children[2].click()
        >>> box.children[4].value
        "<span aria-live='polite'>a by b</span>"
    """
    first, second = (
        ipywidgets.Dropdown(options=list(options), description=name, style={"description_width": "initial"})
        for name, options in zip(names, (rows, columns), strict=True)
    )
    button = ipywidgets.Button(description="Measure")
    canvas = ipywidgets.Image(format="png", layout={"width": "620px", "display": "none"})
    words = ipywidgets.HTML()  # the picture in words, for those who can't see it

    def press(_: object) -> None:
        button.disabled, words.value = True, "<span aria-live='polite'>measuring …</span>"
        try:
            picture, said = measure(first.value, second.value)
            canvas.value = _png(picture)
            canvas.layout.display = None
        except Exception as error:  # ipywidgets would only log it
            said = f"not measured: {error}"
        words.value = f"<span aria-live='polite'>{html.escape(said)}</span>"
        button.disabled = False

    def choose(_: object) -> None:  # what is shown belongs to another choice
        canvas.layout.display = "none"
        asked = html.escape(f"{first.value}, {second.value}: not measured yet, press Measure")
        words.value = f"<span aria-live='polite'>{asked}</span>"

    first.observe(choose, "value")
    second.observe(choose, "value")
    button.on_click(press)
    return ipywidgets.VBox([first, second, button, canvas, words])
