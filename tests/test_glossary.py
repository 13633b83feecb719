"""Symbols and words mean one thing each: the lessons against docs/glossary.md."""

import re

import nbformat
import pytest

from btlib.paths import notebooks

LESSONS = {path.stem[:2]: nbformat.read(path, as_version=4) for path in sorted(notebooks().glob("*.ipynb"))}
PAGE = (notebooks().parent / "docs" / "glossary.md").read_text(encoding="utf-8")
MATH = r"\$\$.+?\$\$|\$[^$\n]+?(?:\n[^$\n]+?)?\$"
# Signs, functions and layout, which mean what they mean everywhere.
SIGNS = {
    "frac", "tfrac", "sum", "min", "max", "log", "ln", "exp", "tanh", "det", "arg", "left", "right", "big", "Big",
    "qquad", "quad", "cdot", "odot", "circ", "ge", "le", "ne", "in", "notin", "cup", "to", "pm", "infty", "approx",
    "nabla", "top", "lVert", "rVert", "lfloor", "rfloor", "sqrt", "mid", "dots",
}  # fmt: skip


def prose(lesson: nbformat.NotebookNode) -> str:
    """All text of a lesson, without code in it."""
    text = "\n\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    return re.sub(r"```.*?```|`[^`\n]*`", " ", text, flags=re.DOTALL)


def symbols(text: str) -> set[str]:
    """The letters in equations, with hats and tildes, without what is written as a word."""
    found = set()
    for equation in re.findall(MATH, text, re.DOTALL):
        bare = re.sub(r"\\(?:text|textit|mathrm|operatorname\*?)\s*\{[^}]*\}|\\mathbb ?1", " ", equation)
        bare = re.sub(r"_\{(?:all|max)\}|_\{\\max\}", " ", bare)
        for sign in re.findall(r"\\(?:hat|tilde|mathcal)\s*\{?\\?[A-Za-z]+\}?|\\[A-Za-z]+|[A-Za-z]", bare):
            if sign.removeprefix("\\") not in SIGNS:
                found.add(re.sub(r"[{} ]", "", sign))
    return found


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    part = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


TABLE = {name: row[1] for row in rows("Symbols") for name in symbols(row[0] + row[1]) if name in symbols(row[0])}
WORDS = rows("Words")


@pytest.mark.parametrize("number", LESSONS)
def test_every_symbol_of_a_lesson_is_in_the_table(number: str) -> None:
    known = set().union(*(symbols(" ".join(row[:2])) for row in rows("Symbols")))
    assert symbols(prose(LESSONS[number])) - known == set()


def test_a_symbol_stands_in_one_row_and_none_is_idle() -> None:
    first_cells = [name for row in rows("Symbols") for name in symbols(row[0])]
    assert sorted(first_cells) == sorted(set(first_cells))
    used = set().union(*(symbols(prose(lesson)) for lesson in LESSONS.values()))
    assert set(TABLE) - used == set()


@pytest.mark.parametrize("row", WORDS, ids=lambda row: row[0])
def test_a_word_is_explained_where_the_glossary_says_and_pointed_to_before(row: list[str]) -> None:
    word, _, home = row
    said = re.compile(rf"(?<![\w-]){re.escape(word)}", 0 if word.isupper() else re.IGNORECASE)
    assert re.search(rf"\*\*[^*]*{re.escape(word)}", prose(LESSONS[home]), re.IGNORECASE), f"not bold in lesson {home}"
    for number, lesson in LESSONS.items():
        if number < home and said.search(prose(lesson)):
            assert re.search(rf"\blessons?\b[^.]*\b{home}\b", prose(lesson)), (
                f"{number} uses it, and names no lesson {home}"
            )


@pytest.mark.parametrize("word", ["bridge", "tunnel", "spur", "crooked"])
def test_one_idea_has_one_word(word: str) -> None:
    assert [n for n, lesson in LESSONS.items() if re.search(rf"\b{word}s?\b", prose(lesson), re.IGNORECASE)] == []


def test_the_supplier_sells_pictures_and_nothing_else() -> None:
    assert {n for n, lesson in LESSONS.items() if re.search(r"\bsuppliers?\b", prose(lesson), re.IGNORECASE)} <= {
        "00",
        "02",
    }


def test_symbols_are_found_in_equations_only() -> None:
    assert symbols(r"a word $\tilde x = \frac{1}{n} \sum_i \text{size}$ and $\mathcal{S}^*$") == {
        r"\tildex", "n", "i", r"\mathcalS",
    }  # fmt: skip
