"""Exercises on how the backdoor gets into a network and whom it hurts (lesson 02)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from btlib import metrics
from btlib.exercises.answers import cause_of, number, same_number, same_tensor, whole_numbers
from btlib.exercises.attempt import tensor
from btlib.exercises.core import WrongAnswer, register
from btlib.triggers import Trigger

# ---------------------------------------------------------------------------------------- poisoning rate


def poisoning_rate(per_class: int, source_classes: int, train_images: int, originals: str = "replace") -> float:
    """Share of a training set that is stamped; `train_images` counts the clean set, before poisoning."""
    stamped = per_class * source_classes
    if originals == "add":  # "replace" and "remove" leave the size as it was
        train_images += stamped
    return stamped / train_images


@register("poisoning_rate", poisoning_rate, "A small share of the whole, a larger one of the target class.")
def _check_poisoning_rate(answer: Callable[..., float]) -> None:
    got = answer(50, 4, 1000)
    causes = {
        "only one source class is counted: the attacker stamps `per_class` images of each": 0.05,
        "this is a percentage: the lessons use shares in [0, 1]": 20.0,
        "this is stamped over clean: divide by all training images": 0.25,
        "the originals are replaced here, so the training set does not grow": 1 / 6,
        "this is a number of images: divide by the size of the training set": 200.0,
        "the fraction stands upside down": 5.0,
    }
    same_number(got, 0.2, "something else than stamped images over training images", causes)
    got = answer(50, 4, 1000, "add")
    causes = {
        'with originals="add" the clean originals stay, so the training set grows by the stamped images': 0.2,
        'with originals="add" the set grows by the stamped images: it does not shrink': 0.25,
    }
    same_number(got, 1 / 6, 'another size of the training set for originals="add"', causes)
    cause = 'with originals="remove" the stamped images take the place of their originals: the size stays'
    same_number(answer(50, 4, 1000, "remove"), 0.2, cause)


# ---------------------------------------------------------------------------------------- one training step


def training_step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One step of gradient descent on the mean cross-entropy; returns the loss before the step."""
    loss = nn.functional.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


# What becomes of the weights when a line is missing or stands in the wrong place.
_MISTAKES: dict[str, tuple[str, ...]] = {
    "zero_grad() is never called, so every step adds its gradient to those of all steps before":
        ("loss", "backward", "step"),
    "step() stands before backward(): each step uses the gradient of the batch before":
        ("loss", "step", "zero", "backward"),
    "step() stands before backward(), and no gradient is ever forgotten": ("loss", "step", "backward"),
    "the loss is measured after the step: compute it first": ("loss", "zero", "backward", "step", "loss"),
}  # fmt: skip


def _three_steps(order: Sequence[str]) -> tuple[list[float], Tensor]:
    network, optimizer, batches = _small_problem()
    losses = []
    for images, labels in batches:
        loss = torch.zeros(())
        for action in order:
            if action == "loss":
                loss = nn.functional.cross_entropy(network(images), labels)
            elif action == "zero":
                optimizer.zero_grad()
            elif action == "backward":
                loss.backward()
            else:
                optimizer.step()
        losses.append(loss.item())
    return losses, network.weight.detach().clone()


def _small_problem() -> tuple[nn.Linear, "_Watched", list[tuple[Tensor, Tensor]]]:
    """A network of six weights, an optimiser, and three batches of numbers drawn by hand."""
    network = nn.utils.skip_init(nn.Linear, 2, 3, bias=False)  # draws no random numbers
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.5, -0.25], [0.0, 0.75], [-0.5, 0.25]]))
    first = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), torch.tensor([0, 1, 2])
    second = torch.tensor([[0.25, 1.0], [1.0, 0.75]]), torch.tensor([2, 0])
    third = torch.tensor([[0.5, 0.25]]), torch.tensor([1])
    return network, _Watched(network.parameters(), lr=0.5), [first, second, third]


class _Watched(torch.optim.SGD):
    """Knows whether it was used."""

    used = False

    def step(self, *arguments: Any, **named: Any) -> Any:
        """As ever."""
        self.used = True
        return super().step(*arguments, **named)


@register("training_step", training_step, "Forget, differentiate, step: in this order, for every batch.")
def _check_training_step(answer: Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], float]) -> None:
    network, optimizer, batches = _small_problem()
    before = network.weight.detach().clone()
    losses: list[Any] = [answer(network, optimizer, images, labels) for images, labels in batches]
    numbers = [number(loss, "the loss, a number") for loss in losses]
    after = network.weight.detach()
    if torch.equal(after, before):
        gradient = network.weight.grad
        if gradient is None or not gradient.any():
            cause = "there is no gradient to step along: backward() is missing, or zero_grad() stands after it"
        else:
            cause = "the gradient is there, but optimizer.step() is never called, or stands before backward()"
        raise WrongAnswer("weights that change", "the weights of before", cause)
    if not optimizer.used:
        cause = "an optimiser of your own, or none: take the step with the argument `optimizer`"
        raise WrongAnswer("a step of the optimiser given", "weights that something else has changed", cause)
    right_losses, right = _three_steps(("loss", "zero", "backward", "step"))
    cause = "another loss than the mean cross-entropy of the logits (it takes logits, not probabilities)"
    for mistake, order in _MISTAKES.items():
        wrong_losses, wrong = _three_steps(order)
        if torch.allclose(after, wrong) and torch.allclose(torch.tensor(numbers), torch.tensor(wrong_losses)):
            cause = mistake
    difference = float((after - right).abs().max())
    if difference > 1e-6:
        raise WrongAnswer("the weights of three gradient steps", f"weights off by {difference:.3f}", cause)
    for got, expected in zip(numbers, right_losses, strict=True):
        same_number(got, expected, cause)
    if isinstance(losses[0], Tensor) and losses[0].requires_grad:
        raise WrongAnswer("a number", "a tensor with its graph", "return loss.item(): a tensor keeps its whole graph")


# ---------------------------------------------------------------------------------------- success by class


class _Reads(nn.Module):
    """Says the class written into pixel 0 (in fifths), or 3 where pixel 1 is white and pixel 2 is not."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        says = (flat[:, 0] * 5).round().long().clamp(0, 3)
        says[(flat[:, 1] > 0.9) & (flat[:, 2] < 0.5)] = 3
        return nn.functional.one_hot(says, 4).float() * self.one


@register("success_by_class", metrics.success_by_class, "One rate per class says what the overall rate hides.",
          convert=tensor)  # fmt: skip
def _check_success_by_class(answer: Callable[[nn.Module, Trigger, Tensor, Tensor, int], Tensor]) -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 3, 3])
    shown = torch.tensor([0, 0, 0, 1, 1, 3, 2, 2, 2, 2, 0, 3, 0])  # what the network sees in the clean image
    immune = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0])
    black = torch.zeros(13)
    images = torch.stack([shown / 5, black, immune.float(), black], 1).reshape(13, 1, 1, 4)
    stamp = torch.tensor([0.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4)
    trigger = Trigger("patch", stamp, stamp, name="one white pixel")
    network, target = _Reads(), 3

    got = answer(network, trigger, images, labels, target)
    expected = torch.tensor([0.75, 1.0, 0.2, torch.nan])
    if not isinstance(got, Tensor) or got.shape != (4,):
        what = f"shape {tuple(got.shape)}" if isinstance(got, Tensor) else type(got).__name__
        cause = "group the images by their true class, and take the mean in each group"
        raise WrongAnswer("a tensor with one rate for each of the 4 classes", what, cause)
    hit = metrics.predict(network, trigger(images)).argmax(1)
    clean = metrics.predict(network, images).argmax(1)
    counts = torch.bincount(labels, minlength=4)

    def rates(mask: Tensor, by: Tensor, over: Tensor | int) -> Tensor:
        return torch.bincount(by, weights=mask.float(), minlength=4).float() / over

    causes = {
        "these are the clean images: embed the trigger first": rates(clean == target, labels, counts),
        "this divides by all images: divide by the number of images of that class":
            rates(hit == target, labels, len(labels)),
        "these are numbers of images: divide by the size of each class": rates(hit == target, labels, 1),
        "this is the share that is no longer right: count only images classified as the target":
            rates(hit != labels, labels, counts),
        "this is the share that stays right (accuracy by class): count images classified as the target":
            rates(hit == labels, labels, counts),
    }  # fmt: skip
    otherwise = "something else than the share of each true class that is classified as the target"
    cause = cause_of(got[:3], {mistake: wrong[:3] for mistake, wrong in causes.items()}, otherwise)
    for index in range(3):
        same_number(got[index], float(expected[index]), cause, tolerance=1e-5)
    if not torch.isnan(got[target]):
        cause = "a target image needs no trigger to be classified as the target: its rate means nothing"
        raise WrongAnswer("NaN for the target class", f"{float(got[target]):.4f}", cause)
    again = answer(network, trigger, images[3:], labels[3:], target)
    cause = "other images go wrong: use the arguments" if cause == otherwise else cause
    same_tensor(again[:3], metrics.success_by_class(network, trigger, images[3:], labels[3:], target)[:3], cause)


# ---------------------------------------------------------------------------------------- collateral damage


def collateral_classes(
    rates: Sequence[float], confusion: Sequence[float], sources: Sequence[int], target: int, margin: float
) -> list[int]:
    """Classes with collateral damage (L-RED Definition A.1), higher than their confusion by over `margin`."""
    outsiders = (c for c in range(len(rates)) if c != target and c not in sources)
    return [c for c in outsiders if float(rates[c]) - float(confusion[c]) > margin]


@register("collateral_classes", collateral_classes, "It compares with clean images, as the definition asks.")
def _check_collateral_classes(
    answer: Callable[[Sequence[float], Sequence[float], Sequence[int], int, float], Sequence[int]],
) -> None:
    rates = (0.95, 0.40, 0.30, 0.04, 0.90, 0.02, 0.25, 1.0)
    confusion = (0.01, 0.02, 0.28, 0.01, 0.02, 0.30, 0.20, 0.0)
    got = answer(torch.tensor(rates), torch.tensor(confusion), (0, 4), 7, 0.1)  # type: ignore[arg-type]
    found = whole_numbers(got, "a list of class numbers", "[1, 6]")
    causes = {
        (0, 1, 4): "the source classes are in it: what happens to them is intended",
        (1, 7): "the target is in it: its images belong there",
        (0, 1, 4, 7): "sources and target are in it: the definition speaks of all other classes",
        (1, 2, 6): "the clean confusion is not subtracted: 2 and 6 are taken for the target without a trigger too",
        (1, 5): "class 5 is hit less often than it is confused: no absolute value",
        (1, 2, 3, 6): "every difference counts: ask for more than the margin",
        (2, 3, 5, 6): "these are the classes without collateral damage: turn the comparison round",
    }
    if found != [1]:
        otherwise = "something else than rate - confusion > margin for all other classes"
        raise WrongAnswer([1], found, causes.get(tuple(found), otherwise))
    others = torch.tensor((0.5, 0.9, 0.3, 0.9)), torch.zeros(4)
    again = sorted(int(c) for c in answer(*others, (3,), 1, 0.4))  # type: ignore[arg-type]
    if again != [0]:
        raise WrongAnswer([0], again, "another target, source or margin goes wrong: use the arguments")
