"""Every lesson: run all, move each control, run all again, in order and in random orders.

In a kernel, no browser needed: `make browser-test`. BTLIB_ORDERS says how many random orders, default 3.
"""

import os
import random
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from btlib.paths import notebooks

pytestmark = pytest.mark.browser
CELL_S = 1800
ORDERS = int(os.environ.get("BTLIB_ORDERS", "3"))

# What a hand would do, in the lesson's own kernel. A picture or words beside the control have to change.
TOUCH = """
import ipywidgets as _w

_CONTROLS = (_w.IntSlider, _w.FloatSlider, _w.SelectionSlider, _w.Dropdown, _w.Button)


def _all(kinds):
    return [one for one in list(_w.widget._instances.values()) if isinstance(one, kinds) and one.comm is not None]


def _shown():
    return [one.value for one in _all((_w.Image, _w.HTML))]


def _other(control):
    if isinstance(control, (_w.SelectionSlider, _w.Dropdown)):
        values = [one[1] if isinstance(one, tuple) else one for one in control.options]
        return next(value for value in reversed(values) if value != control.value)
    return control.max if control.value != control.max else control.min


_touched = 0
_by_interact = [(one, child) for one in _all(_w.interactive) for child in one.kwargs_widgets]
for _whole, _control in _by_interact:  # what it draws is put together by the page, so its function is called instead
    assert _whole.f(**(_whole.kwargs | {_control._kwarg: _other(_control)})) is None
    _touched += 1
for _control in _all(_CONTROLS):
    if any(_control is child for _, child in _by_interact):
        continue
    _before = _shown()
    if isinstance(_control, _w.Button):
        _control.click()
    else:
        _first, _control.value = _control.value, _other(_control)
    _touched += 1
    assert _shown() != _before, f"nothing changed: {_control.description!r}"
    if not isinstance(_control, _w.Button):
        _control.value = _first
print(f"touched {_touched}")
"""


@pytest.mark.parametrize("lesson", sorted(notebooks().glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_control_works_after_the_whole_lesson_and_so_does_every_cell(lesson: Path) -> None:
    notebook = nbformat.read(lesson, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    touching = nbformat.v4.new_code_cell(TOUCH)
    notebook.cells.append(touching)
    for order in range(1 + ORDERS):
        again = deepcopy(code)
        for cell in again:
            cell.id = nbformat.v4.new_code_cell().id
        notebook.cells += random.Random(order).sample(again, len(again)) if order else again
    client = NotebookClient(
        notebook, timeout=CELL_S, kernel_name="python3", resources={"metadata": {"path": str(notebooks())}}
    )
    client.execute()
    said = "".join(output.get("text", "") for output in touching.outputs)
    controls = sum("widgets." in cell.source for cell in code)
    assert said.startswith("touched ")
    assert controls == 0 or "touched 0" not in said
