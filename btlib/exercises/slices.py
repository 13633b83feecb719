"""The part of a notebook that one answer needs: its cell, and what that names of the cells before."""

import ast
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from btlib.exercises import core

_DEFINITIONS = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Answer:
    """What is run to get at an answer.

    Attributes:
        function: the answer's name.
        lines: (file name of its cell, statement), in order; the last ones are the answer's own cell.
        sources: text of each cell by that file name.
        others: names that other exercises of the notebook define, by the exercise: the library's function stands in.
        own: the answer's own cell.
    """

    function: str
    lines: tuple[tuple[str, ast.Module], ...]
    sources: dict[str, str]
    others: dict[str, str]
    own: ast.Module


def answer_in(cells: Sequence[str], name: str) -> Answer | None:
    """The last answer to an exercise in a notebook; None where there is none.

    Args:
        cells: sources of the code cells, in order; those that are no Python are skipped.
        name: the exercise.
    """
    parsed = [(f"<cell {place}>", text, tree) for place, text in enumerate(cells) if (tree := _parse(text))]
    at = [i for i, (_, _, tree) in enumerate(parsed) if any(exercise_of(line) == name for line in tree.body)]
    if not at:
        return None
    place, _, own = parsed[at[-1]]
    function = next(line.name for line in own.body if exercise_of(line) == name)  # type: ignore[attr-defined]
    others: dict[str, str] = {}
    before: list[tuple[str, ast.stmt]] = []
    for other_place, _, tree in parsed[: at[-1]]:
        for line in tree.body:
            exercise = exercise_of(line)
            if exercise is None:
                before.append((other_place, line))
            elif exercise in core.EXERCISES and exercise != name:
                others[line.name] = exercise  # type: ignore[attr-defined]
    mine = [_bare(line) for line in own.body if isinstance(line, _DEFINITIONS) and exercise_of(line) in (None, name)]
    needed = _needed(before, {word for line in mine for word in _uses(line)} - set(others))
    lines = tuple((where, ast.Module([line], [])) for where, line in [*needed, *((place, line) for line in mine)])
    return Answer(function, lines, {where: text for where, text, _ in parsed}, others, ast.Module(mine, []))


def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def exercise_of(line: ast.stmt) -> str | None:
    """The exercise that a definition answers: ``name`` of ``@exercise("name")``."""
    for mark in getattr(line, "decorator_list", ()):
        if isinstance(mark, ast.Call) and ast.unparse(mark.func).split(".")[-1] == "exercise" and mark.args:
            return str(mark.args[0].value) if isinstance(mark.args[0], ast.Constant) else None
    return None


def _bare(line: ast.stmt) -> ast.stmt:
    """A definition without its ``@exercise``."""
    if exercise_of(line) is not None and isinstance(line, ast.FunctionDef):
        line.decorator_list = [mark for mark in line.decorator_list if "exercise" not in ast.unparse(mark)]
    return line


def _needed(before: Sequence[tuple[str, ast.stmt]], words: set[str]) -> list[tuple[str, ast.stmt]]:
    """The statements that bind these words, and what those need in turn, in order."""
    kept: set[int] = set()
    while True:
        found = {i for i, (_, line) in enumerate(before) if i not in kept and words & binds(line)}
        if not found:
            return [before[i] for i in sorted(kept)]
        kept |= found
        words = words | {word for i in found for word in _uses(before[i][1])}


def _uses(line: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(line) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def binds(line: ast.stmt) -> set[str]:
    """The names that a top-level statement sets, in whatever way."""
    names: set[str] = set()
    for node in _here(line):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _here(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what belongs to its scope: not the inside of functions, classes and comprehensions."""
    yield node
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp,
              ast.GeneratorExp)  # fmt: skip
    if not isinstance(node, scopes):
        for child in ast.iter_child_nodes(node):
            yield from _here(child)


def taken_from_the_library(answer: Answer, names: dict[str, Any], solution: Callable[..., Any]) -> str:
    """How an answer's cell names the library's own solution, or asks for it; empty where it does not.

    Args:
        answer: as `answer_in` found it.
        names: what its lines have defined.
        solution: the library's function.
    """
    doors = (solution, core.get, core.reveal, core.EXERCISES)
    for node in ast.walk(answer.own):
        if isinstance(node, ast.ImportFrom) and node.module:
            found = [getattr(_module(node.module), alias.name, None) for alias in node.names]
            text = ast.unparse(node)
        elif isinstance(node, ast.Name | ast.Attribute):
            text = ast.unparse(node)
            found = [_resolved(text, names)] if all(part.isidentifier() for part in text.split(".")) else []
        else:
            continue
        if any(thing is door for thing in found for door in doors):
            return text
    return ""


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def _resolved(text: str, names: dict[str, Any]) -> Any:
    first, *rest = text.split(".")
    thing = names.get(first)
    for part in rest:
        thing = getattr(thing, part, None)
    return thing
