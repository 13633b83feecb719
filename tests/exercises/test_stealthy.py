"""The checks of lesson 03's exercises: right answers pass, each typical wrong one gets its own cause."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import pytest
import torch
from exercise_contract import ExerciseContract
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from toys import toy_data

from btlib import networks
from btlib.attacks import attach
from btlib.attacks.stealthy import StealthyRecipe
from btlib.datasets import to_float
from btlib.detection.descent import stamp
from btlib.exercises import get
from btlib.exercises.stealthy import adversarial_loss, cross_loss
from btlib.triggers import quantize

NAMES = ("attach", "cross_loss", "adversarial_loss")


def lucky_first() -> Callable[[Tensor], Tensor]:
    """An order by chance: the first one moves every pattern, a later one leaves one where it is."""
    orders = chain([[1, 2, 3, 0]], repeat([0, 2, 3, 1]))
    return lambda p: p[next(orders)] if len(p) == 4 else p.roll(1, 0)


def crossed(
    order: Callable[[Tensor], Tensor] = lambda p: p.roll(1, 0), labels: Callable[[Tensor], Tensor] = lambda y: y,
    images: Callable[[Tensor], Tensor] = lambda x: x, embed: Callable[..., Tensor] = attach,
    loss: Callable[..., Any] = cross_entropy,
) -> Callable[..., Any]:  # fmt: skip
    """L_c in which one thing can be wrong."""
    return lambda net, x, y, p, e: loss(net(embed(images(x), order(p), e)), labels(y))


def towards(what: Callable[[Tensor, Tensor, Tensor], Any]) -> Callable[..., Any]:
    """A loss from logits, true classes and as many targets."""
    return lambda net, x, y, target: what(net(x), y, torch.full_like(y, target))


def spoiled(x: Tensor, p: Tensor, e: float) -> Tensor:
    """Right, but in the images' own memory."""
    return x.mul_(1 - e).add_(e * p).clamp_(0, 1)


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("attach", attach),
    ("attach", lambda x, p, e: torch.clip(x + e * (p - x), 0, 1)),
    ("attach", lambda x, p, e: torch.maximum(torch.zeros(()), e * p + (1 - e) * x)),  # it can't exceed 1
    ("cross_loss", cross_loss),
    ("cross_loss", crossed()),
    ("cross_loss", crossed(lambda p: p.roll(-1, 0))),
    ("cross_loss", crossed(lambda p: p, lambda y: y.roll(1, 0), lambda x: x.roll(1, 0))),  # pairs in another order
    ("adversarial_loss", adversarial_loss),
    ("adversarial_loss", towards(lambda z, y, t: -z.log_softmax(1)[torch.arange(len(y)), y].mean())),
]

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("attach", lambda x, p, e: ((1 - e) * p + e * x).clip(0, 1), "are exchanged"),
    ("attach", lambda x, p, e: (x + e * p).clip(0, 1), "counts 1 - ε"),
    ("attach", lambda x, p, e: (p + (1 - e) * x).clip(0, 1), "not shrunk"),
    ("attach", lambda x, p, e: (x + p).clip(0, 1), "ε is missing"),
    ("attach", lambda x, p, e: e * p + (1 - e) * x, "not clipped"),
    ("attach", lambda x, p, e: (e * p + (1 - e) * x).clip(-1, 1), "not clipped to [0, 1]"),
    ("attach", lambda x, p, e: e * (p + 1) / 2 + (1 - e) * x, "may darken"),
    ("attach", lambda x, p, e: e * p.clip(0, 1) + (1 - e) * x, "negative half"),
    ("attach", lambda x, p, e: ((1 - e) * x - e * p).clip(0, 1), "subtracted"),
    ("attach", lambda x, p, e: (0.01 * p + 0.99 * x).clip(0, 1), "use the argument"),
    ("attach", lambda x, p, e: x, "nothing is attached"),
    ("attach", lambda x, p, e: (e * p.abs() + (1 - e) * x).clip(0, 1), "something else"),
    ("attach", lambda x, p, e: attach(x, p.detach(), e), "gradient is lost"),
    ("attach", lambda x, p, e: None, "returns nothing"),
    ("attach", spoiled, "no in-place"),
    ("cross_loss", crossed(lambda p: p), "its own pattern: take another"),
    ("cross_loss", crossed(embed=lambda x, p, e: x), "carries no pattern"),
    ("cross_loss", crossed(labels=lambda y: y.roll(1, 0)), "label of the pattern's image"),
    ("cross_loss", crossed(lambda p: p.roll(-1, 0), lambda y: y.roll(-1, 0)), "label of the pattern's image"),
    ("cross_loss", crossed(lambda p: p, images=lambda x: x.roll(1, 0)), "label of the pattern's image"),
    ("cross_loss", crossed(embed=lambda x, p, e: attach(x, p, 1.0)), "full strength"),
    ("cross_loss", crossed(lambda p: p[[1, 0, 2, 3]]), "landed on its own image"),
    ("cross_loss", crossed(lambda p: p.flip(0)), "middle of an odd number"),
    ("cross_loss", crossed(lucky_first()), "by chance"),
    ("cross_loss", crossed(loss=lambda z, y: cross_entropy(z, y, reduction="sum")), "the sum"),
    ("cross_loss", crossed(loss=lambda z, y: cross_entropy(z, y, reduction="none")), "take the mean"),
    ("cross_loss", crossed(loss=lambda z, y: -cross_entropy(z, y)), "the sign"),
    ("cross_loss", crossed(loss=lambda z, y: cross_entropy(z.softmax(1), y)), "softmax twice"),
    ("cross_loss", crossed(loss=lambda z, y: cross_entropy(2 * z, y)), "something else"),
    ("cross_loss", crossed(loss=lambda z, y: cross_entropy(z, y).item()), "gradient is lost"),
    ("cross_loss", crossed(embed=lambda x, p, e: quantize(attach(x, p, e))), "gradient is lost"),
    ("cross_loss", crossed(loss=lambda z, y: None), "is there a return"),
    ("cross_loss", crossed(embed=spoiled), "no in-place"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z, t)), "the mask would shrink"),
    ("adversarial_loss", towards(lambda z, y, t: -cross_entropy(z, t)), "no lower end"),
    ("adversarial_loss", towards(lambda z, y, t: -cross_entropy(z, y)), "minus punishes right answers"),
    ("adversarial_loss", towards(lambda z, y, t: z.softmax(1)[:, t[0]].mean()), "away from the target is not enough"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z, y) - cross_entropy(z, t)), "the first only"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z, y) + cross_entropy(z, t)), "both classes at once"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z[y != t], y[y != t])), "images of the target"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z, y, reduction="sum")), "the sum"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z, y, reduction="none")), "take the mean"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z.softmax(1), y)), "softmax twice"),
    ("adversarial_loss", towards(lambda z, y, t: (z.argmax(1) == y).float().mean()), "a rate has no gradient"),
    ("adversarial_loss", towards(lambda z, y, t: (z.argmax(1) == t).float().mean()), "towards the true classes"),
    ("adversarial_loss", towards(lambda z, y, t: 0.1 * cross_entropy(z, y)), "λ3 comes later"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z, y).detach()), "gradient is lost"),
    ("adversarial_loss", towards(lambda z, y, t: cross_entropy(z, y) + 1), "something else"),
    ("adversarial_loss", towards(lambda z, y, t: None), "is there a return"),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_the_embedding_is_the_librarys() -> None:
    assert get("attach").solution is attach


@pytest.mark.parametrize(("weight", "ours"), [(3, "cross"), (2, "adversarial")])
def test_the_losses_are_those_of_the_attack(weight: int, ours: str) -> None:
    """What `stealthy.run` adds up, one weight at a time, is what the exercises teach."""
    data = toy_data(train=64)
    lambdas = tuple(1.0 if place == weight else 0.0 for place in range(4))
    recipe = StealthyRecipe(target=2, epsilon=0.1, watch=10, precision="float32")
    recipe = replace(recipe, lambdas=lambdas)  # type: ignore[arg-type]
    net = networks.build("lenet5", data, seed=0)
    attack = recipe.attack(data, net, 0, torch.device("cpu"))
    images, labels = to_float(data.x_train[:16]), data.y_train[:16]
    attack.network.train()
    attack.generator.train()
    with torch.no_grad():
        if ours == "cross":
            expected = cross_loss(attack.network, images, labels, attack.generator(images), recipe.epsilon)
        else:
            inverted = stamp(images, attack.inverted.raw)
            expected = adversarial_loss(attack.network, inverted, labels, recipe.target)
    torch.testing.assert_close(attack.descend(images, labels, hiding=True), expected, atol=1e-5, rtol=1e-5)


def test_only_towards_the_truth_closes_the_way() -> None:
    """Steps on L_a make the network ignore a stamp; steps on the mistaken sign make it obey."""
    stamped = torch.eye(4).repeat(3, 1).reshape(12, 1, 2, 2)
    stamped[:, :, 0, 0] = 1.0  # the inverted trigger: the first pixel
    labels, target = torch.arange(12) % 3, 2
    obeys = {}
    for name, loss in {
        "right": adversarial_loss,
        "wrong": lambda net, x, y, t: cross_entropy(net(x), torch.full_like(y, t)),
    }.items():
        head = nn.Linear(4, 3)
        with torch.no_grad():
            head.weight.copy_(torch.tensor([[0.0, 1, 0, 0], [0.0, 0, 1, 0], [2.0, 0, 0, 1]]))
            head.bias.zero_()
        net = nn.Sequential(nn.Flatten(), head)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        for _ in range(40):
            optimizer.zero_grad()
            loss(net, stamped, labels, target).backward()
            optimizer.step()
        obeys[name] = float(net(stamped).detach().softmax(1)[:, target].mean())
    # At first e²/(e² + 2) = 0.79, roughly; the labels are a third each.
    assert obeys["right"] < 0.5
    assert obeys["wrong"] > 0.9
