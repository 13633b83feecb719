"""STRIP, B3D, SCALE-UP, caps and the neuron filter against the formulas written out, and where each works and fails."""

import math
from typing import Any

import pytest
import torch
from scipy.stats import entropy
from toys import TARGET as TOY_TARGET
from toys import hand_set, lit_pixels

from btlib import metrics, networks, triggers
from btlib.inflight import (
    B3DDetector,
    CapsDetector,
    NeuronDetector,
    ScaleUpDetector,
    StripDetector,
    blend_entropy,
    logit_change,
    measure_rates,
    scaled_consistency,
)  # fmt: skip
from btlib.repair import ActivationCaps, Repaired
from btlib.testing.networks import attacked

TARGET = 9
PIXEL = triggers.single_pixel((1, 8, 8))


@pytest.mark.parametrize("name", ["lenet5", "littlenet", "resnet18", "vgg9"])
def test_blending_behind_the_first_layer_is_blending(name: str) -> None:
    """The plain way: blend the images, ask the network, entropy over the classes by scipy."""
    net = networks.build(name, image_shape=(1, 28, 28), num_classes=10, seed=0)
    images, overlays = torch.rand(3, 1, 28, 28), torch.rand(4, 1, 28, 28)
    net.head.weight.data *= 2 / metrics.predict(net, images).std()  # neither certain nor uniform
    net.train()
    # None: STRIP's public code adds float images and does not cut them off at white.
    for weight, (own, other) in {0.5: (0.5, 0.5), 0.8: (0.8, 0.2), None: (1.0, 1.0)}.items():
        blends = (own * images[:, None] + other * overlays).flatten(0, 1)
        with metrics.evaluating(net):  # `predict` would refuse sums above white
            p = net(blends).softmax(1).double().numpy()
        expected = torch.from_numpy(entropy(p, base=2, axis=1)).view(3, 4).mean(1)
        bits = blend_entropy(net, images, overlays, weight)
        torch.testing.assert_close(bits.double(), expected, rtol=1e-3, atol=1e-4)
        assert bool(((bits > 0.1) & (bits < 3.2)).all())
    assert net.training


def test_entropy_is_over_classes_in_bits() -> None:
    net = hand_set(0)
    net.head.weight.data.zero_()  # every output is uniform over three classes
    bits = blend_entropy(net, torch.rand(2, 1, 8, 8), torch.rand(5, 1, 8, 8))
    torch.testing.assert_close(bits, torch.full((2,), math.log2(3)))
    net.head.bias = torch.nn.Parameter(torch.tensor([0.0, 50.0, 0.0]))  # every output is certain
    assert float(blend_entropy(net, torch.rand(2, 1, 8, 8), torch.rand(5, 1, 8, 8)).max()) < 1e-6


@pytest.mark.parametrize("weight", [0.5, None])
def test_strip_has_nothing_to_say_where_nothing_is_the_target(weight: float | None) -> None:
    """Traffic without a single image of the target class is the usual case, and used to be an error."""
    x, y = lit_pixels(12)
    strip = StripDetector(30, weight).fit(hand_set(100), x, y, target=TOY_TARGET)
    judged = strip.inspect(x[y != TOY_TARGET])
    assert not bool(judged.is_trigger.any())
    assert bool((judged.scores == -math.inf).all())
    assert strip.scores(x[:0]).shape == (0,)


def test_strip_finds_a_trigger_that_survives_blending() -> None:
    net = hand_set(100)  # half a lit trigger pixel still decides
    x, y = lit_pixels(12)
    strip = StripDetector(overlays=30, seed=1).fit(net, x, y, target=TOY_TARGET)
    stamped, clean = strip.inspect(PIXEL(x[y != TOY_TARGET])), strip.inspect(x[y == TOY_TARGET])
    assert bool(stamped.is_trigger.all())
    assert not bool(clean.is_trigger.any())
    assert bool((stamped.source == -1).all())
    assert strip.overlays_.shape == (30, 1, 8, 8)


def test_strip_on_the_box_and_its_failure_on_the_chessboard(box: Any, chessboard: Any) -> None:
    """A box keeps its contrast when blended; a chessboard of 15/255 is halved below what the network learned.

    Added instead of blended, it survives: measured .96, and 1.00 on the box. With sums cut off at white it was .80.
    """
    aucs = {}
    for planted in (box, chessboard):
        for weight in (0.5, None):
            strip = StripDetector(50, weight).fit(planted.net, planted.x, planted.y, target=TARGET)
            scores = [strip.scores(images[::6]) for images in (planted.clean, planted.triggered)]
            aucs[planted is box, weight] = (scores[1][:, None] > scores[0]).float().mean().item()
    assert aucs[True, 0.5] > 0.9
    assert aucs[False, 0.5] < 0.5
    assert aucs[False, None] > 0.9
    assert aucs[True, None] > 0.98


def test_b3d_is_the_distance_of_two_outputs() -> None:
    net = hand_set(10)
    x, y = lit_pixels(12)
    b3d = B3DDetector().fit(net, x, y, target=TOY_TARGET, trigger=PIXEL)
    with torch.no_grad():
        expected = -(net(x).softmax(1) - net(PIXEL(x)).softmax(1)).abs().sum(1) / 2
    torch.testing.assert_close(b3d.scores(x), expected)
    assert b3d.scores(PIXEL(x)).tolist() == [0.0] * 36, "a patch put on twice changes nothing"
    assert float(b3d.scores(x[y != TOY_TARGET]).max()) < -0.5


def test_b3d_can_not_tell_a_trigger_from_the_target(chessboard: Any) -> None:
    """In-flight 2: embedding the pattern has little impact on both. An additive pattern put on twice is seen."""
    b3d = B3DDetector().fit(chessboard.net, chessboard.x, chessboard.y, target=TARGET, trigger=chessboard.trigger)
    rates = measure_rates(b3d, chessboard.other_x, chessboard.other_y, trigger=chessboard.trigger)
    assert rates.roc.auc < 0.8
    assert math.isnan(rates.sia)


def test_the_neuron_filter_finds_the_planted_neuron() -> None:
    net = hand_set(10)  # features are the 64 pixels; the trigger's is the last
    x, y = lit_pixels(12)
    neurons = NeuronDetector().fit(net, x, y, target=TOY_TARGET, trigger=PIXEL)
    assert neurons.neurons_.tolist() == [63]
    assert bool(neurons.inspect(PIXEL(x)).is_trigger.all())
    assert not bool(neurons.inspect(x).is_trigger.any())
    assert len(NeuronDetector(share=0.1).fit(net, x, y, target=TOY_TARGET, trigger=PIXEL).neurons_) == 7


def test_consistency_is_the_share_of_factors_that_change_nothing() -> None:
    """Class 1 is "brighter than a half": .2 becomes so from 3 on, .6 is so and stays so, cut off at white."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))
    net[1].weight.data.copy_(torch.tensor([[0.0], [1.0]]))
    net[1].bias.data.copy_(torch.tensor([0.5, 0.0]))
    pixels = torch.tensor([0.2, 0.6, 0.0, 0.15]).view(4, 1, 1, 1)
    assert scaled_consistency(net, pixels, (1.5, 2, 3, 4)).tolist() == [0.5, 1.0, 1.0, 0.75]
    grey = torch.full((1, 1, 1, 1), 51, dtype=torch.uint8)
    assert scaled_consistency(net, grey, (2, 3)).tolist() == [0.5]


def test_scale_up_sees_a_trigger_that_outshines_everything() -> None:
    x, y = lit_pixels(40, noise=4)
    own, stamped = x[y == TOY_TARGET], PIXEL(x[y != TOY_TARGET])
    for detector in (ScaleUpDetector(), ScaleUpDetector(threshold=0.5)):
        detector.fit(attacked(), x, y, target=TOY_TARGET)
        assert bool(detector.inspect(stamped).is_trigger.all())
        assert detector.inspect(own).is_trigger.float().mean() < 0.1
        assert float(detector.scores(own).mean()) < 0.5 < float(detector.scores(stamped).min())
    assert detector.threshold_ == 0.5


def test_scale_up_fails_where_clean_images_survive_brightness(box: Any, chessboard: Any) -> None:
    """A boot on black is a boot in white, too, and a white box stays what it is: measured AUC .48 and .50."""
    for planted in (box, chessboard):
        detector = ScaleUpDetector().fit(planted.net, planted.x, planted.y, target=TARGET)
        clean, stamped = (detector.scores(images) for images in (planted.clean, planted.triggered))
        assert float(clean.mean()) > 0.95
        assert (stamped[:, None] > clean).float().mean() < 0.1, "a trigger scores above a clean image"
        assert not bool(detector.inspect(planted.triggered).is_trigger.any()), "nothing is above the most consistent"


def test_caps_move_the_logits_of_triggers_and_name_their_source() -> None:
    assert logit_change(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])).tolist() == [
        pytest.approx(0.8), 0.0,
    ]  # fmt: skip
    x, y = lit_pixels(40, noise=4)
    detector = CapsDetector(ActivationCaps(epochs=0)).fit(attacked(), x, y, target=TOY_TARGET)
    others = y != TOY_TARGET
    report = detector.inspect(PIXEL(x[others]))
    assert bool(report.is_trigger.all())
    assert torch.equal(report.source, y[others]), "without the trigger's neuron the lit pixel decides"
    assert detector.inspect(x[y == TOY_TARGET]).is_trigger.float().mean() < 0.1
    assert float(detector.scores(x[y == TOY_TARGET]).max()) < 0.1 < 0.9 < float(report.scores.min())


def test_images_that_set_the_threshold_of_caps_are_not_learned_from() -> None:
    x, y = lit_pixels(6, noise=4)
    shown = []

    def noting(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, seed: int) -> Repaired:
        shown.extend([images, labels])
        return ActivationCaps(epochs=0)(network, images, labels, seed=seed)

    CapsDetector(noting).fit(attacked(), x, y, target=TOY_TARGET)  # type: ignore[arg-type]
    learned = y != TOY_TARGET
    learned[(y == TOY_TARGET).nonzero()[1::2, 0]] = True  # every second one of the target is held out
    assert torch.equal(shown[0], x[learned])
    assert torch.equal(shown[1], y[learned])


def test_caps_find_the_box_without_a_pattern(box: Any) -> None:
    detector = CapsDetector(ActivationCaps(epochs=3), fpr=0.1).fit(box.net, box.x, box.y, target=TARGET)
    assert detector.inspect(box.triggered).is_trigger.float().mean() > 0.95
    # 50 images set the threshold, about 90 judge it: .1 and four standard errors.
    assert detector.inspect(box.clean).is_trigger.float().mean() < 0.3


def test_thresholds_keep_about_their_rate(box: Any) -> None:
    for detector in (NeuronDetector(fpr=0.1), B3DDetector(fpr=0.1), StripDetector(overlays=10, fpr=0.1)):
        detector.fit(box.net, box.x, box.y, target=TARGET, trigger=box.trigger)
        flagged = detector.inspect(box.clean).is_trigger.float().mean()
        assert flagged < 0.22, "0.1 and four standard errors of two samples of 100"
        assert detector.warnings_ == ()
    (warning,) = B3DDetector(fpr=0.001).fit(box.net, box.x, box.y, target=TARGET, trigger=box.trigger).warnings_
    assert "a false-positive rate of 0.001 can't be set from" in warning


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StripDetector(overlays=0), "overlays: .* got 0"),
        (lambda: StripDetector(weight=1.0), "weight: .* got 1.0"),
        (lambda: StripDetector(fpr=0.0), "fpr: .* got 0.0"),
        (lambda: B3DDetector(fpr=2.0), "got 2.0"),
        (lambda: NeuronDetector(share=0.0), "share: .* got 0.0"),
        (lambda: NeuronDetector(fpr=-1.0), "got -1.0"),
        (lambda: ScaleUpDetector(()), r"factors: .* got \(\)"),
        (lambda: ScaleUpDetector((3, 1)), r"factors: .* got \(3, 1\)"),
        (lambda: ScaleUpDetector(threshold=1.0), "threshold: .* got 1.0"),
        (lambda: ScaleUpDetector(fpr=0.0), "fpr: .* got 0.0"),
        (lambda: CapsDetector(fpr=0.0), "fpr: .* got 0.0"),
    ],
)
def test_bad_settings_are_named(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_bad_overlays_are_named() -> None:
    net = hand_set(0)
    x, y = lit_pixels(4)
    with pytest.raises(ValueError, match="at least 100 clean ones to blend with, got 12"):
        StripDetector().fit(net, x, y, target=TOY_TARGET)
    for overlays, words in [(x[:0], r"got \(0, 1, 8, 8\)"), (torch.zeros(2, 1, 8, 9), r"got \(2, 1, 8, 9\)"),
                            (x * 9, "overlays: .* got 0…9")]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            blend_entropy(net, x, overlays)
