"""What all detectors share: thresholds that keep their promise, one error per bad input, networks left as found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn
from toys import TARGET, hand_set, lit_pixels

from btlib import inflight, triggers
from btlib.datasets import as_labels
from btlib.datasets.images import check_class, check_count
from btlib.inflight import InFlightDetector
from btlib.inflight.base import Measured
from btlib.inflight.checks import (
    check_like,
    check_rate,
    check_target,
    embedded,
    probe,
    threshold_at,
)

DETECTORS: list[Callable[[], InFlightDetector]] = [
    inflight.LikelihoodDetector,
    lambda: inflight.StripDetector(overlays=10),
    inflight.B3DDetector,
    inflight.NeuronDetector,
]
PIXEL = triggers.single_pixel((1, 8, 8))


def fitted(make: Callable[[], InFlightDetector], **changed: Any) -> InFlightDetector:
    x, y = lit_pixels(12)
    settings = {"images": x, "labels": y, "target": TARGET, "trigger": PIXEL} | changed
    network = settings.pop("network") if "network" in settings else hand_set(10)
    return make().fit(network, **settings)


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


@pytest.mark.parametrize(("count", "fpr", "rank"), [(38, 0.05, 1), (39, 0.05, 2), (98, 0.29, 28), (99, 0.29, 29)])
def test_a_threshold_is_the_kth_largest_of_n_scores(count: int, fpr: float, rank: int) -> None:
    """It is k = ⌊fpr·(n + 1)⌋, by whole numbers: .29 · 100 is 29."""
    scores = torch.randperm(count, generator=torch.Generator().manual_seed(0)).float()
    assert threshold_at(scores, fpr) == (count - rank, None)


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
        with pytest.raises((TypeError, ValueError), match=words):
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
    assert [name for name in vars(detector) if name.endswith("_")] == []


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


def strangers(body: nn.Module | None = None) -> nn.Sequential:
    """The hand-set network as a module that knows nothing of ours."""
    linear = nn.Linear(64, 3, bias=False)
    linear.load_state_dict(hand_set(10).head.state_dict())
    return nn.Sequential(nn.Flatten(), linear, *([body] if body else []))


@pytest.mark.parametrize("make", DETECTORS)
def test_any_module_will_do(make: Callable[[], InFlightDetector]) -> None:
    x, y = lit_pixels(12)
    images = torch.cat([x, PIXEL(x[y != TARGET])])
    mine, theirs = fitted(make, network=strangers()).inspect(images), fitted(make).inspect(images)
    torch.testing.assert_close(mine.scores, theirs.scores)
    assert torch.equal(mine.source, theirs.source)
    assert bool(mine.is_trigger[36:].all())


@pytest.mark.parametrize("make", DETECTORS)
def test_bytes_and_floats_and_all_integer_labels_are_alike(make: Callable[[], InFlightDetector]) -> None:
    x, y = lit_pixels(12)
    bytes_ = (x * 255).to(torch.uint8)
    expected = fitted(make)
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.int16):  # int32 used to fail inside the likelihoods
        mine = fitted(make, images=bytes_, labels=y.to(dtype))
        assert torch.equal(mine.scores(bytes_), expected.scores(x))
        assert torch.equal(mine.inspect(bytes_).is_trigger, expected.inspect(x).is_trigger)


@pytest.mark.parametrize("make", DETECTORS)
def test_no_image_gives_no_row(make: Callable[[], InFlightDetector]) -> None:
    x, _ = lit_pixels(12)
    detector = fitted(make)
    assert len(detector.inspect(x[:0])) == 0
    assert detector.scores(x[:0]).shape == (0,)


def test_settings_make_the_detector() -> None:
    for make in DETECTORS:
        one = fitted(make)
        for other in (make(), clone(one), copy.deepcopy(one)):
            assert other == one
            assert repr(other) == repr(one)
        assert not hasattr(clone(one), "threshold_")
        assert one != object()
    assert repr(inflight.StripDetector(20)) == "StripDetector(overlays=20, weight=0.5, fpr=0.05, seed=0)"
    assert inflight.StripDetector(20) != inflight.StripDetector(30)
    assert inflight.LikelihoodDetector(fpr=0.05) != inflight.B3DDetector(fpr=0.05)
    assert inflight.B3DDetector(fpr=0.1).get_params() == {"fpr": 0.1}


@pytest.mark.parametrize("make", DETECTORS)
def test_probabilities_are_noticed_and_nothing_else_is(make: Callable[[], InFlightDetector]) -> None:
    words = "look like probabilities"
    assert words in " ".join(fitted(make, network=strangers(nn.Softmax(1))).warnings_)
    for network in (strangers(), strangers(nn.LogSoftmax(1)), strangers(nn.Sigmoid()), hand_set(10)):
        assert words not in " ".join(fitted(make, network=network).warnings_)


@pytest.mark.parametrize("make", DETECTORS)
def test_a_network_that_gives_nan_or_no_logits_is_named(make: Callable[[], InFlightDetector]) -> None:
    """A NaN threshold used to let every trigger pass."""
    x, y = lit_pixels(12)
    broken = hand_set(10)
    broken.head.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite logits, got NaN"):
        fitted(make, network=broken)
    for network, error, words in [
        (nn.Flatten(0), ValueError, r"logits \(N, K\) for 16 images, got \(1024,\)"),
        (nn.Identity(), ValueError, r"got \(16, 1, 8, 8\)"),
        (nn.Sequential(nn.Flatten(), nn.RNN(64, 3)), TypeError, "got tuple; wrap it"),
    ]:
        with pytest.raises(error, match=words):
            fitted(make, network=network)
    detector = fitted(make)
    detector.network_.head.weight.data[:] = torch.nan  # later, and all of it
    with pytest.raises(ValueError, match="got NaN"):
        detector.scores(x)


class Twice(InFlightDetector):
    """Says of its own threshold what it is told."""

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def _fit(self, *_: Any) -> float:
        return self.threshold

    def _measure(self, images: torch.Tensor) -> Measured:
        return Measured(self.network_(images).argmax(1), images.flatten(1).sum(1))


class Wavering(Twice):
    """Learns one thing more where there is a trigger."""

    def _fit(self, images: torch.Tensor, labels: torch.Tensor, trigger: Any) -> float:
        if trigger is not None:
            self.more_ = True
        return 0.0


def test_nothing_of_an_earlier_fit_is_left() -> None:
    detector = fitted(Wavering)
    assert detector.more_  # type: ignore[attr-defined]
    x, y = lit_pixels(12)
    assert not hasattr(detector.fit(hand_set(10), x, y, target=TARGET), "more_")


def test_a_threshold_that_is_no_number_is_refused() -> None:
    fitted(Twice)
    with pytest.raises(ValueError, match="got NaN; check its weights"):
        fitted(lambda: Twice(float("nan")))


def test_the_checks_name_what_is_wrong() -> None:
    x, y = lit_pixels(2)
    assert as_labels(y.int(), x, 3).dtype == torch.int64
    assert as_labels(y + 7, x).max() == 9
    assert check_target(torch.tensor(1), y, 3) == check_class(torch.tensor(1), 3) == 1
    assert check_like((x * 255).to(torch.uint8), (1, 8, 8)).max() == 1
    assert probe(hand_set(1), x) == (3, ())
    check_count("overlays", 1, usual=100)
    for call, error, words in [
        (lambda: as_labels(y.tolist(), x), TypeError, "got list"),
        (lambda: as_labels(torch.tensor([-1] * 6), x), ValueError, "0 or more, got -1…-1"),
        (lambda: check_class(3, 3, "sources"), ValueError, "^sources: expected a class in 0…2, got 3; classes count"),
        (lambda: check_class(-1, 3), ValueError, "^target: .* got -1"),
        (lambda: check_class(0.0, 3), TypeError, "got 0.0"),
        (lambda: check_target("1", y, 3), TypeError, "got '1'; classes count"),
        (lambda: check_count("overlays", 10.5, usual=100), ValueError, "overlays: .* got 10.5; 100"),
        (lambda: embedded(lambda x: x[:1], x), ValueError, r"got \(1, 1, 8, 8\); a pattern keeps"),
        (lambda: embedded(lambda x: x * 255, x), ValueError, r"trigger\(images\): .* got 0…255"),
        (lambda: embedded(lambda x: x / 0, x), ValueError, r"trigger\(images\): .* got nan"),
    ]:
        with pytest.raises(error, match=words):
            call()


def test_detectors_are_found_by_name_and_strangers_join() -> None:
    names = ["likelihood", "neurons", "b3d", "strip", "strip-added", "scale-up", "scale-up-free", "caps"]
    assert list(inflight.DETECTORS) == names
    assert inflight.DETECTORS["strip-added"](20) == inflight.StripDetector(20, None)
    inflight.register("twice", Twice)
    try:
        inflight.register("twice", Twice)  # a cell that is run again
        assert inflight.DETECTORS["twice"](threshold=1.0) == Twice(1.0)
        with pytest.raises(ValueError, match="got 'twice'; choose another"):
            inflight.register("twice", inflight.B3DDetector)
    finally:
        del inflight.DETECTORS["twice"]
    for wrong in (Twice(), dict):
        with pytest.raises(TypeError, match="pass the class"):
            inflight.register("wrong", wrong)
    assert "wrong" not in inflight.DETECTORS
