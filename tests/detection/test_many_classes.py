"""Many classes: bounded passes and memory, a short search of all, the cost told before."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from btlib.cli import scan_budget
from btlib.cli.scan_images import CleanImages
from btlib.detection import QUICK, NeuralCleanse, RedA, RedP, RedU, Search, screen
from btlib.detection.costs import seconds_per_image
from btlib.detection.gamma import ratios
from btlib.detection.images import DefenseSet, defense_set, pass_size, scores
from btlib.detection.mask import invert
from btlib.detection.perturbation import perturb
from btlib.detection.selection import choose, selected_p
from btlib.peak_memory import PeakMemory

SIZE = 32


class Counting(nn.Module):
    """A linear classifier of the mean colours of a grid, which counts what goes through it."""

    def __init__(self, classes: int, easy: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.head = nn.Linear(3 * 16, classes, bias=False)
        self.head.weight.data = torch.randn(classes, 48, generator=generator)
        if easy is not None:
            self.head.weight.data[easy, 0] = 30.0  # one corner in red
        self.head.weight.data -= self.head.weight.data.mean(1, keepdim=True)  # a grey image is of no class
        self.gradients = self.looks = self.largest = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.largest = max(self.largest, len(x))
        if torch.is_grad_enabled() and x.requires_grad:
            self.gradients += len(x)
        else:
            self.looks += len(x)
        return self.head(nn.functional.avg_pool2d(x, SIZE // 4).flatten(1))


class Plain(nn.Module):
    """A function as a network."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def one_of_each(classes: int, copies: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(copies * classes, 3, SIZE, SIZE, generator=generator), torch.arange(copies * classes) % classes


@pytest.mark.parametrize("classes", [200, 1000])
def test_memory_and_passes_do_not_grow_with_the_number_of_classes(classes):
    """All images of so many classes, for some targets: 40 masks on 32 images in one pass would be 1,280."""
    net, (x, y) = Counting(classes), one_of_each(classes)
    masks = NeuralCleanse(per_class=1, inversion=replace(QUICK, rounds=1, bisections=0))
    lengths = RedU(per_class=1, search=Search(delta=1.0, max_norm=1.5))
    with PeakMemory(own=True, interval=0.005) as before:
        defense_set(net, x, y)
    with PeakMemory(own=True, interval=0.005) as peak:
        masks(net, x, y, targets=range(40 if classes == 200 else 10))
        lengths(net, x, y, targets=range(10))
    assert net.largest <= 1024
    assert peak.mb - before.mb < 400  # a tensor of 1,024 images is 13 MB, and the first pass also loads code


def test_weights_of_many_classes_take_k_squared_numbers_not_k_cubed():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 300))
    data = DefenseSet(torch.rand(300, 3, 4, 4), torch.arange(300), 300, at_once=300)
    with PeakMemory(own=True, interval=0.005) as before:
        pass
    with PeakMemory(own=True, interval=0.005) as peak:
        perturb(net, data, [(None, t) for t in range(300)], True, Search(delta=1.0, max_norm=1.01))
    assert peak.mb - before.mb < 60  # 300³ floats are 103 MB


def test_what_is_searched_in_small_passes_is_what_is_found_in_large_ones():
    net, (x, y) = Counting(12, easy=3), one_of_each(12, copies=4)
    assert int(screen(net, x, y, per_class=4).argmin()) == 3
    whole = defense_set(net, x, y)
    search, short = Search(delta=0.2, settle=True, bisections=4), replace(QUICK, rounds=25)
    for at_once in (7, 50):
        part = replace(whole, at_once=at_once)
        masks = [invert(net, data, [0, 3, 5], short, annealed=True) for data in (whole, part)]
        lengths = [perturb(net, data, [(None, 3), (2, 5)], True, search) for data in (whole, part)]
        for one, other in (masks, lengths):
            for a, b in zip(one, other, strict=True):
                assert a.norm == pytest.approx(b.norm, rel=1e-3)
                torch.testing.assert_close(a.by_class, b.by_class, equal_nan=True)


def test_the_more_autograd_keeps_of_an_image_the_fewer_go_in_one_pass():
    image, wide = torch.rand(1, 3, SIZE, SIZE), nn.Conv2d(3, 2000, 3)
    wide.requires_grad_(False)
    few, many = (pass_size(nn.Sequential(wide, *[nn.Sigmoid()] * n), image) for n in (4, 1))
    each = 4 * 2000 * 30 * 30  # bytes that a sigmoid keeps, and the image that the convolution may keep
    assert few == pytest.approx(2**28 / (4 * each), abs=1)
    assert many == pytest.approx(2**28 / each, abs=1)


def first_pixels(x: torch.Tensor) -> torch.Tensor:
    return 10 * x[:, 0, 0, :3]


def test_problems_share_their_passes():
    net, (x, y) = Counting(6), one_of_each(6)
    data, calls = defense_set(net, x, y), []
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    search = Search(delta=0.5, max_norm=1.0, pi=0.99)  # two steps
    for problems in ([(None, 3)], [(None, t) for t in range(6)]):
        calls.clear()
        found = perturb(net, data, problems, False, search)
        assert len(calls) == 3  # before each step and after the last
        assert all(estimate.gradients == 5 * (estimate.steps + 1) for estimate in found)  # five images of other classes


def test_perturbations_that_are_too_large_together_are_searched_in_groups():
    """2^28 bytes hold sixteen times four tensors of 1024 × 1024 pixels; the seventeenth comes by itself."""
    x = torch.zeros(3, 1, 1024, 1024)
    x[range(3), 0, 0, range(3)] = 0.5
    net, search = Plain(first_pixels), Search(delta=1.0, max_norm=1.1)  # one step
    data = DefenseSet(x, torch.arange(3), 3, at_once=4)
    found = perturb(net, data, [(0, 1)] * 16 + [(0, 2)], False, search)
    assert [estimate.target for estimate in found] == [1] * 16 + [2]
    assert all(estimate.norm == pytest.approx(found[0].norm) for estimate in found)


def test_where_autograd_keeps_nothing_an_image_counts_four_times():
    """The stamped image, its gradient and what they were made of: 2^28 bytes hold 21 images of 512 × 512 in colour."""
    image = torch.zeros(1, 3, 512, 512)
    assert pass_size(nn.Identity(), image) == 2**28 // (4 * 4 * image.numel()) == 21


def test_the_door_counts_what_one_image_keeps():
    net = nn.Sequential(nn.Conv2d(3, 500, 3), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(500, 3))
    data = defense_set(net, torch.rand(3, 3, SIZE, SIZE), torch.arange(3))
    assert data.at_once == pytest.approx(2**28 / (4 * 500 * 30 * 30), rel=0.02)  # bytes that the sigmoid keeps


def test_a_gradient_through_several_passes_is_the_gradient():
    net, x = Counting(5), torch.rand(9, 3, SIZE, SIZE, requires_grad=True)
    expected, got = (torch.autograd.grad(scores(net, x, at_once).square().sum(), x)[0] for at_once in (9, 4))
    torch.testing.assert_close(got, expected)
    assert net.largest == 9


@pytest.mark.parametrize(("inversion", "classes", "copies", "looks"), [
    (replace(QUICK, rounds=6), 10, 10, 10 * 100 * 2.5),  # with the first mask and the last, and five at a tenth of them
    (replace(QUICK, rounds=6, bisections=0, check=True), 10, 10, 10 * 100 * 7),  # after every round and at the end
    # 40 masks on 32 images are more than one pass takes: they go in two groups, and no image goes through twice
    (replace(QUICK, rounds=2), 40, 2, 40 * 80 * 2.5),
])  # fmt: skip
def test_a_detector_foresees_what_it_looks_at(inversion, classes, copies, looks):
    net, (x, y) = Counting(classes), one_of_each(classes, copies)
    detector = NeuralCleanse(per_class=copies, inversion=inversion)
    found = detector(net, x, y)
    told = detector.passes(len(x), classes, classes)
    net.gradients -= 64 + 1  # the door's own look for a slope, and for what autograd keeps
    assert net.gradients == told.gradients
    assert net.looks == pytest.approx(told.looks, abs=10)
    assert told.looks == pytest.approx(looks)
    assert sum(estimate.gradients for estimate in found.estimates.values()) == net.gradients


def test_a_class_that_no_mask_reaches_is_looked_at_no_more_than_others():
    net, (x, y) = Counting(10), one_of_each(10, 10)
    net.head.weight.data[4] = net.head.weight.data.amin(0) - 1  # below every other class, whatever the image
    detector = NeuralCleanse(per_class=10, inversion=replace(QUICK, rounds=6))
    assert not detector(net, x, y, targets=[4]).estimates[4].converged
    assert net.looks == pytest.approx(detector.passes(100, 10, 1).looks, abs=10)


class Slow(nn.Module):
    """Half a second for the first pass, a fiftieth for every other."""

    wait = 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.wait)
        self.wait = 0.02
        return x.flatten(1)


def test_seconds_are_those_of_one_image_without_what_the_first_pass_sets_up():
    for seconds in seconds_per_image(Slow(), torch.rand(20, 1, 2, 2)):
        assert 0.02 / 20 <= seconds < 0.3 / 20  # fifteen times as much, for a machine that has other things to do


def test_the_cost_of_perturbations_grows_with_their_problems():
    red_a, red_p = (detector.passes(86, 43, 43).gradients for detector in (RedA(), RedP()))
    assert red_a == pytest.approx(43 * 84 * 30)
    assert red_p == pytest.approx(red_a)  # K - 1 problems, each with a (K - 1)th of the images


@pytest.mark.parametrize("references", [0, 1])
@pytest.mark.parametrize(("strength", "least", "most"), [(None, 0, 16), (2.0, 95, 100)])
def test_chosen_classes_keep_the_level_and_show_what_stands_out(strength, least, most, references):
    """More than 16 of 200 at a level of .05 have a probability below .03; measured: 1, with a reference 7."""
    rejected = 0
    for seed in range(200 if strength is None else 100):
        r = ratios((1, 100), 7.4 if references == 0 else 20.0, references, np.random.default_rng(seed))[0]
        r[0] = r[0] if strength is None else strength * r.max()
        chosen = choose(-r, 10, 30, seed)
        rejected += selected_p(r[chosen], 100, 10, draws=199, references=references) < 0.05
    assert least <= rejected <= most


def test_what_no_draw_comes_near_has_the_smallest_p_value_that_can_be_told():
    r = np.array([1.0, 1.1, 0.9, 1.2, 0.8, 1.05, 1.3, 1e6])
    assert selected_p(r, classes=20, contenders=2, draws=99) == 1 / 100


def test_the_smallest_are_chosen_and_others_drawn_from_the_rest():
    sizes = np.arange(100.0)[::-1]
    found = choose(sizes, 5, 10, seed=3)
    assert set(range(95, 100)) <= set(found)
    assert len(set(found)) == 15
    assert found != choose(sizes, 5, 10, seed=4)


def test_of_many_classes_the_planted_one_is_among_those_that_are_searched():
    net, (x, y) = Counting(60, easy=17), one_of_each(60)
    clean = CleanImages((255 * x).byte(), y, "")
    plan = scan_budget.made({"red-u": RedU(per_class=1)}, {"red-u": 1}, net, clean)
    assert plan.contenders == scan_budget.SOME // 4
    assert len(plan.targets) == scan_budget.SOME
    assert 17 in plan.targets
    assert "only 40 of 60 classes were searched" in plan.said
    found = plan.finished(RedU(per_class=1)(net, x, y, targets=plan.targets))
    assert found.suspect == 17
    assert found.contenders == plan.contenders
    assert any("is not seen" in warning for warning in found.warnings)
    assert found.calibrated_p_value < 0.05


def test_a_time_limit_says_how_many_classes_are_searched(monkeypatch):
    """With a second for a gradient: 480 for each class of the short search, then 59 images and 30 steps each."""
    monkeypatch.setattr(scan_budget, "seconds_per_image", lambda *_: (1.0, 0.0))
    net, (x, y) = Counting(60, easy=17), one_of_each(60)
    clean, detectors = CleanImages((255 * x).byte(), y, ""), {"red-u": RedU(per_class=1)}
    plan = scan_budget.made(detectors, {"red-u": 1}, net, clean, minutes=(60 * 480 + 20.5 * 59 * 30) / 60)
    assert (len(plan.targets), plan.contenders) == (20, 5)
    assert 17 in plan.targets
    assert scan_budget.made(detectors, {"red-u": 1}, net, clean, minutes=60 * 59 * 30 / 60).targets is None
    with pytest.raises(ValueError, match="--time-limit"):
        scan_budget.made(detectors, {"red-u": 1}, net, clean, minutes=(60 * 480 + 6 * 59 * 30) / 60)


def test_a_search_of_days_is_refused_with_its_reason():
    net, (x, y) = Counting(12), one_of_each(12)
    clean = CleanImages((255 * x).byte(), y, "")
    slow = {"red-u": RedU(per_class=1), "red-p": RedP(per_class=1, search=Search(delta=1e-10))}
    with pytest.raises(ValueError, match=r"fits into 24 hours, got one of about .* days, most of it for red-p"):
        scan_budget.made(slow, dict.fromkeys(slow, 1), net, clean)
    with pytest.raises(ValueError, match="--targets: expected classes in 0…11"):
        scan_budget.made(slow, dict.fromkeys(slow, 1), net, clean, targets=(0, 1, 12))
