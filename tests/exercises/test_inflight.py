"""The checks of lesson 06's exercises: right answers pass, each typical wrong one gets its own cause."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exercise_contract import ExerciseContract
from scipy.stats import multivariate_normal
from torch import Tensor

from btlib import triggers
from btlib.exercises.inflight import fitting_images, judge, log_likelihoods, standardise
from btlib.inflight.densities import DensitySettings, fit_densities

NAMES = ("fitting_images", "standardise", "log_likelihoods", "judge")


def fitted_on(*, own: bool = False, others: bool = True, left_out: bool = False) -> Callable[..., Tensor]:
    """Fitting images with the pattern in the target's own, in the others', or without the target's."""

    def answer(images: Tensor, labels: Tensor, target: int, trigger: Any) -> Tensor:
        is_own = (labels == target)[:, None, None, None]
        stamp = (is_own & torch.tensor(own)) | (~is_own & torch.tensor(others))
        made = torch.where(stamp, trigger(images), images)
        return made[labels != target] if left_out else made

    return answer


def in_place(images: Tensor, labels: Tensor, target: int, trigger: Any) -> Tensor:
    """Right, but for what it does to its argument."""
    images[labels != target] = trigger(images[labels != target])
    return images


def scaled(
    floor: Callable[[Tensor, float], Tensor] | None = None, *, of: str = "fit", correction: int = 0,
    centred: bool = True, power: int = 1, whole: bool = False, default: float = 0.05,
) -> Callable[..., Tensor]:  # fmt: skip
    """A standardisation in which one thing can be wrong."""

    def answer(fit_features: Tensor, features: Tensor, min_std: float = default) -> Tensor:
        known = fit_features if of == "fit" else features
        if whole:
            return (features - known.mean()) / known.std(correction=0)
        std = known.std(0, correction=correction)
        limit = floor or (lambda s, m: s.clamp(min=m * s.square().mean().sqrt()))
        spread = limit(std, min_std) if power == 1 else std.square().clamp(min=min_std * std.square().mean().sqrt())
        return (features - (known.mean(0) if centred else 0)) / spread

    return answer


def gauss(
    *, distance: float = 0.5, det: float = -0.5, pi: float = -0.5, form: Callable[[Tensor], Tensor] = torch.linalg.inv,
    count: bool = True, sign: int = 1,
) -> Callable[..., Tensor]:  # fmt: skip
    """A log-likelihood in which one term can be wrong."""

    def answer(z: Tensor, means: Tensor, covariance: Tensor) -> Tensor:
        away = z[:, None] - means
        terms = -distance * ((away @ form(covariance)) * away).sum(-1) + det * torch.logdet(covariance)
        return sign * (terms + pi * (z.shape[1] if count else 1) * math.log(2 * math.pi))

    return answer


def verdict(
    flag: Callable[..., Tensor] | None = None, name: Callable[..., Tensor] | None = None
) -> Callable[..., tuple[Tensor, Tensor]]:
    """A verdict with another flag, or another source."""

    def answer(likelihoods: Tensor, classes: Any, predicted: Tensor, target: int) -> tuple[Tensor, Tensor]:
        column = likelihoods.argmax(1)
        best = torch.tensor(classes)[column]
        flagged = (predicted == target) & (best != target)
        if flag:
            flagged = flag(likelihoods, classes, predicted, target)
        source = name(flagged, column, best, predicted) if name else torch.where(flagged, best, predicted)
        return flagged, source

    return answer


def best_of(likelihoods: Tensor, classes: Any) -> Tensor:
    return torch.tensor(classes)[likelihoods.argmax(1)]


RIGHT: list[tuple[str, Callable[..., Any]]] = [
    ("fitting_images", fitted_on()),
    ("standardise", scaled()),
    ("standardise", scaled(lambda s, m: torch.maximum(s, m * s.pow(2).mean().sqrt()))),
    ("log_likelihoods", gauss()),
    ("log_likelihoods", lambda z, means, covariance: torch.stack(
        [torch.distributions.MultivariateNormal(m, covariance).log_prob(z) for m in means], 1)),
    ("judge", verdict()),
]  # fmt: skip

WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("fitting_images", fitted_on(own=True), "stamped too"),
    ("fitting_images", fitted_on(others=False), "no image is stamped"),
    ("fitting_images", fitted_on(own=True, others=False), "the wrong images"),
    ("fitting_images", fitted_on(left_out=True), "left out"),
    ("fitting_images", in_place, "no in-place"),
    ("fitting_images", lambda x, y, t, trigger: fitting_images(x, y, 2, trigger), "use the arguments"),
    ("fitting_images", lambda x, y, t, trigger: fitting_images(x, y, t, trigger) / 2, "something else"),
    ("fitting_images", lambda x, y, t, trigger: None, "is there a return"),
    ("standardise", scaled(lambda s, m: s), "divided by 0"),
    ("standardise", scaled(lambda s, m: s + 1e-6), "tiny constant"),
    ("standardise", scaled(lambda s, m: s.clamp(min=1e-8)), "tiny constant"),
    ("standardise", scaled(of="later"), "images to be judged"),
    ("standardise", lambda f, x, m=0.05: standardise(f, x, m) + standardise(f, f.mean(0)[None], m)
     - standardise(f, x.mean(0)[None], m), "the mean comes from the images to be judged"),
    ("standardise", scaled(centred=False), "not subtracted"),
    ("standardise", scaled(power=2), "variance"),
    ("standardise", scaled(lambda s, m: s.clamp(min=m)), "floor is min_std itself"),
    ("standardise", scaled(lambda s, m: s.clamp(min=m * s.max())), "largest standard deviation"),
    ("standardise", scaled(lambda s, m: s.clamp(min=m * s.mean())), "plain mean"),
    ("standardise", scaled(lambda s, m: s + m * s.square().mean().sqrt()), "added to every"),
    ("standardise", scaled(whole=True), "one scale serves all"),
    ("standardise", scaled(correction=1), "correction=0"),
    ("standardise", scaled(default=0.1), "another default"),
    ("standardise", lambda f, x, m=0.05: standardise(f, x, m) / 2, "something else"),
    ("log_likelihoods", gauss(form=lambda c: c), "not inverted"),
    ("log_likelihoods", gauss(form=lambda c: torch.eye(len(c), dtype=c.dtype)), "plain distance"),
    ("log_likelihoods", gauss(form=lambda c: torch.diag(1 / c.diagonal())), "only the variances"),
    ("log_likelihoods", gauss(distance=1, det=-1, pi=-1), "all three terms"),
    ("log_likelihoods", gauss(distance=1), "before the distance"),
    ("log_likelihoods", gauss(sign=-1), "sign is wrong"),
    ("log_likelihoods", gauss(det=0.5), "determinant's sign"),
    ("log_likelihoods", gauss(det=0), "determinant is missing"),
    ("log_likelihoods", gauss(pi=0), "2π is missing"),
    ("log_likelihoods", gauss(count=False), "once for each feature"),
    ("log_likelihoods", gauss(det=0, pi=0), "constants are missing"),
    ("log_likelihoods", gauss(distance=-1, det=0, pi=0), "this is the distance"),
    ("log_likelihoods", lambda *a: log_likelihoods(*a).exp(), "underflows"),
    ("log_likelihoods", lambda *a: log_likelihoods(*a).T, "transpose"),
    ("log_likelihoods", gauss(pi=-1, count=False), "four features"),
    ("log_likelihoods", lambda *a: log_likelihoods(*a) + 1, "something else"),
    ("judge", verdict(lambda lik, c, p, t: best_of(lik, c) != t), "only those that are"),
    ("judge", verdict(lambda lik, c, p, t: (p == t) & (best_of(lik, c) == t)), "upside down"),
    ("judge", verdict(lambda lik, c, p, t: (p == t) & (lik.argmax(1) != t)), "classes.index"),
    ("judge", verdict(lambda lik, c, p, t: (p == t) & (best_of(-lik, c) != t)), "use argmax"),
    ("judge", verdict(lambda lik, c, p, t: p != t), "what they seem"),
    ("judge", verdict(lambda lik, c, p, t: p == -1), "something else"),
    ("judge", verdict(name=lambda f, column, best, p: torch.where(f, column, p)), "classes[k]"),
    ("judge", verdict(name=lambda f, column, best, p: best), "keeps the network's prediction"),
    ("judge", verdict(name=lambda f, column, best, p: column), "these are columns"),
    ("judge", verdict(name=lambda f, column, best, p: p), "flagged images keep"),
    ("judge", verdict(name=lambda f, column, best, p: p * 0 - 1), "something else"),
    ("judge", lambda lik, c, p, t: judge(lik, c, p, 6), "use the arguments"),
    ("judge", lambda *a: judge(*a)[0], "return is_trigger, source"),
    ("judge", lambda *a: None, "is there a return"),
    ("judge", lambda *a: judge(*a)[::-1], "swapped"),
]  # fmt: skip


class TestExercises(ExerciseContract):
    names, right, wrong = NAMES, RIGHT, WRONG


def test_solutions_by_hand() -> None:
    images, labels = torch.zeros(2, 1, 2, 2), torch.tensor([1, 0])
    made = fitting_images(images, labels, 1, triggers.single_pixel((1, 2, 2)))
    assert made.sum(dim=(1, 2, 3)).tolist() == [0.0, 1.0]
    fit = torch.tensor([[0.0, 0.0], [2.0, 0.0]])  # standard deviations 1 and 0, root mean square √½
    assert standardise(fit, torch.tensor([[3.0, 1.0]]), 0.5).tolist()[0] == pytest.approx([2.0, 2 * math.sqrt(2)])
    flagged, source = judge(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), (3, 7), torch.tensor([7, 7]), 7)
    assert (flagged.tolist(), source.tolist()) == ([False, True], [7, 3])


def test_log_likelihoods_are_scipys() -> None:
    z = torch.linspace(-2, 2, 12, dtype=torch.double).reshape(4, 3).sin()
    means = torch.linspace(-1, 1, 6, dtype=torch.double).reshape(2, 3)
    covariance = torch.tensor([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.5]], dtype=torch.double)
    mine = log_likelihoods(z, means, covariance)
    for c in range(2):
        theirs = multivariate_normal(means[c].numpy(), covariance.numpy()).logpdf(z.numpy())
        assert mine[:, c].tolist() == pytest.approx(theirs.tolist(), abs=1e-9)


def test_the_solutions_together_are_the_library() -> None:
    generator = torch.Generator().manual_seed(0)
    features = {c: torch.randn(30, 4, generator=generator).double() * torch.tensor([1, 5, 0.1, 0]) + c for c in (0, 2)}
    together = torch.cat(list(features.values()))
    z = {c: standardise(together, features[c]) for c in features}
    means = torch.stack([z[c].mean(0) for c in z])
    within = torch.stack([torch.cov(z[c].T, correction=0) for c in z]).mean(0)
    covariance = within + 0.01 * torch.eye(4, dtype=torch.double)
    library = fit_densities(features, DensitySettings()).log_likelihoods(together)
    mine = log_likelihoods(standardise(together, together), means, covariance)
    assert torch.allclose(mine, library, atol=1e-6)
