"""How an exercise works: unanswered, right and wrong all let the lesson run to its end."""

import ast
import html
import inspect
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Answer = Callable[..., Any]
Check = Callable[[Answer], None]


class WrongAnswer(AssertionError):
    """What a check raises: what was expected, what came, and a likely cause."""

    def __init__(self, expected: object, got: object, cause: str) -> None:
        self.expected, self.got, self.cause = expected, got, cause
        super().__init__(f"expected {expected}, got {got}. Likely cause: {cause}")


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        name: as in ``@exercise("name")``.
        check: called with the student's function; returns nothing when it is right, raises `WrongAnswer` when not.
        solution: the library's function, with the same signature: used whenever the student's is not right,
            and shown by `reveal`.
        praise: one line that says what was got right.
    """

    name: str
    check: Check
    solution: Answer
    praise: str


EXERCISES: dict[str, Exercise] = {}


def register(name: str, solution: Answer, praise: str) -> Callable[[Callable[[Any], None]], Check]:
    """Decorate a check with this to make it an exercise."""

    def add(check: Callable[[Any], None]) -> Check:
        EXERCISES[name] = Exercise(name, check, solution, praise)
        return check

    return add


def get(name: str) -> Exercise:
    """The exercise of that name.

    Raises:
        KeyError: no such exercise.
    """
    if name not in EXERCISES:
        raise KeyError(f"exercise: expected one of {', '.join(sorted(EXERCISES))}, got {name!r}; check the spelling")
    return EXERCISES[name]


def exercise(name: str) -> Callable[[Answer], Answer]:
    """Check the decorated function and go on with it when it is right, else with the library's own.

    Unanswered (its body still holds ``...``): says so. Right: one line of praise. Wrong: what was expected, what
    came, a likely cause. With ``BTLIB_STRICT=1`` a wrong answer raises `WrongAnswer` instead.

    Raises:
        KeyError: no exercise of that name.
        WrongAnswer: a wrong answer, in strict mode.

    Example:
        >>> @exercise("asr")
        ... def my_asr(predictions, labels, target):
        ...     ...
        asr: not answered yet. Going on with the library's function.
    """
    task = get(name)

    def judge(answer: Answer) -> Answer:
        if _unanswered(answer):
            print(f"{name}: not answered yet. Going on with the library's function.")
            return task.solution
        try:
            task.check(answer)
        except WrongAnswer as wrong:
            mistake = wrong
        except Exception as error:  # the student's code may fail in any way
            mistake = WrongAnswer("a result", f"{type(error).__name__}: {error}", "an error inside your function")
        else:
            print(f"{name}: right. {task.praise}")
            return answer
        if os.environ.get("BTLIB_STRICT", "0") not in ("", "0"):
            raise mistake
        print(f"{name}: not yet.\n  expected:     {mistake.expected}\n  got:          {mistake.got}\n"
              f"  likely cause: {mistake.cause}\nGoing on with the library's function.")  # fmt: skip
        return task.solution

    return judge


def _unanswered(answer: Answer) -> bool:
    """Whether a statement of the function is still a bare ``...``, ``x = ...`` or ``return ...``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(answer)))
    except (OSError, SyntaxError, TypeError):
        return False
    statements = (ast.Expr, ast.Return, ast.Assign, ast.AnnAssign)
    held = (node.value for node in ast.walk(tree) if isinstance(node, statements))
    return any(isinstance(value, ast.Constant) and value.value is Ellipsis for value in held)


class Solution:
    """Source code that Jupyter shows folded away under "Solution"."""

    def __init__(self, name: str, code: str) -> None:
        self.name, self.code = name, code

    def __repr__(self) -> str:
        return self.code

    def _repr_html_(self) -> str:
        return (f"<details><summary>Solution of <code>{html.escape(self.name)}</code> (the library's source)</summary>"
                f"<pre>{html.escape(self.code)}</pre></details>")  # fmt: skip


def reveal(name: str) -> Solution:
    """The solution of an exercise: the source of the library's function, so it can't drift from what runs.

    Raises:
        KeyError: no exercise of that name.

    Example:
        >>> "def" in repr(reveal("asr"))
        True
    """
    return Solution(name, inspect.getsource(get(name).solution))
