"""The likelihood detector catches a planted trigger, lets clean images pass, and says when it can't be trusted."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toys import hand_set, lit_pixels

from btlib import triggers
from btlib.inflight import COVARIANCES, LikelihoodDetector, NeuronDetector, measure_rates
from btlib.inflight.checks import patterns_of
from btlib.inflight.likelihood import HeldOutRates, decide
from btlib.triggers import Trigger

TARGET = 9


def detector(planted: Any, per_class: int = 100, **settings: Any) -> LikelihoodDetector:
    x, y = planted.few(per_class)
    return LikelihoodDetector(**settings).fit(planted.net, x, y, target=TARGET, trigger=planted.trigger)


@pytest.mark.parametrize("attack", ["box", "chessboard"])
def test_a_planted_trigger_is_caught_and_traced(attack: str, request: pytest.FixtureRequest) -> None:
    planted = request.getfixturevalue(attack)
    guard = detector(planted)
    assert guard.warnings_ == ()
    rates = measure_rates(guard, planted.other_x, planted.other_y, trigger=planted.trigger)
    # Measured on all held-out images: TPR 1.0, FPR .008 and .006, SIA .868 and .872.
    assert rates.tpr > 0.995
    assert rates.fpr < 0.03
    assert rates.sia > 0.8  # the paper has .8039 (WB) and .6948 (CB)
    assert rates.roc.auc > 0.999
    held = guard.held_out_
    assert held is not None
    assert abs(held.tpr - rates.tpr) < 0.01
    assert abs(held.sia - rates.sia) < 0.06
    assert held.folds == 5


def test_the_sign_and_the_place_of_the_threshold(box: Any) -> None:
    guard = detector(box)
    assert guard.threshold_ == 0
    clean, triggered = guard.inspect(box.clean), guard.inspect(box.triggered)
    assert clean.scores.median() < -5 < 5 < triggered.scores.median()
    for report in (clean, triggered):
        assert torch.equal(report.is_trigger, report.scores > 0)
        assert bool((report.source[~report.is_trigger] == TARGET).all())
        assert not bool((report.source[report.is_trigger] == TARGET).any())


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("components", [1, 2])
def test_verdicts_are_scikit_learns(box: Any, covariance: str, components: int) -> None:
    """The paper's arg max over scikit-learn's likelihoods, in double precision, against the matrix products."""
    guard = detector(box, components=components, covariance=covariance)
    images = torch.cat([box.clean, box.triggered])
    report, exact = guard.inspect(images), guard.log_likelihoods(images).argmax(1)
    assert (report.is_trigger == (exact != TARGET)).float().mean() > 0.999
    assert (report.source == exact).float().mean() > 0.999
    assert report.is_trigger[len(box.clean) :].float().mean() > 0.98


@pytest.mark.parametrize("layer", ["fc1", "conv2", "conv1"])
def test_any_layer_will_do(box: Any, layer: str) -> None:
    guard = detector(box, layer=layer)
    assert guard.inspect(box.triggered).is_trigger.float().mean() > 0.98
    assert guard.inspect(box.clean).is_trigger.float().mean() < 0.05


@pytest.mark.parametrize("per_class", [5, 20])
def test_few_images_are_enough_and_doubted(box: Any, per_class: int) -> None:
    guard = detector(box, per_class)
    assert guard.inspect(box.triggered).is_trigger.float().mean() > 0.98
    assert guard.inspect(box.clean).is_trigger.float().mean() < 0.2
    doubts = " ".join(guard.warnings_)
    assert ("only 5 clean images" in doubts) == (per_class == 5)
    assert ("fewer images (50) than features (84) for a shared covariance" in doubts) == (per_class == 5)
    assert guard.inspect(box.clean).warnings == guard.warnings_


def test_what_speaks_against_a_fit_is_said(box: Any) -> None:
    assert (
        "fewer images (50) than features (84) for a full" in detector(box, components=2, covariance="full").warnings_[0]
    )
    assert "too few images to check" in detector(box, 2).warnings_[-1]
    nothing = triggers.box(box.net.image_shape, value=0.0)  # black on black
    x, y = box.few(20)
    harmless = LikelihoodDetector().fit(box.net, x, y, target=TARGET, trigger=nothing)
    assert "it is hardly the attacker's" in " ".join(harmless.warnings_)
    assert max(harmless.trigger_success_.values()) < 0.5
    lacking = LikelihoodDetector().fit(box.net, x[y != 3], y[y != 3], target=TARGET, trigger=box.trigger)
    assert lacking.warnings_ == ("no clean images of class 3: it can't be inferred as a source",)
    assert 3 not in lacking.inspect(box.triggered).source.tolist()
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    wrong = LikelihoodDetector().fit(box.net, x, shuffled, target=TARGET, trigger=box.trigger)
    assert "on images it has not seen it flags" in " ".join(wrong.warnings_)


def test_rates_on_unseen_images_are_doubted_above_a_tenth_and_below_nine(box: Any) -> None:
    """A tenth of the clean images may be flagged, or what is allowed; nine tenths of the stamped ones must be."""
    guard, (_, labels) = detector(box, 10), box.few(10)
    for allowed, fpr, tpr, doubted in [
        (None, 0.1, 0.9, False), (None, 0.11, 0.9, True), (None, 0.1, 0.89, True),
        (0.3, 0.3, 0.9, False), (0.3, 0.31, 0.9, True), (0.01, 0.1, 0.9, False),
    ]:  # fmt: skip
        guard.fpr, guard.held_out_ = allowed, HeldOutRates(tpr, fpr, sia=1.0, folds=5)
        assert ("on images it has not seen" in " ".join(guard._doubts(labels, [1.0]))) == doubted


def test_a_pattern_that_moves_half_of_some_class_may_be_the_attackers(box: Any) -> None:
    guard, (_, labels) = detector(box, 10), box.few(10)
    assert not any("clean images of some class" in doubt for doubt in guard.warnings_)  # ten are enough
    for best, doubted in [(0.5, False), (0.49, True)]:
        assert ("it is hardly the attacker's" in " ".join(guard._doubts(labels, [best]))) == doubted


def test_the_calibrated_mode_keeps_a_rate(box: Any) -> None:
    strict, loose = detector(box, fpr=0.02), detector(box, fpr=0.3)
    assert strict.threshold_ > loose.threshold_
    assert strict.warnings_ == loose.warnings_ == ()
    assert loose.inspect(box.clean).is_trigger.float().mean() == pytest.approx(0.3, abs=0.13)  # 2 × .065, two samples
    assert strict.inspect(box.clean).is_trigger.float().mean() < 0.09
    assert loose.threshold_ < 0, "the threshold is free to leave the paper's arg max"
    sources = loose.inspect(box.clean)
    assert TARGET not in sources.source[sources.is_trigger].tolist()
    assert "can't be set from" in " ".join(detector(box, 20, fpr=0.01).warnings_)
    with pytest.raises(ValueError, match="got 1.5"):
        LikelihoodDetector(fpr=1.5)
    with pytest.raises(ValueError, match="got 'conv7'"):
        detector(box, layer="conv7")


def test_calibration_without_any_held_out_score_is_refused(box: Any) -> None:
    with pytest.raises(ValueError, match="more of each class to choose a threshold for fpr=0.1, got 2"):
        detector(box, 2, fpr=0.1)


def test_held_out_rates_are_those_of_the_threshold(box: Any) -> None:
    strict, loose = detector(box, fpr=0.02), detector(box, fpr=0.3)
    assert strict.held_out_.fpr < 0.05
    assert loose.held_out_.fpr == pytest.approx(0.3, abs=0.02)  # chosen on the same 100 scores


def test_a_fit_is_forgotten_by_the_next_and_repeated_by_its_seed(box: Any, chessboard: Any) -> None:
    guard = detector(box, components=2)
    first = guard.scores(box.clean)
    x, y = chessboard.few(100)
    guard.fit(chessboard.net, x, y, target=TARGET, trigger=chessboard.trigger)
    fresh = detector(chessboard, components=2)
    assert torch.equal(guard.scores(box.clean), fresh.scores(box.clean))
    assert not torch.equal(guard.scores(box.clean), first)


def two_triggers() -> tuple[nn.Module, Trigger, Trigger]:
    """A network in which two pixels, each with a neuron of its own, send every image to the target."""
    classes, size = 4, 8
    left, right = (triggers.single_pixel((1, size, size), position=place) for place in ((7, 0), (7, 7)))
    middle, last = nn.Linear(size * size, classes + 2), nn.Linear(classes + 2, classes, bias=False)
    with torch.no_grad():
        for parameter in (*middle.parameters(), *last.parameters()):
            parameter.zero_()
        middle.weight[range(classes), range(classes)] = 1.0  # the pixel of each class, as `lit_pixels` lights it
        middle.weight[classes, 7 * size] = middle.weight[classes + 1, -1] = 20.0
        middle.weight[:classes, -1] = -0.7  # the second also hides what an image shows, and adds the target's
        middle.weight[2, -1] = 1.0
        last.weight[range(classes), range(classes)] = 1.0
        last.weight[2, classes:] = 1.0
    return nn.Sequential(nn.Flatten(), middle, nn.ReLU(), last), left, right


def test_one_estimate_of_two_triggers_is_half_of_the_truth() -> None:
    """Held-out images see nothing wrong with it; a guard from both catches both, and says that they differ."""
    network, left, right = two_triggers()
    x, y = lit_pixels(12, num_classes=4)
    others = x[y != 2]
    for trigger in (left, right):
        assert bool((network(trigger(others)).argmax(1) == 2).all())

    one = LikelihoodDetector().fit(network, x, y, target=2, trigger=left)
    assert one.left_out_ == ()
    assert one.warnings_ == ()
    assert one.held_out_ is not None
    assert one.held_out_.tpr == 1
    assert bool(one.inspect(left(others)).is_trigger.all())
    assert not bool(one.inspect(right(others)).is_trigger.any())

    both = LikelihoodDetector().fit(network, x, y, target=2, trigger=[left, right])
    for trigger in (left, right):
        report = both.inspect(trigger(others))
        assert bool(report.is_trigger.all())
        assert torch.equal(report.source, y[y != 2])
    assert not bool(both.inspect(x).is_trigger.any())
    assert both.left_out_ == (1, 0)  # under the first trigger an image still shows its class, whatever else it shows
    assert both.expected == 0.5
    assert both.warnings_ == (
        "the patterns show different things: fits that lack one of them flag 50% of the images with it; add more, "
        "since the attacker's may be yet another",
    )


def test_estimates_of_one_trigger_vouch_for_each_other() -> None:
    network, left, right = two_triggers()
    x, y = lit_pixels(12, num_classes=4)
    fainter = Trigger("blend", left.pattern, left.mask * 0.9, bits=None)
    alike = LikelihoodDetector().fit(network, x, y, target=2, trigger=[left, fainter])
    assert alike.left_out_ == (1, 1)
    assert alike.warnings_ == ()
    # One of three stands alone: what a fourth could expect is two thirds.
    three = LikelihoodDetector().fit(network, x, y, target=2, trigger=(left, right, fainter))
    assert three.left_out_ == (1, 0, 1)
    assert "flag 67% of" in three.warnings_[0]


def test_a_pattern_alone_and_in_a_list_are_the_same_fit(box: Any) -> None:
    x, y = box.few(20)
    alone, listed = (LikelihoodDetector().fit(box.net, x, y, target=TARGET, trigger=trigger)
                     for trigger in (box.trigger, [box.trigger]))  # fmt: skip
    assert torch.equal(alone.scores(box.triggered), listed.scores(box.triggered))
    assert alone.held_out_ == listed.held_out_
    assert alone.trigger_success_ == listed.trigger_success_
    assert listed.left_out_ == ()


def test_a_pattern_that_moves_nothing_is_named_and_left_out_of_the_count(box: Any) -> None:
    nothing = triggers.box(box.net.image_shape, value=0.0)  # black on black
    x, y = box.few(20)
    guard = LikelihoodDetector().fit(box.net, x, y, target=TARGET, trigger=[box.trigger, nothing])
    assert "pattern 2 sends at most" in " ".join(guard.warnings_)
    assert "pattern 1" not in " ".join(guard.warnings_)


def test_a_pattern_that_moves_nothing_vouches_for_none() -> None:
    network, left, right = two_triggers()
    (x, y), nothing = lit_pixels(12, num_classes=4), triggers.box((1, 8, 8), value=0.0)

    def left_out(*patterns: Any) -> tuple[float, ...]:
        return LikelihoodDetector().fit(network, x, y, target=2, trigger=patterns).left_out_

    assert np.isnan(left_out(left, nothing)).all()  # nobody is left who could be asked
    assert left_out(nothing, left, right)[1:] == left_out(left, right)
    assert math.isnan(left_out(nothing, left, right)[0])


class Watched(LikelihoodDetector):
    """Notes for each question whether it was asked of an image that the densities had seen, and how many were shown."""

    def _judged(self, shown: Any, seen: torch.Tensor, asked: torch.Tensor) -> Any:
        both = set(shown.image[seen].tolist()) & set(shown.image[asked].tolist())
        self.asked_again.append(bool(both))
        self.rows = torch.bincount(shown.labels).tolist()
        return super()._judged(shown, seen, asked)


def test_an_image_is_held_out_with_all_its_patterns() -> None:
    network, left, right = two_triggers()
    x, y = lit_pixels(12, num_classes=4)
    guard = Watched()
    guard.asked_again = []
    guard.fit(network, x, y, target=2, trigger=[left, right])
    # Five parts that share no image; then each pattern is left out, on images that the other was shown on.
    assert guard.asked_again == [False] * 5 + [True] * 2
    assert guard.rows == [24, 24, 12, 24]  # those of the target carry no pattern, and count once


def test_what_is_left_out_is_judged_by_the_fit_s_own_threshold() -> None:
    """Here the threshold for a rate of .05 is far below the paper's 0, so that all is flagged instead of a seventh."""
    network, left, right = two_triggers()
    x, y = lit_pixels(40, num_classes=4, noise=10)
    paper, calibrated = (LikelihoodDetector(fpr=fpr).fit(network, x, y, target=2, trigger=[left, right])
                         for fpr in (None, 0.05))  # fmt: skip
    assert calibrated.threshold_ < -50 < paper.threshold_ == 0
    assert paper.left_out_[1] < 0.5 < calibrated.left_out_[1]


def test_patterns_are_doubted_where_a_further_one_would_be_missed_by_a_fifth(box: Any) -> None:
    guard, (_, labels) = detector(box, 10), box.few(10)
    for shares, doubted in [
        ((1.0, 0.6), False), ((1.0, 0.59), True), ((1.0, math.nan, 0.6), False), ((), False),
        ((math.nan, math.nan), False), ((1, 1, 1, 1, 1, 0), False), ((1, 1, 1, 0), True),
    ]:  # fmt: skip
        guard.left_out_ = shares
        assert ("the patterns show different things" in " ".join(guard._doubts(labels, [1.0]))) == doubted


def test_the_class_that_obeys_most_speaks_for_a_pattern() -> None:
    (x, y), pixel = lit_pixels(12), triggers.single_pixel((1, 8, 8))
    guard = LikelihoodDetector().fit(hand_set(10), x, y, target=2, trigger=lambda x: torch.where(
        x[:, :, :1, :1] > 0.5, pixel(x), x))  # fmt: skip
    assert not any(
        "hardly the attacker's" in doubt for doubt in guard.warnings_
    )  # one class obeys it, and that is enough


def test_lists_of_patterns_that_are_none_are_refused(box: Any) -> None:
    x, y = box.few(4)
    assert patterns_of(box.trigger) == patterns_of([box.trigger]) == (box.trigger,)
    with pytest.raises(ValueError, match="at least one pattern, got an empty list"):
        LikelihoodDetector().fit(box.net, x, y, target=TARGET, trigger=[])
    with pytest.raises(TypeError, match="expected one pattern, a function from images to images, got a list"):
        NeuronDetector().fit(box.net, x, y, target=TARGET, trigger=[box.trigger, box.trigger])
    with pytest.raises(TypeError, match="got a str"):
        LikelihoodDetector().fit(box.net, x, y, target=TARGET, trigger=[box.trigger, "left"])  # type: ignore[list-item]


def test_the_triggers_success_is_told_by_class() -> None:
    (x, y), pixel = lit_pixels(12), triggers.single_pixel((1, 8, 8))

    def for_class_0_only(images: torch.Tensor) -> torch.Tensor:
        return torch.where(images[:, :, :1, :1] > 0.5, pixel(images), images)

    guard = LikelihoodDetector().fit(hand_set(10), x, y, target=2, trigger=for_class_0_only)
    assert guard.trigger_success_ == {0: 1.0, 1: 0.0}


def test_decide_takes_the_best_of_the_others() -> None:
    likelihoods = torch.tensor([[0.0, 5.0, 1.0], [4.0, 1.0, 2.0], [0.0, 0.0, 9.0]])
    scores, source = decide(likelihoods, (0, 5, 9), target=9)
    assert scores.tolist() == [4, 2, -9]
    assert source.tolist()[:2] == [5, 0]
    scores, source = decide(likelihoods, (0, 5, 9), target=0)
    assert scores.tolist() == [5, -2, 9]
    assert source.tolist() == [5, 9, 9]
