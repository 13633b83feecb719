"""The site made of executed lessons: Sphinx's pages, slides and copies for the cloud in one folder."""

import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path

import nbformat
import typer

from btlib.cli import anywhere
from btlib.cli.copies import read
from btlib.cli.export import deck
from btlib.cli.lessons import LessonError, find_lessons
from btlib.cli.site_pages import write_sources
from btlib.files import folder_written_whole, scratch, write_text


def build(root: Path, notebooks: Path, course: Path, out: Path) -> Path:
    """Make the site from executed lessons; those that are missing are listed as not run yet.

    Args:
        root: the repository.
        notebooks: folder of the lessons.
        course: folder of the executed ones.
        out: folder of the site, replaced as a whole.

    Returns:
        its front page.

    Raises:
        LessonError: `out` holds something that is no site, or Sphinx failed.
    """
    if out.exists() and any(out.iterdir()) and not (out / "searchindex.js").exists():
        raise LessonError(f"out: expected a folder for the site alone, got {out}, which holds something else; "
                          "name another")  # fmt: skip
    lessons = {lesson.name: read(lesson.path) for lesson in find_lessons(notebooks)}
    executed = {name: read(course / f"{name}.ipynb") for name in lessons if (course / f"{name}.ipynb").exists()}
    with folder_written_whole(out) as part, scratch("site") as passing:
        write_sources(
            passing / "sources", root, executed, {name: lessons[name] for name in lessons if name not in executed}
        )
        shutil.copytree(_pages(passing), part, dirs_exist_ok=True)
        for name, notebook in executed.items():
            write_text(part / "slides" / f"{name}.html", deck(notebook))
        if public := anywhere.repository():
            for name, lesson in lessons.items():
                copy = anywhere.cloud_copy(lesson, f"https://github.com/{public}")
                write_text(part / "cloud" / f"{name}.ipynb", nbformat.writes(copy))
    return out / "index.html"


def _pages(passing: Path) -> Path:
    """Run Sphinx in this process, so that it ends where this one is ended; myst_nb leaves a folder beside its pages."""
    from sphinx.cmd.build import build_main

    sources, pages, said = passing / "sources", passing / "pages", io.StringIO()
    with redirect_stderr(said):
        status = build_main(["-q", "-b", "html", "-d", str(passing / "doctrees"), str(sources), str(pages)])
    if said.getvalue():
        typer.echo(said.getvalue().replace(str(sources), "site"), err=True)
    if status:
        raise LessonError("site: expected Sphinx to end well, got an error; see above")
    return pages
