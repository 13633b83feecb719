"""What Sphinx makes the site from: executed lessons tidied for reading, documents, modules, front page and timings.

The sources lie as in the repository (notebooks/, docs/), so that links from one to the other hold.
"""

import re
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from nbformat import NotebookNode

from btlib import __all__ as everything
from btlib.cli import anywhere
from btlib.cli.lessons import Minutes, stated_minutes, title_of
from btlib.cli.widget_state import freeze_widgets

DOCUMENTS = (
    "instructor", "scanning", "anywhere", "timings", "reliability", "choices", "architecture", "CONTRIBUTING",
    "glossary",
)  # fmt: skip


@dataclass(frozen=True)
class Chapter:
    """What the front page and the timings say of a lesson.

    Attributes:
        name: such as "02_training".
        title: its heading.
        line: the sentence below it.
        minutes: to read and try; None where it does not say.
        needs: what one should have read or have.
        objectives: as Markdown.
        run: the account of its run (`report.as_json`); empty where it was not run yet.
    """

    name: str
    title: str
    line: str
    minutes: Minutes | None
    needs: str
    objectives: str
    run: Mapping[str, Any]


def chapter(name: str, notebook: NotebookNode) -> Chapter:
    """What a lesson says of itself at its head, and what its run was."""
    text = "\n\n".join(cell.source for cell in notebook.cells[:3] if cell.cell_type == "markdown")
    line = re.search(r"^# .+\n\s*\n((?:.+\n?)+)", text, re.MULTILINE)
    needs = re.search(r"\*\*Needs:\*\*\s*(.+?)\.(?:\s|$)", text, re.DOTALL)
    objectives = re.search(r"^## Objectives\s*\n(.+?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return Chapter(
        name=name,
        title=title_of(notebook, name),
        line=" ".join(line[1].split()).strip("*") if line else "",
        minutes=stated_minutes(notebook),
        needs=" ".join(needs[1].split()) if needs else "",
        objectives=objectives[1].strip() if objectives else "",
        run=notebook.metadata.get("btlib", {}),
    )


def reading_copy(executed: NotebookNode, bar: str) -> NotebookNode:
    """A lesson as the site shows it: widgets as still pictures, folded cells folded, nothing that papermill put in.

    Args:
        executed: stays as it is.
        bar: HTML below the title.
    """
    copy = deepcopy(executed)
    freeze_widgets(copy)
    copy.cells = [cell for cell in copy.cells if "injected-parameters" not in cell.metadata.get("tags", ())]
    for cell in copy.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            tags = cell.metadata.get("tags", [])
            cell.metadata["mystnb"] = {"code_prompt_show": (tags or ["code"])[0], "code_prompt_hide": "fold"}
            cell.metadata["tags"] = [*tags, "hide-input"]
    copy.cells.insert(1, nbformat.v4.new_markdown_cell(bar))
    return copy


def write_sources(
    folder: Path, root: Path, executed: Mapping[str, NotebookNode], waiting: Mapping[str, NotebookNode]
) -> None:
    """Write all that Sphinx needs into a folder.

    Args:
        folder: empty.
        root: the repository.
        executed: lessons with their outputs, by name.
        waiting: lessons that have not run yet; then the pages of the library are left out as well.
    """
    public = anywhere.repository()
    shutil.copytree(root / "docs" / "site", folder, dirs_exist_ok=True)
    shutil.copy(root / "docs" / "backdoor.png", folder)
    for name, notebook in executed.items():
        bar = _render(folder, "lesson_bar.html.j2", name=name, links=anywhere.links(public, name) if public else {})
        page = reading_copy(notebook, bar)
        for cell in page.cells:
            if cell.cell_type == "markdown":
                cell.source = _relinked(cell.source, root / "notebooks", root, public)
        _write(folder / "notebooks" / f"{name}.ipynb", nbformat.writes(page))
    documents = [name for name in DOCUMENTS if (root / "docs" / f"{name}.md").exists()]
    for name in documents:
        text = (root / "docs" / f"{name}.md").read_text(encoding="utf-8")
        _write(folder / "docs" / f"{name}.md", _relinked(text, root / "docs", root, public))
    modules = [] if waiting else [name for name in everything if name.isalpha()]
    for name in modules:
        _write(folder / "api" / f"{name}.md", _render(folder, "module.md.j2", name=name))
    every = dict(sorted({**executed, **waiting}.items()))
    known = {"chapters": [chapter(*each) for each in every.items()], "modules": modules, "documents": documents}
    picture = re.search(r"!\[([^\]]+)\]\(docs/backdoor\.png\)", (root / "README.md").read_text(encoding="utf-8"))
    for name in ("index.md", "timings.md"):
        _write(folder / name, _render(folder, f"{name}.j2", alt=picture[1] if picture else "", public=public, **known))
    for template in folder.glob("*.j2"):
        template.unlink()


def _relinked(text: str, place: Path, root: Path, public: str | None) -> str:
    """Links to files that are no pages lead to the public repository, or are plain words where there is none."""

    def link(found: re.Match[str]) -> str:
        words, target = found[1], found[2]
        file = (place / target.partition("#")[0]).resolve()
        is_page = file.suffix == ".ipynb" or (file.parent == root / "docs" and file.stem in DOCUMENTS)
        if "://" in target or target.startswith("#") or is_page or not file.is_relative_to(root):
            return found[0]
        return f"[{words}](https://github.com/{public}/blob/main/{file.relative_to(root)})" if public else words

    return re.sub(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)", link, text)


def _render(folder: Path, template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=select_autoescape(["html.j2"]),
    )  # fmt: skip
    return environment.get_template(template).render(**values)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
