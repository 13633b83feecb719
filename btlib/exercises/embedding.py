"""Exercises of lesson 01: embed a pattern, round it, measure it, build a poisoned set."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from btlib import triggers
from btlib.exercises.answers import same_number, same_tensor, two
from btlib.exercises.attempt import pair_of_tensors, tensor
from btlib.exercises.core import WrongAnswer, register

# ------------------------------------------------------------------------------------------ Eq. 1


def embed_additive(images: Tensor, pattern: Tensor) -> Tensor:
    """L-RED Eq. 1: add the pattern, clip to [0, 1]."""
    return (images + pattern).clamp(0, 1)


@register(
    "embed_additive", embed_additive, "Clipped at both ends, and the clean images are still clean.", convert=tensor
)
def _check_embed_additive(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    images = torch.tensor([[[[0.1, 0.5], [0.5, 0.9]]], [[[0.6, 0.2], [1.0, 0.0]]]])
    pattern = torch.tensor([[[-0.3, 0.2], [0.0, 0.3]]])
    got = answer(images, pattern)
    total, positive = images + pattern, pattern.clamp(0, 1)
    mistakes = {
        "no clipping: the sum leaves [0, 1], and no image file can hold such a pixel": total,
        "clipped at the top only: a negative pattern can push a pixel below 0": total.clamp(max=1),
        "clipped at the bottom only: a positive pattern can push a pixel above 1": total.clamp(min=0),
        "clip the sum, not the pattern, whose negative part is lost here": images + positive,
        "clip only the sum: the negative part of the pattern is lost": (images + positive).clamp(max=1),
        "the pattern is subtracted, not added": (images - pattern).clamp(0, 1),
        "the pattern is divided by 255; it is a fraction already": (images + pattern / 255).clamp(0),
        "the sum wraps round at 1, as overflowing bytes do; it has to be clipped": total % 1,
        "this is the pattern alone; it has to be added to the images": pattern.expand_as(images).clamp(0, 1),
    }  # fmt: skip
    same_tensor(got, embed_additive(images, pattern), "something else than Eq. 1: x + v, clipped to [0, 1]", mistakes)
    _again(answer, embed_additive, torch.cat([images, 1 - images], 1)[:1], torch.cat([-pattern, pattern]))


# ------------------------------------------------------------------------------------------ Eq. 12


def embed_patch(images: Tensor, pattern: Tensor, mask: Tensor) -> Tensor:
    """L-RED Eq. 12: the pattern where the mask is 1, the image where it is 0, a mix in between."""
    return images * (1 - mask) + pattern * mask


@register("embed_patch", embed_patch, "The pattern replaces what lies under it, and a mask between 0 and 1 blends.",
          convert=tensor)  # fmt: skip
def _check_embed_patch(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    images = torch.tensor([[[[0.2, 0.4], [0.6, 0.8]]], [[[0.9, 0.1], [0.3, 0.7]]]])
    pattern = torch.tensor([[[0.5, 0.3], [0.9, 0.25]]])
    general = "something else than x·(1 - m) + u·m (L-RED Eq. 12)"
    blended = "right for zeros and ones, but a mask of 0.25 mixes 3 parts of image with 1 of pattern (footnote 1)"
    masks = {general: torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]), blended: torch.full((1, 2, 2), 0.25)}
    for otherwise, mask in masks.items():
        got = answer(images, pattern, mask)
        binary, added = bool((mask == mask.round()).all()), images + pattern * mask
        mistakes = {
            "the mask is used the wrong way round: 1 shows the pattern": images * mask + pattern * (1 - mask),
            "the pattern is added to what lies under it; it should replace it": added,
            "the pattern is added and clipped; it should replace what lies under it": added.clamp(0, 1),
            "the pattern is not masked: multiply it by the mask too": images * (1 - mask) + pattern,
            "the image is lost outside the mask: keep x where the mask is 0": added - images,
            "there is a black hole under the mask: the pattern is missing": images * (1 - mask),
        }  # fmt: skip
        same_tensor(got, embed_patch(images, pattern, mask), otherwise, mistakes if binary else {})


# ------------------------------------------------------------------------------------------ A.4: eight bits


@register("round_to_8_bit", triggers.quantize, "Every pixel is now one of 256 levels, 255 steps apart.", convert=tensor)
def _check_round_to_8_bit(answer: Callable[[Tensor], Tensor]) -> None:
    levels = torch.tensor([0.0, 0.3, 0.7, 99.6, 100.2, 200.8, 254.7, 255.0])
    images = (levels / 255).reshape(1, 1, 2, 4)
    got = answer(images)
    whole = levels.round().reshape(1, 1, 2, 4)
    scaled = images * 256
    mistakes = {
        "the levels are right but still in 0…255: divide by 255 again": whole,
        "rounded down: use .round(), the nearest level, or every image gets a little darker":
            (images * 255).floor() / 255,
        "rounded up: use .round(), the nearest level": (images * 255).ceil() / 255,
        "scaled by 256: 8 bits have 256 levels, which are 255 steps apart": scaled.round() / 256,
        "scaled by 256 and rounded down; there are 255 steps between the 256 levels": scaled.floor() / 256,
        "scaled by 256 on the way in and 255 on the way back; use 255 both times": scaled.floor().clamp(max=255) / 255,
        "converting to bytes rounds down: call .round() first": (images * 255).floor(),
        "the images were not rounded at all": images,
        "rounded to whole numbers: only black and white are left; scale to 0…255 first": images.round(),
    }  # fmt: skip
    otherwise = "something else than the nearest multiple of 1/255"
    same_tensor(got, triggers.quantize(images), otherwise, mistakes, tolerance=1e-5)
    _again(answer, triggers.quantize, 0.8 * images.flip(-1))


# ------------------------------------------------------------------------------------------ PSNR


def psnr(clean: Tensor, stamped: Tensor) -> float:
    """Peak signal-to-noise ratio in dB for images with peak 1, the mean over images."""
    mean_squared_error = ((stamped - clean) ** 2).mean(dim=(1, 2, 3))
    return (10 * torch.log10(1 / mean_squared_error)).mean().item()


@register("psnr", psnr, "Ten decibels fewer mean ten times the mean squared error.")
def _check_psnr(answer: Callable[[Tensor, Tensor], Any]) -> None:
    clean = torch.full((3, 1, 4, 4), 0.5)
    stamped = clean.clone()
    stamped[0, :, :2] += 0.2
    stamped[1, :, :1] += 0.02
    stamped[2] += 0.05
    got = answer(clean, stamped)
    error = stamped - clean
    each = (error**2).mean(dim=(1, 2, 3))
    summed, absolute = (error**2).sum(dim=(1, 2, 3)), error.abs().mean(dim=(1, 2, 3))
    mistakes = {
        "the error is averaged over the whole batch: one PSNR per image, then their mean": 1 / each.mean(),
        "the peak is 255, but these images end at 1": 255**2 / each,
        "the peak is 255 and not squared; these images end at 1": 255 / each,
        "squared differences are summed over pixels; PSNR takes their mean": 1 / summed,
        "the mean absolute difference is used: square the differences": 1 / absolute,
        "the sign is turned: the peak stands above the error in the fraction": each,
    }
    results = {cause: 10 * ratio.log10().mean() for cause, ratio in mistakes.items()} | {
        "natural logarithm: decibels need log10": 10 * (1 / each).log().mean(),
        "logarithm to base 2: decibels need log10": 10 * (1 / each).log2().mean(),
        "the factor 10 is missing: this is in bels": (1 / each).log10().mean(),
        "20 belongs to the root of the mean squared error, 10 to the mean itself": 20 * (1 / each).log10().mean(),
    }
    if isinstance(got, Tensor) and got.numel() > 1:
        raise WrongAnswer("one number", f"shape {tuple(got.shape)}", "take the mean over the images at the end")
    otherwise = "something else than the mean over images of 10·log10(1 / mean squared error)"
    same_number(got, psnr(clean, stamped), otherwise, results, tolerance=1e-3)
    one = clean[:1], stamped[:1]
    same_number(answer(*one), psnr(*one), "a single image goes wrong: use the arguments", tolerance=1e-3)


# ------------------------------------------------------------------------------------------ a poisoned set


def poison_by_hand(
    images: Tensor, labels: Tensor, trigger: Callable[[Tensor], Tensor], target: int, indices: Tensor
) -> tuple[Tensor, Tensor]:
    """Stamp and relabel the images at `indices`; the others, and the tensors given, stay as they are."""
    poisoned_images, poisoned_labels = images.clone(), labels.clone()
    poisoned_images[indices] = trigger(images[indices])
    poisoned_labels[indices] = target
    return poisoned_images, poisoned_labels


@register("poison_by_hand", poison_by_hand, "Stamped and relabelled, and the clean set is still clean.",
          convert=pair_of_tensors)  # fmt: skip
def _check_poison_by_hand(answer: Callable[..., Any]) -> None:
    images = torch.linspace(0, 0.9, 5 * 16).reshape(5, 1, 4, 4)
    labels = torch.tensor([0, 1, 2, 3, 1])
    indices = torch.tensor([3, 0])
    stamp = triggers.box((1, 4, 4), size=2)
    x, y = two(answer(images, labels, stamp, 2, indices), "images, labels")
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim == 1 and y.ndim == 4:
        raise WrongAnswer("(images, labels)", "(labels, images)", "the two results are swapped")
    count = len(x) if isinstance(x, Tensor) and x.ndim else 0
    if count == len(indices):
        raise WrongAnswer("5 images", "2 images", "only the stamped images are returned; keep the clean ones")
    if count == len(images) + len(indices):
        raise WrongAnswer("5 images", "7 images", "stamped images are appended; here each replaces its original")
    expected_images, expected_labels = poison_by_hand(images, labels, stamp, 2, indices)
    otherwise = "other images than those at `indices` are stamped, or stamped in another way"
    same_tensor(x, expected_images, otherwise, {
        "the images are not stamped": images,
        "every image is stamped, not only those at `indices`": stamp(images),
    })  # fmt: skip
    same_tensor(y, expected_labels, "labels at `indices` should be the target, all others as they were", {
        "the labels are not changed: an image with its true label teaches no backdoor": labels,
        "every label is changed, not only those at `indices`": torch.full_like(labels, 2),
    })  # fmt: skip
    others = images[1:], labels[1:], triggers.chessboard((1, 4, 4)), 1, torch.tensor([1])
    for one, right in zip(answer(*others), poison_by_hand(*others), strict=True):
        same_tensor(one, right, _ELSEWHERE)


# ------------------------------------------------------------------------------------------ helpers

_ELSEWHERE = "other images, another pattern or another target go wrong: use the arguments"


def _again(answer: Callable[..., Any], right: Callable[..., Tensor], *arguments: Any) -> None:
    same_tensor(answer(*arguments), right(*arguments), _ELSEWHERE, tolerance=1e-5)
