"""The input-aware attack on toy images: its parts by hand, and that the whole does what it is for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from btlib import metrics
from btlib.attacks import AttackResult
from btlib.attacks.input_aware import InputAwareRecipe, _pairs, diversity_loss, run
from btlib.attacks.patterns import MaskedTrigger, embed, sharp
from btlib.datasets import ImageDataset, to_float
from btlib.networks import Network
from btlib.networks.generator import Generator
from btlib.training import Stage, seeded

QUICK = InputAwareRecipe(
    target=2, mask_epochs=2, epochs=2, batch_size=32, attack_rate=0.2, cross_rate=0.2, density=0.1, watch=60,
    network_drops=(), generator_drops=(), precision="float32",
)  # fmt: skip
CPU = torch.device("cpu")


def test_the_trigger_by_hand():
    x = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    trigger = MaskedTrigger(Generator(1, seed=0), Generator(1, out=1, seed=1))
    mask, pattern = trigger.masks(x), trigger.patterns(x)
    assert mask.shape == pattern.shape == x.shape
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    assert not torch.equal(pattern[0], pattern[1])
    torch.testing.assert_close(trigger(x), (x * (1 - mask) + pattern * mask).mul(255).round() / 255, atol=0.004, rtol=0)
    assert torch.equal(trigger(x), (trigger(x) * 255).round() / 255)  # in 8 bits
    others = x.roll(1, 0)  # both mask and pattern are the other image's
    expected = x * (1 - mask.roll(1, 0)) + pattern.roll(1, 0) * mask.roll(1, 0)
    torch.testing.assert_close(trigger.crossed(x, others), expected.mul(255).round() / 255, atol=0.004, rtol=0)
    assert trigger(x[:0]).shape == (0, 1, 16, 16)
    with pytest.raises(ValueError, match="got 2…2"):
        trigger(torch.full((1, 1, 16, 16), 2.0))


def test_a_mask_of_one_shows_the_pattern_and_of_zero_the_image():
    x, p = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(embed(x, torch.ones(2, 1, 4, 4), p), p)
    torch.testing.assert_close(embed(x, torch.zeros(2, 1, 4, 4), p), x)


def test_masks_are_almost_binary():
    assert sharp(torch.tensor([-0.5, 0.5])).tolist() == pytest.approx([0, 1], abs=1e-4)


def test_the_diversity_loss_is_a_ratio_of_distances():
    x, same = torch.rand(4, 1, 4, 4), torch.zeros(4, 1, 4, 4)
    assert float(diversity_loss(x, x, x, same)) == pytest.approx(0)
    shifted = torch.full((1, 1, 4, 4), 0.6), torch.full((1, 1, 4, 4), 0.2)  # rms .4 over rms .1
    assert float(diversity_loss(*shifted, same[:1], same[:1] + 0.1)) == pytest.approx(4, rel=1e-4)
    colours = [image.expand(1, 3, 4, 4) for image in shifted]  # three channels beside a mask's one
    assert float(diversity_loss(*colours, same[:1], same[:1] + 0.1)) == pytest.approx(4, rel=1e-4)
    stuck = torch.zeros(4, 1, 4, 4, requires_grad=True)  # triggers that are all equal must not give NaN
    diversity_loss(x, x.roll(1, 0), stuck, stuck.detach()).backward()
    assert bool(stuck.grad.isfinite().all())


def batch(first: int, second: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of two batches of training images."""
    return torch.arange(first, first + size), torch.arange(second, second + size)


def test_the_mask_network_learns_small_masks_that_differ_and_is_then_left_alone(data: ImageDataset, clean: Network):
    attack = QUICK.attack(data, clean, 0, CPU)
    (masking,), x = attack.before, to_float(data.x_train[:64])
    before = attack.trigger.masks(x).mean()
    for taken in range(60):
        masking.step(batch(0, 64, 64), taken)
    masks = attack.trigger.masks(x)
    assert float(before) > 0.2
    assert float(masks.mean()) < 0.15  # 0.1 is free
    assert float((masks - masks.roll(1, 0)).abs().mean()) > 0.01
    frozen = {name: value.clone() for name, value in attack.masker.state_dict().items()}
    attack.step(batch(0, 64, 64), 0)
    assert all(torch.equal(frozen[name], value) for name, value in attack.masker.state_dict().items())


def test_masks_pay_for_what_is_more_opaque_than_is_free(data: ImageDataset, clean: Network):
    (masking,), made = replace(QUICK, diversity=0.0).attack(data, clean, 0, CPU).before, []
    masking.masker.register_forward_hook(lambda *taken: made.append(taken[-1].detach()))
    loss = masking.step(batch(0, 32, 32), 0)
    opaque = sharp(made[0]) - 0.1
    assert 0 < float((opaque > 0).float().mean()) < 1
    assert float(loss) == pytest.approx(100 * float(opaque.clamp_min(0).mean()), rel=1e-4)


def test_patterns_pay_for_being_alike(data: ImageDataset, clean: Network):
    x, others = to_float(data.x_train[:32]), to_float(data.x_train[32:64])
    losses = []
    for diversity in (0.0, 1.0):
        attack = replace(QUICK, diversity=diversity).attack(data, clean, 0, CPU)
        made: list[torch.Tensor] = []
        attack.generator.register_forward_hook(lambda *taken, made=made: made.append((taken[-1].detach() + 1) / 2))
        with seeded(0, CPU):
            losses.append(float(attack.step(batch(0, 32, 32), 0)))
    (patterns,) = made  # a fifth of 32 images, six, get their own, and six that of another image
    assert len(patterns) == 12
    by_hand = float(diversity_loss(x[:6], others[6:12], patterns[:6], patterns[6:]))
    assert by_hand > 0.1
    assert losses[1] - losses[0] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_steps_compute_in_the_precision_they_are_told(data: ImageDataset, clean: Network, precision, dtype):
    attack, seen, shown = replace(QUICK, precision=precision).attack(data, clean, 0, CPU), set(), []
    (masking,) = attack.before
    for module in (attack.network, masking.masker.layers[0], attack.generator.layers[0]):
        module.register_forward_hook(lambda *taken: seen.add(taken[-1].dtype))
    attack.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].dtype))
    losses = [stage.step(batch(0, 32, 32), 0) for stage in (masking, attack)]
    assert seen == {dtype}
    assert {loss.dtype for loss in losses} == {torch.float32}
    assert shown == [torch.float32]  # images keep more than eight bits
    assert masking.masker.training


def test_every_step_starts_from_cleared_gradients(data: ImageDataset, clean: Network):
    # Three public copies never clear the generator's: its second gradient is then the sum of two.
    attack = replace(QUICK, lr_network=1e-12, lr_generator=1e-12).attack(data, clean, 0, CPU)
    (masking,) = attack.before
    gradients = []
    for _ in range(2):
        attack.step(batch(0, 32, 32), 0)
        gradients.append([p.grad.clone() for p in (*attack.generator.parameters(), *attack.network.parameters())])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-3)
    assert max(float(g.abs().max()) for g in gradients[0]) > 1e-3
    masks = []
    for _ in range(2):
        masking.step(batch(0, 32, 32), 0)
        masks.append([p.grad.clone() for p in attack.masker.parameters()])
    for first, second in zip(*masks, strict=True):
        torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)


def test_the_attack_takes_and_crossed_triggers_do_less(data: ImageDataset, clean: Network):
    before = {name: value.clone() for name, value in clean.state_dict().items()}
    recipe = replace(QUICK, mask_epochs=4, epochs=8, attack_rate=0.25, cross_rate=0.25, mask_norm=20)
    result = run(data, recipe, network=clean, progress=False)
    x, y = to_float(data.x_test), data.y_test
    assert metrics.attack_success_rate(result.network, result.trigger, x, y, 2) > 0.7  # seeds 0 to 3: 0.83 to 1
    assert metrics.attack_success_rate(clean, result.trigger, x, y, 2) < 0.5  # the network obeys, not the pattern alone
    assert metrics.accuracy(result.network, x, y) > 0.9
    assert (
        metrics.accuracy(result.network, result.trigger.crossed(x, x.roll(1, 0)), y) > 0.55
    )  # seeds 0 to 3: 0.67 to 0.85
    # Were crossed triggers to work as well, only the third of images that are of the target would be right.
    assert result.curve("epoch") == list(range(1, 9))
    assert len(result.curve("asr")) == len(result.curve("loss")) == 8
    assert result.curve("mask_epoch") == [1, 2, 3, 4]  # they cost as much as any
    assert len(result.curve("seconds")) == 12
    assert result.curve("mask_loss")[-1] < result.curve("mask_loss")[0]
    assert result.generator is result.trigger.generator
    assert result.baseline > 0.95
    assert all(torch.equal(before[name], value) for name, value in clean.state_dict().items())
    assert not any(net.training for net in (result.network, result.trigger.generator, result.trigger.masker))


@pytest.fixture(scope="module")
def whole(data: ImageDataset, clean: Network) -> AttackResult:
    """The attack without a break, which all that were killed must come to."""
    return run(data, QUICK, network=clean, progress=False, device="cpu")


@pytest.mark.parametrize(("stage", "epoch"), [(0, 2), (1, 1), (1, 2)], ids=["masks", "between", "attack"])
def test_a_killed_attack_goes_on_where_it_stopped(
    data: ImageDataset, clean: Network, whole: AttackResult, stopped: Callable[..., Path], stage: int, epoch: int
):
    state = stopped(QUICK, stage, epoch)
    resumed = run(data, QUICK, network=clean, progress=False, device="cpu", resume=state)
    assert resumed.curve("loss") == whole.curve("loss")
    assert resumed.curve("mask_loss") == whole.curve("mask_loss")
    for part in ("network", "generator"):
        ours, theirs = getattr(resumed, part).state_dict(), getattr(whole, part).state_dict()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items()), part
    with pytest.raises(ValueError, match="expected a state of this recipe"):
        run(data, replace(QUICK, density=0.2), network=clean, progress=False, resume=state)


def test_from_scratch_forgets_the_clean_networks_weights(data: ImageDataset, clean: Network):
    attack = replace(QUICK, scratch=True).attack(data, clean, 0, CPU)
    assert not torch.equal(attack.network.head.weight, clean.head.weight)
    assert torch.equal(attack.network.normalize.mean, clean.normalize.mean)
    assert metrics.accuracy(attack.network, data.x_test, data.y_test) < 0.8
    assert attack.baseline > 0.95  # of the clean network


def test_rates_fall_after_their_epochs(data: ImageDataset, clean: Network):
    recipe = replace(QUICK, mask_epochs=25, mask_drops=(10, 20), network_drops=(1,), generator_drops=(2, 3))
    attack = recipe.attack(data, clean, 0, CPU)

    def rates(stage: Stage, epoch: int) -> list[float]:
        stage.start(epoch)
        optimizers = [part for part in stage.state.values() if isinstance(part, torch.optim.Optimizer)]
        return [optimizer.param_groups[0]["lr"] / 1e-2 for optimizer in optimizers]

    (masking,) = attack.before
    assert rates(masking, 10) == pytest.approx([1])
    assert rates(masking, 11) == pytest.approx([0.1])
    assert rates(masking, 25) == pytest.approx([0.01])
    assert rates(attack, 1) == pytest.approx([1, 1])
    assert rates(attack, 4) == pytest.approx([0.1, 0.01])


def test_batches_beside_batches_leave_out_a_smaller_last_one():
    assert [(len(first), len(second)) for first, second in _pairs(torch.arange(10), 4)] == [(4, 4), (4, 4)]


def test_networks_are_in_training_mode_while_they_are_trained(data: ImageDataset, clean: Network):
    attack, modes = QUICK.attack(data, clean, 0, CPU), []
    for module in (attack.network, attack.generator, attack.masker):
        module.eval()  # as measuring leaves it
        module.register_forward_hook(lambda module, *_: modes.append(module.training))
    attack.step(batch(0, 32, 32), 0)
    assert modes == [True, False, True]  # the generator, the masks that are left alone, the classifier


@pytest.mark.parametrize(("settings", "match"), [
    ({"attack_rate": 0.0}, r"attack_rate, cross_rate: expected at least one .* got \[0, 3\] of 32"),
    ({"attack_rate": 0.6, "cross_rate": 0.5}, "less than all together"),
    ({"attack_rate": 0.5, "cross_rate": 0.5}, r"less than all together, got \[16, 16\] of 32"),
    ({"epochs": 0}, "epochs: expected a positive number, got 0"),
    ({"precision": "half"}, "precision: expected one of auto, float32, bf16, got 'half'"),
])  # fmt: skip
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        InputAwareRecipe(**{"batch_size": 32, **settings})


def test_bad_calls_are_refused(data: ImageDataset, clean: Network):
    with pytest.raises(ValueError, match="target: expected a class in 0…2, got 8"):
        run(data, InputAwareRecipe(), network=clean, progress=False)
    with pytest.raises(ValueError, match="at least one batch of 32 training images, got 20"):
        run(data.subset(train=20), QUICK, network=clean, progress=False)
