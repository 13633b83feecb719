"""An executed lesson as one page that needs neither Jupyter nor a network.

nbconvert's own templates fetch MathJax, require.js and the widgets' code from elsewhere. Here equations
become MathML, which every current browser draws and screen readers read; widgets become still pictures.
"""

import copy
import html
import re
from typing import Any

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from btlib.cli.widget_state import freeze_widgets
from btlib.paths import TEMPLATES

# What latex2mathml lacks, as what it knows.
SPELLINGS = (
    (r"\\begin\{(aligned|split)\}", r"\\begin{align*}"),
    (r"\\end\{(aligned|split)\}", r"\\end{align*}"),
    (r"\\arg\s*\\(min|max)(?![a-z])", r"\\arg\1"),
    (r"\\operatorname\*?\{arg\s*(?:\\,)?\s*(min|max)\}", r"\\arg\1"),
    (r"\\operatorname\*", r"\\operatorname"),
)


def lesson_page(notebook: nbformat.NotebookNode, title: str) -> str:
    """The page, in HTML. `notebook` stays as it is."""
    still = copy.deepcopy(notebook)
    freeze_widgets(still)
    still.metadata["title"] = title
    exporter = PageExporter(template_name="lesson", extra_template_basedirs=[str(TEMPLATES)])
    page, _ = exporter.from_notebook_node(still)
    return str(page)


def to_mathml(tex: str, display: str = "inline") -> str:
    """An equation as MathML, or as its TeX source where that is beyond latex2mathml."""
    for pattern, replacement in SPELLINGS:
        tex = re.sub(pattern, replacement, tex)
    try:
        mathml = convert(tex, display=display)
    except Exception:  # its errors have no common class
        mathml = ""
    understood = mathml and "\\" not in mathml and "<mi>&</mi>" not in mathml
    mathml = re.sub("<mo>(?=&#x02016;)", '<mo stretchy="false">', mathml)  # bars, as TeX draws them
    return mathml if understood else f'<code class="tex">{html.escape(tex)}</code>'


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
        return f'<div class="equation">{to_mathml(body, "block")}</div>'

    def latex_environment(self, name: str, body: str) -> str:
        r"""An equation written as `\begin{name}…\end{name}`."""
        wrapped = body if name in ("equation", "equation*") else rf"\begin{{{name}}}{body}\end{{{name}}}"
        return self.block_math(wrapped)


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
            escape=False, attachments=attachments, embed_images=True, path=path, anchor_link_text="¶"
        )
        return str(MarkdownWithMath(renderer=renderer).render(source))
