"""Norms beside those of clean networks: what is natural drops out, and the level holds."""

import numpy as np
import pytest
import torch
from toys import TARGET, hand_set, lit_pixels

from btlib import detection, triggers
from btlib.detection import anomaly
from btlib.detection.gamma import gamma_fit, ratios, shape_of_ratios
from btlib.detection.images import defense_set
from btlib.detection.outcome import Detection, Estimate, Estimates, uniform

CLASSES, SIZE = 10, 12


def test_a_class_s_own_size_drops_out_and_a_network_s_scale_does_not_matter():
    rng = np.random.default_rng(0)
    nature, rest = rng.gamma(2, size=10), rng.gamma(30, size=(3, 10))
    ratio = anomaly.relative(nature * rest[0], nature * rest[1:])
    assert ratio == pytest.approx(rest[0] / np.sqrt(rest[1] * rest[2]))  # geometric mean
    scaled = anomaly.relative(nature * rest[0], nature * rest[1:] * np.array([[3.0], [7.0]]))
    assert anomaly.calibrated_p(1 / scaled, 199, references=2) == anomaly.calibrated_p(1 / ratio, 199, references=2)


@pytest.mark.parametrize("references", [1, 3])
def test_one_network_in_twenty_is_accused(references):
    # 400 clean networks whose classes differ widely by nature: 5 % ± 3 standard errors of 1.1 %.
    rng = np.random.default_rng(references)
    nature = rng.gamma(1, size=10)
    networks = 1 / (nature * rng.gamma(10, size=(400, 1 + references, 10)))
    ratios = [anomaly.relative(each[0], each[1:]) for each in networks]
    level = np.mean([anomaly.calibrated_p(1 / r, 399, references=references) < 0.05 for r in ratios])
    assert 0.017 < level < 0.083
    if references == 1:  # and the null without references would not hold
        assert np.mean([anomaly.calibrated_p(1 / r, 399) < 0.05 for r in ratios]) > level


def test_without_references_nothing_changes():
    r = np.random.default_rng(3).gamma(5, size=12)
    assert anomaly.calibrated_p(r, 199, references=0) == anomaly.calibrated_p(r, 199)


@pytest.mark.parametrize("references", [np.ones(4), np.ones((0, 4)), np.ones((2, 3)), np.zeros((1, 4))])
def test_references_must_fit(references):
    with pytest.raises(ValueError, match="references: expected"):
        anomaly.relative(np.ones(4), references)


def test_some_classes_alone_are_moved():
    net, (x, y) = hand_set(10.0, num_classes=CLASSES, size=SIZE), lit_pixels(2, num_classes=CLASSES, size=SIZE)
    found = detection.RedU(per_class=2)(net, x, y, sources=(0, 3))
    assert set(found.estimates) == set(range(CLASSES)) - {0, 3}
    assert found.suspect == TARGET
    assert found.estimates[TARGET].by_class.isfinite().nonzero().flatten().tolist() == [0, 3]
    kept = defense_set(net, x, y).of_classes([0, 3])
    assert kept.labels.unique().tolist() == [0, 3]
    assert (kept.num_classes, len(kept.images)) == (CLASSES, 4)
    with pytest.raises(ValueError, match="sources: expected a class"):
        detection.RedU(per_class=2)(net, x, y, sources=(99,))


def test_a_detection_beside_references_rests_on_ratios():
    x, y = lit_pixels(2, num_classes=CLASSES, size=SIZE)

    def measured(backdoor, natural, wobble=0.0):
        net = hand_set(backdoor, num_classes=CLASSES, size=SIZE)
        net.head.weight.data[range(CLASSES), range(CLASSES)] += 0.1 * torch.sin(wobble + torch.arange(CLASSES))
        net.head.weight.data[5, -2] = natural
        return detection.RedU(per_class=2)(net, x, y)

    alone = measured(4.0, 6.0)
    beside = alone.against([measured(0.0, 6.0, 1.0), measured(0.0, 6.0, 2.0)])
    assert (alone.suspect, beside.suspect) == (5, TARGET)
    assert np.array_equal(beside.norms, alone.norms)
    assert beside.verdict(rule="calibrated").target == TARGET
    assert np.nanargmax(beside.anomaly_index) == TARGET
    assert beside.relative_norms == pytest.approx(anomaly.relative(alone.norms, beside.references))
    with pytest.raises(ValueError, match="norms of 10 classes"):
        alone.against(np.ones((1, 9)))
    with pytest.raises(ValueError, match="four or more classes"):
        detection.RedP(per_class=1)(hand_set(0.0, num_classes=3), *lit_pixels(2)).against(np.ones((1, 3, 3)))


def test_a_detection_without_references_is_judged_by_the_plain_null():
    patch, norms = triggers.box((1, SIZE, SIZE)), [9.0, 9.5, 7.0, 10.0, 11.0, 11.5, 12.0]
    found = [Estimate(t, patch, norm, 1.0, torch.ones(7), uniform(7, t), 1, 1, True) for t, norm in enumerate(norms)]
    alone = Detection("RED-U", Estimates(found), "calibrated", 0.0)
    beside = alone.against(np.ones((2, 7)))
    plain, wider = (anomaly.calibrated_p(1 / np.array(norms), references=count) for count in (0, 2))
    assert (alone.calibrated_p_value, beside.calibrated_p_value) == (plain, wider)
    assert len({plain, wider, anomaly.calibrated_p(1 / np.array(norms), references=1)}) == 3


@pytest.mark.parametrize("references", [1, 3])
def test_the_shape_below_ratios_is_read_from_what_was_fitted_to_them(references):
    """Medians of 300 samples of 40: the fit's own scatter leaves some 2 %, a ratio taken for a Gamma is off by 40 %."""
    r = ratios((300, 40), 12.0, references, np.random.default_rng(5))
    fitted = float(np.median(gamma_fit(r)[0]))
    assert shape_of_ratios(fitted, 40, references) == pytest.approx(12.0, rel=0.1)
    assert fitted < 10
