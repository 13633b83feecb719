"""The invisible attack on toy images: its parts by hand, and that the whole does what it is for."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from btlib import metrics
from btlib.attacks import AttackResult
from btlib.attacks.invisible import InvisibleRecipe, PatternSearch, find_anchors, run
from btlib.datasets import ImageDataset, to_float
from btlib.networks import Network
from btlib.resume import ResumeFile
from btlib.training import Recipe, train

FINE_TUNING = Recipe(epochs=2, batch_size=32, lr=1e-3)
QUICK = InvisibleRecipe(target=2, psnr=20, steps=60, per_class=60, training=FINE_TUNING, watch=60)


def activations(network: Network, x: torch.Tensor) -> torch.Tensor:
    return metrics.predict(network, x, layer="penultimate")


def test_anchors_speak_for_the_target_and_not_for_the_others(clean: Network):
    by_hand = clean.head.weight.detach().clone()
    by_hand[:] = 1.0  # neurons that speak for all classes alike are no anchors
    by_hand[2, 5], by_hand[2, 7], by_hand[:2, 9] = 3.0, 2.0, -0.5
    head = torch.nn.Linear(84, 3)
    head.weight.data = by_hand
    network = torch.nn.Module()
    network.head = head
    assert find_anchors(network, 2, 3).tolist() == [5, 9, 7]  # 2, 1.5 and 1 above the mean of the others
    assert len(find_anchors(clean, 0, 1000)) == 84


def test_the_pattern_is_faint_and_excites_the_anchors_more_than_noise_does(data: ImageDataset, clean: Network):
    before = {name: value.clone() for name, value in clean.state_dict().items()}
    pattern, cpu = torch.zeros(data.image_shape), torch.device("cpu")
    search, limit = PatternSearch(clean, data, QUICK, pattern), 0.1 * math.sqrt(pattern.numel())  # 20 dB
    assert search.limit == pytest.approx(limit)
    train([search], ResumeFile(None), seed=0, device=cpu)
    assert 0.9 * limit < float(pattern.norm()) <= limit * 1.0001
    anchors, x = find_anchors(clean, 2, QUICK.anchors), to_float(data.x_test[data.y_test != 2])
    noise = torch.randn(pattern.shape, generator=torch.Generator().manual_seed(0))
    noise *= pattern.norm() / noise.norm()
    plain, noisy, made = (activations(clean, (x + d).clamp(0, 1))[:, anchors].mean() for d in (0, noise, pattern))
    assert made - plain > 2 * abs(noisy - plain)  # 2.6 against 0.7
    assert all(torch.equal(before[name], value) for name, value in clean.state_dict().items())
    assert all(p.requires_grad for p in clean.parameters())


def test_the_attack_takes_and_spares_accuracy(data: ImageDataset, clean: Network):
    before = {name: value.clone() for name, value in clean.state_dict().items()}
    result = run(data, QUICK, network=clean, progress=False)
    x, y = to_float(data.x_test), data.y_test
    assert metrics.attack_success_rate(result.network, result.trigger, x, y, 2) > 0.9
    assert metrics.accuracy(result.network, x, y) > 0.9
    stamped = result.trigger(x)
    assert torch.equal(stamped, (x + result.trigger.pattern).clamp(0, 1).mul(255).round() / 255)  # one for all
    assert metrics.psnr(x, stamped) > 20 - 0.5
    assert result.generator is None
    assert result.curve("cbma")[-1] < 0.45  # it is not made for one image: only the target's own third stays right
    assert result.curve("epoch") == [1, 2]
    assert len(result.curve("asr")) == 2
    assert result.curve("pattern_epoch") == [1]  # the search is part of what it costs
    assert result.curve("pattern_loss")[0] > 0
    assert min(result.curve("seconds")) > 0
    assert len(result.curve("seconds")) == 3
    assert result.baseline > 0.95
    assert all(torch.equal(before[name], value) for name, value in clean.state_dict().items())


@pytest.fixture(scope="module")
def whole(data: ImageDataset, clean: Network) -> AttackResult:
    """The attack without a break, which all that were killed must come to."""
    return run(data, QUICK, network=clean, progress=False, device="cpu")


@pytest.mark.parametrize(("stage", "epoch"), [(0, 1), (1, 1), (1, 2)], ids=["search", "between", "fine-tuning"])
def test_a_killed_attack_goes_on_where_it_stopped(
    data: ImageDataset, clean: Network, whole: AttackResult, stopped: Callable[..., Path], stage: int, epoch: int
):
    state = stopped(QUICK, stage, epoch)
    kept = torch.load(state)["pattern"] if stage else None  # once found, it is not sought again
    resumed = run(data, QUICK, network=clean, progress=False, device="cpu", resume=state)
    assert kept is None or torch.equal(kept, whole.trigger.pattern)
    assert resumed.curve("pattern_loss") == whole.curve("pattern_loss")
    assert torch.equal(resumed.trigger.pattern, whole.trigger.pattern)
    theirs = whole.network.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in resumed.network.state_dict().items())
    with pytest.raises(ValueError, match="expected a state of this recipe"):
        run(data, replace(QUICK, psnr=25), network=clean, progress=False, resume=state)


def test_too_few_images_of_a_class_are_seen_before_the_search(data: ImageDataset, clean: Network):
    with pytest.raises(ValueError, match="1000"):
        replace(QUICK, per_class=1000).attack(data, clean, 0, torch.device("cpu"))


def test_bad_input_is_refused(data: ImageDataset, clean: Network):
    with pytest.raises(ValueError, match="anchors: expected a positive number, got 0"):
        InvisibleRecipe(anchors=0)
    with pytest.raises(ValueError, match="target: expected a class in 0…2, got 8"):
        run(data, InvisibleRecipe(), network=clean, progress=False)
    few = replace(data, x_train=data.x_train[data.y_train != 2], y_train=data.y_train[data.y_train != 2])
    with pytest.raises(ValueError, match=r"target: expected a class with training images, got 2; .* 0…2"):
        run(few, QUICK, network=clean, progress=False)
    with pytest.raises(ValueError, match="target: expected a class in 0…2, got -1"):
        find_anchors(clean, -1, 1)
