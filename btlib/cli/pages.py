"""Pages from templates, everything put into them escaped."""

from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from btlib.paths import TEMPLATES


def render(template: str, **values: Any) -> str:
    """A page in HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(template).render(**values)
