"""The page of a course run: every name in it is text, never markup."""

from html.parser import HTMLParser

from btlib.cli.execute import CellError, LessonRun
from btlib.cli.report import index_page

EVIL = """<script>alert("1")</script> & 'co'"""


class Seen(HTMLParser):
    """Tags, links and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_titles_and_errors_are_text() -> None:
    run = LessonRun('03_"><script>', EVIL, 61.26, 512.6, 20, CellError(3, "ValueError", EVIL))
    seen = Seen(index_page([run], EVIL))
    assert "script" not in seen.tags
    assert seen.text.count(EVIL) == 3  # title, error and profile
    assert seen.links == ["03_%22%3E%3Cscript%3E.html", "03_%22%3E%3Cscript%3E.ipynb"]


def test_the_table_says_what_was_run() -> None:
    runs = [LessonRun("00_start", "Lesson 00", 12.34, 512.6, 20),
            LessonRun("01_next", "Lesson 01", 70.0, 1512.4, 33, CellError(3, "ValueError", "no"))]  # fmt: skip
    seen = Seen(index_page(runs, "fast"))
    assert "1 of 2 lessons passed at the fast profile, in 82 seconds." in seen.text
    assert seen.tags.count("tr") == 1 + 2 + 1  # the head, two lessons, an error
    assert seen.tags.count("th") == 6
    for text in ("Lesson 00", "passed", "12.3", "513", "failed", "1512", "cell 3: ValueError: no"):
        assert text in seen.text
