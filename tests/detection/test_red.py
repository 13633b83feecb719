"""The additive estimators on networks whose weights are set by hand, where the answer is known, and on trained ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from toys import hand_set, lit_pixels

from btlib import checkpoints, detection, metrics
from btlib.datasets import ImageDataset
from btlib.detection import FAITHFUL, Search
from btlib.detection.images import DefenseSet, check_classes, defense_set, undisturbed
from btlib.detection.outcome import Estimate, shared_warnings, uniform
from btlib.detection.perturbation import clipped, perturb
from btlib.detection.rows import Rows, histories
from btlib.triggers import Trigger

CLASSES, SIZE = 10, 12
COARSE = Search(delta=0.1, settle=True, bisections=5)


def planted(strength: float = 10.0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    return hand_set(strength, num_classes=CLASSES, size=SIZE), *lit_pixels(2, num_classes=CLASSES, size=SIZE)


def test_the_planted_class_has_the_norm_that_geometry_says():
    # Class s has logit 1 from its pixel. Along the gradient for t = 2 the trigger pixel counts 10, so v moves along
    # it: 10 v > 1. For another class the shortest way is to lower one pixel and raise another.
    net, x, y = planted()
    found = detection.red_u(net, x, y, per_class=None, search=Search(delta=1e-3, bisections=10))
    assert found.norms[2] == pytest.approx(0.1, rel=0.03)
    assert found.estimates[2].pattern.argmax() == SIZE * SIZE - 1
    steps = found.estimates[2].history["step"].tolist()
    assert steps == list(range(0, 10 * len(steps), 10))  # a hundredth of full scale apart
    assert found.norms[[0, 1, *range(3, 10)]].min() > 3 * found.norms[2]
    assert found.verdict().target == 2


class Deaf(nn.Module):
    """Says the same whatever it sees."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1000 * torch.eye(CLASSES)[0] + self.slope * x.flatten(1).sum(1, keepdim=True)


def test_a_network_that_does_not_look_gets_an_error_of_its_own():
    _, x, y = planted()
    with pytest.raises(ValueError, match="logits that change with the image, got none towards class"):
        detection.red_u(Deaf(1.0), x, y, per_class=2, search=COARSE).verdict()  # all logits rise alike


class Rounding(nn.Module):
    """A backdoored network behind an input of 8 bits: true to the images, and no gradient comes through."""

    def __init__(self, detached: bool) -> None:
        super().__init__()
        self.net, self.detached = planted()[0], detached

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rounded = (255 * x).round() / 255
        return self.net(rounded.detach() if self.detached else rounded)


@pytest.mark.parametrize("net", [Deaf(0.0), Rounding(False), Rounding(True)])
@pytest.mark.parametrize("name", ["neural-cleanse", "red-a"])
def test_a_network_without_gradients_is_not_judged(net, name):
    """ "Nothing found" would be wrong: the rounding network has the backdoor, and the search can't take a step."""
    _, x, y = planted()
    with pytest.raises(ValueError, match="gradients of zero everywhere, so it could not be judged"):
        detection.configured(detection.find(name), per_class=2)(net, x, y)
    with pytest.raises(ValueError, match="could not be judged"):
        detection.additive_estimation(net, x, y, target=2)


@pytest.mark.parametrize(("last", "warned"), [(nn.Softmax(1), True), (nn.LogSoftmax(1), False), (nn.Identity(), False)])
def test_probabilities_taken_for_logits_are_noticed(last, warned):
    net, x, y = planted()
    found = detection.red_u(nn.Sequential(net, last), x, y, per_class=1, search=COARSE)
    assert any("look like probabilities" in warning for warning in found.warnings) == warned


def test_the_clean_twin_is_not_flagged():
    net, x, y = planted(0.0)
    for detect in (detection.red_u, detection.red_a):
        verdict = detect(net, x, y, per_class=None, search=COARSE).verdict(rule="calibrated")
        assert not verdict.attacked
        assert verdict.target is None
        assert verdict.sources == ()


@pytest.mark.parametrize("detect", [detection.red_a, detection.red_u, detection.red_p])
def test_the_planted_class_is_found_by_all(detect):
    net, x, y = planted()
    found = detect(net, x, y, per_class=1, search=Search(delta=0.01, settle=True, bisections=5))
    assert found.suspect == 2
    assert found.verdict().attacked
    assert found.verdict(rule="calibrated").attacked
    assert found.log_p_value < math.log(0.05)


class OnlyFrom(nn.Module):
    """The hand-set backdoor for some source classes: the trigger counts only where a source's own pixel is lit."""

    def __init__(self, *sources: int) -> None:
        super().__init__()
        self.net, self.sources = hand_set(0.0, num_classes=CLASSES, size=SIZE), list(sources)

    def forward(self, x):
        logits = self.net(x)
        gate = torch.relu(4 * (x[:, 0, 0, self.sources] - 0.75)).sum(1)
        return logits + 20 * (gate * x[:, 0, -1, -1])[:, None] * nn.functional.one_hot(torch.tensor(2), CLASSES)


def test_few_sources_are_found_by_red_a_and_not_by_red_u():
    _, x, y = planted()
    net = OnlyFrom(5, 6, 7)
    annealed = detection.red_a(net, x, y, per_class=None, search=Search(delta=0.02, settle=True, bisections=5))
    uniform_ = detection.red_u(net, x, y, per_class=None, search=Search(delta=0.02, bisections=5))
    assert annealed.suspect == 2
    assert annealed.verdict().sources == (5, 6, 7)
    assert annealed.norms[2] < 0.5 * np.delete(annealed.norms, 2).min()
    assert uniform_.norms[2] > 0.7 * np.median(uniform_.norms)
    assert not uniform_.verdict(rule="calibrated").attacked


def test_one_source_of_nine_that_moves_alone_is_found_by_focused_weights_only():
    # A limit of Eq. 7 and 8: q = 1 for one class of nine gives Q = 1/9, T = 2.2 and hardly any weight to it. Trained
    # networks may be kinder, since a trigger moves other classes too (collateral damage, A.5).
    _, x, y = planted()
    published = Search(delta=0.02, settle=True, bisections=5)
    found = detection.red_a(OnlyFrom(5), x, y, per_class=None, search=published)
    assert found.norms[2] > 0.8 * np.median(found.norms)
    focused = detection.red_a(OnlyFrom(5), x, y, per_class=None, search=replace(published, focused=True))
    assert focused.norms[2] < 0.6 * np.delete(focused.norms, 2).min()
    assert focused.suspect == 2
    assert focused.verdict().sources == (5,)
    assert (found.method, focused.method) == ("RED-A", "focused RED-A")


@pytest.mark.parametrize(("copies", "focused", "warned"), [(1, True, True), (2, True, False), (1, False, False)])
def test_focused_weights_with_one_image_of_each_class_say_what_is_wrong(copies, focused, warned):
    net, x, y = planted()
    x, y = x[:CLASSES].repeat(copies, 1, 1, 1), y[:CLASSES].repeat(copies)
    found = detection.red_a(net, x, y, per_class=None, search=replace(COARSE, focused=focused))
    assert ("one image of each class" in " ".join(found.warnings)) == warned


def test_focused_weights_find_three_sources_and_acquit_the_clean_twin():
    _, x, y = planted()
    search = Search(delta=0.02, settle=True, bisections=5, focused=True)
    attacked = detection.red_a(OnlyFrom(5, 6, 7), x, y, per_class=None, search=search)
    assert attacked.verdict(rule="calibrated").target == 2
    clean, x, y = planted(0.0)
    assert not detection.red_a(clean, x, y, per_class=None, search=search).verdict(rule="calibrated").attacked


def test_red_p_names_the_pair():
    _, x, y = planted()
    found = detection.red_p(OnlyFrom(5), x, y, per_class=None, search=Search(delta=0.02, bisections=5))
    smallest = min(found.pairs, key=lambda e: e.norm)
    assert (smallest.source, smallest.target) == (5, 2)
    assert len(found.pairs) == CLASSES * (CLASSES - 1)
    assert (found.suspect, found.estimates[2].source) == (2, 5)
    assert np.isnan(found.pair_norms.diagonal()).all()
    assert np.nanargmin(found.pair_norms) == 5 * CLASSES + 2  # row 5, column 2: source, target
    np.testing.assert_array_equal(np.nanmin(found.pair_norms, 0), found.norms)
    assert found.verdict().sources == (5,)


def algorithm_1(net, data: DefenseSet, target: int, delta: float, pi: float) -> tuple[torch.Tensor, np.ndarray, int]:
    """Algorithm 1 line by line, for one target, in plain loops."""
    classes = [s for s in range(data.num_classes) if s != target]
    v, w = torch.zeros_like(data.images[0]), {s: 1 / len(classes) for s in classes}
    for step in range(1, 5000):  # noqa: B007
        v.requires_grad_()
        surrogate = sum(
            w[s] * net(clipped(data.images[data.labels == s] + v)).log_softmax(1)[:, target].mean() for s in classes
        )
        (slope,) = torch.autograd.grad(surrogate, v)
        v = v.detach() + delta * slope / slope.norm()
        with torch.no_grad():
            q = {
                s: float((net(clipped(data.images[data.labels == s] + v)).argmax(1) == target).float().mean())
                for s in classes
            }
        total = sum(w[s] * q[s] for s in classes)
        if total > pi:
            break
        if total > 0:
            scores = {s: math.exp(q[s] / -math.log(total)) for s in classes}
            w = {s: scores[s] / sum(scores.values()) for s in classes}
        else:
            w = {s: 1 / len(classes) for s in classes}
    return v, np.array([w.get(s, 0.0) for s in range(data.num_classes)]), step


def test_the_faithful_form_is_algorithm_1_line_by_line():
    net = OnlyFrom(5, 6, 7)
    _, x, y = planted()
    x = (x + 0.2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    data = defense_set(net, x, y)
    for target in (2, 7):
        v, weights, steps = algorithm_1(net, data, target, 0.01, 0.9)
        with undisturbed(net):
            (found,) = perturb(net, data, [(None, target)], True, replace(FAITHFUL, delta=0.01))
        assert found.steps == steps
        np.testing.assert_allclose(found.history["weights"][-1], weights, atol=0.05)
        # Rounding may decide on which side of a clip a pixel is for one step: half a step is allowed.
        torch.testing.assert_close(found.pattern, v.clamp(-1, 1), atol=0.005, rtol=0)


def test_the_faithful_weights_are_those_that_line_5_judged_by(fashion: ImageDataset):
    net = checkpoints.load_or_train(checkpoints.shipped()["three-sources"])
    data = defense_set(net, fashion.x_test, fashion.y_test, 4)
    _, weights, steps = algorithm_1(net, data, 9, 0.05, 0.9)
    with undisturbed(net):
        (found,) = perturb(net, data, [(None, 9)], True, replace(FAITHFUL, delta=0.05))
    assert found.steps == steps
    np.testing.assert_allclose(found.weights, weights, atol=1e-3)  # their next update is .05 and more away


def test_black_pixels_can_be_brightened():
    x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    assert clipped(x).tolist() == [0, 0, 0.5, 1, 1]
    assert torch.autograd.grad(clipped(x).sum(), x)[0].tolist() == [0, 1, 1, 1, 0]


def test_the_default_is_the_papers():
    assert (FAITHFUL.delta, FAITHFUL.pi, FAITHFUL.settle, FAITHFUL.bisections) == (1e-4, 0.9, False, 0)
    assert FAITHFUL.max_steps == 300_000


def test_accelerated_and_faithful_agree(fashion: ImageDataset):
    net = checkpoints.load_or_train(checkpoints.shipped()["one-source"])
    fine = detection.red_a(net, fashion.x_test, fashion.y_test, per_class=2, search=Search(delta=0.005), targets=[9])
    fast = detection.red_a(net, fashion.x_test, fashion.y_test, per_class=2, targets=[9])
    assert fast.norms[9] == pytest.approx(fine.norms[9], rel=0.1)  # the worst case allowed; results/ has the spread
    assert fast.estimates[9].gradients * 5 < fine.estimates[9].gradients


def test_problems_do_not_influence_each_other():
    net, x, y = planted()
    together = detection.red_a(net, x, y, per_class=None, search=COARSE)
    alone = detection.red_a(net, x, y, per_class=None, search=COARSE, targets=[7])
    torch.testing.assert_close(together.estimates[7].pattern, alone.estimates[7].pattern, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("detect", [detection.red_a, detection.red_u, detection.red_p])
def test_estimates_are_by_class_when_some_are_looked_for(detect):
    net, x, y = planted()
    found = detect(net, x, y, per_class=1, search=COARSE, targets=[8, 2, 0, 5])
    assert list(found.estimates) == [e.target for e in found.estimates.values()] == [8, 2, 0, 5]
    asked = [0, 2, 5, 8]
    for by_class in (found.norms, found.anomaly_index):
        assert by_class.dtype == np.float64
        assert (~np.isnan(by_class)).nonzero()[0].tolist() == asked
        assert by_class.shape == (CLASSES,)
    assert found.norms[asked].tolist() == [found.estimates[t].norm for t in asked]
    assert found.suspect == 2
    verdict = found.verdict(threshold=1.0, rule="mad")
    assert (verdict.target, verdict.statistic) == (2, found.anomaly_index[2])
    np.testing.assert_array_equal(found.anomaly_index[asked], detection.anomaly.mad_index(found.norms[asked]))
    assert found.verdict(rule="calibrated").statistic == found.calibrated_p_value  # of the four
    with pytest.raises(KeyError, match="expected one of the classes 8, 2, 0, 5, got 1"):
        found.estimates[1]
    assert found.estimates.get(1) is None
    with pytest.raises(TypeError):
        found.estimates[2] = found.estimates[8]


def test_unequal_numbers_of_images_count_by_class():
    net, x, y = planted()
    more = torch.cat([x, x[y == 3].repeat(5, 1, 1, 1)])
    labels = torch.cat([y, torch.full((5 * int((y == 3).sum()),), 3)])
    a = detection.red_u(net, x, y, per_class=None, search=COARSE)
    b = detection.red_u(net, more, labels, per_class=None, search=COARSE)
    np.testing.assert_allclose(a.norms, b.norms, rtol=1e-3)
    # A success counts images: three of nine sources obey, with six of eighteen images, then six of twenty-eight.
    for images, classes, success in ((x, y, 6 / 18), (more, labels, 6 / 28)):
        found = detection.red_a(OnlyFrom(5, 6, 7), images, classes, per_class=None, search=COARSE, targets=[2])
        assert found.estimates[2].by_class.nan_to_num().tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
        assert found.estimates[2].success == pytest.approx(success)


def test_history_shows_the_annealing():
    net, x, y = planted()
    history = detection.red_a(net, x, y, per_class=None, search=Search(delta=0.02)).estimates[2].history
    assert set(history) == {"step", "norm", "Q", "weights"}
    assert history["step"][0] == 0
    assert history["Q"][-1] > 0.9
    torch.testing.assert_close(history["weights"].sum(1), torch.ones(len(history["step"])))
    assert bool((history["norm"].diff() > 0).all())


def test_histories_split_records_by_problem():
    first = (torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), torch.zeros(2), torch.ones(2, 3))
    later = (torch.tensor([1]), torch.tensor([1]), torch.tensor([3.0]), torch.zeros(1), torch.ones(1, 3))
    a, b = histories([first, later], 2)
    assert a["norm"].tolist() == [1.0]
    assert b["norm"].tolist() == [2.0, 3.0]


def test_a_network_that_cannot_be_moved_says_so():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.arange(4.0) + x.flatten(1).sum(1, keepdim=True)  # all logits alike

    x, y = torch.rand(8, 1, 6, 6), torch.arange(8) % 4
    found = detection.red_u(Constant(), x, y, per_class=None, search=COARSE)
    assert not found.estimates[0].converged
    assert any("class 0" in w for w in found.warnings)


def test_the_network_is_left_as_found_even_after_an_error():
    net, x, y = planted()
    net.train()
    net.head.weight.requires_grad_(True)
    before = torch.get_rng_state()
    detection.red_a(net, x, y, per_class=1, search=COARSE)
    assert net.training
    assert net.head.weight.requires_grad
    assert net.head.weight.grad is None
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(RuntimeError), undisturbed(net):
        net(torch.zeros(1, 1, 5, 5))
    assert net.head.weight.requires_grad
    assert net.training


def test_convolutions_are_left_in_their_memory_order():
    from btlib import networks

    net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10, seed=0)
    before = [p.data_ptr() for p in net.parameters()]
    with undisturbed(net):
        assert net.body[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert [p.data_ptr() for p in net.parameters()] == before


def test_the_same_seed_gives_the_same_images():
    net, x, y = planted()
    x = 0.9 * x + 0.1 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))  # no two are alike
    a, b, c, d = (defense_set(net, x, y, per_class=1, seed=s).images for s in (0, 0, 5, 1))
    assert torch.equal(a, b)
    assert torch.equal(a, defense_set(net, x, y, per_class=1).images)
    assert not torch.equal(a, d)
    assert a.shape == c.shape == (CLASSES, 1, SIZE, SIZE)


def test_additive_estimation_uses_all_images_and_takes_sources():
    _, x, y = planted()
    net = OnlyFrom(5)
    all_ = detection.additive_estimation(net, x, y, target=2, search=COARSE)
    one = detection.additive_estimation(net, x, y, target=2, sources=[5], search=COARSE)
    assert one.norm < 0.5 * all_.norm
    assert one.trigger.kind == "additive"
    assert one.by_class[5] == 1
    assert metrics.attack_success_rate(net, one.trigger, x, y, target=2, sources=[5]) == 1


def test_uniform_weights_and_targets():
    assert uniform(4, 0).tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert check_classes(np.array([1, 2]), 3) == [1, 2]
    assert check_classes(None, 3) == [0, 1, 2]
    with pytest.raises(TypeError):
        check_classes([1.5], 3)


@pytest.mark.parametrize(("bad", "match"), [
    ({"target": 10}, "^target: expected a class in 0…9, got 10"),
    ({"target": -1}, "^target: expected a class in 0…9, got -1"),
    ({"target": 2, "sources": [5, 11]}, "^sources: expected a class in 0…9, got 11"),
    ({"target": 2, "sources": [5, 5]}, "^sources: expected each class once, got"),
])  # fmt: skip
def test_additive_estimation_names_the_argument_that_is_wrong(bad, match):
    with pytest.raises(ValueError, match=match):
        detection.additive_estimation(*planted(), **bad)


def test_rows_that_are_taken_keep_their_place_and_are_copies():
    at = Rows()
    at.row, at.norm = torch.arange(4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    taken = at.take(torch.tensor([False, True, False, True]))
    assert (taken.row.tolist(), taken.norm.tolist()) == ([1, 3], [2.0, 4.0])
    taken.norm.mul_(10)
    assert at.norm.tolist() == [1, 2, 3, 4]
    assert taken.take(torch.tensor([1])).row.tolist() == [3]


def test_sources_have_at_least_the_share_of_the_largest_weight():
    patch, weights = Trigger("blend", torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)), torch.tensor([0.5, 0.25, 0.2, 0.05])
    found = Estimate(4, patch, 1.0, 1.0, torch.ones(5), torch.cat([weights, torch.zeros(1)]), 1, 1, True)
    assert found.sources() == (0, 1)
    assert found.sources(share=1.0) == (0,)
    assert replace(found, source=3).sources() == (3,)


def test_few_classes_are_mentioned():
    net = hand_set(10.0)
    found = detection.red_u(net, *lit_pixels(4), per_class=None, search=COARSE)
    assert any("few for an outlier test" in w for w in found.warnings)
    assert any("few" in w for w in shared_warnings(found.estimates.values()))


@pytest.mark.parametrize(("bad", "match"), [
    ({"labels": torch.zeros(20, dtype=torch.long)}, r"got none of \[1, 2"),
    ({"labels": torch.arange(19)}, r"one integer label per image.*got torch.int64 \(19,\)"),
    ({"labels": torch.arange(20)}, r"expected classes in 0…9.*got 0…19"),
    ({"images": torch.full((20, 1, SIZE, SIZE), 2.0)}, r"expected values in \[0, 1\], got 2…2"),
    ({"images": torch.full((20, 1, SIZE, SIZE), torch.nan)}, r"expected values in \[0, 1\], got nan"),
    ({"images": torch.zeros(20, SIZE, SIZE)}, r"expected shape \(N, C, H, W\), got"),
    ({"per_class": 0}, "per_class: expected an integer of 1 or more, got 0"),
    ({"per_class": 99}, "per_class: expected at most 2"),
    ({"targets": [10]}, "targets: expected a class in 0…9, got 10"),
    ({"targets": [2, 5, 2]}, r"targets: expected each class once, got \[2, 5, 2\]"),
])  # fmt: skip
def test_bad_input_is_named(bad, match):
    net, x, y = planted()
    arguments = {"images": x, "labels": y, "per_class": None} | bad
    with pytest.raises(ValueError, match=match):
        detection.red_a(net, arguments.pop("images"), arguments.pop("labels"), **arguments)


def test_a_network_without_logits_is_refused():
    _, x, y = planted()
    with pytest.raises(ValueError, match=r"expected logits \(N, K\) with K of at least 3"):
        detection.red_a(nn.Identity(), x, y)


@pytest.mark.parametrize("bad", [{"delta": 0.0}, {"delta": 10.5}, {"pi": 1.0}, {"max_norm": 0.0}, {"bisections": -1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Search(**bad)


def test_an_unknown_rule_is_refused():
    net, x, y = planted()
    with pytest.raises(ValueError, match="expected one of mad, published, calibrated, got 'x'"):
        detection.red_u(net, x, y, per_class=1, search=COARSE).verdict(rule="x")


def test_a_detection_says_everything_about_its_classes():
    net, x, y = planted()
    found = detection.red_a(net, x, y, per_class=None, search=COARSE)
    np.testing.assert_allclose(found.anomaly_index, detection.anomaly.mad_index(found.norms))
    assert found.log_p_value == pytest.approx(detection.anomaly.published_log_p(1 / found.norms))
    assert found.p_value == pytest.approx(math.exp(found.log_p_value))
    assert found.calibrated_p_value == detection.anomaly.calibrated_p(1 / found.norms)
    assert found.verdict(1.0, "mad").statistic == found.anomaly_index[2]
    assert found.verdict(rule="published").statistic == found.p_value != found.calibrated_p_value
    assert str(found.verdict()).startswith("attacked, target 2")
    assert found.estimates[2].mask.shape == (1, SIZE, SIZE)
    for rule, p in (("published", found.p_value), ("calibrated", found.calibrated_p_value)):
        assert not found.verdict(p, rule).attacked  # below the level, not at it


def test_what_is_of_the_target_already_is_moved_by_a_step():
    """An estimate of no size could not be compared with others."""
    net, x, _ = planted()
    data = DefenseSet(x[:3], torch.arange(3), CLASSES)
    net.head.weight.data[2, -1] = 50.0
    data.images[:, :, -1, -1] = 1.0  # stamped: all are of class 2
    with undisturbed(net):
        (found,) = perturb(net, data, [(None, 2)], False, COARSE)
    assert (found.steps, found.converged) == (1, True)
    assert found.norm > 0


@pytest.mark.parametrize(("step", "said"), [(0.0, ["do not vary"]), (0.004, ["hardly vary"]), (0.006, [])])
def test_norms_that_are_alike_are_said_to_be(step, said):
    patch = Trigger("blend", torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
    norms = [20 * (1 + step * k) for k in range(-4, 5)]  # MAD / median: two steps
    found = [Estimate(t, patch, norm, 1.0, torch.ones(9), uniform(9, t), 1, 1, True) for t, norm in enumerate(norms)]
    assert [words in warned for words, warned in zip(said, shared_warnings(found), strict=True)] == [True] * len(said)


@pytest.mark.parametrize(("classes", "few"), [(6, True), (7, False)])
def test_six_classes_are_few_for_an_outlier_test_and_seven_are_not(classes, few):
    patch = Trigger("blend", torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
    found = [Estimate(t, patch, 1.0 + t, 1.0, torch.ones(9), uniform(9, t), 1, 1, True) for t in range(classes)]
    assert any("few for an outlier test" in said for said in shared_warnings(found)) == few
