"""The scorer against scikit-learn, the mixtures against closed forms in numpy."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from torch import Tensor

from btlib.inflight import COVARIANCES
from btlib.inflight.densities import DensitySettings, Scorer, fit_densities


def blobs(count: int = 60, width: int = 7, classes: int = 3, seed: int = 0) -> dict[int, Tensor]:
    """Gaussians with different means, and scales from 0.1 to 100 among the features."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(-1, 2, width)
    return {c: (torch.randn(count, width, generator=generator) + c) * scales for c in range(classes)}


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_scorer_agrees_with_scikit_learn(covariance: str, components: int) -> None:
    fitted = fit_densities(blobs(), DensitySettings(components, covariance))
    new = torch.cat(list(blobs(400, seed=1).values()))
    exact, fast = fitted.log_likelihoods(new), fitted.scorer()(new)
    exact, fast = (each - each[:, :1] for each in (exact, fast))  # what all classes have in common is left out
    torch.testing.assert_close(fast.double(), exact, rtol=1e-4, atol=1e-3)
    assert torch.equal(fast.argmax(1), exact.argmax(1))
    assert (fast.argmax(1) == torch.arange(3).repeat_interleave(400)).float().mean() > 0.7


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_classes_in_another_order_keep_their_likelihoods(covariance: str, components: int) -> None:
    scorer = fit_densities(blobs(), DensitySettings(components, covariance)).scorer()
    new = torch.cat(list(blobs(20, seed=1).values()))
    torch.testing.assert_close(scorer.ordered([2, 0, 1])(new), scorer(new)[:, [2, 0, 1]], rtol=1e-4, atol=1e-3)


def test_one_full_component_is_the_normal_density() -> None:
    features = blobs()
    fitted = fit_densities(features, DensitySettings(covariance="full"))
    every = torch.cat(list(features.values())).double().numpy()
    mean, std = every.mean(0), every.std(0)
    new = torch.cat(list(blobs(5, seed=1).values()))
    for column, c in enumerate(fitted.classes):
        # min_std: features below 5 % of the root mean square are divided by that
        scale = np.maximum(std, 0.05 * np.sqrt((std**2).mean()))
        z = (features[c].double().numpy() - mean) / scale
        truth = multivariate_normal(z.mean(0), np.cov(z.T, bias=True) + 0.01 * np.eye(7))
        expected = truth.logpdf((new.double().numpy() - mean) / scale)
        np.testing.assert_allclose(fitted.log_likelihoods(new)[:, column].numpy(), expected, rtol=1e-6)


def test_the_shared_covariance_is_pooled_over_classes_by_their_images() -> None:
    features = {c: x[: 20 + 20 * c] for c, x in blobs().items()}
    fitted = fit_densities(features, DensitySettings())
    z = {c: (x.double().numpy() - fitted.mean) / fitted.scale for c, x in features.items()}
    within = sum(len(each) * np.cov(each.T, bias=True) for each in z.values()) / 120 + 0.01 * np.eye(7)
    for mixture in fitted.mixtures.values():
        np.testing.assert_allclose(mixture.covariances_, within, rtol=1e-8)
    # Fisher's discriminant, written out: linear in the features
    new = torch.cat(list(blobs(9, seed=1).values()))
    away = (new.double().numpy() - fitted.mean) / fitted.scale
    inverse = np.linalg.inv(within)
    expected = np.stack([away @ inverse @ m.mean(0) - m.mean(0) @ inverse @ m.mean(0) / 2 for m in z.values()], 1)
    np.testing.assert_allclose(fitted.scorer()(new).numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_feature_that_wakes_up_later_changes_no_verdict(covariance: str) -> None:
    """After a ReLU features are dead on the fitting images: dividing by (0 + 1e-6) would drown single precision."""
    dead = {c: torch.cat([x, torch.zeros(len(x), 5)], 1) for c, x in blobs().items()}
    new = torch.cat(list(blobs(300, seed=1).values()))
    asleep, awake = torch.cat([new, torch.zeros(900, 5)], 1), torch.cat([new, torch.full((900, 5), 2.0)], 1)
    fitted = fit_densities(dead, DensitySettings(covariance=covariance))
    scorer = fitted.scorer()
    assert torch.equal(scorer(awake).argmax(1), fitted.log_likelihoods(awake).argmax(1))
    if covariance not in ("spherical", "diag"):  # their variances differ between classes
        assert (scorer(awake).argmax(1) == scorer(asleep).argmax(1)).float().mean() > 0.99


def test_the_unit_of_the_features_does_not_matter() -> None:
    new = torch.cat(list(blobs(100, seed=1).values()))
    one = fit_densities(blobs(), DensitySettings()).scorer()(new)
    thousand = fit_densities({c: x * 1000 for c, x in blobs().items()}, DensitySettings()).scorer()(new * 1000)
    torch.testing.assert_close(one, thousand, rtol=1e-3, atol=1e-2)


def test_constant_features_are_no_division_by_zero() -> None:
    fitted = fit_densities({0: torch.ones(4, 2), 1: torch.ones(4, 2)}, DensitySettings())
    assert bool(fitted.scorer()(torch.ones(1, 2)).isfinite().all())


def test_bad_settings_and_features_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong, words in [
        ({"covariance": "round"}, "got 'round'"),
        ({"components": 0}, "got 0"),
        ({"regularization": 0.0}, "regularization: .* got 0.0"),
        ({"min_std": -1.0}, "got -1.0"),
    ]:
        with pytest.raises(ValueError, match=words):
            DensitySettings(**wrong)
    with pytest.raises(ValueError, match="at least 3 images of class 0 for 3 component.*got 2"):
        fit_densities({c: x[:2] for c, x in blobs().items()}, DensitySettings(components=3))
    with pytest.raises(ValueError, match="got NaN or infinity from images of class 1"):
        fit_densities(blobs() | {1: torch.full((9, 7), torch.nan)}, DensitySettings())
    monkeypatch.setattr("sklearn.mixture.GaussianMixture", partial(GaussianMixture, max_iter=1))
    with warnings.catch_warnings(action="error"):  # scikit-learn's own is not shown beside ours
        doubts = fit_densities(blobs(), DensitySettings(components=3)).warnings
    assert "class 0 did not settle in 1 rounds" in doubts[0]


def test_components_of_a_class_are_summed() -> None:
    scorer = Scorer("shared", 2, {})
    joint = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    torch.testing.assert_close(scorer.combined(joint).exp(), torch.tensor([[0.3, 0.7]]))
    fitted = fit_densities(blobs(), DensitySettings(components=2)).scorer()
    assert fitted.joint(torch.zeros(4, 7)).shape == (4, 6)
