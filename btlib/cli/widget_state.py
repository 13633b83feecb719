"""Widgets without Jupyter: the state that a run leaves in the notebook, and a still picture of it."""

import html
from collections.abc import Iterator
from typing import Any

import nbformat

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
NOTE = "Interactive in JupyterLab; here is how the run left it."


def models(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Each widget's model by its id; empty where the notebook showed no widget."""
    return dict(notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {}))


def widget_outputs(notebook: nbformat.NotebookNode) -> Iterator[dict[str, Any]]:
    """What was printed, shown or raised inside the notebook's Output widgets."""
    for model in models(notebook).values():
        yield from model["state"].get("outputs", ())


def freeze_widgets(notebook: nbformat.NotebookNode) -> None:
    """Put a still picture, as HTML, in place of each widget, and drop the state. Changes `notebook`.

    A progress bar goes: it has nothing to say once the run is over.
    """
    known = models(notebook)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [one for one in cell.outputs if not _is_progress(known, one.get("data", {}).get(VIEW))]
        for output in cell.get("outputs", ()):
            view = output.get("data", {}).get(VIEW)
            if view:
                parts = "".join(_still(known, view["model_id"]))
                output.data = {"text/html": f'<div class="widget" title="{NOTE}">{parts}</div>'}
    notebook.metadata.pop("widgets", None)


def _is_progress(known: dict[str, Any], view: dict[str, Any] | None) -> bool:
    """Whether a view is that of a progress bar, with its words on both sides (tqdm), and of nothing else."""
    children = known.get(view["model_id"], {}).get("state", {}).get("children", ()) if view else ()
    kinds = [known.get(child.removeprefix("IPY_MODEL_"), {}).get("model_name", "") for child in children]
    return any("Progress" in kind for kind in kinds) and all("Progress" in kind or kind[:4] == "HTML" for kind in kinds)


def _still(known: dict[str, Any], model_id: str) -> Iterator[str]:
    """The visible parts of a widget and of those it holds, in order."""
    model = known.get(model_id)
    if model is None:
        return
    state, kind = model["state"], model["model_name"]
    if kind in ("HTMLModel", "HTMLMathModel"):
        yield f"<span>{state.get('value', '')}</span> "
    elif kind == "ImageModel":
        yield from _picture(model)
    elif kind == "OutputModel":
        yield from map(_shown, state.get("outputs", ()))
    elif "value" in state and "Progress" not in kind:
        yield f"<span>{html.escape(_label(state))}</span> "
    for child in state.get("children", ()):
        yield from _still(known, child.removeprefix("IPY_MODEL_"))


def _label(state: dict[str, Any]) -> str:
    """A slider or another control, in words."""
    description = state.get("description") or ""
    return f"{description}: {state['value']}" if description else str(state["value"])


def _picture(model: dict[str, Any]) -> Iterator[str]:
    """The bytes of an Image widget, which travel beside its state."""
    state = model["state"]
    alt = html.escape(state.get("tooltip") or "the widget's picture at the end of the run")
    for buffer in model.get("buffers", ()):
        yield f'<img alt="{alt}" src="data:image/{state.get("format", "png")};base64,{buffer["data"]}">'


def _shown(output: dict[str, Any]) -> str:
    """One output inside an Output widget."""
    data = output.get("data", {})
    if "text/html" in data:
        return "".join(data["text/html"])
    if "image/png" in data:
        alt = html.escape(output.get("metadata", {}).get("image/png", {}).get("alt", "the widget's picture"))
        return f'<img alt="{alt}" src="data:image/png;base64,{data["image/png"]}">'
    text = data.get("text/plain") or output.get("text") or f"{output.get('ename')}: {output.get('evalue')}"
    return f"<pre>{html.escape(''.join(text))}</pre>"
