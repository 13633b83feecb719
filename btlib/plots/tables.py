"""Numbers as sentences and tables in a notebook."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def say(*sentences: str | Iterable[str]) -> None:
    """Show sentences, in markdown, below a cell; several, or those of a list, become a list.

    Example:
        >>> say("The backdoor works for **98 %** of the images.")
        <IPython.core.display.Markdown object>
    """
    from IPython.display import Markdown, display

    flat = [one for said in sentences for one in ([said] if isinstance(said, str) else said)]
    alone = len(sentences) == 1 and isinstance(sentences[0], str)
    display(Markdown(flat[0] if alone else "\n".join(f"* {one}" for one in flat)))


def table(
    rows: Any, *, digits: int | Mapping[str, int] = 3, caption: str = "", index: str | Sequence[str] | None = None,
    folded: bool = False,
) -> None:  # fmt: skip
    """Show a table: numbers rounded, shares of nothing as a dash, yes and no instead of True and False.

    Args:
        rows: a pandas table; row → column → value; or a list of rows, each column → value.
        digits: behind the point, for all columns or for each by its name.
        caption: what the table shows.
        index: the columns that name a row, of a list of rows.
        folded: only the caption is seen until it is clicked.

    Example:
        >>> table({"clean twin": {"ACC": 0.9, "ASR": 0.01}}, caption="Accuracy and success")
        <IPython.core.display.HTML object>
    """
    from IPython.display import HTML, display
    from pandas.io.formats.style import Styler

    frame = as_frame(rows, index)
    places = digits if isinstance(digits, Mapping) else dict.fromkeys(frame.columns, digits)
    shown = frame.copy().astype(object)
    for column in frame.columns:
        shown[column] = [_cell(value, places.get(column, 3)) for value in frame[column]]
    names = frame.index.names if any(frame.index.names) else None
    style = Styler(shown, uuid="t", cell_ids=False).format(escape="html")
    style = style.format_index(escape="html").format_index(escape="html", axis=1)
    style = style.set_caption("" if folded else caption).set_table_attributes('class="dataframe"')
    page = style.to_html(index_names=bool(names)).replace('<table id="T_t"', "<table", 1)  # a page may hold many
    display(HTML(f"<details><summary>{html.escape(caption)}</summary>{page}</details>" if folded else page))


def as_frame(rows: Any, index: str | Sequence[str] | None = None) -> Any:
    """The pandas table that `table` shows of `rows`.

    Example:
        >>> as_frame([{"network": "clean twin", "ACC": 0.9}], "network").ACC.tolist()
        [0.9]
    """
    import pandas as pd

    if isinstance(rows, Mapping):
        return pd.DataFrame.from_dict({name: dict(row) for name, row in rows.items()}, orient="index")
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    if isinstance(rows, pd.Series):
        frame = rows.to_frame()
    if index is not None:
        frame = frame.set_index(index if isinstance(index, str) else list(index))
    return frame


def _cell(value: Any, digits: int) -> str:
    """One value as it is read."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
