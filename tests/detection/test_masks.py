"""Mask inversion: Neural Cleanse and mask RED-A, on networks set by hand and on trained ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from toys import hand_set, lit_pixels

from btlib import checkpoints, detection, metrics, triggers
from btlib.datasets import ImageDataset
from btlib.detection import PUBLIC, QUICK, Inversion
from btlib.detection.descent import Inversions, adjust_cost, descend, squash, stamp
from btlib.detection.images import DefenseSet, defense_set, undisturbed
from btlib.detection.mask import _bisect, _Judge, _scaled, invert
from btlib.detection.outcome import Detection, Estimate, Estimates, uniform

CLASSES, SIZE = 10, 12
SHORT = Inversion(rounds=120, steps=1, batch_size=20, lr=0.3, patience=2, multiplier=1.5, check=False, bisections=6)


def planted(strength: float = 10.0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    return hand_set(strength, num_classes=CLASSES, size=SIZE), *lit_pixels(2, num_classes=CLASSES, size=SIZE)


def test_the_embedding_is_equation_5():
    x, raw = torch.rand(3, 2, 4, 4), torch.randn(2, 3, 4, 4)
    mask, pattern = squash(raw[:, :1]), squash(raw[:, 1:])
    expected = torch.stack([(1 - mask[t]) * x[b] + mask[t] * pattern[t] for t in range(2) for b in range(3)])
    torch.testing.assert_close(stamp(x, raw), expected)
    assert squash(torch.tensor(0.0)) == 0.5


def test_channels_are_not_rows():
    # The pattern (C, H, W) is per channel; a public fork indexes it by rows.
    x, raw = torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4, 4), 10.0)
    raw[:, 2] = -10  # the second channel's pattern is black
    assert stamp(x, raw)[0].mean((1, 2)).tolist() == pytest.approx([1, 0, 1], abs=1e-6)


def test_the_planted_pixel_is_found_and_the_clean_twin_has_masks_of_one_size():
    net, x, y = planted()
    found = detection.neural_cleanse(net, x, y, per_class=None, inversion=SHORT)
    assert found.verdict().target == 2
    assert found.norms[2] < 0.5 * np.delete(found.norms, 2).min()
    assert int(found.estimates[2].mask.argmax()) == SIZE * SIZE - 1
    clean = detection.neural_cleanse(
        hand_set(0.0, num_classes=CLASSES, size=SIZE), x, y, per_class=None, inversion=SHORT
    )
    # Its classes are alike: norms differ by up to 2 % (seeds 0 to 9), and an outlier is chance. So no verdict here.
    assert clean.norms.max() < 1.1 * clean.norms.min()


@pytest.mark.parametrize("threshold", [None, 1.5, 3.0])
def test_an_anomaly_index_above_the_threshold_is_an_attack_and_none_below_is(threshold):
    # Median 10 and MAD 1 whatever class 2 has, so its index is (10 - norm) / 1.4826.
    def detected(index: float) -> Detection:
        norms = [9.0, 9.0, 10 - 1.4826 * index, 10.0, 11.0, 11.0, 12.0]
        patch = triggers.box((1, SIZE, SIZE))
        found = [
            Estimate(t, patch, norm, 1.0, torch.ones(7), uniform(7, t), 1, 1, True) for t, norm in enumerate(norms)
        ]
        return Detection("Neural Cleanse", Estimates(found), "mad", 0.0)

    level = threshold or 2.0
    below, above = (detected(level + step).verdict(threshold) for step in (-0.01, 0.01))
    assert (below.attacked, below.target, below.sources) == (False, None, ())
    assert (above.attacked, above.target, above.sources) == (True, 2, (0, 1, 3, 4, 5, 6))
    assert (below.statistic, above.statistic) == pytest.approx((level - 0.01, level + 0.01))
    assert below.threshold == above.threshold == level
    at = detected(level)
    assert not at.verdict(float(at.anomaly_index[2])).attacked  # above, not at


class OnlyFrom(nn.Module):
    """A trigger pixel that counts only where the source's own pixel is lit."""

    def __init__(self, source: int) -> None:
        super().__init__()
        self.net, self.source = hand_set(0.0, num_classes=CLASSES, size=SIZE), source

    def forward(self, x):
        gate = torch.relu(4 * (x[:, 0, 0, self.source] - 0.75))
        return self.net(x) + 20 * (gate * x[:, 0, -1, -1])[:, None] * nn.functional.one_hot(torch.tensor(2), CLASSES)


def test_annealed_weights_find_one_source_where_uniform_ones_do_not():
    _, x, y = planted()
    net = OnlyFrom(5)
    plain = detection.neural_cleanse(net, x, y, per_class=None, inversion=SHORT)
    annealed = detection.mask_red_a(net, x, y, per_class=None, inversion=replace(SHORT, batch_size=20))
    assert annealed.norms[2] < 0.7 * plain.norms[2]
    assert (plain.rule, annealed.rule) == ("mad", "calibrated")
    assert annealed.estimates[2].by_class[5] > 0.9
    assert 5 in annealed.estimates[2].sources()


def unequal() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of every class, but twelve of class 3."""
    _, x, y = planted()
    return torch.cat([x, x[y == 3].repeat(5, 1, 1, 1)]), torch.cat([y, torch.full((10,), 3)])


def test_unequal_numbers_of_images_count_by_class_where_weights_are_annealed():
    _, x, y = planted()
    settings = replace(SHORT, batch_size=30)  # all images at once in both
    few, many = (
        detection.mask_red_a(OnlyFrom(5), *images, per_class=None, inversion=settings) for images in ((x, y), unequal())
    )
    np.testing.assert_allclose(few.norms, many.norms, rtol=1e-3)
    # Only class 5 obeys: its two images are a ninth of the eighteen that are not of class 2, then two of twenty-eight.
    for found, success in ((few, 2 / 18), (many, 2 / 28)):
        assert found.estimates[2].by_class.nan_to_num().tolist() == [0] * 5 + [1] + [0] * 4
        assert found.estimates[2].success == pytest.approx(success)


def test_neural_cleanse_counts_images_not_classes():
    net, _, _ = planted()
    x, y = unequal()
    settings = replace(SHORT, rounds=10, check=True, bisections=0)
    with undisturbed(net):
        (found,) = invert(net, defense_set(net, x, y), [3], settings, annealed=False)
    works = metrics.predict(net, found.trigger(x)).argmax(1) == 3
    assert found.history["Q"][-1] == pytest.approx(float(works.float().mean()))
    assert found.history["Q"][-1] == pytest.approx(28 / 30)  # of ten classes one, with two of thirty images, resists
    assert found.success == pytest.approx(16 / 18)  # without class 3's own


def test_the_smallest_mask_that_works_is_kept_with_its_own_success():
    net, x, y = planted()
    data = defense_set(net, x, y)
    with undisturbed(net):
        (found,) = invert(net, data, [2], replace(SHORT, check=True, bisections=0), annealed=False)
    history = found.history
    works = history["Q"] >= SHORT.success
    assert bool(works.any())
    assert found.norm == pytest.approx(float(history["norm"][works].min()), rel=1e-5)
    again = metrics.attack_success_rate(net, found.trigger, x, y, target=2)
    assert again == pytest.approx(found.success)
    assert float((metrics.predict(net, found.trigger(x)).argmax(1) == 2).float().mean()) >= SHORT.success


def test_the_factor_on_the_mask_is_a_power_of_two_and_the_pattern_stays():
    raw = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0)) - 1
    scaled = _scaled(raw, torch.tensor([-1.0, 0.0, 0.5]))
    factors = torch.tensor([0.5, 1.0, 2**0.5]).reshape(3, 1, 1, 1)
    torch.testing.assert_close(squash(scaled[:, :1]), (factors * squash(raw[:, :1])).clamp(max=1), atol=1e-5, rtol=0)
    assert torch.equal(scaled[:, 1:], raw[:, 1:])


class Above(nn.Module):
    """Class 1 is a pixel above a limit."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x):
        pixel = x.flatten(1)
        return torch.cat([torch.full_like(pixel, self.limit), pixel, torch.full_like(pixel, -1.0)], 1)


@pytest.mark.parametrize("power", [-0.8, 0.3, 0.9])
def test_bisection_finds_the_power_of_the_factor(power):
    raw = torch.tensor([torch.atanh(torch.tensor(2 * 0.3 - 1)), 20.0]).reshape(1, 2, 1, 1)  # a mask of .3, white
    data = DefenseSet(torch.zeros(6, 1, 1, 1), torch.arange(6) % 3, 3)
    judge = _Judge(Above(0.3 * 2**power), data, annealed=False)
    found, rates = _bisect(judge, Inversions((1, 1, 1), 3, [1]), raw, replace(SHORT, bisections=10), 1.0)
    assert power <= float(found) <= power + 2 / 2**10  # ten halvings of [-1, 1], and the end that works
    assert rates.tolist() == [[1, 1, 1]]


def test_bisection_ends_just_where_the_mask_succeeds():
    net, x, y = planted()
    found = detection.neural_cleanse(net, x, y, per_class=None, inversion=SHORT, targets=[2]).estimates[2]
    smaller = replace(found.trigger, mask=found.mask * 0.97)
    stamped = [(metrics.predict(net, t(x)).argmax(1) == 2).float().mean() for t in (found.trigger, smaller)]
    assert stamped[0] >= 0.99 > stamped[1]


def test_lambda_rises_after_patience_good_rounds_and_falls_after_bad_ones():
    at = Inversions((1, 6, 6), 4, [0])
    costs = []
    for works in [True] * 6 + [False] * 5 + [True] * 4:
        adjust_cost(at, torch.tensor([works]), PUBLIC)
        costs.append(float(at.cost))
    start = PUBLIC.start
    assert costs[:5] == pytest.approx([start] * 5)
    assert costs[5:10] == pytest.approx([2 * start] * 5)
    assert costs[10:] == pytest.approx([2 * start / 2**1.5] * 5)


def test_what_is_put_into_the_state_is_put_into_the_inversions():
    """So a resume file that updates the dict goes on where it stopped, and rows stay apart from their copies."""
    at, other = (Inversions((1, 6, 6), 4, [0, 3], seed=seed) for seed in (0, 1))
    assert not torch.equal(at.raw, other.raw)
    part = at.take(torch.tensor([1]))
    at.state.update(other.state)
    assert torch.equal(at.raw, other.raw)
    assert part.target.tolist() == [3]
    assert torch.equal(part.raw, Inversions((1, 6, 6), 4, [3]).raw)


def test_cost_and_mask_start_anew_for_each_call_and_class():
    net, x, y = planted()
    at = Inversions((1, 6, 6), 6, [0, 5])
    assert at.cost.tolist() == [0, 0]
    assert torch.equal(at.raw[0], at.raw[1])
    assert len(at.take(torch.tensor([1])).row) == 1
    both = detection.neural_cleanse(net, x, y, per_class=None, inversion=SHORT, targets=[2, 4])
    alone = detection.neural_cleanse(net, x, y, per_class=None, inversion=SHORT, targets=[4])
    assert alone.estimates[4].norm == pytest.approx(both.estimates[4].norm, rel=1e-3)


def test_early_stopping_really_stops():
    net, x, y = planted()
    settings = replace(SHORT, rounds=400, stop_after=5, check=True, bisections=0)
    found = detection.neural_cleanse(net, x, y, per_class=None, inversion=settings, targets=[2]).estimates[2]
    assert found.steps < 400
    assert found.converged
    history = found.history
    best = history["norm"].where(history["Q"] >= settings.success, torch.inf).argmin()
    assert found.steps == int(best) + 1 + 5  # five more rounds, none of them with a smaller mask


def test_success_of_all_images_is_as_much_as_can_be_wished():
    net = hand_set(10.0, num_classes=8, size=SIZE)  # shares of eight classes are exact
    settings = replace(SHORT, success=1.0)
    images = lit_pixels(2, num_classes=8, size=SIZE)
    found = detection.neural_cleanse(net, *images, per_class=None, inversion=settings, targets=[2])
    assert found.estimates[2].success == 1
    assert found.estimates[2].converged
    assert found.norms[2] < 1  # such masks have a price, too: without one it covers many pixels


def test_a_class_that_cannot_be_reached_is_mentioned():
    class Stubborn(nn.Module):
        def forward(self, x):
            return torch.arange(4.0) * 50 + x.flatten(1).sum(1, keepdim=True)  # all logits alike

    x, y = torch.rand(8, 1, 6, 6), torch.arange(8) % 4
    found = detection.neural_cleanse(Stubborn(), x, y, per_class=None, inversion=replace(SHORT, rounds=5))
    assert not found.estimates[0].converged
    assert any("class 0" in w for w in found.warnings)


def test_the_network_is_left_as_found():
    net, x, y = planted()
    net.train()
    before = torch.get_rng_state()
    detection.mask_red_a(net, x, y, per_class=1, inversion=replace(SHORT, rounds=3))
    assert net.training
    assert net.head.weight.requires_grad
    assert net.head.weight.grad is None
    assert torch.equal(before, torch.get_rng_state())


def test_public_defaults():
    assert (PUBLIC.rounds, PUBLIC.batch_size, PUBLIC.lr, PUBLIC.success, PUBLIC.start) == (30, 64, 0.1, 0.99, 1e-3)
    assert (PUBLIC.patience, PUBLIC.multiplier, PUBLIC.fall, PUBLIC.check) == (5, 2.0, 1.5, True)


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"lr": -1.0}, {"success": 0.0}, {"multiplier": 1.0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Inversion(**({"rounds": 1, "steps": 1, "batch_size": 1, "lr": 0.1} | bad))


def test_a_trained_backdoor_is_found_and_works_on_held_out_images(fashion: ImageDataset):
    net = checkpoints.load_or_train(checkpoints.shipped()["box"])
    x, y = fashion.x_test[:5000], fashion.y_test[:5000]
    found = detection.neural_cleanse(net, x, y, targets=[8, 9, 0], inversion=replace(QUICK, rounds=100))
    assert found.suspect == 9
    assert found.norms[9] < 0.4 * found.norms[[0, 8]].min()
    held_out = metrics.attack_success_rate(
        net, found.estimates[9].trigger, fashion.x_test[5000:], fashion.y_test[5000:], target=9
    )
    assert held_out > 0.95


def test_one_source_in_a_trained_network_needs_the_weights(fashion: ImageDataset):
    net = checkpoints.load_or_train(checkpoints.shipped()["box-one-source"])
    x, y = fashion.x_test[:5000], fashion.y_test[:5000]
    plain, annealed = (
        f(net, x, y, targets=[9], inversion=replace(QUICK, rounds=100)).norms[9]
        for f in (detection.neural_cleanse, detection.mask_red_a)
    )
    assert annealed < 0.5 * plain


def test_a_step_goes_down_and_reports_the_success_before_it():
    net, x, y = planted()
    data = defense_set(net, x, y)
    at = Inversions(x.shape[1:], data.num_classes, [2])
    everything = torch.arange(len(y))
    before = at.raw.clone()
    with undisturbed(net):
        success = descend(net, data, at, everything, lr=0.1, taken=1)
        expected = (net(stamp(data.images, before)).argmax(1) == 2).float().mean()
    assert float(success) == pytest.approx(float(expected))
    # Adam's first step is the learning rate in every coordinate that has a gradient
    moved = (at.raw - before).abs()
    assert float(moved.max()) == pytest.approx(0.1, rel=1e-3)


def test_rates_are_remembered_and_change_where_the_batch_has_images():
    net, x, y = planted()
    data = defense_set(net, x, y)
    at = Inversions(x.shape[1:], data.num_classes, [2])
    at.raw[:, 0], at.raw[:, 1:] = 10.0, 10.0  # a white image, which is of class 2
    batch = torch.tensor([int((y == s).nonzero()[0]) for s in (0, 4, 4)])
    with undisturbed(net):
        for taken in (1, 2):
            descend(net, data, at, batch, lr=1e-9, taken=taken, annealed=True)
    assert at.rates[0, [0, 4]].tolist() == pytest.approx([0.36] * 2)  # .2, then .8 of that and .2
    assert at.rates[0].count_nonzero() == 2
