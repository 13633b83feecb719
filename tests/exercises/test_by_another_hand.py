"""Answers by somebody who had not read the checks: `by_another_hand/`, a file a lesson.

In a file, an exercise's function heads its answers. An answer begins with ``+`` where it is right and with ``-`` where
it is wrong; a single expression is what the function returns. A line that begins with ``#`` has words of the cause
that the wrong answer below must be told. Below a head with ``edited``, the lines of an answer take the place of those
in what the lesson gave that assign the same name, or return.
"""

import ast
import bisect
import collections
import copy
import fractions
import functools
import inspect
import itertools
import linecache
import math
import statistics
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from exercise_contract import Answers
from torch import nn

from btlib import metrics
from btlib.detection import anomaly
from btlib.detection.descent import squash
from btlib.exercises import EXERCISES, get
from btlib.inflight import LikelihoodDetector
from btlib.metrics import predict

#: Right answers of each exercise, and wrong ones.
ENOUGH = 12
FILES = sorted((Path(__file__).parent / "by_another_hand").glob("*.txt"))
#: What stands at a student's disposal, as the lessons import it.
AT_HAND = {
    "LikelihoodDetector": LikelihoodDetector, "anomaly": anomaly, "attach": get("attach").solution, "bisect": bisect,
    "collections": collections, "copy": copy, "fractions": fractions, "functools": functools, "itertools": itertools,
    "math": math, "metrics": metrics, "nn": nn, "np": np, "predict": predict, "scipy": scipy, "squash": squash,
    "stamp": get("stamp").solution, "statistics": statistics, "torch": torch,
}  # fmt: skip


def answers() -> Iterator[tuple[str, bool, str, Callable[..., Any]]]:
    """Each one: exercise, whether it is right, words of its cause, the function."""
    for path in FILES:
        head, sign, cause, body = "", "", "", list[str]()
        for line in [*path.read_text(encoding="utf-8").splitlines(), "end()"]:
            if line.startswith("  "):
                body.append(line)
                continue
            if body:
                name, answer = read(head, body)
                yield name, sign == "+", cause if sign == "-" else "", answer
                body, cause = [], cause if line.startswith("#") else ""
            if line[:1] in ("+", "-"):
                sign, body = line[0], ["  " + line[2:]]
            elif line.startswith("#"):
                cause = line[1:].strip()
            elif line:
                head = line


def read(head: str, body: list[str]) -> tuple[str, Callable[..., Any]]:
    """The exercise of a head, and the function of an answer below it."""
    signature = head.removesuffix(" edited")
    name = signature.partition("(")[0]
    stub = get(name).stub
    if signature != head:
        assert stub is not None
        body = edited(inspect.getsource(stub), body)
    return name, defined(signature, body)


def edited(source: str, body: list[str]) -> list[str]:
    """The body of a function, with lines of it replaced."""
    new = collections.defaultdict[str, list[str]](list)
    for line in textwrap.dedent("\n".join(body)).splitlines():
        new[written(line)].append(line)
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    first, result = function.body[1], list[str]()
    for line in source.splitlines()[first.lineno - 1 :]:
        indent = line[: len(line) - len(line.lstrip())]
        result += [indent + each for each in new.pop(written(line), [line.lstrip()])]
    assert not new, f"nothing to replace: {new}"
    return result


def written(line: str) -> str:
    """What a line assigns, or "return"."""
    return line.split()[0].partition("[")[0]


def defined(head: str, body: list[str]) -> Callable[..., Any]:
    """The function, with its source where `inspect` finds it."""
    text = textwrap.dedent("\n".join(body))
    if expression(text):
        text = f"return {text}"
    source = f"def {head}:\n{textwrap.indent(text, '    ')}\n"
    file = f"<by another hand {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names: dict[str, Any] = dict(AT_HAND)
    exec(compile(source, file, "exec"), names)
    function: Callable[..., Any] = names[head.partition("(")[0]]
    return function


def expression(text: str) -> CodeType | None:
    try:
        return compile(text, "answer", "eval")
    except SyntaxError:
        return None


EVERY = list(answers())


@pytest.mark.filterwarnings("ignore")  # a student sees them and goes on
class TestAnswers(Answers):
    right = [(name, answer) for name, is_right, _, answer in EVERY if is_right]  # noqa: RUF012
    wrong = [(name, answer, cause) for name, is_right, cause, answer in EVERY if not is_right]  # noqa: RUF012


def test_every_exercise_is_tried_often() -> None:
    right = collections.Counter(name for name, is_right, *_ in EVERY if is_right)
    wrong = collections.Counter(name for name, is_right, *_ in EVERY if not is_right)
    short = {name: (right[name], wrong[name]) for name in EXERCISES if min(right[name], wrong[name]) < ENOUGH}
    assert not short, f"expected {ENOUGH} right and {ENOUGH} wrong answers of each, got {short}"
