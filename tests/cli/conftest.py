"""Tiny notebooks for the course runner; a folder with images and a network for `scan`."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import torch
from odd import SIZE
from PIL import Image
from torch import Tensor
from toys import lit_pixels

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


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An empty current folder with a folder of images, two of each class."""
    monkeypatch.chdir(tmp_path)
    for index, (picture, label) in enumerate(zip(*lit_pixels(2, size=SIZE), strict=True)):
        path = tmp_path / "images" / str(int(label)) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * picture[0]).byte().numpy()).save(path)
    return tmp_path


@pytest.fixture
def offered(here, monkeypatch):
    """A function that offers a factory as ``odd:make``, with a state dict in odd.pth that belongs to it."""

    def offer(make: Callable[[], Any], weights: dict[str, Tensor] | None = None) -> None:
        monkeypatch.setitem(sys.modules, "odd", SimpleNamespace(make=make))
        torch.save(make().state_dict() if weights is None else weights, here / "odd.pth")

    return offer
