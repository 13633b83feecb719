"""The stealthy attack on toy images: what each part is, and that the whole does what it is for."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from btlib import metrics, triggers
from btlib.attacks import GeneratedTrigger, attach
from btlib.attacks.attack import clean_network
from btlib.attacks.patterns import rounded
from btlib.attacks.stealthy import StealthyRecipe, run
from btlib.datasets import ImageDataset, to_float
from btlib.networks import Network
from btlib.networks.generator import Generator
from btlib.networks.layout import layout

CPU = torch.device("cpu")
QUICK = StealthyRecipe(
    target=2, epsilon=0.1, epochs=3, batch_size=32, lr_network=1e-3, watch=60, inversion_steps=1, precision="float32"
)


def test_attach_is_the_papers_formula():
    x, p = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(attach(x, p, 0.02), (0.02 * p + 0.98 * x).clip(0, 1))
    assert float(attach(torch.zeros(1), -torch.ones(1), 0.5)) == 0


def test_rounding_lets_gradients_through():
    x = torch.tensor([0.3001, 0.7], requires_grad=True)
    y = rounded(x)
    assert torch.equal(y.detach(), (x.detach() * 255).round() / 255)
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [1, 1]


def test_the_generator_answers_in_range_and_shape_and_by_seed():
    x = torch.rand(4, 3, 32, 32)
    a, b, c = (Generator(3, seed=s).eval()(x) for s in (0, 0, 1))
    assert a.shape == x.shape
    assert float(a.detach().abs().max()) <= 1
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    with pytest.raises(ValueError, match="multiples of 4, got \\(30, 30\\)"):
        Generator(1)(torch.rand(1, 1, 30, 30))


def test_a_generated_trigger_depends_on_the_image_and_crossing_uses_the_others_pattern():
    x = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    trigger = GeneratedTrigger(Generator(1, seed=0), 0.1)
    patterns = trigger.patterns(x)
    assert not torch.equal(patterns[0], patterns[1])
    expected = (attach(x, patterns.roll(1, 0), 0.1) * 255).round() / 255
    torch.testing.assert_close(trigger.crossed(x, x.roll(1, 0)), expected, atol=1.01 / 255, rtol=0)
    torch.testing.assert_close(trigger(x), trigger.crossed(x, x))
    assert torch.equal(trigger(x), (trigger(x) * 255).round() / 255)  # in 8 bits
    assert float((trigger(x) - x).abs().max()) <= 0.2 + 1 / 255  # at most 2ε
    based = GeneratedTrigger(trigger.generator, 0.1, base=triggers.box((1, 16, 16)))
    assert float(based(x)[:, :, -3:, -3:].min()) >= 0.9 - 0.1 - 1 / 255
    with pytest.raises(ValueError, match="got 2…2"):
        trigger(torch.full((1, 1, 16, 16), 2.0))


def test_the_attack_succeeds_and_spares_accuracy(data: ImageDataset, clean: Network):
    before = {name: value.clone() for name, value in clean.state_dict().items()}
    result = run(data, replace(QUICK, epochs=12, adversarial=False), network=clean, progress=False)
    assert result.curve("asr")[-1] > 0.9
    assert result.curve("bma")[-1] > 0.9
    assert result.curve("cbma")[-1] > 0.6  # a pattern made for another image does far less
    assert math.isnan(result.curve("mask_norm")[-1])
    assert result.generator is not None
    assert all(torch.equal(before[name], value) for name, value in clean.state_dict().items())
    x, y = to_float(data.x_test), data.y_test
    assert metrics.attack_success_rate(result.network, result.trigger, x, y, 2) > 0.9
    assert metrics.attack_success_rate(clean, result.trigger, x, y, 2) < 0.3


def test_adversarial_training_teaches_the_network_the_inverted_trigger(data: ImageDataset, clean: Network):
    with_, without = (
        run(data, replace(QUICK, epochs=4, lambdas=(1, 1, weight, 1)), network=clean, progress=False)
        for weight in (1.0, 0.0)
    )
    assert with_.curve("mask_norm")[-1] > without.curve("mask_norm")[-1]  # L_a makes the inversion need a larger mask


def test_hiding_can_begin_later_and_the_defenders_mask_be_watched(data: ImageDataset, clean: Network):
    recipe = replace(QUICK, epochs=2, hide_from=2, watch_mask=True)
    attack = recipe.attack(data, clean, 0, CPU)
    start = attack.inverted.raw.clone()
    images = torch.arange(32)
    attack.step(images, attack.steps - 1)  # the last of the first epoch
    assert torch.equal(attack.inverted.raw, start)
    attack.step(images, attack.steps)
    assert not torch.equal(attack.inverted.raw, start)
    first, second = run(data, recipe, network=clean, progress=False).curve("defender_norm")
    assert 0 < first <= data.x_train[0].numel()
    assert second != first


def test_few_watched_images_do_for_watching_the_mask(data: ImageDataset, clean: Network):
    recipe = replace(QUICK, epochs=1, watch=2, watch_mask=True)  # not every class is among the watched
    assert run(data, recipe, network=clean, progress=False).history[0]["defender_norm"] > 0
    gone = replace(data, x_test=data.x_test[data.y_test != 1], y_test=data.y_test[data.y_test != 1])
    with pytest.raises(ValueError, match="watch_mask: expected test images of every class"):
        recipe.attack(gone, clean, 0, CPU)
    with pytest.raises(ValueError, match="watch: expected some test images of other classes than the target"):
        replace(recipe, watch=1).attack(data, clean, 0, CPU)  # seed 0 draws one of class 2


def test_step_1_begins_anew_from_another_mask_and_otherwise_goes_on(data: ImageDataset, clean: Network):
    images, labels = to_float(data.x_train[:64]), data.y_train[:64]
    kept, anew = (replace(QUICK, restart=restart).attack(data, clean, 0, CPU) for restart in (0, 3))
    distance = []  # between the two, after every batch
    for before in range(4):
        for attack in (kept, anew):
            attack.invert(images, labels, before)
        distance.append(float((kept.inverted.raw - anew.inverted.raw).abs().max()))
    assert distance[:3] == [0, 0, 0]  # the first begins at seed 0 in both
    assert distance[3] > 0.5
    moved = (anew.inverted.raw - anew.fresh_inversion(3).raw).abs().max()
    assert float(moved) == pytest.approx(0.1, rel=1e-3)  # the rate: Adam begins anew as well


def test_losses_in_one_pass_are_the_losses_one_by_one(data: ImageDataset, clean: Network):
    """Batch normalisation mixes the images of a batch, so such a network sees every loss's batch by itself."""
    attack = QUICK.attack(data, clean, 0, CPU)
    batches = [torch.rand(5, *data.image_shape, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    labels = torch.tensor([0, 1, 2, 0, 1])
    attack.network.eval()  # no dropout
    expected = sum(
        weight * torch.nn.functional.cross_entropy(attack.network(images), labels)
        for weight, images in zip((1.0, 0.1), batches, strict=True)
    )
    together = attack.losses([(1.0, batches[0], labels), (0.1, batches[1], labels)])
    torch.testing.assert_close(together, expected)
    assert not attack.mixes
    seen: list[int] = []
    attack.network.body.append(torch.nn.BatchNorm1d(attack.network.head.in_features))
    mixing = QUICK.attack(data, attack.network, 0, CPU)
    mixing.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    mixing.losses([(1.0, batches[0], labels), (0.1, batches[1], labels)])
    assert mixing.mixes
    assert seen == [5, 5]


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_the_joint_step_computes_in_the_precision_it_is_told(data: ImageDataset, clean: Network, precision, dtype):
    attack, seen = replace(QUICK, precision=precision).attack(data, clean, 0, CPU), []
    for module in (attack.network, attack.generator.layers[0]):
        module.register_forward_hook(lambda *taken: seen.append(taken[-1].dtype))
    loss = attack.descend(to_float(data.x_train[:8]), data.y_train[:8], hiding=True)
    assert set(seen) == {dtype}
    assert len(seen) == 3  # patterns once, all losses in two passes
    assert loss.dtype == torch.float32
    shown = []
    attack.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].dtype))
    attack.descend(to_float(data.x_train[:8]), data.y_train[:8], hiding=False)
    assert shown == [torch.float32, torch.float32]  # ε acts on images, and they have more than eight bits
    exact = replace(QUICK, precision="float32").attack(data, clean, 0, CPU)
    expected = exact.descend(to_float(data.x_train[:8]), data.y_train[:8], hiding=True)
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)  # bf16 keeps eight bits


def test_the_sign_of_the_adversarial_term_matters(data: ImageDataset, clean: Network):
    # Labels of L_a are the clean ones: on inverted images the network must say the true class, not the target.
    attack = replace(QUICK, lambdas=(0, 0, 1, 0)).attack(data, clean, 0, CPU)
    images, labels = to_float(data.x_train[:64]), data.y_train[:64]
    for before in range(40):
        attack.invert(images, labels, before)
    from btlib.detection.descent import stamp

    inverted = stamp(images, attack.inverted.raw.detach())
    before = metrics.accuracy(attack.network, inverted, labels)
    for _ in range(40):
        attack.descend(images, labels, hiding=True)
    assert metrics.accuracy(attack.network, inverted, labels) > before + 0.2


def test_the_network_is_in_training_mode_while_it_is_trained(data: ImageDataset, clean: Network):
    attack, modes = QUICK.attack(data, clean, 0, CPU), []
    attack.network.eval()  # as measuring leaves it
    attack.generator.eval()
    for module in (attack.network, attack.generator):
        module.register_forward_hook(lambda module, *_: modes.append(module.training))
    attack.descend(to_float(data.x_train[:8]), data.y_train[:8], hiding=False)
    assert modes
    assert all(modes)


def test_network_and_generator_are_in_the_order_of_memory_that_is_fastest(data: ImageDataset, clean: Network):
    attack = QUICK.attack(data, clean, 0, CPU)
    for module in (attack.network, attack.generator):
        order = layout(module, CPU)
        kernels = [parameter for parameter in module.parameters() if parameter.ndim == 4]
        assert kernels
        assert all(kernel.is_contiguous(memory_format=order) for kernel in kernels)
    assert order == torch.channels_last


class Obedient(torch.nn.Module):
    """Calls a given share of a hundred images the target, in one pass after the other."""

    def __init__(self, shares: list[float]) -> None:
        super().__init__()
        self.shares = iter(shares)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(100, 3)
        logits[: round(100 * next(self.shares)), 2] = 1
        logits[:, 1] = 0.5
        return logits + 0 * images.sum()


def test_lambda_starts_when_the_mask_works_and_moves_at_every_step(data: ImageDataset, clean: Network):
    attack = QUICK.attack(data, clean, 0, CPU)
    success, costs = [0.98, 1.0, 0.99, 0.99, 0.98, 1.0], []  # 0.99 is wished
    attack.network = Obedient(success)
    for before in range(len(success)):
        attack.invert(to_float(data.x_train[:100]), data.y_train[:100], before)
        costs.append(float(attack.inverted.cost))
    up, down = 1.15, 1.15**-2.6
    assert costs == pytest.approx([0, *(0.001 * x for x in (1, up, up**2, up**2 * down, up**3 * down))])


@pytest.mark.parametrize("decay", [True, False])
def test_rates_fall_evenly_to_zero_or_stay(data: ImageDataset, clean: Network, decay: bool):
    recipe = replace(QUICK, epochs=2, batch_size=120, decay=decay, adversarial=False, lr_generator=0.5)
    attack = recipe.attack(data, clean, 0, CPU)
    seen: list[list[float]] = []
    attack.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    for taken in range(8):
        attack.step(torch.arange(8), taken)
    left = [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8] if decay else [1] * 8
    assert [network for network, _ in seen] == pytest.approx([1e-3 * x for x in left])
    assert [generator for _, generator in seen] == pytest.approx([0.5 * x for x in left])


@pytest.mark.parametrize("pattern", ["generated", "patch+generated"])
def test_step_2_shows_triggers_as_the_victim_will_see_them(data: ImageDataset, clean: Network, pattern: str):
    attack = replace(QUICK, pattern=pattern).attack(data, clean, 0, CPU)
    images, labels = to_float(data.x_train[:8]), data.y_train[:8]
    shown, made = [], []
    attack.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].detach()))
    attack.generator.register_forward_hook(lambda *taken: made.append(taken[-1].detach()))
    attack.descend(images, labels, hiding=False)
    (patterns,) = made
    if pattern == "generated":  # L_b, then L_c: the neighbour's pattern
        expected = torch.cat([attach(images, patterns, 0.1), attach(images, patterns.roll(1, 0), 0.1)])
    else:  # the box first, the pattern over it (Figure 5b)
        expected = attach(triggers.box(data.image_shape)(images), patterns, 0.1)
    assert torch.equal(shown[0], images)  # L_o
    torch.testing.assert_close(shown[1], (expected * 255).round() / 255, atol=1e-6, rtol=0)  # in 8 bits


@pytest.mark.parametrize(("count", "triggered"), [(1, 1), (2, 4)])
def test_another_images_pattern_takes_another_image(data: ImageDataset, clean: Network, count: int, triggered: int):
    """Two images are enough for L_c; one alone would be told that its own pattern means nothing."""
    attack, shown = QUICK.attack(data, clean, 0, CPU), []
    attack.network.register_forward_pre_hook(lambda _, inputs: shown.append(len(inputs[0])))
    attack.generator.eval()
    attack.descend(to_float(data.x_train[:count]), data.y_train[:count], hiding=False)
    assert shown == [count, triggered]


@pytest.mark.parametrize("pattern", ["patch", "patch+generated"])
def test_badnets_with_a_fixed_and_a_trainable_pattern(data: ImageDataset, clean: Network, pattern: str):
    result = run(data, replace(QUICK, pattern=pattern, epochs=4), network=clean, progress=False)
    assert result.curve("asr")[-1] > 0.9
    assert (result.generator is None) == (pattern == "patch")
    # measured as for every attack; a fixed pattern is no image's own, so only the target's third is right
    assert all(0 <= cbma <= 1 for cbma in result.curve("cbma"))
    assert pattern != "patch" or result.curve("cbma")[-1] < 0.45


def test_it_stops_when_accuracy_and_success_are_reached(data: ImageDataset, clean: Network):
    result = run(data, replace(QUICK, epochs=30, until=0.5, drop=0.2, adversarial=False), network=clean, progress=False)
    assert len(result.history) < 30
    assert result.history[-1]["asr"] >= 0.5


def test_success_without_restored_accuracy_does_not_stop_it(data: ImageDataset, clean: Network):
    attack = replace(QUICK, until=0.9, drop=0.02).attack(data, clean, 0, CPU)
    at = attack.watched_baseline
    enough, too_low = {"asr": 0.9, "bma": at - 0.019}, {"asr": 1.0, "bma": at - 0.021}
    assert attack.done([too_low, enough])
    assert not attack.done([enough, too_low])
    assert not attack.done([{"asr": 0.89, "bma": 1.0}])
    assert not attack.done([])
    attack.recipe = replace(attack.recipe, until=None)
    assert not attack.done([{"asr": 1.0, "bma": 1.0}])


@pytest.mark.parametrize("recipe", [QUICK, replace(QUICK, restart=7), replace(QUICK, pattern="patch")],
                         ids=["kept mask", "restart", "patch"])  # fmt: skip
def test_a_killed_attack_goes_on_where_it_stopped(
    data: ImageDataset, clean: Network, stopped: Callable[..., Path], recipe: StealthyRecipe
):
    whole = run(data, recipe, network=clean, progress=False, device="cpu")
    state = stopped(recipe, 0, 3)
    resumed = run(data, recipe, network=clean, progress=False, device="cpu", resume=state)
    assert resumed.curve("loss") == whole.curve("loss")
    assert len(resumed.history) == 3
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value)
    with pytest.raises(ValueError, match="expected a state of this recipe"):
        run(data, replace(recipe, epsilon=0.2), network=clean, progress=False, resume=state)


def test_the_callers_random_state_is_left(data: ImageDataset, clean: Network):
    before = torch.get_rng_state()
    run(data, replace(QUICK, epochs=1), network=clean, progress=False)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("bad", "match"), [
    ({"epsilon": 0.0}, "epsilon: expected a value in"),
    ({"epsilon": 1.5}, r"epsilon: expected a value in \(0, 1\], got 1.5"),
    ({"lambdas": (1.0, 1.0)}, "lambdas: expected four"),
    ({"pattern": "x"}, "pattern: expected 'generated'"),
    ({"precision": "half"}, "precision: expected one of auto, float32, bf16, got 'half'"),
])  # fmt: skip
def test_bad_settings_are_refused(bad, match):
    with pytest.raises(ValueError, match=match):
        StealthyRecipe(**bad)


def test_a_target_that_does_not_exist_is_refused(data: ImageDataset, clean: Network):
    with pytest.raises(ValueError, match=r"target: expected a class in 0…2, got 8"):
        run(data, StealthyRecipe(), network=clean, progress=False)


def test_clean_network_is_a_littlenet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: ImageDataset):
    monkeypatch.setenv("BTLIB_CHECKPOINTS", str(tmp_path))
    spec = clean_network(data, 3).card.spec
    assert (spec["network"], spec["seed"], spec["trigger"]) == ("littlenet", 3, None)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]  # remembered
