"""A finished figure in a notebook, with its description in words."""

import base64
import html
import io
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from IPython.display import HTML


def show(figure: Figure, alt: str, *, dpi: int = 110) -> None:
    """Display a figure in a notebook with a description for those who can't see it, and close it.

    Args:
        figure: a finished matplotlib figure.
        alt: what is seen and what it means, in a sentence or two.
        dpi: resolution, dots per inch.

    Raises:
        ValueError: an empty or much too short description.

    Example:
        >>> fig, ax = plt.subplots()
        >>> show(fig, "")
        Traceback (most recent call last):
        ...
        ValueError: alt: expected a sentence that says what is seen, got ''; describe the figure in words
    """
    show_png(png(figure, dpi=dpi), alt)


def show_png(picture: bytes, alt: str) -> None:
    """Display a PNG, such as `widgets.draw_trigger` makes, with a description for those who can't see it.

    Args:
        picture: PNG bytes.
        alt: what is seen and what it means, in a sentence or two.

    Raises:
        ValueError: an empty or much too short description.

    Example:
        >>> show_png(png(plt.figure()), "nothing")
        Traceback (most recent call last):
        ...
        ValueError: alt: expected a sentence that says what is seen, got 'nothing'; describe the figure in words
    """
    from IPython.display import display  # comes with Jupyter; figures of `scan` are drawn without

    display(described(picture, alt))


def described(picture: bytes, alt: str) -> "HTML":
    """What `show_png` displays: a PNG in an `<img>` with its description.

    nbconvert's lab template drops the alt text of a PNG output; in an `<img>` it survives everywhere.

    Raises:
        ValueError: an empty or much too short description.

    Example:
        >>> described(png(plt.figure()), "An empty figure, as an example.").data[:25]
        '<img alt="An empty figure'
    """
    if len(alt.strip()) < 20:
        raise ValueError(f"alt: expected a sentence that says what is seen, got {alt!r}; describe the figure in words")
    from IPython.display import HTML

    data = base64.b64encode(picture).decode()
    return HTML(f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}" style="max-width: 100%">')


def png(figure: Figure, *, dpi: int = 110) -> bytes:
    """A figure as PNG bytes, with its margins trimmed.

    Example:
        >>> png(plt.figure())[:4]
        b'\\x89PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return buffer.getvalue()
