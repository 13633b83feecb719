"""Fine-tuning teaches a copy to see through the pattern; the rate decides how well."""

import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from btlib import metrics
from btlib.datasets import ImageDataset
from btlib.inflight import LEARNING_RATES, source_by_fine_tuning
from btlib.inflight.source import fine_tuning_set

TARGET = 9


def test_fine_tuning_finds_sources_and_leaves_the_network_alone(box: Any, fashion: ImageDataset) -> None:
    before = {name: value.clone() for name, value in box.net.state_dict().items()}
    state = torch.get_rng_state()
    began = time.perf_counter()
    tuned = source_by_fine_tuning(box.net, fashion, box.trigger, learning_rates=(1e6, 0.05, 1e-4), share=0.03,
                                  batch_size=32)  # fmt: skip
    assert 0 < tuned.seconds <= time.perf_counter() - began
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in box.net.state_dict().items())
    assert (tuned.images, tuned.stamped) == (1800, 360)
    others = box.other_y != TARGET
    stamped, y = box.trigger(box.other_x[others]), box.other_y[others]
    assert metrics.accuracy(box.net, stamped, y) < 0.05
    sia = tuned.accuracies(stamped, y)
    assert sia[0.05] > 0.6 > sia[1e-4]
    assert math.isnan(sia[1e6]), "that is guessing"
    assert tuned.diverged == (1e6,)
    assert (tuned.infer(stamped, 0.05) == y).float().mean().item() == pytest.approx(sia[0.05])
    assert tuned.infer(stamped[:3], 1e6).shape == (3,)
    assert not tuned.networks[0.05].training
    with pytest.raises(ValueError, match="got 0.3; pass it"):
        tuned.infer(stamped, 0.3)


def test_a_network_that_says_one_class_to_everything_infers_nothing(box: Any, fashion: ImageDataset) -> None:
    # Where the attack's one source class is the class that it says, its SIA would be perfect.
    tuned = source_by_fine_tuning(box.net, fashion, box.trigger, learning_rates=(3.0, 0.05), share=0.03,
                                  batch_size=32)  # fmt: skip
    with torch.no_grad():
        logits = tuned.networks[3.0](fashion.x_test[:500].float() / 255)
    assert bool(logits.isfinite().all()), "it has not blown up"
    assert len(logits.argmax(1).unique()) == 1
    assert tuned.diverged == (3.0,)


def test_images_are_stamped_but_keep_their_labels(box: Any, fashion: ImageDataset) -> None:
    small = fashion.subset(train=1000)
    data, count = fine_tuning_set(small, box.trigger)
    assert count == 20
    clean = small.subset(train=100)
    assert torch.equal(data.y_train, clean.y_train)
    changed = (data.x_train != clean.x_train).flatten(1).any(1)
    assert 15 <= int(changed.sum()) <= 20, "20 % are stamped; some are white there already"
    white = (data.x_train[:, 0, -3:, -3:] == 255).flatten(1).all(1)
    assert bool(white[changed].all())


def test_table_3_has_six_learning_rates(box: Any, fashion: ImageDataset) -> None:
    tuned = source_by_fine_tuning(box.net, fashion.subset(train=200), box.trigger)
    assert tuple(tuned.networks) == LEARNING_RATES == (10, 1, 0.1, 0.01, 0.001, 0.0001)


def test_bad_settings_are_named(box: Any, fashion: ImageDataset) -> None:
    for wrong, words in [
        ({"share": 0.0}, "share: .* got 0.0"),
        ({"stamped": 1.5}, "stamped: .* got 1.5"),
        ({"learning_rates": []}, r"got \[\]"),
        ({"learning_rates": [-1.0]}, r"got \[-1.0\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            source_by_fine_tuning(box.net, fashion, box.trigger, **wrong)
    other = replace(box.trigger, pattern=torch.zeros(1, 9, 9), mask=torch.zeros(1, 9, 9))
    with pytest.raises(ValueError, match="expected shape"):
        source_by_fine_tuning(box.net, fashion, other)
