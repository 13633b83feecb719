"""Settings as the papers and docs/choices.md have them, and doors that check what they are given."""

import math
from pathlib import Path

import pytest
import torch
from toys import TARGET, hand_set, lit_pixels

from btlib import triggers
from btlib.inflight import (
    B3DDetector,
    CapsDetector,
    InFlightDetector,
    LikelihoodDetector,
    NeuronDetector,
    ScaleUpDetector,
    StripDetector,
    scaled_consistency,
)  # fmt: skip
from btlib.inflight.export import ANSWERS, _first_line, _same
from btlib.inflight.guard import GuardedPrediction
from btlib.repair import ActivationCaps


@pytest.mark.parametrize(("detector", "settings"), [
    # In-flight 4.2 leaves the density open: docs/choices.md, "In-flight detection"; the threshold is the arg max.
    (LikelihoodDetector(), {"components": 1, "covariance": "shared", "layer": "penultimate", "fpr": None, "seed": 0}),
    # In-flight 5.2: a weight of .5, an FPR of around 5 %; STRIP: a hundred overlays.
    (StripDetector(), {"overlays": 100, "weight": 0.5, "fpr": 0.05, "seed": 0}),
    (B3DDetector(), {"fpr": 0.05}),
    (NeuronDetector(), {"share": 0.01, "layer": "penultimate", "fpr": 0.05}),  # Neural Cleanse VI.A: the top 1 %
    (ScaleUpDetector(), {"factors": (3, 5, 7, 9, 11), "threshold": None, "fpr": 0.05}),  # SCALE-UP's set S
    (CapsDetector(), {"caps": ActivationCaps(), "fpr": 0.05, "seed": 0}),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_settings_are_the_papers(detector: InFlightDetector, settings: dict[str, object]) -> None:
    assert type(detector)().get_params() == settings


def test_densities_are_regularised_as_docs_choices_says() -> None:
    settings = LikelihoodDetector().settings
    assert (settings.regularization, settings.min_std) == (0.01, 0.05)


def test_factors_of_brightness_are_checked() -> None:
    for factors in ((), (0.0,), (3, 1)):
        with pytest.raises(ValueError, match="factors: expected one or more above 1"):
            scaled_consistency(hand_set(0), torch.rand(2, 1, 8, 8), factors=factors)


@pytest.mark.parametrize(("images", "doubted"), [(63, True), (64, False)])
def test_as_many_images_as_features_fill_a_covariance(images: int, doubted: bool) -> None:
    x, y = lit_pixels(30, noise=3)  # 64 pixels are the features
    guard = LikelihoodDetector().fit(hand_set(10), x[:images], y[:images], target=TARGET,
                                     trigger=triggers.single_pixel((1, 8, 8)))  # fmt: skip
    assert any("than features (64)" in warning for warning in guard.warnings_) == doubted


def test_an_exporters_error_is_told_by_its_first_line() -> None:
    assert _first_line(RuntimeError("one")) == "one"
    assert _first_line(RuntimeError("one\ntwo")) == "one"
    assert _first_line(RuntimeError()) == "RuntimeError"
    assert len(_first_line(RuntimeError("x" * 300))) == 200


@pytest.mark.parametrize(("size", "room"), [(0.5, 1e-5), (50.0, 5e-4)])
def test_exported_scores_may_be_off_by_a_hundred_thousandth_of_the_largest_or_of_one(size: float, room: float) -> None:
    scores, predicted = torch.tensor([size, -math.inf]), torch.tensor([TARGET, 0])
    ours, path = GuardedPrediction(predicted, torch.tensor([True, False]), predicted, scores), Path("guard.pt2")
    same = [getattr(ours, name) for name in ANSWERS[:3]]
    _same(ours, [*same, scores + 0.9 * room], path)
    with pytest.raises(ValueError, match=r"guard: expected guard\.pt2 to score images as the guard does"):
        _same(ours, [*same, scores + 1.1 * room], path)
