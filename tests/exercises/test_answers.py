"""What checks say of an answer, and which of the well-known causes they name."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from btlib.exercises import WrongAnswer
from btlib.exercises.answers import (
    LinearNet,
    alike,
    cause_of,
    returned,
    same_number,
    same_tensor,
    truth,
    two,
    whole_numbers,
)


def test_same_tensor() -> None:
    wanted = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    same_tensor(wanted + 1e-7, wanted, "never")
    same_tensor(wanted + 0.05, wanted, "never", tolerance=0.1)
    with pytest.raises(WrongAnswer, match=r"expected 2\.0000 at \(1, 0\), got 2\.5000\. Likely cause: shifted"):
        same_tensor(torch.tensor([[0.0, 1.1], [2.5, 3.0]]), wanted, "shifted")
    with pytest.raises(WrongAnswer, match=r"got nan"):
        same_tensor(torch.tensor([[0.0, 1.0], [math.nan, 3.0]]), wanted, "divided by zero")
    with pytest.raises(WrongAnswer, match=r"expected shape \(2, 2\), got shape \(4,\)"):
        same_tensor(wanted.flatten(), wanted, "")
    with pytest.raises(WrongAnswer, match="expected a tensor, got list"):
        same_tensor([[0, 1], [2, 3]], wanted, "")


def test_same_number() -> None:
    same_number(0.75, 0.75, "never")
    same_number(torch.tensor([0.75]), 0.75, "never")
    with pytest.raises(WrongAnswer, match=r"expected 0\.7500, got 0\.2500\. Likely cause: the complement"):
        same_number(0.25, 0.75, "the complement")
    with pytest.raises(WrongAnswer, match="got nan"):
        same_number(math.nan, 0.75, "")
    with pytest.raises(WrongAnswer, match="rounded down .a //"):
        same_number(2, 2.6, "else", {"turned round": 0.4})
    with pytest.raises(WrongAnswer, match="turned round"):
        same_number(0.4, 2.6, "else", {"turned round": 0.4})
    for other in ("three quarters x", torch.zeros(2), "0.75", True):
        with pytest.raises(WrongAnswer, match=f"got {type(other).__name__}. .*should return a number"):
            same_number(other, 0.75, "")


def test_a_function_without_a_result_is_told_so() -> None:
    for check in (
        lambda: same_number(None, 0.75, ""),
        lambda: same_tensor(None, torch.zeros(2), ""),
        lambda: whole_numbers(None, "class numbers", "[1, 2]"),
        lambda: returned(None, "a pair"),
    ):
        with pytest.raises(WrongAnswer, match="got None. .*is there a return"):
            check()
    returned(0, "a number")


CAUSES = {"doubled": 1.5, "lost a digit": (0.7, 7.5), "by image": torch.tensor([0.7, 0.8])}


@pytest.mark.parametrize(
    ("got", "cause"),
    [
        (1.5, "doubled"),
        (torch.tensor([1.5]), "doubled"),
        (np.float64(7.5), "lost a digit"),
        (0.7 + 1e-6, "lost a digit"),
        (np.array([0.7, 0.8]), "by image"),
        (torch.tensor([0.7, 0.8], requires_grad=True), "by image"),
        (torch.tensor([[0.7, 0.8]]), "else"),
        (0.75, "else"),
        ("a", "else"),
        (None, "else"),
        (math.nan, "else"),
    ],
)
def test_the_first_cause_that_fits_is_named(got: Any, cause: str) -> None:
    assert cause_of(got, CAUSES, "else") == cause


def test_a_wrong_answer_is_told_its_cause() -> None:
    with pytest.raises(WrongAnswer, match="Likely cause: doubled"):
        same_number(1.5, 0.75, "else", CAUSES)
    with pytest.raises(WrongAnswer, match="Likely cause: by image"):
        same_tensor(torch.tensor([0.7, 0.8]), torch.zeros(2), "else", CAUSES)
    same_number(1.5, 1.5, "else", CAUSES)  # right is right, whatever else leads there


def test_booleans_are_numbers() -> None:
    assert alike(torch.tensor([True, False]), torch.tensor([1.0, 0.0]))
    same_tensor(torch.tensor([True]), torch.tensor([True]), "never")
    with pytest.raises(WrongAnswer, match=r"expected 1\.0000 at \(0,\), got 0\.0000"):
        same_tensor(torch.tensor([False]), torch.tensor([True]), "")


def test_truths() -> None:
    for got in (True, 1, np.bool_(True), torch.tensor(True), torch.tensor([True]), np.array(True)):
        assert truth(got) is True
    for got in (False, 0, np.False_, torch.tensor(0)):
        assert truth(got) is False
    assert truth(None) is None
    for other in ("False", 0.5, 2, [], [True], torch.tensor([True, True])):
        with pytest.raises(WrongAnswer, match="return the comparison itself"):
            truth(other)


def test_two_results_come_in_any_container_with_an_order() -> None:
    for got in ((1, 2), [1, 2], np.array([1, 2]), iter((1, 2))):
        assert tuple(map(int, two(got, "images, labels"))) == (1, 2)
    for other in (3, (1,), (1, 2, 3), {1, 2}, "ab", {"a": 1, "b": 2}):
        with pytest.raises(WrongAnswer, match="expected images, labels"):
            two(other, "images, labels")


def test_whole_numbers_come_sorted() -> None:
    assert whole_numbers(torch.tensor([3, 1]), "classes", "[1, 2]") == whole_numbers({3.0, 1.0}, "", "") == [1, 3]
    for other in (3, ["a"], torch.zeros(2, 2), "31", [0.5], [math.inf]):
        with pytest.raises(WrongAnswer, match=re.escape("return classes, such as [1, 2]")):
            whole_numbers(other, "classes", "[1, 2]")


def test_a_network_of_given_weights() -> None:
    net = LinearNet([[1.0, 2.0], [0.0, -1.0]])
    assert net(torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)).tolist() == [[11.0, -4.0]]
    assert net.weight.requires_grad
