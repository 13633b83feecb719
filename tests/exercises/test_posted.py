"""The three errors of lesson 04: each is told apart, in whatever order they are mended."""

import ast
import inspect
import json
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from exercise_contract import ExerciseContract

from btlib.exercises import judge, posted
from btlib.exercises.posted import audit, posted_solution
from btlib.paths import notebooks

ERRORS = {
    " + cost * squash(raw[:, 0]).sum()": "",
    "(median - sizes) /": "np.abs(sizes - median) /",
    "accused == target": "accused is not None",
}


def changed(**swaps: str) -> Callable[..., Any]:
    """The right solution with some of its text replaced: keys are `old_1`, `new_1`, …"""
    text = textwrap.dedent(inspect.getsource(audit))
    for key, old in swaps.items():
        if key.startswith("old"):
            assert old in text, old
            text = text.replace(old, swaps[key.replace("old", "new")])
    names = dict(vars(posted))
    exec(text, names)
    return names["audit"]


def with_errors(*which: int) -> Callable[..., Any]:
    pairs = list(ERRORS.items())
    swaps = {f"old_{k}": pairs[k][0] for k in which} | {f"new_{k}": pairs[k][1] for k in which}
    return changed(**swaps)


SIZES, RIGHT_NAME, VERDICT = "(median - sizes)", "accused == target", "if index.max() > 2 else None"

RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("three_errors", audit),
    ("three_errors", lambda *a: tuple(audit(*a))),
    ("three_errors", lambda *a: [audit(*a)[0].tolist(), *audit(*a)[1:]]),
    ("three_errors", changed(old_1="cost * squash(raw[:, 0]).sum()", new_1="cost * squash(raw)[:, 0].abs().sum()")),
    ("three_errors", changed(old_1=SIZES, new_1="np.maximum(0, median - sizes)")),
    ("three_errors", changed(old_1="int(index.argmax())", new_1="int(sizes.argmin())")),
    ("three_errors", changed(old_1=RIGHT_NAME, new_1="bool(accused is not None and accused == target)")),
    ("three_errors", changed(old_1=f"int(index.argmax()) {VERDICT}",
                             new_1="next((t for t in range(len(sizes)) if index[t] > 2), None)")),
]  # fmt: skip
WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("three_errors", with_errors(0), "do not shrink"),
    ("three_errors", with_errors(1), "far too LARGE"),
    ("three_errors", with_errors(2), "an alarm is not a find"),
    ("three_errors", with_errors(0, 1), "do not shrink"),
    ("three_errors", with_errors(1, 2), "an alarm is not a find"),
    ("three_errors", changed(old_1="+ cost *", new_1="- cost *"), "do not shrink"),
    ("three_errors", changed(old_1=SIZES, new_1="(sizes - median)"), "the smallest mask is class 3's"),
    ("three_errors", changed(old_1="int(index.argmax())", new_1="int(sizes.argmax())"), "the smallest mask is"),
    ("three_errors", changed(old_1=RIGHT_NAME, new_1="accused != target"), "that is a find"),
    ("three_errors", changed(old_1=RIGHT_NAME, new_1="True"), "an alarm is not a find"),
    ("three_errors", lambda *a: audit(*a)[1:], "return all three"),
    ("three_errors", lambda *a: None, "return all three"),
    ("three_errors", lambda *a: (audit(*a)[0][:2], *audit(*a)[1:]), "one mask for each class"),
    ("three_errors", lambda *a: (*audit(*a)[:2], "yes"), "return the comparison itself"),
]


class TestExercises(ExerciseContract):
    names, right, wrong = ("three_errors",), RIGHT, WRONG


def test_the_posted_solution_has_exactly_the_three_errors() -> None:
    mended = ast.dump(_body(audit))
    assert ast.dump(_body(with_source(0, 1, 2))) == ast.dump(_body(posted_solution))
    assert mended != ast.dump(_body(posted_solution))


def with_source(*which: int) -> str:
    text = textwrap.dedent(inspect.getsource(audit))
    for old, new in (list(ERRORS.items())[k] for k in which):
        text = text.replace(old, new)
    return text


def _body(function: Any) -> ast.Module:
    text = function if isinstance(function, str) else textwrap.dedent(inspect.getsource(function))
    return ast.Module(ast.parse(text).body[0].body[1:], [])  # type: ignore[attr-defined]


def test_the_lessons_cell_holds_the_posted_solution_and_counts_as_blank() -> None:
    (lesson,) = notebooks().glob("04_*.ipynb")
    cells = ["".join(cell["source"]) for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"]]
    (cell,) = [cell for cell in cells if '@exercise("three_errors")' in cell]
    assert ast.dump(_body(cell)) == ast.dump(_body(posted_solution))
    assert judge("three_errors", posted_solution).state == "blank"


@pytest.mark.parametrize("which", [(0, 1), (0, 2), (1, 2)])
def test_two_errors_are_still_wrong(which: tuple[int, int]) -> None:
    assert judge("three_errors", with_errors(*which)).state == "wrong"
