"""What all detectors share: thresholds that keep their promise, one error per bad input, networks left as found."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn
from toys import TARGET, hand_set, lit_pixels

from btlib import inflight, triggers
from btlib.inflight import InFlightDetector
from btlib.inflight.checks import check_count, check_labels, check_like, check_rate, check_target, embedded, probe, threshold_at

DETECTORS: list[Callable[[], InFlightDetector]] = [
    inflight.LikelihoodDetector,
    lambda: inflight.StripDetector(overlays=10),
    inflight.B3DDetector,
    inflight.NeuronDetector,
]
PIXEL = triggers.single_pixel((1, 8, 8))


def fitted(make: Callable[[], InFlightDetector], **changed: Any) -> InFlightDetector:
    x, y = lit_pixels(12)
    settings = {"network": hand_set(10), "images": x, "labels": y, "target": TARGET, "trigger": PIXEL}
    return make().fit(**settings | changed)


def test_a_threshold_keeps_its_promise_on_new_images() -> None:
    """Over 2000 draws of 40 scores, new scores pass a threshold of rate 0.1 in a share of at most 0.1."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2000, 40, generator=generator)
    thresholds = torch.tensor([threshold_at(draw, 0.1)[0] for draw in draws])
    passed = 0.5 * torch.erfc(thresholds / 2**0.5)  # P(new normal score > threshold)
    expected = 4 / 41  # the 4th largest of 40, so 4 of 41 places
    assert abs(passed.mean().item() - expected) < 4 * passed.std().item() / 2000**0.5
    naive = torch.quantile(draws, 0.9, dim=1)
    assert (0.5 * torch.erfc(naive / 2**0.5)).mean() > 0.105, "the plain quantile promises too much"


def test_a_threshold_says_when_it_can_not_be_set() -> None:
    threshold, warning = threshold_at(torch.arange(10.0), 0.05)
    assert threshold == 9
    assert warning is not None
    assert "0.05 can't be set from 10 clean images" in warning
    assert threshold_at(torch.arange(20.0), 0.05) == (19.0, None), "1 of 21 places is less than 5 %"
    with pytest.raises(ValueError, match="got none; check target"):
        threshold_at(torch.zeros(0), 0.05)
    for rate in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"got {rate}"):
            check_rate("fpr", rate)


@pytest.mark.parametrize("make", DETECTORS)
def test_one_error_for_each_bad_image(make: Callable[[], InFlightDetector]) -> None:
    with pytest.raises(NotFittedError, match="is not fitted; call fit"):
        make().inspect(torch.rand(1, 1, 8, 8))
    detector = fitted(make)
    for images, error, words in [
        (torch.full((1, 1, 8, 8), 2.0), ValueError, r"in \[0, 1\], got 2…2"),
        (torch.full((1, 1, 8, 8), float("nan")), ValueError, "got nan"),
        (torch.zeros(1, 8, 8), ValueError, r"got \(1, 8, 8\)"),
        (torch.zeros(1, 1, 9, 8), ValueError, r"got \(1, 1, 9, 8\); resize"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int64), TypeError, "got torch.int64 tensor"),
    ]:
        for judge in (detector.inspect, detector.scores):
            with pytest.raises(error, match=words):
                judge(images)


@pytest.mark.parametrize("make", DETECTORS)
def test_one_error_for_each_bad_fit(make: Callable[[], InFlightDetector]) -> None:
    x, y = lit_pixels(12)
    for changed, words in [
        ({"images": x[y != TARGET], "labels": y[y != TARGET]}, "expected clean images of the target class 2, got none"),
        ({"labels": y[:-1]}, r"got torch.int64 \(35,\) for 36 images"),
        ({"labels": y.float()}, "got torch.float32"),
        ({"labels": y + 0.5}, "got torch.float32"),
        ({"labels": y == 1}, "got torch.bool"),
        ({"labels": y - 1}, "got -1…1"),
        ({"labels": y + 1}, "got 1…3; use the labels"),
        ({"target": 3}, "0…2, got 3"),
        ({"target": 1.9}, "0…2, got 1.9"),
        ({"images": x * 255}, "got 0…255"),
        ({"images": torch.zeros(36, 1, 8, 9)}, r"got 36 of \(1, 8, 9\); load the data"),
        ({"images": x[:0], "labels": y[:0]}, "got 0 of"),
    ]:
        with pytest.raises(ValueError, match=words):
            fitted(make, **changed)


@pytest.mark.parametrize("make", DETECTORS[2:] + DETECTORS[:1])
def test_a_pattern_is_asked_for_where_one_is_needed(make: Callable[[], InFlightDetector]) -> None:
    with pytest.raises(ValueError, match="expected a pattern, got None"):
        fitted(make, trigger=None)


@pytest.mark.parametrize("make", [DETECTORS[0], DETECTORS[3]])
def test_other_classes_are_asked_for(make: Callable[[], InFlightDetector]) -> None:
    x, y = lit_pixels(12)
    with pytest.raises(ValueError, match="other classes beside the target 2, got none"):
        fitted(make, images=x[y == TARGET], labels=y[y == TARGET])


@pytest.mark.parametrize("make", DETECTORS)
def test_a_pattern_may_be_any_function_from_images_to_images(make: Callable[[], InFlightDetector]) -> None:
    x, y = lit_pixels(12)
    stamped = PIXEL(x[y != TARGET])
    asked = []

    def embed(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return PIXEL(images)

    mine = make().fit(hand_set(10), x, y, target=TARGET, trigger=embed)
    assert torch.equal(mine.inspect(stamped).scores, fitted(make).inspect(stamped).scores)
    assert bool(asked) != isinstance(mine, inflight.StripDetector)


@pytest.mark.parametrize("make", DETECTORS)
def test_a_failed_fit_leaves_no_half_fitted_detector(make: Callable[[], InFlightDetector]) -> None:
    x, y = lit_pixels(12)
    detector = fitted(make)
    with pytest.raises(ValueError, match="got 0…255"):
        detector.fit(hand_set(10), x * 255, y, target=TARGET, trigger=PIXEL)
    with pytest.raises(NotFittedError):
        detector.inspect(x)


@pytest.mark.parametrize("make", DETECTORS)
def test_the_network_and_the_random_state_are_left_as_found(make: Callable[[], InFlightDetector]) -> None:
    net = hand_set(10)
    net.train()
    net.normalize.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    x, _ = lit_pixels(12)
    fitted(make, network=net).inspect(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert not net.normalize.training
    assert all(p.requires_grad and p.grad is None for p in net.head.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("make", DETECTORS)
def test_only_images_predicted_as_the_target_are_flagged(make: Callable[[], InFlightDetector]) -> None:
    detector = fitted(make)
    detector.threshold_ = -1e9  # every image is suspicious
    x, y = lit_pixels(2)
    report = detector.inspect(x)
    assert torch.equal(report.predicted, y)
    assert torch.equal(report.is_trigger, y == TARGET)
    assert torch.equal(report.source[y != TARGET], y[y != TARGET])
    assert len(report) == 6
    assert report.target == TARGET
    assert torch.equal(report.scores[y == TARGET], detector.scores(x[y == TARGET]))
    assert bool((report.scores[y != TARGET] == -torch.inf).all())
    assert bool(detector.scores(x).isfinite().all())


def test_two_detectors_work_on_networks_that_have_no_features() -> None:
    x, y = lit_pixels(12)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    net[1].load_state_dict({"weight": hand_set(10).head.weight, "bias": torch.zeros(3)})
    for make in DETECTORS[1:3]:
        mine = fitted(make, network=net).inspect(PIXEL(x[y != TARGET]))
        theirs = fitted(make).inspect(PIXEL(x[y != TARGET]))
        torch.testing.assert_close(mine.scores, theirs.scores)
        assert set(mine.source[mine.is_trigger].tolist()) <= {-1}
