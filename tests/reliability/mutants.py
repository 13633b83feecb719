"""Small mistakes, made on purpose: one changed place in one module."""

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reliability.reached import MUTATED
from reliability.warm import ROOT

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


#: Its words, and what makes it.
Change = tuple[Callable[[], str], Callable[[], object]]


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        module: the file below ``btlib/``.
        line, column: where.
        place: the node's place in the walk of its tree, and which of its changes.
        what: the change, in words.
        text: the line.
    """

    module: str
    line: int
    column: int
    place: tuple[int, int]
    what: str
    text: str

    @property
    def name(self) -> str:
        """What it is called in results."""
        return f"{self.module}:{self.line}:{self.column} {self.what}"

    def tree(self) -> ast.Module:
        """The module with the mistake in it."""
        tree = ast.parse((ROOT / "btlib" / self.module).read_text(encoding="utf-8"))
        node, which = self.place
        _changes(list(_nodes(tree))[node])[which][1]()
        return ast.fix_missing_locations(tree)


def sample(count: int, seed: int = 0) -> list[Mutant]:
    """So many mistakes, drawn from all that can be made: fewer are a part of more."""
    return sorted((mutant for path in modules() for mutant in mutants(path)), key=lots(seed))[:count]


def lots(seed: int) -> Callable[[Mutant], str]:
    """The order of a draw.

    A mistake's lot is a hash of its own line and words, so that a change of other lines draws no others.
    """
    seen: Counter[str] = Counter()

    def lot(mutant: Mutant) -> str:
        words = f"{seed} {mutant.module} {mutant.text} {mutant.what}"
        seen[words] += 1
        return hashlib.sha256(f"{words} {seen[words]}".encode()).hexdigest()

    return lot


def modules() -> list[Path]:
    """The files that are mutated."""
    places = [ROOT / "btlib" / part for part in MUTATED]
    return [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]


def mutants(path: Path) -> Iterator[Mutant]:
    """All mistakes that can be made in a module."""
    name, source = str(path.relative_to(ROOT / "btlib")), path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for place, node in enumerate(_nodes(ast.parse(source))):
        for which, (words, _) in enumerate(_changes(node)):
            text = lines[node.lineno - 1].strip()
            yield Mutant(name, node.lineno, node.col_offset, (place, which), words(), text)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Where a mistake can be made: not in types, docstrings, messages of errors, or what is for types only."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list") or isinstance(tree, ast.Raise):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or _says_nothing(node):
                continue
            if isinstance(node, ast.expr | ast.stmt):
                yield node
            yield from _nodes(node)


def _says_nothing(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets):
        return True
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def _changes(node: ast.AST) -> list[Change]:
    """Each mistake that can be made at a node."""
    found: list[Change] = []

    def offer(after: ast.AST, **fields: object) -> None:
        found.append((
            lambda: f"`{_short(node)}` → `{_short(after)}`",
            lambda: [setattr(node, name, value) for name, value in fields.items()],
        ))  # fmt: skip

    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        compare = _COMPARE[type(node.ops[0])]()
        offer(ast.Compare(node.left, [compare], node.comparators), ops=[compare])
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC and not _of_strings(node):
        operator = _ARITHMETIC[type(node.op)]()
        offer(ast.BinOp(node.left, operator, node.right), op=operator)
    elif isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
        operator = _ARITHMETIC[type(node.op)]()
        offer(ast.AugAssign(node.target, operator, node.value), op=operator)
    elif isinstance(node, ast.BoolOp):
        other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        offer(ast.BoolOp(other, node.values), op=other)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        offer(ast.UnaryOp(ast.UAdd(), node.operand), op=ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        twice = ast.UnaryOp(ast.Not(), node.operand)
        offer(ast.UnaryOp(ast.Not(), twice), operand=twice)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = not node.value if isinstance(node.value, bool) else _other(node.value)
        offer(ast.Constant(value), value=value)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        offer(ast.Constant(None), value=ast.Constant(None))
    elif isinstance(node, ast.IfExp):
        offer(ast.IfExp(ast.Constant(False), node.body, node.orelse), test=ast.Constant(False))
    return found


def _other(value: float) -> float:
    if isinstance(value, int):
        return value + 1
    return 2 * value if value else 1.0


def _of_strings(node: ast.BinOp) -> bool:
    return any(isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str)
               for side in (node.left, node.right))  # fmt: skip


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 70 else f"{text[:67]}…"
