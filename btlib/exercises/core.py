"""How an exercise works: unanswered, right and wrong all let the lesson run to its end."""

import html
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from btlib.exercises.attempt import (
    Answer,
    Attempt,
    Changed,
    Convert,
    TooLong,
    blank,
    define_what_stands_below,
    limited,
    place_of,
    unfinished,
)

Check = Callable[[Answer], None]
#: What an answer may take; a right one needs a fraction of it.
SECONDS = 20.0
IN_PLACE = (
    "the input itself was changed; no in-place operation, please: work on a copy (x.clone()), or with operators that "
    "make new tensors"
)


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
        convert: makes of a result what the lesson goes on with, such as a tensor of a list.
        stub: what the lesson's cell holds before it is answered, where that is more than ``...``.
    """

    name: str
    check: Check
    solution: Answer
    praise: str
    convert: Convert | None = None
    stub: Answer | None = None


EXERCISES: dict[str, Exercise] = {}


def register(
    name: str, solution: Answer, praise: str, *, convert: Convert | None = None, stub: Answer | None = None
) -> Callable[[Callable[[Any], None]], Check]:
    """Decorate a check with this to make it an exercise."""

    def add(check: Callable[[Any], None]) -> Check:
        EXERCISES[name] = Exercise(name, check, solution, praise, convert, stub)
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


@dataclass(frozen=True)
class Outcome:
    """What came of an answer.

    Attributes:
        state: nothing was written; right; or not.
        use: the function to go on with.
        mistake: what was wrong, or None.
    """

    state: Literal["blank", "right", "wrong"]
    use: Answer
    mistake: WrongAnswer | None = None


def judge(name: str, answer: Answer, seconds: float = SECONDS) -> Outcome:
    """Check an answer: never raises, whatever the answer does, and ends when its time is up.

    Args:
        name: of the exercise.
        answer: the student's function.
        seconds: for the whole check.

    Raises:
        KeyError: no exercise of that name.

    Example:
        >>> judge("asr", lambda predictions, labels, target: (predictions == target).float().mean()).mistake.cause
        'images whose true class is the target are counted too: they inflate the rate'
    """
    task = get(name)
    if blank(answer, task.stub):
        return Outcome("blank", task.solution)
    attempt = Attempt(answer, task.convert)
    define_what_stands_below(answer)
    try:
        with limited(seconds):
            task.check(attempt)
    except BaseException as error:  # the student's code may fail in any way, and call exit()
        return Outcome("wrong", task.solution, _mistake(error, answer, seconds))
    return Outcome("right", attempt.usable())


def _mistake(error: BaseException, answer: Answer, seconds: float) -> WrongAnswer:
    """What to tell the student of whatever ended the check."""
    place = place_of(error.__cause__ if isinstance(error, WrongAnswer) else error, answer)
    if isinstance(error, WrongAnswer):
        expected, got, cause = error.expected, error.got, error.cause
    elif isinstance(error, Changed):
        expected, got, cause = f"{error} left as it was", f"{error} that was changed", IN_PLACE
    elif isinstance(error, TooLong):
        expected, got = "an end", f"none within {seconds:g} seconds"
        cause = "a loop that never ends: does something in it lead to its end?"
    elif isinstance(error, KeyboardInterrupt):
        expected, got, cause = "a result", "an interrupt", "you stopped it"
    else:
        expected, got = "a result", f"{type(error).__name__}: {error}".rstrip(": ")
        cause = "an error inside your function" if place else "a result of another kind than the docstring promises"
    if unfinished(answer):
        cause += "; there is still a ... where a value belongs"
    return WrongAnswer(expected, got, f"{cause}\n                {place}" if place else cause)


def exercise(name: str) -> Callable[[Answer], Answer]:
    """Check the decorated function and go on with it when it is right, else with the library's own.

    Nothing written yet (``...``, ``pass``, a docstring only): says so. Right: one line of praise. Wrong: what was
    expected, what came, a likely cause; for an error, the line it came from and the values in it; for an endless
    loop, that it was stopped. With ``BTLIB_STRICT=1`` anything but a right answer raises `WrongAnswer` instead.

    Raises:
        KeyError: no exercise of that name.
        WrongAnswer: no right answer, in strict mode.

    Example:
        >>> @exercise("asr")
        ... def my_asr(predictions, labels, target):
        ...     ...
        asr: not answered yet. Going on with the library's function.
    """
    get(name)

    def decide(answer: Answer) -> Answer:
        outcome = judge(name, answer)
        if outcome.state == "right":
            print(f"{name}: right. {get(name).praise}")
            return outcome.use
        mistake = outcome.mistake or WrongAnswer("an answer", "none", "not answered yet")
        if os.environ.get("BTLIB_STRICT", "0") not in ("", "0"):
            raise mistake
        if outcome.state == "blank":
            print(f"{name}: not answered yet. Going on with the library's function.")
        else:
            print(f"{name}: not yet.\n  expected:     {mistake.expected}\n  got:          {mistake.got}\n"
                  f"  likely cause: {mistake.cause}\nGoing on with the library's function.")  # fmt: skip
        return outcome.use

    return decide


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
