"""Tiny notebooks for the course runner."""

from pathlib import Path

import nbformat
import pytest

PARAMETERS = 'PROFILE = "fast"\nSEED = 0'


@pytest.fixture(scope="session")
def write_lesson():
    """A function that writes a notebook: a title, a parameters cell and the given code cells."""

    def write(path: Path, *code: str, parameters: str | None = PARAMETERS, text: str = "# Lesson 00 — Tiny") -> None:
        cells = [nbformat.v4.new_markdown_cell(text)]
        if parameters is not None:
            cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        cells += [nbformat.v4.new_code_cell(source) for source in code]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)

    return write
