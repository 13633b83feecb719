"""Settings as the papers, public code and docs/choices.md have them, and what a search costs by them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from btlib import detection
from btlib.detection import FAST, FOCUSED, MMBD, PUBLIC, MaskRedP, NeuralCleanse, RedA, screen
from btlib.detection.descent import Inversions
from btlib.detection.screening import SHORT
from btlib.detection.selection import selected_p


def test_masks_are_searched_and_cost_as_docs_choices_says() -> None:
    """ "Post-training detection": the public schedule, shortened, and 150 steps on 32 images with λ moved at each."""
    found = NeuralCleanse(inversion=PUBLIC).get_params()["inversion"]
    assert (found.rounds, found.steps, found.batch_size, found.lr, found.decay) == (30, None, 64, 0.1, False)
    assert (found.start, found.patience, found.multiplier, found.fall) == (1e-3, 5, 2.0, 1.5)
    quick = NeuralCleanse().inversion
    assert NeuralCleanse().per_class == 100
    assert (quick.rounds, quick.steps, quick.batch_size, quick.lr, quick.patience) == (150, 1, 32, 0.2, 1)
    assert quick.decay  # its last mask counts
    assert not quick.check
    assert quick.stop_after > quick.rounds  # it never stops early
    assert (SHORT.rounds, SHORT.steps, SHORT.batch_size) == (30, 1, 16)  # of many classes: 30 steps on 16 images
    # A look at all images with the first mask, one with the last, and five at a tenth of them.
    told = NeuralCleanse().passes(3200, 10, targets=10)
    assert (told.gradients, told.looks) == pytest.approx((10 * 150 * 32, 10 * 3200 * 2.5))
    assert NeuralCleanse().passes(1000, 10, targets=1).looks == pytest.approx(2500)  # "2,500 looks a class"
    told = NeuralCleanse(inversion=PUBLIC).passes(3200, 10, targets=1)
    assert (told.gradients, told.looks) == (30 * 3200, 3200 * 31)  # 30 passes, each judged by all images


def test_margins_are_searched_as_docs_choices_says() -> None:
    mmbd = MMBD()
    assert (mmbd.starts, mmbd.steps, mmbd.lr, mmbd.sign) == (10, 100, 0.1, True)


def test_masks_for_pairs_cost_a_search_for_each_source() -> None:
    # 100 steps of 8 images: 20 images make three batches, so 33 passes and one step; for 10 sources each.
    pairs = MaskRedP().passes(200, 10, targets=9)
    assert (pairs.gradients, pairs.looks) == pytest.approx((10 * 9 * (33 * 20 + 8), 10 * 9 * 20 * 2.5))


def test_what_perturbations_cost() -> None:
    """A usual norm of 3 in steps of .1, and six halvings of the last; all images but a target's own."""
    told = RedA().passes(100, 10, targets=10)
    assert (told.gradients, told.looks) == pytest.approx((10 * 90 * 30, 10 * 90 * 6))
    assert RedA(search=FOCUSED).search == replace(FAST, focused=True)


@pytest.mark.parametrize(("name", "per_class"), [
    ("neural-cleanse", 100), ("mask-red-a", 100), ("mask-red-p", 20),  # 1,000 images of ten classes
    ("red-a", 8), ("red-u", 8), ("red-p", 8), ("red-a-2", 2),  # L-RED 4: eight images of each class, RED-A' two
])  # fmt: skip
def test_how_many_images_each_detector_takes(name: str, per_class: int) -> None:
    assert detection.registry.settings_of(detection.find(name))["per_class"] == per_class


def test_a_short_search_is_neural_cleanses_with_one_image_of_each_class() -> None:
    linear = nn.Linear(64, 5)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(5, 64, generator=torch.Generator().manual_seed(0)))
    net = nn.Sequential(nn.Flatten(), linear)
    x, y = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 5
    whole = NeuralCleanse(per_class=1, inversion=SHORT)(net, x, y)
    success = np.array([whole.estimates[t].success for t in range(5)])
    np.testing.assert_allclose(screen(net, x, y), whole.norms / np.maximum(success, 1e-3), rtol=1e-5)


def test_without_a_seed_it_is_seed_0_and_without_references_the_plain_null() -> None:
    assert torch.equal(Inversions((1, 6, 6), 4, [1]).raw, Inversions((1, 6, 6), 4, [1], seed=0).raw)
    r = np.array([1.0, 1.1, 0.9, 1.2, 0.8, 1.05, 1.3, 1.32])
    told = selected_p(r, 50, 2, seed=0, references=0)
    assert selected_p(r, 50, 2) == told
    assert selected_p(r, 50, 2, seed=1) != told != selected_p(r, 50, 2, references=1)
