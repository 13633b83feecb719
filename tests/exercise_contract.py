"""What every exercise of every lesson promises; a lesson's tests fill in the three tables."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from btlib.exercises import WrongAnswer, exercise, get, judge, reveal


def spoil(argument: Any) -> bool:
    """Change an argument in place; whether it could be."""
    if isinstance(argument, torch.Tensor):
        with torch.no_grad():
            argument.logical_not_() if argument.dtype == torch.bool else argument.add_(1)
    elif isinstance(argument, np.ndarray):
        argument += 1
    elif isinstance(argument, list):
        argument.reverse()
        argument.append(argument[0])
    elif isinstance(argument, dict):
        argument.popitem()
    else:
        return False
    return True


def plain(result: Any) -> Any:
    """A tensor, or a pair of them, as lists."""
    return result.tolist() if isinstance(result, torch.Tensor) else [part.tolist() for part in result]


def as_array(result: Any) -> Any:
    """A tensor, or a pair of them, as arrays."""
    if isinstance(result, torch.Tensor):
        return result.detach().numpy().copy()
    return [part.numpy().copy() for part in result]


class Answers:
    """Subclass it as `TestAnswers`.

    Attributes:
        right: (name, answer) that must be accepted.
        wrong: (name, answer, words of the cause it must be told).
        as_given: whether right answers need no conversion, so that the lesson goes on with them as they are.
    """

    as_given = False
    right: Sequence[tuple[str, Callable[..., Any]]]
    wrong: Sequence[tuple[str, Callable[..., Any], str]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per row of the table that the test asks for."""
        asked = set(metafunc.fixturenames)
        if "cause" in asked:
            ids = [f"{name}-{cause}" for name, _, cause in self.wrong]
            metafunc.parametrize(("name", "answer", "cause"), self.wrong, ids=ids)
        elif "answer" in asked:
            metafunc.parametrize(("name", "answer"), self.right)

    def test_right_answer_is_praised_and_used(
        self, name: str, answer: Callable[..., Any], capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("BTLIB_STRICT", "1")
        used, task = exercise(name)(answer), get(name)
        converted = task.convert is not None and not self.as_given and used.__name__ == answer.__name__
        assert used is answer or converted
        assert f"{name}: right. {get(name).praise}" in capsys.readouterr().out

    @pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # a wrong answer may well divide by zero
    def test_wrong_answer_is_told_its_own_cause(
        self, name: str, answer: Callable[..., Any], cause: str, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        assert exercise(name)(answer) is get(name).solution
        said = capsys.readouterr().out
        assert f"{name}: not yet." in said
        assert "expected:" in said
        assert cause in said.split("likely cause:")[1]
        monkeypatch.setenv("BTLIB_STRICT", "1")
        with pytest.raises(WrongAnswer) as refused:
            exercise(name)(answer)
        assert cause in str(refused.value).split("Likely cause")[1]


class ExerciseContract(Answers):
    """Subclass it as `TestExercises`.

    Attributes:
        names: the lesson's exercises.
        right: at least one of each name.
        wrong: at least three causes of each name.
    """

    as_given = True
    names: Sequence[str]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per exercise, too."""
        super().pytest_generate_tests(metafunc)
        if "name" in metafunc.fixturenames and "answer" not in metafunc.fixturenames:
            metafunc.parametrize("name", self.names)

    def test_solution_is_right_and_shown(self, name: str) -> None:
        get(name).check(get(name).solution)
        assert "def " in repr(reveal(name))
        assert "<details>" in reveal(name)._repr_html_()

    def test_unanswered_goes_on_with_the_library_but_not_when_strict(
        self, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def answer(*_: Any) -> Any:
            """As in the lesson."""
            ...

        assert exercise(name)(answer) is get(name).solution
        assert "not answered yet" in capsys.readouterr().out
        monkeypatch.setenv("BTLIB_STRICT", "1")
        with pytest.raises(WrongAnswer, match="not answered yet"):
            exercise(name)(answer)

    def test_constants_and_texts_are_refused(self, name: str) -> None:
        results: list[Any] = []

        def remembering(*arguments: Any, **named: Any) -> Any:
            results.append(get(name).solution(*arguments, **named))
            return results[-1]

        assert judge(name, remembering).state == "right"
        first = results[0]
        assert judge(name, lambda *_, **__: first).state == "wrong"
        if not isinstance(first, str):
            assert judge(name, lambda *a, **k: str(get(name).solution(*a, **k))).state == "wrong"

    def test_an_answer_that_changes_its_inputs_is_refused(self, name: str) -> None:
        changed = []

        def careless(*arguments: Any, **named: Any) -> Any:
            result = get(name).solution(*arguments, **named)
            changed.extend(argument for argument in arguments if spoil(argument))
            return result

        outcome = judge(name, careless)
        if changed:
            assert outcome.mistake is not None
            assert "input itself was changed" in outcome.mistake.cause

    def test_lists_and_arrays_pass_where_they_can_be_made_a_tensor(self, name: str) -> None:
        if get(name).convert is None:
            return
        outcomes = [judge(name, lambda *a, **k: make(get(name).solution(*a, **k))) for make in (plain, as_array)]  # noqa: B023
        assert [outcome.state for outcome in outcomes] == ["right", "right"], outcomes

    def test_tables_have_a_right_answer_and_three_causes(self, name: str) -> None:
        assert name in {row[0] for row in self.right}
        assert len({cause for row, _, cause in self.wrong if row == name}) >= 3

    def test_check_leaves_the_random_state_alone(self, name: str) -> None:
        before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
        get(name).check(get(name).solution)
        assert torch.equal(before, torch.get_rng_state())
        assert np.array_equal(numpy_before, np.random.get_state()[1])
