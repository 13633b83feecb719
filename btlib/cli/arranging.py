"""Which cells of a lesson stand on which slide: one rule, so that lessons carry no marks for it.

A heading begins a slide, a large one a stack of them. A prediction stands alone, what answers it on the next slide. Of
a longer paragraph the first sentence is shown and the whole is in the notes, as are hints, folded code and what
pictures show. What would be too high is divided: heights are estimated here and checked in a browser by the tests.
"""

import base64
import html
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import nbformat
from nbformat import NotebookNode

#: Pixels: what fits below a slide's running head; a line of text, of code, a row of a table; the highest picture.
ROOM, TEXT, CODE, ROW, PICTURE = 610, 37, 24, 38, 460
#: Characters in a line of text and of code; words in a paragraph that is shown whole.
WIDE_TEXT, WIDE_CODE, WORDS = 84, 100, 40
_BLOCK = re.compile(
    r"<details.*?</details>|^```.*?^```|^\$\$.*?\$\$|^#+ [^\n]+|(?:^(?!<details|```|\$\$|#)[^\n]+(?:\n|\Z))+",
    re.DOTALL | re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<=[.!?…])(?<!Eq\.)(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z*\"(])")
_ITEM = re.compile(r"^(?=(?:[-*+]|\d+\.) )", re.MULTILINE)


@dataclass
class Slide:
    """What stands on one slide.

    Attributes:
        head: heading of its stack.
        opens: whether it is the first of its stack.
        cells: what is shown.
        notes: what the speaker sees, as Markdown.
        height: of the cells, estimated, in pixels.
    """

    head: str
    opens: bool = False
    cells: list[NotebookNode] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    height: float = 0


def arranged(lesson: NotebookNode) -> list[Slide]:
    """The slides of an executed lesson, in order; none is empty."""
    slides = [Slide("", opens=True)]
    for cell in lesson.cells:
        _add_text(slides, cell.source) if cell.cell_type == "markdown" else _add_code(slides, cell)
    return [slide for slide in slides if slide.cells]


def _next(slides: list[Slide]) -> None:
    """Begin another slide of the stack, unless the last one is still empty."""
    if slides[-1].cells:
        slides.append(Slide(slides[-1].head))


def _put(slides: list[Slide], cell: NotebookNode, height: float) -> None:
    if slides[-1].height + height > ROOM:
        _next(slides)
    slides[-1].cells.append(cell)
    slides[-1].height += height


def _add_text(slides: list[Slide], source: str) -> None:
    for block in (found[0].strip() for found in _BLOCK.finditer(source)):
        if heading := re.match(r"(#+) (.+)", block):
            if len(heading[1]) <= 2 and slides[-1].cells:
                slides.append(Slide(heading[2], opens=True))
            _next(slides)
            slides[-1].head = slides[-1].head or heading[2]
            _put(slides, nbformat.v4.new_markdown_cell(block), 80)
        elif block.startswith("<details"):
            slides[-1].notes.append(re.sub(r"</?details>|</?summary>", "", block))
        elif block.startswith(("**Predict first", "**Think")):
            _next(slides)
            _put(slides, nbformat.v4.new_markdown_cell(block, metadata={"prediction": True}), ROOM + 1)
        elif block.startswith(("```", "$$", "|", ">", "<")):
            _put(slides, nbformat.v4.new_markdown_cell(block), _text_height(block))
        else:
            _add_paragraph(slides, block)


def _add_paragraph(slides: list[Slide], block: str) -> None:
    """Items of a list one by one; of other text the first sentence where it is long."""
    for part in filter(None, map(str.strip, _ITEM.split(block))):
        first, *more = _SENTENCE.split(part)
        if len(part.split()) <= WORDS or not more:
            first, more = part, []
        _put(slides, nbformat.v4.new_markdown_cell(first), _text_height(first))
        if more:
            slides[-1].notes.append(part)


def _add_code(slides: list[Slide], cell: NotebookNode) -> None:
    tags, folded = cell.metadata.get("tags", ()), cell.metadata.get("jupyter", {}).get("source_hidden")
    exercise = re.search(r"^@(?:\w+\.)*exercise\(", cell.source, re.MULTILINE)
    if "injected-parameters" in tags or re.match(r"(?:\w+\.)*reveal\(", cell.source):
        return
    if folded:
        slides[-1].notes.append(f"```python\n{cell.source}\n```")
    elif cell.source.strip():
        for part in _screens(cell.source):
            _put(slides, nbformat.v4.new_code_cell(part), CODE * _lines(part, WIDE_CODE) + 14)
    for output in () if exercise else cell.outputs:
        said = output.get("data", {})
        if output.output_type == "stream" and (folded or output.name == "stderr"):
            continue
        shown = nbformat.v4.new_code_cell("", outputs=[output], metadata={"transient": {"remove_source": True}})
        _put(slides, shown, _output_height(output))
        slides[-1].notes += [f"*Picture:* {html.unescape(alt)}" for alt in
                             re.findall(r'<img[^>]*\balt="([^"]+)"', "".join(said.get("text/html", "")))]  # fmt: skip


def _screens(source: str) -> Iterator[str]:
    """Code in parts that fit a slide, divided before a line that is not indented where there is one."""
    lines = source.splitlines()
    most = ROOM // CODE - 1
    while len(lines) > most + 2:
        cuts = [place for place in range(most // 2, most + 1) if lines[place][:1].strip()]
        cut = cuts[-1] if cuts else most
        yield "\n".join(lines[:cut])
        lines = lines[cut:]
    yield "\n".join(lines)


def _lines(text: str, wide: int) -> int:
    return sum(max(1, math.ceil(len(line) / wide)) for line in text.splitlines())


def _text_height(block: str) -> float:
    """Of a block of Markdown; lines of a paragraph flow together."""
    if block.startswith("|"):
        return ROW * (len(block.splitlines()) - 1) + 20
    if block.startswith("```"):
        return CODE * _lines(block, WIDE_CODE)
    if block.startswith("$$"):
        return 60 + 70 * block.count(r"\\")
    return TEXT * math.ceil(len(block) / WIDE_TEXT) + 18


def _output_height(output: NotebookNode) -> float:
    data = output.get("data", {})
    page = "".join(data.get("text/html", ""))
    if page:
        rows, pictures = page.count("<tr"), sum(_picture_heights(page))
        text = 0 if rows or pictures else len(re.sub("<[^>]+>", "", page)) / WIDE_TEXT
        return pictures + ROW * rows + TEXT * text + 30
    if "image/png" in data:
        return PICTURE + 20
    if "text/markdown" in data:
        return _text_height("".join(data["text/markdown"]))
    plain = "".join(output.get("text") or data.get("text/plain") or output.get("evalue", ""))
    return CODE * _lines(plain, WIDE_CODE) + 24


def _picture_heights(page: str) -> Iterator[float]:
    """Of the PNGs in a page, as they are shown."""
    for start in re.findall(r"data:image/png;base64,\s*([A-Za-z0-9+/\n]{48})", page):
        head = base64.b64decode(start)  # signature, length, IHDR, width, height
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
        yield min(PICTURE, height * min(1, 1160 / max(1, width))) + 12
