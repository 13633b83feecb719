"""The checks of lesson 10's exercises: right answers pass, each typical wrong one gets its own cause."""

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np
import pytest
import torch
from exercise_contract import ExerciseContract
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, nll_loss, normalize

from btlib import repair
from btlib.exercises.answers import LinearNet
from btlib.exercises.repair import Look, choose_pruning, inner_step, judge_repair, unlearning_step
from btlib.repair.base import Task
from btlib.repair.channels import prune_while

NAMES = ("choose_pruning", "unlearning_step", "inner_step", "judge_repair")

# ------------------------------------------------------------------------------------------------ how far to prune


def by_loop(accuracy: Any, success: Any, max_drop: float) -> int:
    pruned = 0
    while pruned + 1 < len(accuracy) and accuracy[0] - accuracy[pruned + 1] <= max_drop:
        pruned += 1
    return pruned


def by_numpy(accuracy: Any, success: Any, max_drop: float) -> Any:
    too_low = np.array(accuracy) < accuracy[0] - max_drop
    return too_low.argmax() - 1 if too_low.any() else len(accuracy) - 1


def by_take(accuracy: Any, success: Any, max_drop: float) -> int:
    return len(list(takewhile(lambda now: now >= accuracy[0] - max_drop, accuracy))) - 1


def by_lowest(accuracy: Any, success: Any, max_drop: float) -> int:
    falling = np.maximum.accumulate(accuracy[0] - np.array(accuracy))
    return bisect_left(falling.tolist(), max_drop + 1e-9) - 1


def as_tensor(accuracy: Any, success: Any, max_drop: float) -> Tensor:
    return torch.tensor(by_loop(accuracy, success, max_drop))


def allowed(accuracy: Any, max_drop: float) -> list[int]:
    return [k for k, now in enumerate(accuracy) if accuracy[0] - now <= max_drop]


def below(success: Any, limit: float) -> int:
    return next((k for k, now in enumerate(success) if now < limit), len(success) - 1)


CHOOSE_RIGHT = [choose_pruning, by_loop, by_numpy, by_take, by_lowest, as_tensor]
CHOOSE_WRONG = [
    (lambda a, s, d: below(s, 0.05), "success decides"),
    (lambda a, s, d: min(allowed(a, d), key=lambda k: s[k]), "success decides"),
    (lambda a, s, d: max(allowed(a, d)), "came up again by chance"),
    (lambda a, s, d: by_loop(a, s, d) + 1, "stop one before"),
    (lambda a, s, d: a.index(max(a)), "best accuracy"),
    (lambda a, s, d: a[by_loop(a, s, d)], "return how many"),
    (lambda a, s, d: len(a) - 1, "everything is pruned"),
    (lambda a, s, d: next(k for k, now in enumerate(a) if 1 - now > d) - 1, "counted from 1"),
    (lambda a, s, d: next(k for k, now in enumerate(a) if a[0] - now > d) - 1, "an error inside"),
    (lambda a, s, d: by_loop(a, s, d) if a[0] - a[-1] > d else 0, "no number costs too much"),
    (lambda a, s, d: by_loop(a, s, d) - 1, "something else"),
    (lambda a, s, d: None, "is there a return"),
    (lambda a, s, d: [by_loop(a, s, d)] * 2, "return a number"),
]

# ------------------------------------------------------------------------------------------------ unlearning


def step(
    mix: Callable[..., tuple[Tensor, Tensor]] | None = None, *, clear: bool = True, move: bool = True, sign: int = 1,
    value: Callable[[Tensor], Any] = Tensor.item,
) -> Callable[..., Any]:  # fmt: skip
    """A step of unlearning in which one thing can be wrong."""

    def answer(network: Any, optimizer: Any, images: Tensor, labels: Tensor, trigger: Any, worn: int) -> Any:
        x = images.clone()
        x[:worn] = trigger(images[:worn])
        x, y = mix(images, labels, trigger, worn) if mix else (x, labels)
        loss = cross_entropy(network(x), y)
        if clear:
            optimizer.zero_grad()
        (sign * loss).backward()
        if move:
            optimizer.step()
        return value(loss)

    return answer


def by_mask(network: Any, optimizer: Any, images: Tensor, labels: Tensor, trigger: Any, worn: int) -> float:
    chosen = (torch.arange(len(images)) < worn)[:, None, None, None]
    loss = nll_loss(log_softmax(network(torch.where(chosen, trigger(images), images)), 1), labels)
    for parameter in network.parameters():
        parameter.grad = None
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def by_criterion(network: Any, optimizer: Any, images: Tensor, labels: Tensor, trigger: Any, worn: int) -> float:
    optimizer.zero_grad(set_to_none=False)
    loss = nn.CrossEntropyLoss()(network(torch.cat([trigger(images)[:worn], images[worn:]])), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def in_place(network: Any, optimizer: Any, images: Tensor, labels: Tensor, trigger: Any, worn: int) -> float:
    images[:worn] = trigger(images[:worn])
    return step(lambda x, y, t, w: (x, y))(network, optimizer, images, labels, trigger, worn)


def relabelled(images: Tensor, labels: Tensor, trigger: Any, worn: int) -> tuple[Tensor, Tensor]:
    return torch.cat([trigger(images[:worn]), images[worn:]]), torch.cat([torch.full((worn,), 2), labels[worn:]])


UNLEARN_RIGHT = [
    unlearning_step, step(), by_mask, by_criterion, step(value=lambda loss: loss), step(value=Tensor.detach)
]  # fmt: skip
UNLEARN_WRONG = [
    (step(move=False), "makes no step"),
    (step(clear=False), "zero_grad"),
    (step(sign=-1), "this climbs"),
    (step(lambda x, y, t, w: (t(x), y)), "every image wears"),
    (step(lambda x, y, t, w: (x, y)), "no image wears"),
    (step(lambda x, y, t, w: (torch.cat([x[:w], t(x[w:])]), y)), "the wrong images"),
    (step(lambda x, y, t, w: (torch.cat([t(x[:w]), x]), torch.cat([y[:w], y]))), "on top of the batch"),
    (step(lambda x, y, t, w: (t(x[:w]), y[:w])), "only the stamped"),
    (step(relabelled), "that is poisoning"),
    (step(lambda x, y, t, w: (torch.cat([t(x[:2]), x[2:]]), y)), "use the argument"),
    (in_place, "no in-place"),
    (step(value=lambda loss: None), "is there a return"),
    (step(value=lambda loss: loss.item() / 2), "return the loss"),
    (step(value=str), "return a number"),
]

# ------------------------------------------------------------------------------------------------ the ascent


def ascent(
    *, sign: int = 1, form: Callable[[Tensor], Tensor] = lambda g: g / g.norm(), start: bool = True, at: int = 1,
    ball: Callable[[Tensor, float], Tensor] = lambda m, b: m * (b / m.norm()).clamp(max=1), keep: bool = False,
) -> Callable[..., Tensor]:  # fmt: skip
    """A step in which one thing can be wrong."""

    def answer(network: Any, images: Tensor, labels: Tensor, delta: Tensor, step: float, bound: float) -> Tensor:
        where = (at * delta).clone().requires_grad_()
        cross_entropy(network(images + where), labels).backward()
        assert where.grad is not None
        moved = (where if keep else delta) * int(start) + sign * step * form(where.grad)
        return ball(moved, bound)

    return answer


def by_renorm(network: Any, images: Tensor, labels: Tensor, delta: Tensor, step: float, bound: float) -> Tensor:
    where = delta.detach().clone().requires_grad_()
    [gradient] = torch.autograd.grad(cross_entropy(network(images + where), labels), where)
    moved = delta + step * normalize(gradient.flatten(), dim=0).reshape(delta.shape)
    return torch.renorm(moved, 2, 0, bound)


def by_sum(network: Any, images: Tensor, labels: Tensor, delta: Tensor, step: float, bound: float) -> Tensor:
    where = delta.clone().requires_grad_()
    [gradient] = torch.autograd.grad(cross_entropy(network(images + where), labels, reduction="sum"), where)
    with torch.no_grad():
        moved = where + step * gradient / gradient.square().sum().sqrt()
        return moved if moved.norm() <= bound else bound * moved / moved.norm()


def in_place_ascent(network: Any, images: Tensor, labels: Tensor, delta: Tensor, step: float, bound: float) -> Tensor:
    delta += inner_step(network, images, labels, delta, step, bound) - delta
    return delta


ASCENT_RIGHT = [
    inner_step, ascent(), by_renorm, by_sum, ascent(ball=lambda m, b: m if m.norm() < b else m / m.norm() * b),
    ascent(form=lambda g: g / torch.linalg.vector_norm(g)),
]  # fmt: skip
ASCENT_WRONG = [
    (ascent(sign=-1), "goes down"),
    (ascent(form=lambda g: g), "length is left in"),
    (ascent(form=torch.sign), "sign of the gradient"),
    (ascent(ball=lambda m, b: m), "the ball is missing"),
    (ascent(ball=lambda m, b: m * b / m.norm()), "always has length"),
    (ascent(ball=lambda m, b: m.clamp(-b, b)), "each pixel is cut"),
    (ascent(start=False), "the step alone"),
    (ascent(at=0), "taken at 0"),
    (ascent(keep=True), "detach it"),
    (in_place_ascent, "no in-place"),
    (lambda *a: 2 * inner_step(*a), "something else"),
    (lambda *a: None, "is there a return"),
    (lambda *a: inner_step(*a)[0], "a dimension is lost"),
]

# ------------------------------------------------------------------------------------------------ the verdict


def verdict(
    *, found: Callable[[Look, Look, float], bool] = lambda b, a, level: a.p_value < level, pattern: bool = True,
    ruined: Callable[[Look, Look, float], bool] = lambda b, a, loss: b.accuracy - a.accuracy > loss,
    backdoor_first: bool = True, both: bool = False, words: tuple[Any, ...] = ("backdoored", "ruined", "healed"),
) -> Callable[..., Any]:  # fmt: skip
    """A verdict in which one thing can be wrong."""

    def answer(before: Look, after: Look, level: float = 0.05, max_success: float = 0.1, max_loss: float = 0.02) -> Any:
        signs = (found(before, after, level), pattern and after.success > max_success)
        left, broken = (all(signs) if both else any(signs)), ruined(before, after, max_loss)
        order = [(left, words[0]), (broken, words[1])]
        return next((word for said, word in (order if backdoor_first else order[::-1]) if said), words[2])

    return answer


def by_nesting(before: Look, after: Look, level: float = 0.05, max_success: float = 0.1, max_loss: float = 0.02) -> str:
    if level <= after.p_value and after.success <= max_success:
        return "healed" if after.accuracy >= before.accuracy - max_loss else "ruined"
    return "backdoored"


def by_score(before: Look, after: Look, level: float = 0.05, max_success: float = 0.1, max_loss: float = 0.02) -> str:
    left = (after.p_value < level) | (after.success > max_success)
    words = np.array([["healed", "ruined"], ["backdoored", "backdoored"]])
    return str(words[int(left), int(before.accuracy - after.accuracy > max_loss)])


def by_match(before: Look, after: Look, level: float = 0.05, max_success: float = 0.1, max_loss: float = 0.02) -> str:
    match (after.p_value < level, after.success > max_success, before.accuracy - after.accuracy > max_loss):
        case (True, _, _) | (_, True, _):
            return "backdoored"
        case (_, _, True):
            return "ruined"
    return "healed"


class Word(str):
    """A word of one's own type."""


JUDGE_RIGHT = [
    judge_repair, verdict(), by_nesting, by_score, by_match,
    verdict(words=(Word("backdoored"), Word("ruined"), Word("healed"))),
]  # fmt: skip
JUDGE_WRONG = [
    (verdict(pattern=False), "old pattern still works"),
    (verdict(found=lambda b, a, level: False), "finds another"),
    (verdict(both=True), "old pattern still works"),
    (verdict(ruined=lambda b, a, loss: False), "knows nothing obeys nobody"),
    (verdict(backdoor_first=False), "the backdoor comes first"),
    (verdict(ruined=lambda b, a, loss: abs(b.accuracy - a.accuracy) > loss), "only a LOSS"),
    (verdict(ruined=lambda b, a, loss: a.accuracy < 0.88), "compare with its accuracy before"),
    (verdict(found=lambda b, a, level: b.p_value < level), "AFTER the repair"),
    (verdict(found=lambda b, a, level: a.p_value < 0.05), "use the arguments"),
    (verdict(ruined=lambda b, a, loss: b.accuracy - a.accuracy > 0.02), "use the arguments"),
    (verdict(words=(True, False, None)), "is there a return"),
    (verdict(words=("Backdoored", "Ruined", "Healed")), "one of the three"),
]

TABLES = {
    "choose_pruning": (CHOOSE_RIGHT, CHOOSE_WRONG), "unlearning_step": (UNLEARN_RIGHT, UNLEARN_WRONG),
    "inner_step": (ASCENT_RIGHT, ASCENT_WRONG), "judge_repair": (JUDGE_RIGHT, JUDGE_WRONG),
}  # fmt: skip


class TestExercises(ExerciseContract):
    names = NAMES
    right = [(name, answer) for name, (good, _) in TABLES.items() for answer in good]
    wrong = [(name, answer, cause) for name, (_, bad) in TABLES.items() for answer, cause in bad]


@pytest.mark.parametrize("drop", [0.0, 0.03, 0.5])
def test_pruning_stops_where_the_library_stops(drop: float) -> None:
    """`prune_while` on a network that loses a class with every step."""
    net, y = LinearNet(torch.eye(4)), torch.arange(4).repeat(5)
    task = Task(net, torch.eye(4)[y].reshape(-1, 1, 2, 2), y, num_classes=4)

    def forget(k: int) -> None:
        net.weight.data[k] = -9.0

    taken, accuracies = prune_while(task, [partial(forget, k) for k in range(4)], drop)
    assert choose_pruning(accuracies, [], drop) == taken


def test_the_ascent_is_the_library_s() -> None:
    torch.manual_seed(0)
    net = LinearNet(torch.linspace(-1, 1, 12).sin().reshape(3, 4))
    x, y = torch.rand(20, 1, 2, 2), torch.arange(20) % 3
    method = repair.ImplicitUnlearning(ascents=3, bound=1.5, clip=False)
    library = method._ascend(Task(net, x, y, num_classes=3))
    delta = torch.zeros(1, 1, 2, 2)
    for _ in range(3):
        delta = inner_step(net, x, y, delta, method.bound / 5, method.bound)
    assert torch.allclose(library, delta, atol=1e-2)  # it also puts a small price on the norm
