"""Nothing breaks when touched: no lesson gives a name that it still needs to something else later."""

import ast
import re
import symtable
from collections.abc import Iterator, Sequence

import nbformat
import pytest

from btlib.exercises.slices import binds
from btlib.paths import notebooks

LESSONS = sorted(notebooks().glob("*.ipynb"))


def rebound(cells: Sequence[str]) -> list[str]:
    """Names that a cell, or a function or callback defined in it, takes from before and that a later cell sets again.

    Run once in order, all is well; move a slider, or run a cell again, and the wrong thing is found under the name.
    """
    complaints = []
    needed: dict[str, int] = {}
    known: set[str] = set()
    for place, text in enumerate(cells):
        tree = ast.parse(text)
        sets = {name for line in tree.body for name in binds(line)}
        complaints += [
            f"cell {place} sets {name}, which cell {needed[name]} needs" for name in sorted(sets & set(needed))
        ]
        known |= sets
        for name in {*_read_first(tree), *_read_in_functions(text)} & known:
            needed.setdefault(name, place)
    return complaints


def shared(cells: Sequence[str]) -> list[str]:
    """Names that several cells set and another one reads: which it finds depends on the order they are run in."""
    setters: dict[str, list[int]] = {}
    readers: dict[str, set[int]] = {}
    for place, text in enumerate(cells):
        tree = ast.parse(text)
        for name in {name for line in tree.body for name in binds(line)}:
            setters.setdefault(name, []).append(place)
        for name in {*_read_first(tree), *_read_in_functions(text)}:
            readers.setdefault(name, set()).add(place)
    return [
        f"cells {places} set {name}, which cells {sorted(readers[name] - {places[0]})} need"
        for name, places in setters.items() if len(places) > 1 and readers.get(name, set()) - {places[0]}
    ]  # fmt: skip


CHANGES = {"add", "append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update"}


def changed(cells: Sequence[str]) -> list[str]:
    """Names whose value another cell changes in place: set again, it lacks what that cell has put into it."""
    trees = [ast.parse(text) for text in cells]
    imported = {name for tree in trees for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)
                for name in binds(line)}  # fmt: skip
    sets = [{name for line in tree.body for name in binds(line)} for tree in trees]
    complaints = []
    for place, tree in enumerate(trees):
        here = {name for line in tree.body for name in _changed_in_place(line)
                if name not in (_own(line) or sets[place])}  # fmt: skip
        for name in sorted(here - imported):
            complaints += [f"cell {place} changes {name}, which cell {other} sets"
                           for other, names in enumerate(sets) if name in names]  # fmt: skip
    return complaints


def _own(line: ast.stmt) -> set[str]:
    """Names that belong to a function: what it is given, and what it sets."""
    if not isinstance(line, ast.FunctionDef | ast.ClassDef):
        return set()
    stored = {node.id for node in ast.walk(line) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {line.name} | stored | {node.arg for node in ast.walk(line) if isinstance(node, ast.arg)}


def _changed_in_place(line: ast.AST) -> Iterator[str]:
    for node in ast.walk(line):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            yield node.value.id
        if isinstance(node, ast.Attribute) and node.attr in CHANGES and isinstance(node.value, ast.Name):
            yield node.value.id


def _read_first(tree: ast.Module) -> set[str]:
    """Names that the cell reads before it sets them."""
    known: set[str] = set()
    found: set[str] = set()
    for line in tree.body:
        reads = {node.id for node in ast.walk(line) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        inner = {node.id for node in ast.walk(line) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        if isinstance(line, ast.Assign | ast.AugAssign | ast.AnnAssign):  # the right side is read first
            inner -= binds(line)
        inner |= {node.arg for node in ast.walk(line) if isinstance(node, ast.arg)}
        if not isinstance(line, ast.FunctionDef | ast.ClassDef):
            found |= reads - known - inner
        known |= binds(line)
    return found


def _read_in_functions(text: str) -> Iterator[str]:
    """Names that functions of a cell look up when they are called."""
    tables = list(symtable.symtable(text, "cell", "exec").get_children())
    while tables:
        table = tables.pop()
        tables += table.get_children()
        if isinstance(table, symtable.Function) and table.get_name() not in (
            "listcomp",
            "dictcomp",
            "setcomp",
            "genexpr",
        ):
            yield from (name for name in table.get_globals() if table.lookup(name).is_referenced())


def code_of(path) -> list[str]:
    """The code cells, Jupyter's own lines left out."""
    cells = nbformat.read(path, as_version=4).cells
    return [re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE) for cell in cells if cell.cell_type == "code"]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_no_name_that_is_still_needed_is_set_again(lesson):
    assert rebound(code_of(lesson)) == []


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_cells_may_be_run_in_any_order(lesson):
    assert shared(code_of(lesson)) == []


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_no_cell_changes_what_another_one_has_made(lesson):
    assert changed(code_of(lesson)) == []


@pytest.mark.parametrize(
    ("cells", "count"),
    [
        (["x = {}", "x['a'] = 1"], 1),
        (["x = []", "for y in 'ab':\n    x.append(y)"], 1),
        (["x = {}\nx['a'] = 1", "y = x | {'b': 2}"], 0),
        (["import x", "x.append(1)"], 0),
        (["x = {}", "def f(x):\n    x['a'] = 1"], 0),
        (["x = {}", "def f():\n    x = {}\n    x['a'] = 1"], 0),
        (["x = {}", "def f():\n    x['a'] = 1"], 1),
        (["x = {}\ndef f():\n    x['a'] = 1", "f()"], 1),  # called from anywhere
    ],
)
def test_changes_in_place_are_noticed(cells, count):
    assert len(changed(cells)) == count


@pytest.mark.parametrize(
    ("cells", "count"),
    [
        (["x = 1", "y = x"], 0),
        (["x = 1", "x = 2"], 0),  # nobody else needs it
        (["x = 1\nprint(x)", "x = 2", "y = x"], 1),
        (["x = 1\nprint(x)", "x = 2", "def f():\n    return x"], 1),
        (["x = []", "x = x + [1]"], 1),  # grows with every run
    ],
)
def test_names_of_several_cells_are_noticed(cells, count):
    assert len(shared(cells)) == count


@pytest.mark.parametrize(
    ("cells", "count"),
    [
        (["x = 1", "def draw():\n    return x", "x = 'table'"], 1),
        (["x = 1", "show = lambda: x", "for x in 'ab': pass"], 1),
        (["x = 1", "print(x)", "import x"], 1),
        (["x = 1", "print(x)", "def x(): pass"], 1),
        (["x = 1", "x = x + 1", "x = 3"], 1),
        (["x = 1", "def draw():\n    y = 2\n    return [x for x in range(y)]", "x = 2"], 0),
        (["x = 1", "def draw(x):\n    return x", "x = 2"], 0),
        (["x = 1\nprint(x)", "x = 2\nprint(x)"], 0),
        (["x = 1", "print(max([1], key=lambda x: -x))", "x = 2"], 0),
        (["for x in 'ab':\n    print(x)", "print([x for x in 'ab'])", "x = 2"], 0),
    ],
)
def test_the_rule_itself(cells, count):
    assert len(rebound(cells)) == count
