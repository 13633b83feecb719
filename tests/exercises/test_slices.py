"""The part of a notebook that an answer needs."""

import ast

import pytest

from btlib import metrics
from btlib.exercises.slices import answer_in, binds, exercise_of, taken_from_the_library

ANSWER = '@exercise("accuracy")\ndef mine(network, images, labels):\n    return {}\n'


def lines(*cells: str, name: str = "accuracy") -> list[str]:
    found = answer_in(cells, name)
    assert found is not None
    return [ast.unparse(line) for _, line in found.lines]


def test_only_what_is_named_comes_along_in_order() -> None:
    cells = (
        "import a, b\nx = a.y",
        "z = b",
        "def f():\n    return x + w",
        "w = 1\nprint(x)\nx += 1",
        ANSWER.format("f()"),
    )
    assert lines(*cells) == [
        "import a, b", "x = a.y", "def f():\n    return x + w", "w = 1", "x += 1",
        "def mine(network, images, labels):\n    return f()",
    ]  # fmt: skip


def test_other_exercises_stand_for_the_librarys_functions_and_magic_is_skipped() -> None:
    other = '@exercise("asr")\ndef rate(p, y, t):\n    return undefined\n'
    found = answer_in(["%magic", other, ANSWER.format("rate(1, 2, 3)")], "accuracy")
    assert found is not None
    assert found.others == {"rate": "asr"}
    assert (found.function, len(found.lines)) == ("mine", 1)
    assert answer_in(["%magic", other], "accuracy") is None


def test_names_of_marks_and_bindings() -> None:
    (line,) = ast.parse(ANSWER.format(0)).body
    assert exercise_of(line) == "accuracy"
    assert exercise_of(ast.parse("x = 1").body[0]) is None
    for text, names in {
        "a = b, c = 1, 2": {"a", "b", "c"}, "for i in j: k = i": {"i", "k"}, "import x.y as z, u.v": {"z", "u"},
        "with f() as g: h = 1": {"g", "h"}, "[m for m in n]": set(), "def o(): p = 1": {"o"}, "q[0] = 1": set(),
        "(r := 1)": {"r"},
    }.items():  # fmt: skip
        assert binds(ast.parse(text).body[0]) == names, text


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ("metrics.accuracy(network, images, labels)", "metrics.accuracy"),
        ("acc(network, images, labels)", "acc"),
        ("metrics.predict(network, images)", ""),
        ("accuracy", ""),
    ],
)
def test_the_librarys_own_solution_is_noticed(body: str, taken: str) -> None:
    found = answer_in([ANSWER.format(body)], "accuracy")
    assert found is not None
    names = {"metrics": metrics, "acc": metrics.accuracy, "accuracy": len}
    assert taken_from_the_library(found, names, metrics.accuracy) == taken
