"""Exercises on repair: how far to prune, one step of unlearning, one of I-BAU's ascent, a verdict (lesson 10)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from btlib.exercises.answers import LinearNet, returned, same_number, same_tensor
from btlib.exercises.attempt import tensor
from btlib.exercises.core import WrongAnswer, register
from btlib.triggers import Trigger, single_pixel

# ---------------------------------------------------------------------------------------- how far to prune


def choose_pruning(accuracy: Sequence[float], success: Sequence[float], max_drop: float) -> int:
    """Prune on until held-out clean images forbid it (Fine-Pruning 4.2); success is the laboratory's, and not used."""
    for pruned, now in enumerate(accuracy):
        if accuracy[0] - now > max_drop:
            return pruned - 1
    return len(accuracy) - 1


@register("choose_pruning", choose_pruning, "Chosen by what a defender has: clean pictures that she held out.")
def _check_choose_pruning(answer: Callable[[Sequence[float], Sequence[float], float], int]) -> None:
    accuracy, success = [0.90, 0.90, 0.89, 0.87, 0.84, 0.88, 0.60], [0.99, 0.98, 0.97, 0.95, 0.90, 0.40, 0.02]
    for max_drop, wanted in ((0.04, 3), (0.015, 2), (0.07, 5)):
        got = answer(list(accuracy), list(success), max_drop)
        allowed = [k for k, now in enumerate(accuracy) if accuracy[0] - now <= max_drop + 1e-9]
        wrong: dict[str, Any] = {
            "this is the first number that costs too much: stop one before it": wanted + 1,
            "the curve went down too far, and came up again by chance: stop the first time that it is too low":
                max(allowed),
            "this is the number with the best accuracy: prune as much as is allowed": (0, 1),
            "this is the accuracy reached: return how many neurons": (accuracy[wanted], accuracy[wanted + 1]),
            "everything is pruned: the accuracy has a say": len(accuracy) - 1,
            "the drop is counted from 1: it is counted from the accuracy without pruning":
                next((k for k, now in enumerate(accuracy) if 1 - now > max_drop), 0) - 1,
        }  # fmt: skip
        if wanted == max(allowed):
            wrong.pop(next(key for key in wrong if key.startswith("the curve")))
        if got == wanted:
            continue
        cheated = answer(list(accuracy), list(reversed(success)), max_drop) != got
        otherwise = "something else than the largest number before the first whose accuracy is too low"
        cause = "success decides: only the attacker knows it, so choose by accuracy alone" if cheated else otherwise
        same_number(got, wanted, cause, {} if cheated else wrong)
    for curve, max_drop, wanted, cause in (
        ([0.9, 0.9, 0.9], 0.04, 2, "no number costs too much here: prune as many as were tried"),
        ([1.0, 0.75, 0.5], 0.25, 1, "just as much as may be lost is not too much: stop at more"),
        ([0.5, 0.4, 0.3], 0.15, 1, "max_drop is in points of accuracy, not a share of accuracy[0]"),
        ([0.8, 0.9, 0.82, 0.7], 0.05, 2, "the drop is counted from accuracy[0], not from the best"),
    ):
        try:
            got = answer(list(curve), [1.0] * len(curve), max_drop)
        except (IndexError, StopIteration, ValueError) as error:
            raise WrongAnswer(wanted, f"{type(error).__name__}: {error}", cause) from error
        same_number(got, wanted, cause)


# ---------------------------------------------------------------------------------------- unlearning


def unlearning_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, trigger: Trigger, worn: int
) -> float:  # fmt: skip
    """One step of Neural Cleanse's unlearning (VI-C): the first images wear the trigger, all keep their true labels."""
    batch = torch.cat([trigger(images[:worn]), images[worn:]])
    loss = cross_entropy(network(batch), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@register("unlearning_step", unlearning_step, "The trigger is shown, and says nothing any more.")
def _check_unlearning_step(answer: Callable[..., float]) -> None:
    images, labels = torch.linspace(0.1, 0.6, 36).reshape(4, 1, 3, 3), torch.tensor([0, 1, 2, 1])
    trigger, worn = single_pixel((1, 3, 3)), 2
    weights, loss = _stepped(answer, images, labels, trigger, worn)
    stamped = trigger(images)
    half = torch.cat([stamped[:worn], images[worn:]])
    cases: dict[str, Callable[[], tuple[Tensor, float]]] = {
        "the optimizer makes no step: optimizer.step() after backward": lambda: (_start().weight.detach(), loss),
        "old gradients are added: optimizer.zero_grad() before backward": lambda: _expected(half, labels, stale=True),
        "this climbs: make the loss smaller, not larger": lambda: _expected(half, labels, sign=-1),
        "every image wears the trigger: only the first `worn`": lambda: _expected(stamped, labels),
        "no image wears the trigger: that is plain fine-tuning": lambda: _expected(images, labels),
        "the wrong images wear it: the first `worn`, not the others":
            lambda: _expected(torch.cat([images[:worn], stamped[worn:]]), labels),
        "the stamped images come on top of the batch: they take the place of the clean ones":
            lambda: _expected(torch.cat([stamped[:worn], images]), torch.cat([labels[:worn], labels])),
        "only the stamped images are learned: the clean ones keep the accuracy":
            lambda: _expected(stamped[:worn], labels[:worn]),
    }  # fmt: skip
    right, value = _expected(half, labels)
    wrong: dict[str, Any] = {cause: make()[0] for cause, make in cases.items()}
    wrong["the stamped images get a target label: that is poisoning; the true labels stay"] = tuple(
        _expected(half, torch.cat([torch.full((worn,), c), labels[worn:]]))[0] for c in range(3)
    )
    same_tensor(weights, right, "something else than one step down the loss of this batch", wrong, tolerance=1e-5)
    same_number(loss, value, "return the loss of the step, before it", tolerance=1e-5)
    again, _ = _stepped(answer, images, labels, trigger, 1)
    expected = _expected(torch.cat([stamped[:1], images[1:]]), labels)[0]
    same_tensor(again, expected, "with another `worn` it goes wrong: use the argument", tolerance=1e-5)


def _start() -> LinearNet:
    return LinearNet(torch.linspace(-1, 1, 27).sin().reshape(3, 9).clone())


def _stepped(
    step: Callable[..., float], images: Tensor, labels: Tensor, trigger: Trigger, worn: int
) -> tuple[Tensor, float]:
    """The weights after one step from stale gradients, and what was returned."""
    network = _start()
    network.weight.grad = torch.ones_like(network.weight)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    returned(got := step(network, optimizer, images, labels, trigger, worn), "the loss, a number")
    return network.weight.detach().clone(), got


def _expected(images: Tensor, labels: Tensor, *, sign: int = 1, stale: bool = False) -> tuple[Tensor, float]:
    network = _start()
    loss = cross_entropy(network(images), labels)
    (gradient,) = torch.autograd.grad(loss, [network.weight])
    return (network.weight - 0.5 * sign * (gradient + stale)).detach(), loss.item()


# ---------------------------------------------------------------------------------------- the ascent of I-BAU


def inner_step(
    network: nn.Module, images: Tensor, labels: Tensor, delta: Tensor, step: float, bound: float
) -> Tensor:  # fmt: skip
    """One step of I-BAU's inner problem: up the mean loss of all images that wear δ, and back into the ball."""
    delta = delta.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(network(images + delta), labels), delta)
    moved = delta.detach() + step * gradient / gradient.norm()
    return moved * min(1.0, bound / float(moved.norm()))


@register("inner_step", inner_step, "One perturbation for all pictures: a trigger that nobody has told you.",
          convert=tensor)  # fmt: skip
def _check_inner_step(answer: Callable[..., Tensor]) -> None:
    network, images, labels = _start(), torch.linspace(0.1, 0.6, 36).reshape(4, 1, 3, 3), torch.tensor([0, 1, 2, 1])
    delta = torch.linspace(-0.2, 0.3, 9).reshape(1, 1, 3, 3)
    for step, bound in ((0.4, 9.0), (0.4, 0.2)):
        got = answer(network, images, labels, delta, step, bound)
        expected = inner_step(network, images, labels, delta, step, bound)
        if isinstance(got, Tensor) and got.requires_grad:
            cause = "the result hangs on the graph of this step: detach it, or memory grows with every step"
            raise WrongAnswer("a tensor without gradient", "one that asks for it", cause)
        same_tensor(got, expected, "something else than a step of this length up the mean loss, and back into the ball",
                    _wrong_steps(network, images, labels, delta, (step, bound)), tolerance=1e-5)  # fmt: skip


def _wrong_steps(
    network: nn.Module, images: Tensor, labels: Tensor, delta: Tensor, sizes: tuple[float, float]
) -> dict[str, Any]:
    step, bound = sizes

    def slope(shift: Tensor) -> Tensor:
        shift = shift.detach().requires_grad_()
        return torch.autograd.grad(cross_entropy(network(images + shift), labels), shift)[0]

    def back(moved: Tensor) -> Tensor:
        return moved * min(1.0, bound / float(moved.norm()))

    gradient, unit = slope(delta), slope(delta) / slope(delta).norm()
    return {
        "this goes down: the inner problem makes the loss LARGER": back(delta - step * unit),
        "the gradient's length is left in: divide it by its norm": back(delta + step * gradient),
        "this is the sign of the gradient, a step for the largest pixel: divide by the norm":
            back(delta + step * gradient.sign()),
        "the ball is missing: scale back to `bound` where the norm is larger": delta + step * unit,
        "the result always has length `bound`: shorter ones stay as they are":
            (delta + step * unit) * bound / (delta + step * unit).norm(),
        "each pixel is cut: the ball is one of the whole perturbation's length":
            (delta + step * unit).clamp(-bound, bound),
        "this is the step alone: it starts at delta": (back(step * unit), step * unit),
        "the gradient is taken at 0: take it at delta": back(delta + step * slope(0 * delta) / slope(0 * delta).norm()),
        "it is scaled back before the step, not after it": back(delta) + step * unit,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------- the verdict


@dataclass(frozen=True)
class Look:
    """What a defender sees of a network.

    Attributes:
        accuracy: on clean images that were held out.
        success: of the pattern that was estimated BEFORE the repair, on such images.
        p_value: of a scan over all classes, of the network as it is now.
    """

    accuracy: float
    success: float
    p_value: float


def judge_repair(
    before: Look, after: Look, level: float = 0.05, max_success: float = 0.1, max_loss: float = 0.02
) -> str:
    """A second scan and the old pattern say whether a backdoor is left; the accuracy says what the repair cost."""
    if after.p_value < level or after.success > max_success:
        return "backdoored"
    return "ruined" if before.accuracy - after.accuracy > max_loss else "healed"


@register("judge_repair", judge_repair, "Two ways for a backdoor to show, and a price.")
def _check_judge_repair(answer: Callable[..., str]) -> None:
    before = Look(0.90, 0.99, 0.001)
    fine = Look(0.89, 0.03, 0.40)
    cases = [
        (fine, "healed", "nothing is left of it, and accuracy is kept: look at the network AFTER the repair"),
        (replace(fine, success=0.80), "backdoored", "the scan finds nothing, and the old pattern still works: a search "
         "can miss what you know already"),
        (replace(fine, p_value=0.01), "backdoored", "the old pattern is dead, and the scan finds another: a backdoor "
         "has many patterns"),
        (replace(fine, accuracy=0.70), "ruined", "accuracy fell by .20: a network that knows nothing obeys nobody"),
        (Look(0.70, 0.90, 0.40), "backdoored", "ruined and backdoored: the backdoor comes first"),
        (replace(fine, accuracy=0.93), "healed", "accuracy rose: only a LOSS ruins"),
        (Look(0.89, 0.10, 0.05), "healed", "just at a limit is not beyond it: below `level`, above `max_success`"),
    ]  # fmt: skip
    for after, wanted, cause in cases:
        _said(answer(before, after), wanted, cause)
    poor = Look(0.60, 0.99, 0.001)
    cause = "a network that was poor before is not ruined by its repair: compare with its accuracy before"
    _said(answer(poor, Look(0.59, 0.03, 0.4)), "healed", cause)
    cause = "another level, max_success or max_loss goes wrong: use the arguments"
    _said(answer(before, replace(fine, p_value=0.04), 0.01), "healed", cause)
    _said(answer(before, fine, 0.05, 0.01), "backdoored", cause)
    _said(answer(before, fine, 0.05, 0.1, 0.001), "ruined", cause)


def _said(got: Any, wanted: str, cause: str) -> None:
    returned(got, f"{wanted!r}")
    if not isinstance(got, str) or got not in ("healed", "backdoored", "ruined"):
        raise WrongAnswer("'healed', 'backdoored' or 'ruined'", repr(got), "return one of the three words")
    if got != wanted:
        raise WrongAnswer(repr(wanted), repr(got), cause)
