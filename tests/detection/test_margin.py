"""MM-BD where the largest margins are known: a linear network set by hand."""

import numpy as np
import pytest
import torch
from toys import TARGET, hand_set, lit_pixels

from btlib.detection import MMBD, anomaly, margin

CLASSES, SIZE = 10, 12
BRIGHT = torch.tensor([1.1, 0.9, 1.0, 1.2, 0.8, 1.3, 1.05, 0.95, 1.15, 0.85])


def network(backdoor):
    """Class k is worth BRIGHT[k] where its pixel is lit, and the target `backdoor` more where the last pixel is."""
    net = hand_set(backdoor, num_classes=CLASSES, size=SIZE)
    with torch.no_grad():
        net.head.weight[range(CLASSES), range(CLASSES)] = BRIGHT
    return net


@pytest.mark.parametrize("settings", [{}, {"starts": 4, "steps": 300, "lr": 0.05, "sign": False}])
def test_margins_are_those_of_the_best_image(settings):
    # The best image for class k lights its pixel and no other; for the target the last one as well.
    found = MMBD(**settings)(network(10.0))
    truth = BRIGHT.double().numpy() + 10 * (np.arange(CLASSES) == TARGET)
    assert 1 / found.norms == pytest.approx(truth, rel=0.01)
    assert found.p_value == pytest.approx(np.exp(anomaly.published_log_p(truth)), abs=1e-6)
    best = found.estimates[TARGET].pattern[0]
    assert best[-1, -1] == best[0, TARGET] == 1
    assert float(best[0, :CLASSES].sum()) < 1.01
    assert (found.verdict().target, found.verdict(rule="calibrated").target) == (TARGET, TARGET)
    assert MMBD(**settings)(network(0.0)).verdict(rule="calibrated").target is None


def test_images_lend_their_shape_and_nothing_else():
    alone = MMBD()(network(3.0)).norms
    images, labels = lit_pixels(1, num_classes=CLASSES, size=SIZE)
    assert np.array_equal(MMBD()(network(3.0), images, labels).norms, alone)
    assert np.array_equal(MMBD()(network(3.0), 1 - images, labels.flip(0)).norms, alone)
    few = MMBD()(network(3.0), targets=[7, TARGET, 4]).norms  # each class by itself
    assert few[[2, 4, 7]] == pytest.approx(alone[[2, 4, 7]])


def test_a_network_that_does_not_say_its_shape_is_told():
    bare = torch.nn.Sequential(network(3.0))
    with pytest.raises(ValueError, match=r"image_shape: expected \(C, H, W\)"):
        MMBD()(bare)
    assert MMBD(image_shape=(1, SIZE, SIZE))(bare).suspect == TARGET


def test_a_class_that_nothing_belongs_to_is_named():
    net = network(0.0)
    with torch.no_grad():
        net.head.weight[4] = net.head.weight[5] - 0.1 * (net.head.weight[5] > 0)
    with pytest.raises(ValueError, match="none for class 4"):
        MMBD()(net)
    assert np.isnan(MMBD()(net, targets=[0, 1, 2, 3]).norms[4])


@pytest.mark.parametrize("settings", [{"starts": 0}, {"steps": 0}, {"lr": -1.0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        MMBD(**settings)


def test_the_others_want_images():
    from btlib.detection import RedA, RedP

    assert (RedA.needs_images, MMBD.needs_images) == (True, False)
    assert (RedA.by_pairs, RedP.by_pairs) == (False, True)
    with pytest.raises(TypeError, match="MMBD does not"):
        RedA()(network(0.0), None, None)


def test_the_margin_is_above_all_others():
    logits = torch.tensor([[2.0, 7.0, 4.0]]).repeat(3, 1)
    assert margin.margin(logits, torch.arange(3)).tolist() == [-5.0, 3.0, -3.0]


def test_it_says_nothing_of_sources():
    estimate = MMBD(starts=2, steps=30)(network(3.0)).estimates[TARGET]
    assert estimate.sources() == ()
    assert (estimate.steps, estimate.gradients) == (30, 2 * 30)
    assert estimate.success == 1  # the image itself is of the class, whatever is behind it
