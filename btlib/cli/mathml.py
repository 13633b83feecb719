"""Equations as MathML, which every current browser draws and screen readers read, without a script or a network."""

import html
import re

from latex2mathml.converter import convert

# What latex2mathml lacks, as what it knows.
SPELLINGS = (
    (r"\\begin\{(aligned|split)\}", r"\\begin{align*}"),
    (r"\\end\{(aligned|split)\}", r"\\end{align*}"),
    (r"\\arg\s*\\(min|max)(?![a-z])", r"\\arg\1"),
    (r"\\operatorname\*?\{arg\s*(?:\\,)?\s*(min|max)\}", r"\\arg\1"),
    (r"\\operatorname\*", r"\\operatorname"),
)


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


def equation(tex: str) -> str:
    r"""An equation on a line of its own; one within ``\begin{equation}`` is taken out of that."""
    inner = re.fullmatch(r"\s*\\begin\{(equation\*?)\}(.*)\\end\{\1\}\s*", tex, re.DOTALL)
    return f'<div class="equation">{to_mathml(inner[2] if inner else tex, "block")}</div>'
