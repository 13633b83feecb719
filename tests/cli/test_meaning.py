"""Labels that do not mean what the network's outputs mean."""

import pytest
import torch

from btlib.cli.meaning import by_chance, confusion, in_words, likely_order


def answers(accuracy: float, order: list[int] | None = None, per_class: int = 50) -> torch.Tensor:
    """The confusion of a network with this accuracy, for labels in another order."""
    classes = 5
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(classes).repeat(per_class)
    said = torch.tensor(order or list(range(classes)))[y]
    wrong = torch.rand(len(y), generator=generator) > accuracy
    said[wrong] = torch.randint(classes, (int(wrong.sum()),), generator=generator)
    return confusion(said, y, classes)


def test_a_permutation_is_found_and_said() -> None:
    order = [0, 2, 1, 4, 3]
    assert likely_order(answers(0.8, order)) == order
    said = in_words(order, ["a", "b", "c", "d", "e"])
    assert said.startswith("the images called b look like output 2 (called c), those called c like output 1")
    text_order = [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]  # folders sorted as text, a network trained by number
    assert likely_order(torch.eye(11)[text_order] * 20) == text_order


@pytest.mark.parametrize("accuracy", [1.0, 0.8, 0.5, 0.3, 0.0])
def test_labels_that_fit_are_left_alone_whatever_the_accuracy(accuracy: float) -> None:
    assert likely_order(answers(accuracy)) is None


def test_guessing_is_seen() -> None:
    assert by_chance(answers(0.0))
    assert by_chance(answers(0.8, [1, 2, 3, 4, 0]))  # worse than guessing
    assert not by_chance(answers(0.4))
    assert by_chance(torch.diag(torch.tensor([1, 1, 1])))  # a guess of one in 27: nobody can tell yet
    assert not by_chance(torch.diag(torch.tensor([2, 2, 2])))


def test_many_moved_classes_are_not_all_listed() -> None:
    assert in_words([*range(1, 9), 0], [str(c) for c in range(9)]).endswith("and 4 more")
