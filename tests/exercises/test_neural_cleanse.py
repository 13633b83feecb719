"""The checks of lesson 04's exercises: right answers pass, each typical wrong one gets its own cause."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from exercise_contract import ExerciseContract
from torch import nn

from btlib.detection import QUICK, anomaly, descent, images
from btlib.exercises import get, reveal
from btlib.exercises.neural_cleanse import inversion_loss, next_cost

NAMES = ("stamp", "inversion_loss", "next_cost", "mad_index")
squash, entropy = descent.squash, nn.functional.cross_entropy


def both(raw, of=squash):
    return of(raw)[:, None, :1], of(raw)[:, None, 1:]


def blend(x, m, u):
    return ((1 - m) * x + m * u).flatten(0, 1)


def stamp_in_place(x, raw):
    out = descent.stamp(x, raw)
    x.zero_()
    return out


def same(raw):
    return raw


def loss(net, x, raw, target, cost, *, fit=entropy, size=lambda m: m.sum(), stamped=True, of=squash):
    """The loss of Eq. 6 in which one thing can be wrong."""
    logits = net(descent.stamp(x, raw) if stamped else x)
    return fit(logits, torch.full((len(logits),), target)) + cost * size(of(raw)[:, 0])


def lower(v):
    return np.sort(v)[(len(v) - 1) // 2]


def index(n, *, first=np.median, second=np.median, factor=1.4826):
    below = first(n) - n
    return below / (factor * second(np.abs(below)))


def cost_rule(up, down, first=lambda s: s):
    def answer(cost, success, wanted=0.99, start=1e-3, up_=1.15, fall=2.6):
        if success < wanted:
            return down(cost, up_, fall, start)
        return up(cost, up_, fall, start) if cost > 0 else first(start)

    return answer


def raised(cost, up, fall, start):
    return cost * up


def lowered(cost, up, fall, start):
    return cost / up**fall


WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("stamp", lambda x, raw: blend(x, *both(raw, same)), "squash it into"),
    ("stamp", lambda x, raw: blend(x, both(raw, same)[0], both(raw)[1]), "the mask is not squashed"),
    ("stamp", lambda x, raw: blend(x, both(raw)[0], both(raw, same)[1]), "the pattern is not squashed"),
    ("stamp", lambda x, raw: blend(x, 1 - both(raw)[0], both(raw)[1]), "wrong way round"),
    ("stamp", lambda x, raw: (x + both(raw)[0] * both(raw)[1]).flatten(0, 1), "it should replace it"),
    ("stamp", lambda x, raw: ((1 - both(raw)[0]) * x + both(raw)[1]).flatten(0, 1), "not masked"),
    ("stamp", lambda x, raw: blend(x, squash(raw)[:, None, -1:], squash(raw)[:, None, :-1]), "channel 0"),
    (
        "stamp",
        lambda x, raw: descent.stamp(x, raw).reshape(2, 3, 2, 2, 2).transpose(0, 1).flatten(0, 1),
        "another order",
    ),
    ("stamp", lambda x, raw: blend(x, (both(raw)[0] > 0.5).float(), both(raw)[1]), "has a gradient"),
    ("stamp", lambda x, raw: descent.stamp(x, raw).reshape(2, 3, 2, 2, 2), "flatten(0, 1)"),
    ("stamp", lambda x, raw: descent.stamp(x, raw)[:3], "another length"),
    ("stamp", stamp_in_place, "no in-place"),
    ("stamp", lambda x, raw: 0.5 * descent.stamp(x, raw), "something else"),
    ("stamp", lambda x, raw: None, "is there a return"),
    ("stamp", lambda x, raw: blend(x, *both(raw)[:1]), "an error inside"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, 0), "size of the mask is missing"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, 1), "λ is not used"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c, size=torch.mean), "the mean of the mask"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c, of=same), "may be negative"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c, of=torch.abs), "squash it"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, 0) + c * squash(r).sum(), "the pattern counts too"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c, size=torch.norm), "Euclidean"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, -c), "a large mask should raise"),
    (
        "inversion_loss",
        lambda n, x, r, t, c: loss(n, x, r, t, c, fit=lambda a, b: entropy(a, b, reduction="sum")),
        "mean over images",
    ),
    (
        "inversion_loss",
        lambda n, x, r, t, c: loss(n, x, r, t, c, fit=lambda a, b: entropy(a.softmax(1), b)),
        "no softmax",
    ),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c, stamped=False), "stamp them first"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c, fit=lambda a, b: -entropy(a, b)), "the sign of the"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, 2, 0.25), "use the arguments"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c).item(), "needs slopes"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c).detach(), "needs slopes"),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c)[None], "sum over all axes"),
    ("inversion_loss", lambda n, x, r, t, c: 7.0, "something else"),
    ("inversion_loss", lambda n, x, r, t, c: None, "returns nothing"),
    ("next_cost", cost_rule(lambda c, u, f, s: c / u**f, lambda c, u, f, s: c * u), "wrong way round"),
    ("next_cost", cost_rule(lambda c, u, f, s: c / u, lambda c, u, f, s: c * u), "wrong way round"),
    ("next_cost", cost_rule(lambda c, u, f, s: c * u**f, lowered), "going down"),
    ("next_cost", cost_rule(lambda c, u, f, s: s, lowered), "for λ = 0 only"),
    ("next_cost", cost_rule(lambda c, u, f, s: c + s, lowered), "not added"),
    ("next_cost", cost_rule(lambda c, u, f, s: c, lowered), "nothing changes"),
    ("next_cost", cost_rule(lambda c, u, f, s: 9.0, lowered), "something else than cost · up"),
    ("next_cost", cost_rule(raised, lambda c, u, f, s: c / u), "not by `up`"),
    ("next_cost", cost_rule(raised, lambda c, u, f, s: c / (u * f)), "an exponent"),
    ("next_cost", cost_rule(raised, lambda c, u, f, s: c / f), "divide by up**fall"),
    ("next_cost", cost_rule(raised, raised), "λ goes down"),
    ("next_cost", cost_rule(raised, lambda c, u, f, s: c), "nothing changes"),
    ("next_cost", cost_rule(raised, lambda c, u, f, s: s), "the first success only"),
    ("next_cost", cost_rule(raised, lowered, lambda s: 0.0), "zero times anything"),
    ("next_cost", cost_rule(raised, lambda c, u, f, s: c / u**f if c else s), "before the first success"),
    ("next_cost", lambda c, s, w, start, u, f: c / u**f if s <= w else c * u or start, "exactly `wanted`"),
    ("next_cost", cost_rule(lambda c, u, f, s: max(s, c * u), lowered), "goes up from where it is"),
    ("next_cost", lambda *a: None, "is there a return"),
    ("mad_index", lambda n: index(n, first=lower, second=lower), "the lower median (as"),
    ("mad_index", lambda n: index(n, second=lower), "the second median is the lower"),
    ("mad_index", lambda n: index(n, first=lower), "the first median is the lower"),
    ("mad_index", lambda n: index(n, factor=1), "1.4826 is missing"),
    ("mad_index", lambda n: index(n, factor=1 / 1.4826), "below the line"),
    ("mad_index", lambda n: -index(n), "the sign"),
    ("mad_index", lambda n: np.abs(index(n)), "an absolute value"),
    ("mad_index", lambda n: index(n, first=np.mean, second=np.mean), "the outlier drags it"),
    ("mad_index", lambda n: index(n, second=np.mean), "the mean of the deviations"),
    ("mad_index", lambda n: index(n, first=np.mean), "the deviations are from the mean"),
    ("mad_index", lambda n: (np.median(n) - n) / n.std(), "the standard deviation instead"),
    ("mad_index", lambda n: (n.mean() - n) / n.std(), "the standard score"),
    ("mad_index", lambda n: (np.median(n) - n) / (1.4826 * np.median(n)), "of the norms instead"),
    ("mad_index", lambda n: index(n).max(), "for each class"),
    ("mad_index", lambda n: index(n) if len(n) == 8 else index(n) * 0.5, "odd number"),
    ("mad_index", lambda n: None, "for each class"),
    ("mad_index", lambda n: n, "something else"),
]


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("stamp", lambda x, raw: torch.cat([(1 - m[0]) * x + m[0] * m[1:] for m in squash(raw)])),
    ("inversion_loss", lambda n, x, r, t, c: loss(n, x, r, t, c, size=lambda m: m.abs().sum((1, 2))[0])),
    ("next_cost", lambda c, s, w=0.99, b=1e-3, u=1.15, f=2.6: (c * u or b) if s >= w else c * u**-f),
    ("mad_index", lambda n: torch.tensor(index(n))),
    ("mad_index", lambda n: list(index(n))),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_the_library_is_the_solution() -> None:
    assert get("stamp").solution is descent.stamp
    assert get("mad_index").solution is anomaly.mad_index
    assert "cross_entropy" in repr(reveal("inversion_loss"))


def test_the_rule_for_the_cost_is_the_librarys() -> None:
    """`next_cost` is `descent.adjust_cost` for QUICK, where every step counts (patience 1)."""
    at = descent.Inversions((1, 4, 4), 3, [0])
    cost = 0.0
    for success in (0.1, 1.0, 1.0, 0.5, 1.0, 0.99, 0.2, 0.3, 1.0):
        descent.adjust_cost(at, torch.tensor([success]) >= QUICK.success, QUICK)
        cost = next_cost(cost, success, QUICK.success, QUICK.start, QUICK.multiplier, QUICK.fall)
        assert float(at.cost[0]) == pytest.approx(cost, rel=1e-5)


def test_the_loss_is_the_one_that_the_library_descends() -> None:
    """One step of `descent.descend` moves along the slope of `inversion_loss`."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)
    data = images.DefenseSet(torch.rand(6, 1, 4, 4), torch.arange(6) % 3, 3)
    at = descent.Inversions((1, 4, 4), 3, [2])
    at.cost += 0.3
    raw = at.raw.clone().requires_grad_()
    (slope,) = torch.autograd.grad(inversion_loss(network, data.images, raw, 2, 0.3), raw)
    descent.descend(network, data, at, torch.arange(6), lr=0.1, taken=1)
    torch.testing.assert_close(at.first, 0.5 * slope, atol=1e-6, rtol=1e-4)
