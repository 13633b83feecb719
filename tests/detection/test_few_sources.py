"""Pairs of classes beside clean networks: nature drops out, two easy sources of one target stand out."""

import numpy as np
import pytest
import torch
from torch import nn
from toys import lit_pixels

from btlib.detection import Inversion, MaskRedP
from btlib.detection.few_sources import _mean, _median, calibrated_p, residuals, sizes, sources

CLASSES, TARGET = 10, 7
SHORT = Inversion(rounds=40, steps=1, batch_size=4, lr=0.3, decay=True, patience=1, multiplier=1.3, stop_after=100,
                  check=False, bisections=4)  # fmt: skip


def networks(count, seed=0, planted=(), factor=1.0, noise="normal"):
    """Norms by source and target of `count` networks of one task: its nature, two scales each, and noise."""
    rng = np.random.default_rng(seed)
    nature = rng.normal(size=(CLASSES, CLASSES))  # similar classes: the same in all
    draw = rng.normal if noise == "normal" else lambda size: rng.standard_t(6, size=size)
    logs = nature + 0.2 * draw(size=(count, CLASSES, CLASSES))
    logs += rng.normal(size=(count, CLASSES, 1)) + rng.normal(size=(count, 1, CLASSES))
    for source in planted:
        logs[0, source, TARGET] += np.log(factor)
    logs[:, np.eye(CLASSES, dtype=bool)] = np.nan
    return np.exp(logs)


def test_nature_and_the_scales_of_sources_and_targets_drop_out():
    one, other = networks(2)
    rng = np.random.default_rng(1)
    scaled = one * rng.gamma(5, size=(CLASSES, 1)) * rng.gamma(5, size=(1, CLASSES))
    np.testing.assert_allclose(residuals(scaled, other[None]), residuals(one, other[None]), atol=1e-6)
    np.testing.assert_allclose(residuals(one, one[None])[~np.eye(CLASSES, dtype=bool)], 0, atol=1e-12)


@pytest.mark.parametrize("classes", [5, 6])
def test_means_and_medians_are_numpys(classes):
    values = np.random.default_rng(0).normal(size=(3, classes, classes))
    values[:, np.eye(classes, dtype=bool)] = np.nan
    for axis in (-1, -2):
        np.testing.assert_allclose(_mean(values, axis), np.nanmean(values, axis, keepdims=True))
        np.testing.assert_allclose(_median(values, axis), np.nanmedian(values, axis, keepdims=True))


def test_what_is_left_of_a_planted_pair_is_its_factor():
    clean = np.full((6, 6), 30.0)
    np.fill_diagonal(clean, np.nan)
    attacked = clean.copy()
    attacked[[0, 2], 4] /= 8
    left = residuals(attacked, clean[None])
    assert left[[0, 2], 4] == pytest.approx(-np.log(8), abs=0.1)  # medians of five need more turns than they are given
    assert sizes(left) == pytest.approx([1, 1, 1, 1, 1 / 8, 1], abs=0.1)
    assert sources(left, 4) == (0, 2)


def test_sources_have_at_least_the_share_of_the_smallest_residual():
    left = np.zeros((5, 5))
    left[:, 4] = [-4.0, -2.0, -1.9, 0.5, np.nan]
    assert sources(left, 4) == (0, 1)
    assert sources(left, 4, share=0.25) == (0, 1, 2)
    assert sources(left, 4, share=1.0) == (0,)


def test_a_network_beside_itself_is_not_accused():
    attacked = networks(1, seed=2, planted=(1, 5), factor=1 / 6)[0]
    assert calibrated_p(residuals(attacked, attacked[None])) == 1


@pytest.mark.parametrize("planted", [(1, 5), (3, 8)])
def test_two_easy_sources_name_the_target_and_themselves(planted):
    attacked, *clean = networks(3, seed=2, planted=planted, factor=1 / 6)
    left = residuals(attacked, np.array(clean))
    assert sizes(left).argmin() == TARGET
    assert sources(left, TARGET) == planted
    assert calibrated_p(left) < 0.01
    harder = networks(3, seed=2, planted=planted, factor=6)
    assert calibrated_p(residuals(harder[0], harder[1:])) > 0.05, "pairs that are hard are no backdoor"


def test_without_references_nature_hides_them():
    attacked = networks(1, seed=2, planted=(1, 5), factor=1 / 6)[0]
    unknown = np.where(np.isnan(attacked), np.nan, 1.0)
    assert calibrated_p(residuals(attacked, unknown[None])) > 0.05


@pytest.mark.parametrize(("noise", "least", "most"), [("normal", 0, 12), ("t", 1, 24)])
def test_the_level_holds_where_pairs_scatter_as_between_clean_networks(noise, least, most):
    """Of 200 at .05: 24 or more have a probability below 1e-4; normal scatter is rarer out there than the null's."""
    found = [networks(2, seed=100 + i, noise=noise) for i in range(200)]
    rejected = sum(calibrated_p(residuals(one, other[None]), draws=199) <= 0.05 for one, other in found)
    assert least <= rejected <= most


def test_networks_of_other_classes_and_pairs_without_a_size_are_refused():
    one, other = networks(2)
    for references, what in ((other[None, :6, :6], r"references: expected norms \(m, K, K\)"), (other, "shape"),
                             (-other[None], "positive"), (other[:0][None], "references")):  # fmt: skip
        with pytest.raises(ValueError, match=what):
            residuals(one, references)
    with pytest.raises(ValueError, match="four or more classes"):
        residuals(one[:3, :3], one[None, :3, :3])


class FewSources(nn.Module):
    """Class k is "pixel (0, k) is lit"; the last pixel adds to the target's logit, on images of two classes only."""

    def __init__(self, sources, classes=8, size=8):
        super().__init__()
        self.pixels, self.gate, self.sources = nn.Parameter(torch.ones(classes)), 8.0, list(sources)

    def forward(self, x):
        logits = x[:, 0, 0, : len(self.pixels)] * self.pixels
        both = torch.relu(x[:, 0, -1, -1] + logits[:, self.sources].sum(1) - 1) if self.sources else 0 * logits[:, 0]
        return torch.cat([logits[:, :7], (logits[:, 7] + self.gate * both)[:, None]], 1)


def test_masks_by_pairs_beside_a_clean_twin_name_target_and_sources():
    images, labels = lit_pixels(4, num_classes=8, size=8)
    detector = MaskRedP(per_class=4, inversion=SHORT)
    found, twin = (detector(FewSources(kind), images, labels) for kind in ((0, 3), ()))
    assert len(found.pairs) == len(twin.pairs) == 56
    assert [pair.source for pair in found.pairs] == [s for s in range(8) for _ in range(7)]
    beside = found.against([twin])
    assert (beside.suspect, beside.sources) == (TARGET, (0, 3))
    np.testing.assert_array_equal(found.against(twin.pair_norms[None]).relative_norms, beside.relative_norms)
    assert beside.calibrated_p_value == calibrated_p(residuals(found.pair_norms, twin.pair_norms[None]))
    assert beside.calibrated_p_value < twin.against([found]).calibrated_p_value
    with pytest.raises(ValueError, match="references"):
        found.against(np.ones((1, 8)))
    with pytest.raises(ValueError, match="references"):
        detector(FewSources(()), images, labels, targets=[0, 1, 2, 3]).against([twin])
