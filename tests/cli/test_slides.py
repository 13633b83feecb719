"""Slides: one rule for what stands where."""

import base64
import re

import nbformat
import pytest

from btlib.cli.arranging import ROOM, arranged
from btlib.cli.export import deck

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (900).to_bytes(4, "big") + (600).to_bytes(4, "big")
                       + bytes(40)).decode()  # fmt: skip
LONG = "The first sentence stands alone. " + "Words that only the speaker reads follow it here. " * 6


def text(source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source)


def code(source: str, *outputs: dict, **metadata) -> nbformat.NotebookNode:
    made = [nbformat.v4.new_output("display_data", data) for data in outputs]
    return nbformat.v4.new_code_cell(source, outputs=made, metadata=metadata)


def slides(*cells: nbformat.NotebookNode) -> list[tuple[list[str], str]]:
    """What each slide shows, and its notes."""
    made = arranged(nbformat.v4.new_notebook(cells=list(cells)))
    return [([cell.source or "output" for cell in slide.cells], "\n".join(slide.notes)) for slide in made]


PICTURE = {"text/html": f'<img alt="nine coats &amp; a boot" src="data:image/png;base64,{PNG}">'}


def test_a_prediction_stands_alone_and_its_answer_comes_next() -> None:
    shown = slides(
        text("# L\n\nintro"), text("## Part\n\nBefore.\n\n**Predict first.** Which?"), code("look()", PICTURE)
    )
    assert [cells for cells, _ in shown] == [
        ["# L", "intro"], ["## Part", "Before."], ["**Predict first.** Which?"], ["look()", "output"],
    ]  # fmt: skip


def test_a_large_heading_opens_a_stack_and_a_small_one_a_slide() -> None:
    made = arranged(nbformat.v4.new_notebook(cells=[text("# L"), text("## A\n\na\n\n### b\n\nc"), text("## B")]))
    assert [(slide.head, slide.opens) for slide in made] == [("L", True), ("A", True), ("A", False), ("B", True)]


def test_long_text_is_said_and_its_first_sentence_shown() -> None:
    ((shown, notes),) = slides(text(f"# L\n\n{LONG}\n\nA short one, by Eq. 6. It stays whole."))
    assert shown == ["# L", "The first sentence stands alone.", "A short one, by Eq. 6. It stays whole."]
    assert LONG.strip() in notes


def test_hints_folded_code_and_pictures_in_words_are_in_the_notes() -> None:
    hint = "<details><summary>Hint 1</summary>\n\nlook **there**\n\n</details>"
    folded = code("import torch", tags=["setup"], jupyter={"source_hidden": True})
    folded.outputs = [nbformat.v4.new_output("stream", name="stdout", text="profile fast")]
    answer = code('@exercise("asr")\ndef asr(): ...')
    answer.outputs = [nbformat.v4.new_output("stream", name="stdout", text="not answered yet")]
    injected = code("PROFILE = 1", tags=["injected-parameters"])
    shown = slides(
        text("# L"), injected, folded, answer, text(hint), code('reveal("asr")', PICTURE), code("see()", PICTURE)
    )
    assert [one for cells, _ in shown for one in cells] == ["# L", answer.source, "see()", "output"]
    notes = "\n".join(notes for _, notes in shown)
    for wanted in ("import torch", "look **there**", "nine coats & a boot"):
        assert notes.count(wanted) == 1, wanted


@pytest.mark.parametrize(
    "cells",
    [
        [text("# L\n\n" + "\n".join(f"{k}. " + "word " * 30 for k in range(1, 20)))],
        [text("# L"), *[code("x = 1\n" * 12, PICTURE) for _ in range(3)]],
        [text("# L\n\n" + "\n\n".join("A paragraph of some words that is shown whole. " * 3 for _ in range(12)))],
    ],
)
def test_what_is_too_high_is_divided_and_nothing_is_lost(cells) -> None:
    made = arranged(nbformat.v4.new_notebook(cells=cells))
    assert len(made) > 2
    assert max(slide.height for slide in made) <= ROOM
    shown = " ".join(cell.source for slide in made for cell in slide.cells)
    assert re.findall(r"\w+", shown) == re.findall(r"\w+", " ".join(cell.source for cell in cells))


def test_a_deck_is_one_page_with_all_it_needs() -> None:
    lesson = nbformat.v4.new_notebook(cells=[
        text("# Lesson 00 — <Tiny>"), text("**Predict first.** $x_1$?"), code("1 < 2", PICTURE), text("## B"),
    ])  # fmt: skip
    page = deck(lesson)
    assert page.count("<section") == page.count("</section>")
    assert page.count('<section class="prediction">') == 1
    assert "<msub>" in page
    assert 'alt="nine coats &amp; a boot"' in page
    assert "Reveal.initialize" in page
    assert "MIT licensed" in page  # reveal.js itself, with its licence
    assert re.findall(r"""(?:src|href)=["']?https?:""", page) == []
    assert "<title>Lesson 00 — &lt;Tiny&gt;</title>" in page
