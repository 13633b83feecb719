"""ROC, AUC and the three rates of Table 2 against counts by hand."""

import math
from typing import Any

import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor
from toys import TARGET, hand_set, lit_pixels

from btlib import triggers
from btlib.inflight import InFlightDetector, LikelihoodDetector, measure_rates, roc
from btlib.inflight.base import Measured


class Oracle(InFlightDetector):
    """Scores an image by its brightness; says that every trigger comes from class 0."""

    infers_source = True

    def _fit(self, *_: Any) -> float:
        return 1.5

    def _measure(self, images: Tensor) -> Measured:
        with torch.no_grad():
            predicted = self.network_(images).argmax(1)
        return Measured(predicted, images.flatten(1).sum(1), torch.zeros_like(predicted))


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    clean, triggered = torch.randn(80), torch.randn(50) + 1
    curve = roc(clean, triggered)
    assert curve.auc == pytest.approx((triggered[:, None] > clean).float().mean().item())
    assert roc(triggered, clean).auc == pytest.approx(1 - curve.auc), "higher must be more suspicious"
    for rate in (0.0, 0.05, 0.3, 1.0):
        # by hand: let at most that share of the clean scores pass
        allowed = math.floor(rate * 80)
        threshold = clean.sort(descending=True).values[allowed] if allowed < 80 else -math.inf
        assert curve.best_tpr(rate) == pytest.approx((triggered > threshold).float().mean().item())
    assert curve.best_tpr() == curve.best_tpr(0.05)


def test_ties_are_not_split_in_the_detectors_favour() -> None:
    """B3D's footnote: 5 % FPR is out of reach when most clean scores tie at the top."""
    curve = roc(torch.zeros(10), torch.zeros(10))
    assert curve.best_tpr(0.05) == 0
    assert curve.auc == 0.5
    assert curve.false_positive_rates.tolist() == [0, 1]


def test_bad_scores_are_named() -> None:
    for clean, words in [(torch.zeros(0), "got 0"), (torch.tensor([torch.inf, 1.0]), "got 2, 1 not finite")]:
        with pytest.raises(ValueError, match=f"clean_scores: .*{words}"):
            roc(clean, torch.ones(1))
        with pytest.raises(ValueError, match=f"trigger_scores: .*{words}"):
            roc(torch.ones(1), clean)
    with pytest.raises(ValueError, match="got 2"):
        roc(torch.zeros(1), torch.ones(1)).best_tpr(2)


def test_rates_count_what_the_paper_counts() -> None:
    x, y = lit_pixels(4)  # brightness 1, with the trigger 2
    net, pixel = hand_set(10), triggers.single_pixel((1, 8, 8))
    detector = Oracle().fit(net, x, y, target=TARGET)
    rates = measure_rates(detector, x, y, trigger=pixel)
    assert (rates.tpr, rates.fpr, rates.sia) == (1, 0, 0.5)
    assert math.isnan(rates.fpr_misread), "no clean image of another class is taken for the target"
    assert (rates.clean, rates.triggers) == (4, 8)
    assert rates.roc.auc == 1
    assert measure_rates(detector, x, y, trigger=pixel, sources=0).sia == 1
    assert measure_rates(detector, x, y, trigger=pixel, sources=[1]).triggers == 4

    misread = x.clone()
    misread[0, 0, -1, -1] = 1.0  # a clean image of class 0 that happens to carry the pixel
    assert measure_rates(detector, misread, y, trigger=pixel).fpr_misread == 1
    with pytest.raises(ValueError, match="trigger_scores"):
        measure_rates(Oracle().fit(hand_set(0), x, y, target=TARGET), x, y, trigger=pixel)
    with pytest.raises(NotFittedError):
        measure_rates(LikelihoodDetector(), x, y, trigger=pixel)


def test_a_rival_that_flags_nothing_has_no_source_accuracy() -> None:
    class Silent(Oracle):
        infers_source = False

        def _measure(self, images):  # type: ignore[no-untyped-def]
            measured = super()._measure(images)
            return measured._replace(scores=torch.full_like(measured.scores, -1e9), source=None)

    x, y = lit_pixels(4)
    detector = Silent().fit(hand_set(10), x, y, target=TARGET)
    rates = measure_rates(detector, x, y, trigger=triggers.single_pixel((1, 8, 8)))
    assert rates.tpr == 0
    assert math.isnan(rates.sia)
