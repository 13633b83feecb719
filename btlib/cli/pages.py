"""Pages from templates, everything put into them escaped."""

from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from btlib.paths import TEMPLATES


def render(template: str, **values: Any) -> str:
    """A page in HTML; `css` in the template is the course's style."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    css = (TEMPLATES / "lesson" / "page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(css=css, **values)
