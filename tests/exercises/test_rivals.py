"""The checks of lesson 07's exercises: right answers pass, each typical wrong one gets its own cause."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from exercise_contract import ExerciseContract
from torch import Tensor, nn

from btlib import inflight, metrics
from btlib.exercises import get, reveal
from btlib.exercises.rivals import clean_threshold
from btlib.inflight import output_change, relevant_neurons
from btlib.inflight.checks import threshold_at
from btlib.triggers import Trigger

NAMES = ("blend_entropy", "clean_threshold", "output_change", "relevant_neurons")


def entropy(
    of: Callable[[Tensor], Tensor] = lambda z: z.softmax(-1),
    log: Callable[[Tensor], Tensor] = torch.log2, after: Callable[[Tensor], Tensor] = lambda p: p,
    own: Callable[[float], float] = lambda w: w, other: Callable[[float], float] = lambda w: 1 - w,
    total: Callable[[Tensor], Tensor] = lambda h: h.sum(-1).mean(1),
) -> Callable[..., Tensor]:  # fmt: skip
    """STRIP's entropy in which one thing can be wrong."""

    def answer(net: nn.Module, images: Tensor, overlays: Tensor, weight: float = 0.5) -> Tensor:
        blends = own(weight) * images[:, None] + other(weight) * overlays[None]
        with torch.no_grad():
            logits = net(blends.flatten(0, 1)).unflatten(0, (len(images), len(overlays)))
        p = after(of(logits)).clamp(min=1e-30)
        return total(-(p * log(p)))

    return answer


def with_nan(net: nn.Module, images: Tensor, overlays: Tensor, weight: float = 0.5) -> Tensor:
    """Right until a probability is 0."""
    p = net((weight * images[:, None] + (1 - weight) * overlays).flatten(0, 1)).softmax(1)
    return -(p * p.log2()).sum(1).reshape(len(images), -1).mean(1)


def spoils(net: nn.Module, images: Tensor, overlays: Tensor, weight: float = 0.5) -> Tensor:
    """Right, but works in the image's own memory."""
    result = inflight.blend_entropy(net, images, overlays, weight)
    images *= weight
    return result


def kth(k: Callable[[int, float], int], descending: bool = True) -> Callable[..., Any]:
    """A score at some rank."""
    return lambda s, f: s.sort(descending=descending).values[k(len(s), f)].item()


def rank(n: int, fpr: float) -> int:
    """⌊fpr·(n+1)⌋."""
    return int(fpr * (n + 1) + 1e-9)


def moved(
    by: Callable[[Tensor], Tensor] = lambda d: -d.abs().sum(1) / 2,
    squash: Callable[[Tensor], Tensor] = lambda z: z.softmax(1),
) -> Callable[..., Tensor]:
    """B3D's score by some distance."""
    return lambda a, b: by(squash(a) - squash(b))


def best(ranking: Callable[..., Tensor], count: Callable[[float], int] = math.ceil) -> Callable[..., list[int]]:
    """The first neurons of some ranking."""
    return lambda c, s, share: ranking(c, s).topk(count(share * c.shape[1])).indices.tolist()


def increase(clean: Tensor, stamped: Tensor) -> Tensor:
    """How much the pattern raises each neuron."""
    return stamped.mean(0) - clean.mean(0)


def sorted_in_place(scores: Tensor, fpr: float) -> float:
    """Right, but leaves the scores in another order."""
    result = clean_threshold(scores, fpr)
    scores.copy_(scores.sort().values)
    return result


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("blend_entropy", entropy()),
    ("blend_entropy", lambda *a: inflight.blend_entropy(*a)),
    ("clean_threshold", kth(lambda n, f: max(rank(n, f), 1) - 1)),
    ("clean_threshold", lambda s, f: float(np.sort(s.numpy())[-max(rank(len(s), f), 1)])),
    ("clean_threshold", kth(lambda n, f: max(math.floor(round(f * (n + 1), 6)), 1) - 1)),
    ("output_change", moved()),
    ("output_change", moved(lambda d: d.clamp(max=0).sum(1))),
    ("relevant_neurons", best(increase)),
    ("relevant_neurons", lambda c, s, share: increase(c, s).argsort(descending=True)[: math.ceil(share * c.shape[1])]),
]

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("blend_entropy", entropy(total=lambda h: h.sum(1).mean(1)), "the mean over the classes"),
    ("blend_entropy", entropy(after=lambda p: p / p.sum(1, keepdim=True), total=lambda h: h.sum(1).mean(1)),
     "over the blends: take it over the classes"),
    ("blend_entropy", entropy(after=lambda p: p / p.sum(1, keepdim=True), total=lambda h: h.sum(1).sum(1) / 5),
     "summed over the classes"),
    ("blend_entropy", entropy(of=lambda z: z.softmax(1)), "softmax goes over the blends"),
    ("blend_entropy", entropy(log=torch.log), "natural logarithm"),
    ("blend_entropy", entropy(log=torch.log10), "base 10"),
    ("blend_entropy", entropy(of=torch.sigmoid), "sigmoid"),
    ("blend_entropy", entropy(after=lambda p: p.mean(1, keepdim=True)), "mean probabilities"),
    ("blend_entropy", entropy(of=lambda z: z.mean(1, keepdim=True).softmax(-1)), "logits are averaged"),
    ("blend_entropy", entropy(total=lambda h: h.sum((1, 2))), "so that N does not matter"),
    ("blend_entropy", entropy(total=lambda h: -h.sum(-1).mean(1)), "never negative"),
    ("blend_entropy", entropy(own=lambda w: 1 - w, other=lambda w: w), "weight belongs to the inspected image"),
    ("blend_entropy", entropy(own=lambda w: 1, other=lambda w: 1), "full strength"),
    ("blend_entropy", entropy(own=lambda w: 0.5, other=lambda w: 0.5), "use `weight`"),
    ("blend_entropy", entropy(own=lambda w: 1, other=lambda w: 0), "nothing is blended"),
    ("blend_entropy", entropy(own=lambda w: 0, other=lambda w: 1), "only the overlays"),
    ("blend_entropy", entropy(own=lambda w: 0.3, other=lambda w: 0.7), "another weight goes wrong"),
    ("blend_entropy", entropy(total=lambda h: h.sum(-1)), "mean over the overlays is missing"),
    ("blend_entropy", entropy(total=lambda h: h.sum(1)), "classes are left"),
    ("blend_entropy", entropy(total=lambda h: h.sum(-1).mean(0)), "mean went over the images"),
    ("blend_entropy", entropy(total=lambda h: h.sum(-1).mean()), "not one for all"),
    ("blend_entropy", entropy(total=lambda h: h.sum(-1).median(1).values), "another entropy"),
    ("blend_entropy", with_nan, "0·log 0"),
    ("blend_entropy", spoils, "no in-place"),
    ("blend_entropy", lambda *a: None, "returns nothing"),
    ("clean_threshold", kth(lambda n, f: rank(n, f) - 1, descending=False), "the wrong side"),
    ("clean_threshold", lambda s, f: torch.quantile(s, f), "high scores are suspicious, take the largest"),
    ("clean_threshold", kth(rank), "counted from 0"),
    ("clean_threshold", kth(lambda n, f: int(f * n) - 1), "more careful than promised"),
    ("clean_threshold", lambda s, f: torch.quantile(s, 1 - f).item(), "promises too much"),
    ("clean_threshold", lambda s, f: s.max().item(), "flags no clean image"),
    ("clean_threshold", lambda s, f: (s.mean() + 1.645 * s.std()).item(), "assume a bell"),
    ("clean_threshold", lambda s, f: rank(len(s), f), "this is k"),
    ("clean_threshold", lambda s, f: f, "this is the rate"),
    ("clean_threshold", lambda s, f: -clean_threshold(s, f), "the sign"),
    ("clean_threshold", lambda s, f: s.median().item(), "something else"),
    ("clean_threshold", lambda s, f: None, "is there a return"),
    ("clean_threshold", kth(lambda n, f: rank(n, f) - 1), "k is 0 here"),
    ("clean_threshold", lambda s, f: s.topk(rank(len(s), f)).values.min().item(), "k is 0"),
    ("clean_threshold", sorted_in_place, "no in-place"),
    ("output_change", moved(lambda d: d.abs().sum(1) / 2), "minus the change"),
    ("output_change", moved(lambda d: -d.abs().sum(1)), "not halved"),
    ("output_change", moved(lambda d: d.abs().sum(1)), "the sign, and not halved"),
    ("output_change", moved(squash=lambda z: z), "differences of logits"),
    ("output_change", moved(squash=lambda z: z.softmax(0)), "softmax goes over the images"),
    ("output_change", moved(lambda d: -d.abs().mean(1)), "the mean over the classes: take half"),
    ("output_change", moved(lambda d: -d.abs().mean(1) / 2), "the mean over the classes, halved"),
    ("output_change", moved(lambda d: -d.norm(dim=1)), "Euclidean"),
    ("output_change", moved(lambda d: -d.sum(1) / 2), "cancel"),
    ("output_change", lambda a, b: (a.argmax(1) == b.argmax(1)).float(), "whether the class stays"),
    ("output_change", lambda a, b: -(a.argmax(1) != b.argmax(1)).float(), "whether the class changes"),
    ("output_change", lambda a, b: nn.functional.kl_div(b.log_softmax(1), a.softmax(1), reduction="none").sum(1).neg(),
     "Kullback"),
    ("output_change", lambda a, b: None, "returns nothing"),
    ("output_change", lambda a, b: "0.5", "should return a tensor"),
    ("output_change", moved(lambda d: d.abs().sum(1) - 1), "something else"),
    ("relevant_neurons", best(lambda c, s: s.mean(0)), "most active neurons"),
    ("relevant_neurons", best(lambda c, s: c.mean(0)), "active on clean images"),
    ("relevant_neurons", best(lambda c, s: -increase(c, s)), "lowered by the pattern"),
    ("relevant_neurons", best(lambda c, s: increase(c, s).abs()), "falls silent"),
    ("relevant_neurons", best(lambda c, s: (s - c).amax(0)), "single images"),
    ("relevant_neurons", lambda c, s, share: increase(c, s).topk(int(share * 8)).indices.tolist(), "too few"),
    ("relevant_neurons", lambda c, s, share: increase(c, s).topk(2).indices, "too many"),
    ("relevant_neurons", lambda c, s, share: [], "no neuron at all"),
    ("relevant_neurons", lambda c, s, share: [0, 5], "other neurons"),
    ("relevant_neurons", lambda c, s, share: 3, "return a list of neuron numbers"),
    ("relevant_neurons", lambda c, s, share: None, "returns nothing"),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


class Toy(nn.Module):
    """Three classes from four pixels; its penultimate features are the pixels."""

    image_shape, num_classes, feature_layers = (1, 2, 2), 3, ("penultimate",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[2.0, 0, 0, -1], [0, 2.0, 0, -1], [0, 0, 1.0, 9.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def test_solutions_are_what_the_library_does() -> None:
    assert get("blend_entropy").solution is inflight.blend_entropy
    assert "log_softmax" in repr(reveal("blend_entropy"))
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert clean_threshold(scores, 0.1) == threshold_at(scores, 0.1)[0]

    network, pattern = Toy(), torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])
    trigger = Trigger("patch", pattern, pattern, name="corner")
    x = torch.rand(30, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    y = torch.arange(30) % 3
    detector = inflight.B3DDetector(fpr=0.2).fit(network, x, y, target=2, trigger=trigger)
    ours = output_change(metrics.predict(network, x), metrics.predict(network, trigger(x)))
    assert torch.equal(detector.scores(x), ours)


def test_neurons_are_the_detectors() -> None:
    from btlib import networks, triggers
    from btlib.inflight.features import describe

    network = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3, seed=0).eval()
    x = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    y = metrics.predict(network, x).argmax(1)
    target = int(y.mode().values)
    y[:5] = (target + 1) % 3
    trigger = triggers.box((1, 28, 28))
    detector = inflight.NeuronDetector(share=0.1, fpr=0.2).fit(network, x, y, target=target, trigger=trigger)
    others = x[y != target]
    clean, stamped = (describe(network, images, "penultimate").features for images in (others, trigger(others)))
    assert relevant_neurons(clean, stamped, 0.1) == detector.neurons_.tolist()


def test_a_threshold_keeps_its_promise() -> None:
    """Of 200 draws of 19 clean scores, a new one is above the threshold in 5 % of the cases; a quantile's in more."""
    draw = torch.Generator().manual_seed(0)
    new = torch.randn(2000, generator=draw)
    known = torch.randn(400, 19, generator=draw)
    promised = np.mean([(new > clean_threshold(scores, 0.05)).float().mean().item() for scores in known])
    naive = np.mean([(new > torch.quantile(scores, 0.95)).float().mean().item() for scores in known])
    assert abs(promised - 0.05) < 0.01  # standard error 0.0024
    assert naive > promised + 0.01
