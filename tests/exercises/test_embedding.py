"""The checks of lesson 01's exercises: right answers pass, each typical wrong one gets its own cause."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from exercise_contract import ExerciseContract

from btlib import datasets, metrics, poisoning, triggers
from btlib.exercises import embedding, get

NAMES = ("embed_additive", "embed_patch", "round_to_8_bit", "psnr", "poison_by_hand")


def each_psnr(a, b):
    return 10 * torch.log10(1 / ((a - b) ** 2).mean(dim=(1, 2, 3)))


def stamped_set(x, y, stamp, target, where, *, relabel=True, every=False):
    x, y = x.clone(), y.clone()
    where = torch.arange(len(y)) if every else where
    x[where] = stamp(x[where])
    if relabel:
        y[where] = target
    return x, y


def in_place(x, y, stamp, target, where):
    x[where], y[where] = stamp(x[where]), target
    return x, y


def labels_in_place(x, y, stamp, target, where):
    x = x.clone()
    x[where], y[where] = stamp(x[where]), target
    return x, y


WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("embed_additive", lambda x, v: x + v, "no clipping"),
    ("embed_additive", lambda x, v: (x + v).clamp(max=1), "below 0"),
    ("embed_additive", lambda x, v: (x + v).clamp(min=0), "above 1"),
    ("embed_additive", lambda x, v: x + v.clamp(0, 1), "clip the sum, not the pattern"),
    ("embed_additive", lambda x, v: (x + v.clamp(0, 1)).clamp(0, 1), "clip only the sum"),
    ("embed_additive", lambda x, v: (x - v).clamp(0, 1), "subtracted"),
    ("embed_additive", lambda x, v: (x + v / 255).clamp(0, 1), "divided by 255"),
    ("embed_additive", lambda x, v: (x + v) % 1, "wraps round"),
    ("embed_additive", lambda x, v: v.expand_as(x).clamp(0, 1), "pattern alone"),
    ("embed_additive", lambda x, v: x.add_(v).clamp(0, 1), "the input itself was changed"),
    ("embed_additive", lambda x, v: x * 0.5, "something else"),
    ("embed_additive", lambda x, v: (x + v).clamp(0, 1)[0], "a dimension is lost"),
    ("embed_additive", lambda x, v: None, "is there a return"),
    ("embed_additive", lambda x, v: x @ 3, "an error inside"),
    ("embed_patch", lambda x, u, m: x * m + u * (1 - m), "wrong way round"),
    ("embed_patch", lambda x, u, m: x + u * m, "should replace it"),
    ("embed_patch", lambda x, u, m: (x + u * m).clamp(0, 1), "added and clipped"),
    ("embed_patch", lambda x, u, m: x * (1 - m) + u, "not masked"),
    ("embed_patch", lambda x, u, m: (u * m).expand_as(x), "image is lost"),
    ("embed_patch", lambda x, u, m: x * (1 - m), "black hole"),
    ("embed_patch", lambda x, u, m: torch.where(m > 0, u, x), "0.25 mixes 3 parts"),
    ("embed_patch", lambda x, u, m: x.mul_(1 - m) + u * m, "the input itself was changed"),
    ("embed_patch", lambda x, u, m: x, "something else"),
    ("round_to_8_bit", lambda x: (x * 255).round(), "divide by 255 again"),
    ("round_to_8_bit", lambda x: (x * 255).floor() / 255, "rounded down"),
    ("round_to_8_bit", lambda x: (x * 255).to(torch.uint8) / 255, "rounded down"),
    ("round_to_8_bit", lambda x: (x * 255).ceil() / 255, "rounded up"),
    ("round_to_8_bit", lambda x: (x * 256).round() / 256, "scaled by 256: 8 bits"),
    ("round_to_8_bit", lambda x: (x * 256).floor() / 256, "scaled by 256 and rounded down"),
    ("round_to_8_bit", lambda x: (x * 256).floor().clamp(max=255) / 255, "256 on the way in"),
    ("round_to_8_bit", lambda x: (x * 255).to(torch.uint8), "call .round() first"),
    ("round_to_8_bit", lambda x: x, "not rounded at all"),
    ("round_to_8_bit", lambda x: x.round(), "black and white"),
    ("round_to_8_bit", lambda x: x.mul_(255).round_().div_(255), "the input itself was changed"),
    ("round_to_8_bit", lambda x: (x * 15).round() / 15, "something else"),
    ("psnr", lambda a, b: (10 * torch.log10(1 / ((a - b) ** 2).mean())).item(), "over the whole batch"),
    ("psnr", lambda a, b: each_psnr(a / 255, b / 255).mean(), "peak is 255, but"),
    ("psnr", lambda a, b: (10 * torch.log10(255 / ((a - b) ** 2).mean((1, 2, 3)))).mean(), "not squared"),
    ("psnr", lambda a, b: (10 * torch.log(1 / ((a - b) ** 2).mean((1, 2, 3)))).mean(), "natural logarithm"),
    ("psnr", lambda a, b: (10 * torch.log2(1 / ((a - b) ** 2).mean((1, 2, 3)))).mean(), "base 2"),
    ("psnr", lambda a, b: each_psnr(a, b).mean() / 10, "factor 10"),
    ("psnr", lambda a, b: each_psnr(a, b).mean() * 2, "20 belongs to the root"),
    ("psnr", lambda a, b: -each_psnr(a, b).mean(), "sign"),
    ("psnr", lambda a, b: (10 * torch.log10(1 / ((a - b) ** 2).sum((1, 2, 3)))).mean(), "summed over pixels"),
    ("psnr", lambda a, b: (10 * torch.log10(1 / (a - b).abs().mean((1, 2, 3)))).mean(), "absolute"),
    ("psnr", lambda a, b: each_psnr(a, b), "mean over the images at the end"),
    ("psnr", lambda a, b: each_psnr(a, b.sub_(a)).mean(), "the input itself was changed"),
    ("psnr", lambda a, b: 12.3, "something else"),
    ("psnr", lambda a, b: None, "is there a return"),
    ("poison_by_hand", in_place, "the input itself was changed"),
    ("poison_by_hand", labels_in_place, "the input itself was changed"),
    ("poison_by_hand", lambda *a: stamped_set(*a, relabel=False), "labels are not changed"),
    ("poison_by_hand", lambda *a: stamped_set(*a, every=True), "every image is stamped"),
    ("poison_by_hand", lambda x, y, g, t, i: (stamped_set(x, y, g, t, i)[0], torch.full_like(y, t)),
     "every label is changed"),
    ("poison_by_hand", lambda x, y, g, t, i: (x.clone(), stamped_set(x, y, g, t, i)[1]), "not stamped"),
    ("poison_by_hand", lambda *a: stamped_set(*a)[::-1], "swapped"),
    ("poison_by_hand", lambda x, y, g, t, i: (g(x[i]), torch.full_like(i, t)), "only the stamped"),
    ("poison_by_hand", lambda x, y, g, t, i: (torch.cat([x, g(x[i])]), torch.cat([y, torch.full_like(i, t)])),
     "appended"),
    ("poison_by_hand", lambda *a: stamped_set(*a)[0], "return both"),
    ("poison_by_hand", lambda x, y, g, t, i: stamped_set(x, y, g, t, i[:1]), "other images than"),
    ("poison_by_hand", lambda x, y, g, t, i: (stamped_set(x, y, g, t, i)[0], (y + 1) % 4), "as they were"),
]  # fmt: skip

RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("embed_additive", lambda x, v: torch.clip(x + v, 0, 1)),
    ("embed_additive", lambda x, v: torch.minimum(torch.maximum(x + v, torch.zeros(1)), torch.ones(1))),
    ("embed_patch", lambda x, u, m: x + m * (u - x)),
    ("embed_patch", lambda x, u, m: torch.lerp(x, u.expand_as(x), m.expand_as(x))),
    ("round_to_8_bit", lambda x: (255 * x).round() / 255),
    ("round_to_8_bit", lambda x: (x * 255 + 0.5).floor() / 255),
    ("psnr", lambda a, b: each_psnr(a, b).mean()),
    ("psnr", metrics.psnr),
    ("poison_by_hand", stamped_set),
]


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_every_cause_belongs_to_one_mistake():
    """Two different wrong answers are not told the same thing, save those changed in place or failing."""
    shared = {"the input itself was changed", "something else", "rounded down", "is there a return"}
    for name in NAMES:
        causes = [cause for task, _, cause in WRONG if task == name and cause not in shared]
        assert len(causes) == len(set(causes))
        assert len(causes) >= 3


# ------------------------------------------------------------------------------------------ no drift


@pytest.mark.parametrize("name", sorted(set(triggers.TRIGGERS) - {"wanet"}))
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_the_two_embeddings_are_the_trigger_s_own(name, shape):
    trigger = triggers.build(name, shape)
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    if trigger.kind == "additive":
        embedded = embedding.embed_additive(images, trigger.pattern)
    else:
        embedded = embedding.embed_patch(images, trigger.pattern, trigger.mask)
    assert torch.equal(get("round_to_8_bit").solution(embedded), trigger(images))


def test_rounding_is_the_library_s():
    assert get("round_to_8_bit").solution is triggers.quantize


def test_psnr_is_that_of_metrics():
    generator = torch.Generator().manual_seed(0)
    clean, stamped = (torch.rand(5, 3, 8, 8, generator=generator) for _ in range(2))
    assert embedding.psnr(clean, stamped) == pytest.approx(metrics.psnr(clean, stamped), abs=1e-4)


def test_poisoning_by_hand_is_that_of_poisoning():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (60, 1, 8, 8), generator=generator).to(torch.uint8)
    y = torch.arange(60) % 3
    data = datasets.ImageDataset("toy", x, y, x, y, ("a", "b", "c"))
    trigger = triggers.box(data.image_shape)
    bad = poisoning.poison(data, trigger, target=2, per_class=4, seed=1)
    chosen = bad.record.original_indices
    images, labels = embedding.poison_by_hand(datasets.to_float(x), y, trigger, 2, chosen)
    assert torch.equal(datasets.to_uint8(images), bad.x_train)
    assert torch.equal(labels, bad.y_train)
