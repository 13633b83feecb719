"""Settings of Sphinx for `btlib site`, which puts the sources together (btlib/cli/site_pages.py)."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import btlib
from btlib.cli.mathml import equation, to_mathml

project, author, copyright = "Backdoors in neural networks", "the authors of btlib", "the authors of btlib, MIT licence"
version = release = btlib.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Lessons: executed before, never here.
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # widgets are still pictures; their scripts would come from elsewhere
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars
nb_mime_priority_overrides = [("html", kind, place) for place, kind in enumerate(
    ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"), 1)]  # fmt: skip
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type"]

# Modules, from their docstrings.
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "groupwise"
default_role = "literal"

html_theme = "furo"
html_title = project
html_static_path = ["site.css", "site.js"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # would read other pages, which a browser forbids among local files
html_math_renderer = "mathml"
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(to_mathml(node.astext()))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(equation(node.astext()))
    raise nodes.SkipNode


def _levels(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """A heading says of which level it is; Sphinx's captions do not."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Sphinx) -> None:
    """Equations need neither a script nor a network."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("html-page-context", _levels, priority=900)  # after the theme
