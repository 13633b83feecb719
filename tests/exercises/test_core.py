"""How an exercise works: unanswered, right, wrong and broken answers all let the lesson go on."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from btlib import exercises
from btlib.exercises import WrongAnswer, core, exercise, get, reveal
from btlib.exercises.answers import same_number
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


def test_unanswered_forms(capsys: pytest.CaptureFixture[str]) -> None:
    @exercise("double")
    def bare(x: float) -> float: ...

    @exercise("double")
    def returned(x: float) -> float:
        return ...  # type: ignore[return-value]

    @exercise("double")
    def assigned(x: float) -> float:
        twice: float = ...  # type: ignore[assignment]
        return twice

    assert capsys.readouterr().out == "double: not answered yet. Going on with the library's function.\n" * 3
    assert bare is returned is assigned is double


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


def test_strict_raises_for_wrong_answers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTLIB_STRICT", "1")
    with pytest.raises(WrongAnswer, match=r"expected 6\.0000, got 3\.0000\. Likely cause: not doubled") as caught:
        exercise("double")(lambda x: x)
    assert (caught.value.expected, caught.value.got) == ("6.0000", "3.0000")
    with pytest.raises(WrongAnswer, match="NameError"):
        exercise("double")(lambda x: undefined)  # type: ignore[name-defined]  # noqa: F821
    assert exercise("double")(lambda x: 2 * x)(5) == 10

    def todo(x: float) -> float: ...

    assert exercise("double")(todo) is double
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
