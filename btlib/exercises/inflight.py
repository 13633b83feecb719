"""Exercises on the in-flight guard: what it is fitted to, and how it decides (lesson 06)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from btlib.exercises.answers import same_tensor, two
from btlib.exercises.attempt import pair_of_tensors, tensor
from btlib.exercises.core import WrongAnswer, register
from btlib.inflight.likelihood import decide
from btlib.triggers import Trigger, chessboard, single_pixel

# ---------------------------------------------------------------------------------------- what it is fitted to


def fitting_images(images: Tensor, labels: Tensor, target: int, trigger: Trigger) -> Tensor:
    """The estimated pattern in every image but those of the target class (in-flight 4.2, the first step)."""
    own = (labels == target)[:, None, None, None]
    return torch.where(own, images, trigger(images))


@register("fitting_images", fitting_images, "Every class the way it would look if the network called it the target.",
          convert=tensor)  # fmt: skip
def _check_fitting_images(answer: Callable[[Tensor, Tensor, int, Trigger], Tensor]) -> None:
    images = torch.linspace(0.0, 0.6, 5 * 9).reshape(5, 1, 3, 3)
    labels, target, trigger = torch.tensor([2, 0, 1, 2, 1]), 2, single_pixel((1, 3, 3))
    stamped = trigger(images)
    got = answer(images, labels, target, trigger)
    own = labels == target
    if isinstance(got, Tensor) and got.shape == images[~own].shape:
        cause = "the target's images are left out: they stay clean, but they belong to it"
        raise WrongAnswer(f"all {len(images)} images", f"{len(got)}", cause)
    four = own[:, None, None, None]
    wrong = {
        "the target's images are stamped too: they stay clean, for they stand for honest images of the target": stamped,
        "no image is stamped: the guard would learn what clean images look like, and never see a trigger": images,
        "the wrong images are stamped: the target's, and not the others'": torch.where(four, stamped, images),
    }
    cause = "something else than the clean images of the target and the stamped ones of all other classes, in order"
    same_tensor(got, fitting_images(images, labels, target, trigger), cause, wrong)
    again = torch.tensor([0, 1, 2, 2, 0])
    cause = "another target or other labels go wrong: use the arguments"
    faint = chessboard((1, 3, 3))  # stamped twice it is another pattern
    same_tensor(answer(images, again, 0, faint), fitting_images(images, again, 0, faint), cause)


# ---------------------------------------------------------------------------------------- standardisation


def standardise(fit_features: Tensor, features: Tensor, min_std: float = 0.05) -> Tensor:
    """Mean 0 and standard deviation 1 on the fitting images, with a floor for dead features (in-flight 4.2)."""
    mean, std = fit_features.mean(0), fit_features.std(0, correction=0)
    typical = std.square().mean().sqrt()  # root mean square over all features
    return (features - mean) / std.clamp(min=min_std * typical)


@register("standardise", standardise, "One scale for all features, learned once, and no feature can explode.",
          convert=tensor)  # fmt: skip
def _check_standardise(answer: Callable[..., Tensor]) -> None:
    fit = torch.tensor([[4.0, 0.0, 10.0], [8.0, 0.0, 30.0], [4.0, 0.0, 20.0], [0.0, 0.0, 20.0]], dtype=torch.double)
    later = torch.tensor([[6.0, 1.0, 10.0], [2.0, 0.0, 25.0]], dtype=torch.double)
    floor = 0.1
    mean, std = fit.mean(0), fit.std(0, correction=0)
    typical = std.square().mean().sqrt()
    scale = std.clamp(min=floor * typical)
    got = answer(fit, later, floor)
    if isinstance(got, Tensor) and got.shape == later.shape and not bool(got.isfinite().all()):
        cause = "a feature that is dead on the fitting images is divided by 0: its standard deviation needs the floor"
        raise WrongAnswer("finite numbers", "NaN or infinity", cause)
    absolute = std.clamp(min=floor)
    wrong = {
        "the statistics come from the images to be judged: a single image has a standard deviation of 0":
            (later - later.mean(0)) / later.std(0, correction=0).clamp(min=floor * later.std(0, correction=0).max()),
        "the mean comes from the images to be judged: use the fitting images'": (later - later.mean(0)) / scale,
        "the mean is not subtracted": later / scale,
        "this divides by the variance: take its square root":
            (later - mean) / std.square().clamp(min=floor * typical),
        "the floor is min_std itself: take this share of the typical standard deviation, "
        "or it means something else for every layer": (later - mean) / absolute,
        "the floor is a share of the largest standard deviation: the typical one is the root mean square":
            (later - mean) / std.clamp(min=floor * std.max()),
        "the floor is a share of the plain mean of the standard deviations: take the root mean square":
            (later - mean) / std.clamp(min=floor * std.mean()),
        "the floor is added to every standard deviation: it only replaces smaller ones":
            (later - mean) / (std + floor * typical),
        "one scale serves all features: each feature has its own, so take statistics over dimension 0 only":
            (later - fit.mean()) / fit.std(correction=0),
        "this is the sample standard deviation: pass correction=0":
            (later - mean) / fit.std(0).clamp(min=floor * fit.std(0).square().mean().sqrt()),
    }  # fmt: skip
    cause = "something else than (features - mean) / max(std, min_std · root mean square of std)"
    if isinstance(got, Tensor) and got.shape == later.shape and float(got.abs().max()) > 100:
        cause = ("a dead feature that wakes is blown up: a tiny constant is no floor, "
                 "take max(std, min_std · root mean square of std)")  # fmt: skip
    elif isinstance(got, Tensor) and got.shape == later.shape and _from_later(answer, fit, later, floor):
        cause = next(iter(wrong))
    same_tensor(got, (later - mean) / scale, cause, wrong)
    default = (later - mean) / std.clamp(min=0.05 * typical)
    same_tensor(answer(fit, later), default, "min_std has another default than 0.05")


def _from_later(answer: Callable[..., Tensor], fit: Tensor, later: Tensor, floor: float) -> bool:
    """Whether what is said of an image depends on the images that come with it."""
    alone = answer(fit, later[:1], floor)
    return not torch.allclose(alone, answer(fit, later, floor)[:1], equal_nan=True)


# ---------------------------------------------------------------------------------------- one density per class


def log_likelihoods(z: Tensor, means: Tensor, covariance: Tensor) -> Tensor:
    """log N(z; μ_c, Σ) for every image and class, Σ being shared by all classes: (N, C)."""
    away = z[:, None] - means  # (N, C, D)
    mahalanobis = ((away @ torch.linalg.inv(covariance)) * away).sum(-1)
    return -(mahalanobis + torch.logdet(covariance) + z.shape[1] * math.log(2 * math.pi)) / 2


@register("log_likelihoods", log_likelihoods, "Distance in units of how much the features vary, plus a constant.",
          convert=tensor)  # fmt: skip
def _check_log_likelihoods(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    z = torch.tensor([[0.0, 0.0], [1.0, -1.0], [2.0, 0.5], [-0.5, 1.5]], dtype=torch.double)
    means = torch.tensor([[0.0, 0.5], [1.5, -0.5], [-1.0, 2.0]], dtype=torch.double)
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.double)
    got = answer(z, means, covariance)
    expected = log_likelihoods(z, means, covariance)
    if isinstance(got, Tensor) and got.shape == expected.T.shape:
        raise WrongAnswer("shape (4, 3)", "shape (3, 4)", "images are rows and classes are columns: transpose")
    away = z[:, None] - means
    inverse, log_det, log_2pi = torch.linalg.inv(covariance), torch.logdet(covariance), 2 * math.log(2 * math.pi)
    mahalanobis = ((away @ inverse) * away).sum(-1)
    plain = away.square().sum(-1)
    wrong = {
        "the covariance is not inverted": -(((away @ covariance) * away).sum(-1) + log_det + log_2pi) / 2,
        "this is the plain distance: the covariance is forgotten": -(plain + log_det + log_2pi) / 2,
        "only the variances are used: the features are correlated, so invert the whole matrix":
            -((away.square() / covariance.diagonal()).sum(-1) + log_det + log_2pi) / 2,
        "the half is missing: -½ stands before all three terms": -(mahalanobis + log_det + log_2pi),
        "the half is missing before the distance": -mahalanobis - (log_det + log_2pi) / 2,
        "the sign is wrong: far away means unlikely": (mahalanobis + log_det + log_2pi) / 2,
        "the determinant's sign is wrong: a wider density is lower": -(mahalanobis - log_det + log_2pi) / 2,
        "the determinant is missing: with a shared covariance the decision is the same, but this is no density":
            -(mahalanobis + log_2pi) / 2,
        "the 2π is missing: the decision is the same, but this is no density": -(mahalanobis + log_det) / 2,
        "2π counts once for each feature, not once": -(mahalanobis + log_det + log_2pi / 2) / 2,
        "the constants are missing: the decision is the same, but this is no density": -mahalanobis / 2,
        "this is the likelihood, not its logarithm: with 84 features it underflows": expected.exp(),
        "this is the distance: the likelihood falls with half of it, and has its constants": mahalanobis,
    }  # fmt: skip
    cause = "something else than -½ [(z-μ)'Σ⁻¹(z-μ) + log det Σ + D log 2π]"
    same_tensor(got, expected, cause, wrong)
    wide = torch.cat([z, z + 1], 1)  # four features: the constants depend on their number
    four = torch.block_diag(covariance, covariance)
    centres = torch.cat([means, means - 1], 1)
    cause = "with four features it goes wrong: D is z.shape[1]"
    same_tensor(answer(wide, centres, four), log_likelihoods(wide, centres, four), cause)


# ---------------------------------------------------------------------------------------- the verdict


def judge(likelihoods: Tensor, classes: Sequence[int], predicted: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Flag and source by the arg max (in-flight 4.2); only images predicted as the target are judged."""
    scores, source = decide(likelihoods, tuple(classes), target)
    flagged = (predicted == target) & (scores > 0)  # another class explains the features better than the target
    return flagged, torch.where(flagged, source, predicted)


@register("judge", judge, "It speaks up only where the network says the target, and then says what is there.",
          convert=pair_of_tensors)  # fmt: skip
def _check_judge(answer: Callable[[Tensor, Sequence[int], Tensor, int], tuple[Tensor, Tensor]]) -> None:
    classes, target = (1, 4, 6), 6
    likelihoods = torch.tensor([[-9.0, -2.0, -5.0], [-9.0, -8.0, -5.0], [-1.0, -2.0, -5.0], [-3.0, -7.0, -9.0]])
    predicted = torch.tensor([6, 6, 4, 6])
    got = answer(likelihoods, classes, predicted, target)
    flags, source = two(got, "is_trigger, source")
    if isinstance(source, Tensor) and source.dtype == torch.bool:
        raise WrongAnswer("is_trigger, source", "source, is_trigger", "the two results are swapped")
    best = likelihoods.argmax(1)
    judged, right = predicted == target, torch.tensor([True, False, False, True])
    wrong = {
        "an image that is not predicted as the target is flagged: the guard judges only those that are":
            best != classes.index(target),
        "the flags are upside down: the target's own likelihood being the largest means clean":
            judged & (best == classes.index(target)),
        "this compares the column with the class number: the target's column is classes.index(target)": judged,
        "the smallest likelihood is taken: use argmax": judged & (likelihoods.argmin(1) != classes.index(target)),
        "everything that is not predicted as the target is flagged: those images are what they seem": ~judged,
    }  # fmt: skip
    otherwise = "something else than: predicted as the target, and another class's likelihood is the largest"
    same_tensor(flags, right, otherwise, wrong)
    numbers = torch.tensor(classes)
    wrong = {
        "these are columns: the class of column k is classes[k]": torch.where(right, best, predicted),
        "an image that is not flagged keeps the network's prediction": numbers[best],
        "these are columns, and images that are not flagged keep the network's prediction": best,
        "the flagged images keep the network's prediction: name the class with the largest likelihood": predicted,
    }
    cause = "something else than the class with the largest likelihood where flagged, the prediction elsewhere"
    same_tensor(source, judge(likelihoods, classes, predicted, target)[1], cause, wrong)
    again = answer(likelihoods.flip(1), (0, 4, 6), torch.tensor([0, 0, 0, 4]), 0)
    expected = judge(likelihoods.flip(1), (0, 4, 6), torch.tensor([0, 0, 0, 4]), 0)
    for one, other in zip(again, expected, strict=True):
        same_tensor(one, other, "another target or other classes go wrong: use the arguments")
