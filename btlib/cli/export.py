"""A lesson as slides: one page with all that it needs, reveal.js included.

nbconvert's own templates fetch reveal.js, MathJax and the widgets' code from elsewhere, and lose what pictures show.
Here equations become MathML; widgets become still pictures.
"""

from collections.abc import Sequence
from copy import deepcopy
from html import escape
from typing import Any

import nbformat
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from btlib.cli.arranging import arranged
from btlib.cli.lessons import title_of
from btlib.cli.mathml import equation, to_mathml
from btlib.cli.widget_state import freeze_widgets
from btlib.paths import TEMPLATES


def deck(executed: nbformat.NotebookNode) -> str:
    """A lesson's slides: one page that needs nothing else.

    Args:
        executed: a lesson with its outputs; stays as it is.
    """
    still = deepcopy(executed)
    freeze_widgets(still)
    cells = []
    for place, slide in enumerate(arranged(still)):
        stack = ("</section>\n" if place else "") + "<section>" if slide.opens else ""
        running = "" if slide.opens else f'<p class="running">{escape(slide.head)}</p>'
        notes = nbformat.v4.new_markdown_cell("\n\n".join(slide.notes))
        notes.metadata.update(before='<aside class="notes">', after="</aside></section>")
        kind = ' class="prediction"' if "prediction" in slide.cells[0].metadata else ""
        slide.cells[0].metadata["before"] = f"{stack}<section{kind}>{running}"
        cells += [*slide.cells, notes]
    return slides_page(cells, title_of(still, "Lesson"))


def slides_page(cells: Sequence[nbformat.NotebookNode], title: str) -> str:
    """The page, in HTML. What stands before and after a cell is in its metadata."""
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata={"title": title})
    exporter = PageExporter(template_name="slides", extra_template_basedirs=[str(TEMPLATES)])
    page, _ = exporter.from_notebook_node(notebook)
    return str(page)


class MathRenderer(IPythonRenderer):
    """nbconvert's markdown renderer, with equations drawn at once instead of left to a script.

    Pictures written as `![…](file)` are put into the page.
    """

    def _html_embed_images(self, html: str) -> str:
        """Leave raw HTML alone: nbconvert would close `<details>` before the text that it holds."""
        return html

    def inline_math(self, body: str) -> str:
        """An equation within a line: `$…$`."""
        return to_mathml(body)

    def block_math(self, body: str) -> str:
        """An equation on a line of its own: `$$…$$`."""
        return equation(body)

    def latex_environment(self, name: str, body: str) -> str:
        r"""An equation written as `\begin{name}…\end{name}`."""
        return equation(rf"\begin{{{name}}}{body}\end{{{name}}}")


class PageExporter(HTMLExporter):
    """nbconvert's HTML exporter with the course's template and renderer."""

    @property
    def default_config(self) -> Any:
        """Show what needs no script: HTML before pictures before text."""
        config = super().default_config
        kinds = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]
        config.NbConvertBase.display_data_priority = kinds
        return config

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Markdown to HTML, equations included."""
        attachments = context.get("cell", {}).get("attachments", {})
        path = context.get("resources", {}).get("metadata", {}).get("path", "")
        renderer = MathRenderer(
            escape=False, attachments=attachments, embed_images=True, path=path, exclude_anchor_links=True
        )
        return str(MarkdownWithMath(renderer=renderer).render(source))
