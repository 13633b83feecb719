"""The site, from lessons that look as if they had run."""

import os
import re
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import typer

from btlib.cli import anywhere, needs
from btlib.cli.check import CheckResult
from btlib.cli.course import run_missing
from btlib.cli.lessons import LessonError, Minutes
from btlib.cli.site_build import build
from btlib.cli.site_pages import chapter, reading_copy
from btlib.paths import CHECKOUT

HEAD = """# Lesson 00 — Start

*One line about it.*

**Time:** about 55 minutes to read, and 5 for the optional parts. **Needs:** a laptop; no
GPU. More.

## Objectives

1. **say** what
"""
TEXT = """## Part

Where $\\Delta_1$ is, and $$\\frac{a}{b}$$ see [choices](../docs/choices.md) and [a result](../results/arms-race.json).

<details><summary>Hint</summary>

look at `q`

</details>"""
EVIL = "<script>alert(1)</script> ```~~~"
RUN = {"lesson": "00_start", "status": "passed", "title": "x", "seconds": 61.26, "peak_mb": 512.6, "cells": 20}
FAILED = RUN | {"status": "failed", "error": {"cell": 3, "name": "ValueError", "message": EVIL}}


def lesson(run: dict | None, head: str = HEAD) -> nbformat.NotebookNode:
    picture = nbformat.v4.new_output("display_data", {"text/html": '<img alt="nine coats" src="data:,">'})
    folded = {"tags": ["checks"], "jupyter": {"source_hidden": True}}
    cells = [
        nbformat.v4.new_markdown_cell(head),
        nbformat.v4.new_code_cell("PROFILE = 'x'", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_markdown_cell(TEXT),
        nbformat.v4.new_code_cell("show()", outputs=[picture]),
        nbformat.v4.new_code_cell("assert 1 + 1 == 2", metadata=folded),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        **({"btlib": run} if run else {}),
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


class Links(HTMLParser):
    """Addresses that a page asks for by itself, and those it leads to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.leads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href") and value:
                (self.leads if tag == "a" else self.asked).append(value)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site of two lessons that ran, one of them badly, and one that did not; and what Sphinx complained of."""
    if missing := needs.lacking("site"):
        pytest.skip(f"needs {', '.join(missing)}: pip install btlib[site]")
    base = tmp_path_factory.mktemp("course")
    for folder, runs in (("notebooks", (None, None, None)), ("executed", (RUN, FAILED))):
        (base / folder).mkdir()
        for number, run in enumerate(runs):
            notebook = lesson(run, HEAD.replace("00", f"0{number}"))
            nbformat.write(notebook, base / folder / f"0{number}_start.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BTLIB_REPOSITORY", "owner/name")
        complaints: list[str] = []
        patch.setattr("typer.echo", lambda text, **_: complaints.append(text))
        build(CHECKOUT, base / "notebooks", base / "executed", base / "site")
    return base / "site", "".join(complaints)


def read(made: tuple[Path, str], page: str) -> str:
    return (made[0] / page).read_text(encoding="utf-8")


def test_sphinx_has_nothing_to_complain_of(made) -> None:
    assert made[1] == ""


def test_nothing_is_left_beside_the_site(made) -> None:
    assert sorted(path.name for path in made[0].parent.iterdir()) == ["executed", "notebooks", "site"]


def test_the_front_page_has_picture_minutes_needs_and_objectives(made) -> None:
    page = read(made, "index.html")
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page))
    for wanted in (
        "One line about it.",
        "55 minutes",
        "and 5 for optional parts",
        "Needs: a laptop; no GPU.",
        "say what",
    ):
        assert wanted in text, wanted
    assert re.search(r'<img alt="Seven Fashion-MNIST[^>]+backdoor\.png', page)
    assert 'href="notebooks/00_start.html"' in page
    assert "notebooks/02_start" not in page, "a lesson that has not run has no page"
    assert text.count("Not run yet") == 1


def test_a_lesson_is_tidied_for_reading(made) -> None:
    page = read(made, "notebooks/00_start.html")
    assert "<msub>" in page  # the equations are drawn
    assert "<mfrac>" in page
    assert 'alt="nine coats"' in page
    assert "PROFILE" not in page, "papermill's own cell is none of the lesson's"
    assert page.index("<summary>Hint") < page.index(">q<") < page.index("</details>", page.index(">q<"))
    assert re.search(r'<details class="[^"]*hide above-input">\s*<summary[^>]*>.*?checks', page, re.DOTALL)
    assert 'href="../docs/choices.html"' in page
    assert "https://github.com/owner/name/blob/main/results/arms-race.json" in page
    assert 'href="../slides/00_start.html"' in page
    assert 'rel="next"' in page


def test_pages_ask_no_server_and_every_local_file_is_there(made) -> None:
    site, _ = made
    pages = [*site.glob("*.html"), *site.glob("notebooks/*.html"), *site.glob("docs/*.html")]
    assert len(pages) > 8
    for page in pages:
        links = Links(page.read_text(encoding="utf-8"))
        assert [one for one in links.asked if "://" in one] == [], page.name
        local = [one for one in (*links.asked, *links.leads) if not re.match(r"[a-z]+:|#", one)]
        files = [page.parent / re.sub(r"[?#].*", "", one) for one in local]
        assert [str(file) for file in files if not file.exists()] == [], page.name


def test_timings_say_what_failed_as_text(made) -> None:
    page = read(made, "timings.html")
    text = re.sub("<[^>]+>", "", page)
    assert "61" in text
    assert "513" in text
    assert "in cell 3" in text
    assert "ValueError: &lt;script&gt;alert(1)&lt;/script&gt; ```~~~" in text


def test_cloud_copies_are_where_the_links_lead(made) -> None:
    page = read(made, "notebooks/00_start.html")
    assert 'href="https://colab.research.google.com/github/owner/name/blob/cloud/00_start.ipynb"' in page
    copy = nbformat.read(made[0] / "cloud" / "00_start.ipynb", as_version=4)
    nbformat.validate(copy)
    assert '"https://github.com/owner/name", "btlib-course"' in copy.cells[1].source
    assert copy.cells[1].metadata["jupyter"]["source_hidden"]


def test_a_site_takes_the_place_of_an_older_one_and_of_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years")
    with pytest.raises(LessonError, match="holds something else"):
        build(CHECKOUT, CHECKOUT / "notebooks", tmp_path / "none", out)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


def test_a_head_that_says_little_is_no_error() -> None:
    bare = chapter("07_x", nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Lesson 07 — X")]))
    assert (bare.title, bare.line, bare.minutes, bare.needs, bare.objectives) == ("Lesson 07 — X", "", None, "", "")
    assert chapter("00_start", lesson(RUN)).minutes == Minutes(55, 5)


def test_a_copy_for_reading_leaves_the_lesson_alone() -> None:
    executed = lesson(RUN)
    before = nbformat.writes(executed)
    assert len(reading_copy(executed, "<p>bar</p>").cells) == len(executed.cells)  # one out, one in
    assert nbformat.writes(executed) == before


def test_only_what_changed_since_it_ran_is_run_again(tmp_path: Path, write_lesson) -> None:
    lessons, out = tmp_path / "lessons", tmp_path / "out"
    lessons.mkdir()
    write_lesson(lessons / "00_a.ipynb", "print('first')")
    first = run_missing(lessons, out)["00_a"]
    assert first.metadata["btlib"]["status"] == "passed"
    stamp = (out / "00_a.ipynb").stat().st_mtime_ns
    run_missing(lessons, out)
    assert (out / "00_a.ipynb").stat().st_mtime_ns == stamp
    write_lesson(lessons / "00_a.ipynb", "print('second')")
    assert "second" in str(run_missing(lessons, out)["00_a"].cells[-1].outputs)
    write_lesson(lessons / "00_a.ipynb", "1 / 0")
    with pytest.raises(LessonError, match="00_a: cell 2: ZeroDivisionError"):
        run_missing(lessons, out)


# ---------------------------------------------------------------------- anywhere


def test_the_public_address_is_one_setting(monkeypatch) -> None:
    for name in ("BTLIB_REPOSITORY", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    assert anywhere.repository() is None
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    assert anywhere.repository() == "a/b"
    monkeypatch.setenv("BTLIB_REPOSITORY", "https://x/a/b")
    with pytest.raises(ValueError, match="owner/name"):
        anywhere.repository()
    assert set(anywhere.links("a/b", "02_training")) == {"Colab", "Kaggle", "Binder"}


def test_the_cell_for_the_cloud_keeps_torch_and_does_nothing_where_btlib_is(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cell = anywhere.cloud_copy(lesson(None), "https://example/a/b").cells[1].source
    ran: list[list[str]] = []

    def pretend(command: list[str], check: bool) -> None:
        ran.append(command)
        os.makedirs("btlib-course/notebooks", exist_ok=True)

    monkeypatch.setattr("subprocess.run", pretend)
    exec(cell, {})
    assert (ran, Path.cwd()) == ([], tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec(cell, {})
    fetch, install = ran
    assert fetch[:2] == ["git", "clone"]
    assert "https://example/a/b" in fetch
    assert {f"{name}=={metadata.version(name)}" for name in ("torch", "torchvision", "numpy")} <= set(install)
    assert Path.cwd() == tmp_path / "btlib-course" / "notebooks"


def test_the_document_shows_the_very_cell() -> None:
    page = (CHECKOUT / "docs" / "anywhere.md").read_text(encoding="utf-8")
    assert anywhere.SETUP.replace("SOURCE", "https://github.com/OWNER/NAME") in page


def test_without_its_packages_one_sentence_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setattr("btlib.cli.needs.packages", lambda name: [CheckResult("furo", False, "not installed")])
    with pytest.raises(typer.Exit):
        needs.extra("site")
    assert "btlib[site], got no furo" in capsys.readouterr().err
