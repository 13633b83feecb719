"""Answers by somebody who had not read the checks: `by_another_hand/`, a file a lesson.

In a file, an exercise's function heads its answers. An answer begins with ``+`` where it is right and with ``-`` where
it is wrong; a single expression is what the function returns. A line that begins with ``#`` has words of the cause
that the wrong answer below must be told.
"""

import bisect
import collections
import copy
import fractions
import functools
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
                yield head.partition("(")[0], sign == "+", cause if sign == "-" else "", defined(head, body)
                body, cause = [], cause if line.startswith("#") else ""
            if line[:1] in ("+", "-"):
                sign, body = line[0], ["  " + line[2:]]
            elif line.startswith("#"):
                cause = line[1:].strip()
            elif line:
                head = line


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


def test_every_exercise_is_tried() -> None:
    assert {name for name, *_ in EVERY} == set(EXERCISES) - {"three_errors"}  # its answers are the posted program
