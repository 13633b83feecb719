"""How an exercise works: unanswered, right, wrong and broken answers all let the lesson go on."""

import linecache
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from btlib import exercises
from btlib.exercises import WrongAnswer, core, exercise, get, judge, reveal
from btlib.exercises.answers import same_number
from btlib.exercises.attempt import (
    Attempt,
    blank,
    define_what_stands_below,
    limited,
    pair_of_tensors,
    place_of,
    tensor,
    unfinished,
)
from btlib.exercises.core import register


def double(x: float) -> float:
    """Twice x."""
    return 2 * x


@pytest.fixture(autouse=True)
def doubling() -> Iterator[None]:
    """An exercise of our own, gone after the test."""

    @register("double", double, "Two is more than one.")
    def check(answer: Callable[[float], float]) -> None:
        same_number(answer(3.0), 6.0, "halved instead of doubled" if answer(3.0) == 1.5 else "not doubled")

    yield
    del core.EXERCISES["double"]


def test_a_right_answer_is_praised_and_used(capsys: pytest.CaptureFixture[str]) -> None:
    @exercise("double")
    def mine(x: float) -> float:
        """My own words."""
        return x + x

    assert capsys.readouterr().out == "double: right. Two is more than one.\n"
    assert mine is not double
    assert mine(4.0) == 8.0
    assert (mine.__name__, mine.__doc__) == ("mine", "My own words.")


def test_a_wrong_answer_is_explained_and_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    @exercise("double")
    def mine(x: float) -> float:
        return x / 2

    said = capsys.readouterr().out
    for words in (
        "double: not yet.",
        "6.0000",
        "1.5000",
        "halved instead of doubled",
        "Going on with the library's",
    ):
        assert words in said
    assert mine is double


def test_an_answer_that_breaks_is_explained_and_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    @exercise("double")
    def mine(x: float) -> float:
        return x / 0

    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said
    assert "an error inside your function" in said
    assert mine is double


BLANK = [
    "...",
    "pass",
    '"""Twice x."""',
    '"""Twice x."""\n    ...',
    '"""Twice x."""\n    # my idea\n    pass',
    "return ...",
    "twice: float = ...\n    return twice",
    "raise NotImplementedError",
]
ANSWERED = [
    "return 2 * x",
    "return 2 * x\n    ...",
    "...\n    return 2 * x",
    '"""Twice x."""\n    ...\n    return helper(x)\n\ndef helper(x):\n    return 2 * x',
    "return np.multiply(x, 2)\nimport numpy as np",
    "return Twice(x)\nclass Twice(float):\n    def __float__(self):\n        return 2 * float.__float__(self)",
]


def run_cell(text: str, **names: Any) -> dict[str, Any]:
    """Run code as a cell of a notebook: its source is known, and no file has it."""
    lines = text.splitlines(keepends=True)
    name = f"<cell {hash(text)}>"
    linecache.cache[name] = (len(text), None, lines, name)
    scope = {"exercise": exercise, **names}
    exec(compile(text, name, "exec"), scope)
    return scope


@pytest.mark.parametrize("body", BLANK)
def test_every_way_of_leaving_blank(body: str, capsys: pytest.CaptureFixture[str]) -> None:
    mine = run_cell(f'@exercise("double")\ndef mine(x):\n    {body}\n')["mine"]
    assert capsys.readouterr().out == "double: not answered yet. Going on with the library's function.\n"
    assert mine is double


@pytest.mark.parametrize("body", ANSWERED)
def test_every_way_of_answering(body: str, capsys: pytest.CaptureFixture[str]) -> None:
    mine = run_cell(f'@exercise("double")\ndef mine(x):\n    {body}\n')["mine"]
    assert capsys.readouterr().out == "double: right. Two is more than one.\n"
    assert float(mine(4.0)) == 8.0


def test_a_helper_below_is_the_one_in_the_cell_not_the_one_of_the_last_run(capsys: pytest.CaptureFixture[str]) -> None:
    cell = '@exercise("double")\ndef mine(x):\n    return helper(x)\n\ndef helper(x):\n    return 2 * x\n'
    run_cell(cell, helper=lambda x: x)
    assert "right" in capsys.readouterr().out


def test_what_stands_below_is_defined_but_nothing_else_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    cell = (
        '@exercise("double")\ndef mine(x):\n    return 2 * x\nprint("once")\nran.append(1)\n'
        '@exercise("double")\ndef other(x):\n    return 2 * x\n'
    )
    ran: list[int] = []
    run_cell(cell, ran=ran)
    assert ran == [1]
    assert capsys.readouterr().out.splitlines() == [
        "double: right. Two is more than one.", "once", "double: right. Two is more than one.",
    ]  # fmt: skip


def test_an_answer_that_still_holds_dots_is_told_so() -> None:
    scope = run_cell("def mine(x):\n    half = ...\n    return x + half\n")
    mistake = judge("double", scope["mine"]).mistake
    assert mistake is not None
    assert mistake.cause.startswith("an error inside your function; there is still a ... where a value belongs")


def test_a_stub_that_was_not_touched_is_blank() -> None:
    def posted(x: float) -> float:
        """Has a mistake."""
        return x * x

    same = run_cell('def mine(x):\n    """Has a mistake."""\n    return x * x  # hm\n')["mine"]
    core.EXERCISES["double"] = replace(core.EXERCISES["double"], stub=posted)
    assert judge("double", same).state == "blank"
    assert judge("double", run_cell("def mine(x):\n    return x + x\n")["mine"]).state == "right"
    assert judge("double", run_cell("def mine(x):\n    return x ** x\n")["mine"]).state == "wrong"


def test_an_error_is_shown_with_its_line_and_values() -> None:
    def told(text: str) -> str:
        mistake = judge("double", run_cell(text)["mine"]).mistake
        assert mistake is not None
        return mistake.cause

    cause = told("def mine(x):\n    y = x - 3\n    return x / y\n")
    assert cause.splitlines()[1].strip() == "line 3: return x / y   with x = 3.0, y = 0.0"
    cause = told("import torch\ndef mine(x):\n    t = torch.zeros(2, 9)\n    for r in t[0, 8:]:\n        t[r]\n")
    assert cause.splitlines()[1].strip() == "line 4: t[r]   with t = tensor of shape (2, 9), float32, r = tensor 0.0"
    cause = told("def mine(x):\n    return helper(x)\n\ndef helper(much):\n    if much.y:\n        return 1\n")
    assert cause.splitlines()[1].strip() == "line 5: if much.y:   with much = 3.0", "the innermost line of theirs"


def test_an_endless_loop_ends_and_the_name_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    endless = (
        "while True:\n        pass",
        "while True:\n        try:\n            x += 1\n        except Exception:\n            pass",
        "while True:\n        try:\n            x += 1\n        except:\n            pass",
    )
    for body in endless:
        mine = run_cell(f"def mine(x):\n    {body}\n")["mine"]
        outcome = judge("double", mine, seconds=0.1)
        assert outcome.use is double
        assert outcome.mistake is not None
        assert "a loop that never ends" in outcome.mistake.cause
        assert "line" in outcome.mistake.cause.splitlines()[1]
    assert core.SECONDS == 20
    deadline = time.monotonic() + 0.05
    while time.monotonic() < deadline:  # nothing is raised later
        pass


def test_leaving_and_interrupting_are_mistakes_too() -> None:
    for word, said in (("KeyboardInterrupt", "you stopped it"), ("SystemExit", "an error inside your function")):
        mistake = judge("double", run_cell(f"def mine(x):\n    raise {word}\n")["mine"]).mistake
        assert mistake is not None
        assert mistake.cause.startswith(said)


def test_inputs_stay_as_they_were() -> None:
    @register("first", lambda values: values[0], "", convert=None)
    def check(answer: Callable[[Any], float]) -> None:
        for given in ([1.0, 2.0], torch.tensor([1.0, math.nan]), np.array([1.0, 2.0]), {0: 1.0}):
            same_number(answer(given), 1.0, "else")

    def careless(values: Any) -> float:
        first = values[0]
        values[0] = 7.0
        return float(first)

    try:
        assert judge("first", lambda values: float(values[0])).state == "right"
        mistake = judge("first", careless).mistake
        assert mistake is not None
        assert (mistake.expected, mistake.got) == ("values left as it was", "values that was changed")
        assert "no in-place" in mistake.cause
    finally:
        del core.EXERCISES["first"]


def test_results_become_what_the_lesson_needs() -> None:
    core.EXERCISES["double"] = replace(core.EXERCISES["double"], convert=tensor)
    listed = judge("double", lambda x: [2 * x])
    assert listed.state == "right"
    assert torch.equal(listed.use(4.0), torch.tensor([8.0]))
    as_it_is = judge("double", answer := lambda x: torch.tensor(2 * x))
    assert as_it_is.use is answer
    images = torch.zeros(1, dtype=torch.float64)
    assert tensor(np.ones(2, np.float32), (images,)).dtype == torch.float64
    assert tensor([1, 2], (images,)).dtype == torch.int64
    assert tensor("12", ()) == "12"
    assert tensor(None, ()) is None
    assert [type(part) for part in pair_of_tensors([[1.0], np.array([2])], ())] == [torch.Tensor] * 2
    kept = (images, images)
    assert pair_of_tensors(kept, ()) is kept


def test_dots_of_another_kind_are_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    @exercise("double")
    def mine(x: float) -> float:
        return float((torch.tensor([x])[..., :] * 2).sum())

    assert "right" in capsys.readouterr().out
    assert mine(1.0) == 2.0


def test_a_function_without_source_is_still_judged(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {}
    exec("def typed(x):\n    return 2 * x", scope)
    assert exercise("double")(scope["typed"])(2.0) == 4.0
    assert "right" in capsys.readouterr().out


def test_strict_raises_for_wrong_and_blank_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTLIB_STRICT", "1")
    with pytest.raises(WrongAnswer, match=r"expected 6\.0000, got 3\.0000\. Likely cause: not doubled") as caught:
        exercise("double")(lambda x: x)
    assert (caught.value.expected, caught.value.got) == ("6.0000", "3.0000")
    with pytest.raises(WrongAnswer, match="NameError"):
        exercise("double")(lambda x: undefined)  # type: ignore[name-defined]  # noqa: F821
    assert exercise("double")(lambda x: 2 * x)(5) == 10

    def todo(x: float) -> float: ...

    with pytest.raises(WrongAnswer, match="not answered yet"):
        exercise("double")(todo)
    monkeypatch.setenv("BTLIB_STRICT", "0")
    assert exercise("double")(lambda x: x) is double


def test_unknown_exercises_are_named() -> None:
    for door in (exercise, get, reveal):
        with pytest.raises(KeyError, match="got 'treble'"):
            door("treble")


def test_reveal_shows_the_librarys_source() -> None:
    shown = reveal("double")
    assert isinstance(shown, core.Solution)
    assert repr(shown) == 'def double(x: float) -> float:\n    """Twice x."""\n    return 2 * x\n'
    page = shown._repr_html_()
    assert page.startswith("<details>")
    assert "-&gt; float" in page, "code is escaped"
    assert "<summary>" in page


def test_get_finds_what_register_kept() -> None:
    found = get("double")
    assert isinstance(found, core.Exercise)
    assert (found.name, found.solution, found.praise) == ("double", double, "Two is more than one.")


@pytest.mark.parametrize("name", sorted(exercises.EXERCISES))
def test_every_solution_passes_its_own_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    task = get(name)
    task.check(task.solution)
    assert task.praise.strip()
    assert "def " in repr(reveal(name)), "the solution has a source to show"
    assert capsys.readouterr().out == ""


def test_a_lambda_and_a_builtin_are_judged_without_their_source() -> None:
    for answer in (abs, lambda x: 2 * x):
        define_what_stands_below(answer)
        assert not blank(answer)
        assert not unfinished(answer)
    assert judge("double", abs).state == "wrong"
    assert place_of(None, abs) == place_of(ValueError(), abs) == ""
    assert Attempt(max, None)(1, 2) == 2
    assert Attempt(max, None).usable() is max
    with limited(60):
        pass
