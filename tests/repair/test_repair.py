"""Every repair: what all of them keep, and what each does to a backdoor that is known by construction."""

import math
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from toys import TARGET

from btlib import metrics, repair
from btlib.datasets import to_uint8
from btlib.repair import (
    ActivationCaps,
    AdversarialNeuronPruning,
    ChannelLipschitz,
    FinePruning,
    FineTuning,
    ImplicitUnlearning,
    Repair,
    Unlearning,
    neuron_pruning,
)  # fmt: skip
from btlib.repair.base import Task
from btlib.repair.channels import hidden_layers
from btlib.training import Recipe

Images = tuple[Tensor, Tensor]
Stamp = Callable[[Tensor], Tensor]
SHORT = Recipe(epochs=20, batch_size=16, lr=0.05, optimizer="sgd", channels_last=False)
#: Settings for 90 images of 16 pixels.
QUICK: dict[str, Repair] = {
    "fine-tuning": FineTuning(SHORT), "unlearning": Unlearning(0.3, SHORT), "fine-pruning": FinePruning(recipe=SHORT),
    "adversarial neuron pruning": AdversarialNeuronPruning(steps=60, batch_size=32),
    "implicit unlearning": ImplicitUnlearning(bound=1.0, share=0.2, recipe=SHORT),
    "activation caps": ActivationCaps(epochs=5), "channel Lipschitzness": ChannelLipschitz(u=2),
}  # fmt: skip
every = pytest.mark.parametrize("method", QUICK.values(), ids=QUICK)
removing = pytest.mark.parametrize(
    "method", [QUICK[name] for name in QUICK if name not in ("fine-tuning", "adversarial neuron pruning")]
)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def success(network: nn.Module, images: Images, trigger: Stamp) -> float:
    return metrics.attack_success_rate(network, trigger, *images, TARGET)


def test_the_list_has_them_all_by_name() -> None:
    assert set(QUICK) == set(repair.REPAIRS)
    for name, kind in repair.REPAIRS.items():
        assert kind.name == name
        assert kind() == kind()
        assert repr(kind()).startswith(kind.__name__ + "(")
        with pytest.raises(FrozenInstanceError):
            kind().seed = 1  # type: ignore[attr-defined]


@removing
def test_the_backdoor_goes_and_accuracy_stays(
    method: Repair, normed: nn.Module, images: Images, trigger: Stamp
) -> None:
    assert success(normed, images, trigger) == 1.0
    began = time.perf_counter()
    done = method(normed, *images, trigger=trigger)
    assert 0 < done.seconds <= time.perf_counter() - began
    assert success(done.network, images, trigger) < 0.05
    assert metrics.accuracy(done.network, *images) > 0.95
    assert done.method == method
    assert done.summary
    assert not done.network.training


@every
def test_the_given_network_and_the_random_state_are_untouched(
    method: Repair, normed: nn.Module, images: Images, trigger: Stamp
) -> None:
    normed.train()
    normed.last.weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    before, randomness = state(normed), torch.get_rng_state()
    done = method(normed, *images, trigger=trigger)
    assert same(state(normed), before)
    assert normed.training
    assert [p.requires_grad for p in normed.parameters()] == [True, True, True, False]
    assert [p.requires_grad for p in done.network.parameters()] == [True, True, True, False]
    assert all(p.grad is None for p in normed.parameters())
    assert torch.equal(torch.get_rng_state(), randomness)


@every
def test_the_same_seed_gives_the_same_bits_and_bytes_do_as_floats(
    method: Repair, normed: nn.Module, images: Images, trigger: Stamp
) -> None:
    as_bytes = to_uint8(images[0])
    first = method(normed, as_bytes, images[1], trigger=trigger, seed=3)
    torch.rand(5)
    second = method(normed, as_bytes.float() / 255, images[1], trigger=trigger, seed=3)
    assert same(state(first.network), state(second.network))


def test_a_failed_repair_leaves_everything_too(normed: nn.Module, images: Images) -> None:
    before, randomness = state(normed), torch.get_rng_state()

    def broken(shown: Tensor) -> Tensor:
        torch.rand(3)
        raise RuntimeError("broken trigger")

    with pytest.raises(RuntimeError, match="broken trigger"):
        Unlearning()(normed, *images, trigger=broken)
    assert same(state(normed), before)
    assert torch.equal(torch.get_rng_state(), randomness)


@every
def test_wrong_inputs_are_refused(method: Repair, normed: nn.Module, images: Images, trigger: Stamp) -> None:
    x, y = images
    for bad, message in [
        ((normed, x * 255, y), "images: expected values in"),
        ((normed, x, y[:-1]), r"labels: expected one integer label per image .* \(89,\) for 90 images"),
        ((normed, x[:3], y[:3]), "expected at least 5 images that the network classifies as labelled, got 3 of 3"),
        ((normed, x, y + 1), "labels: expected classes in 0…2, got 1…3"),
        ((normed, x, (y + 1) % 3), "classifies as labelled, got 0 of 90"),
        ((nn.Flatten(), x, y), "network: expected a network with parameters"),
        ((nn.Conv2d(1, 3, 3), x, y), r"expected logits \(N, K\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            method(*bad, trigger=trigger)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (Unlearning, {"share": 1.5}), (FinePruning, {"max_drop": -0.1}), (FinePruning, {"max_drop": 1.5}),
        (AdversarialNeuronPruning, {"alpha": 1.5}), (AdversarialNeuronPruning, {"max_drop": 1.5}),
        (ImplicitUnlearning, {"share": -1.0}), (ImplicitUnlearning, {"share": 1.5}),
        (ActivationCaps, {"max_drop": 1.1}), (ChannelLipschitz, {"u": -1.0}),
    ],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(kind: type[Repair], setting: dict[str, float]) -> None:
    [(name, value)] = setting.items()
    with pytest.raises(ValueError, match=f"{name}: expected 0.*got {value}"):
        kind(**setting)


@pytest.mark.parametrize("kind", [FineTuning, ImplicitUnlearning])
def test_a_repair_that_breaks_the_network_is_refused(kind: type, backdoored: nn.Module, images: Images) -> None:
    with pytest.raises(ValueError, match="expected finite weights after"):
        kind(recipe=replace(kind().recipe, lr=1e38))(backdoored, *images)


def test_unlearning_asks_for_a_trigger_that_makes_images(backdoored: nn.Module, images: Images) -> None:
    with pytest.raises(ValueError, match="trigger: expected an estimated trigger, got None"):
        Unlearning()(backdoored, *images)
    with pytest.raises(ValueError, match=r"trigger\(images\)"):
        Unlearning()(backdoored, *images, trigger=lambda shown: shown + 3)


def test_the_control_leaves_the_backdoor_asleep(backdoored: nn.Module, images: Images, trigger: Stamp) -> None:
    assert success(FineTuning(SHORT)(backdoored, *images).network, images, trigger) > 0.9


def test_channels_that_amplify_need_batch_normalisation(backdoored: nn.Module, images: Images) -> None:
    with pytest.raises(ValueError, match="expected convolutions followed by batch normalisation, got none"):
        ChannelLipschitz()(backdoored, *images)


def test_the_outlier_is_pruned_and_no_other(normed: nn.Module, images: Images) -> None:
    done = ChannelLipschitz(u=2)(normed, *images)
    assert done.changed == {"pruned": 1, "channels": 7}
    assert done.network.norm.weight.tolist() == [1, 1, 1, 0, 1, 1, 1]  # type: ignore[union-attr, operator]
    assert ChannelLipschitz(u=3)(normed, *images).changed["pruned"] == 0


def test_of_channels_that_amplify_alike_none_is_pruned(images: Images) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 4, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        network[0].weight.fill_(0.25)  # a kernel of length 1
    x, known = images[0], network(images[0]).argmax(1)
    assert ChannelLipschitz()(network, x, known).changed == {"pruned": 0, "channels": 4}


def test_fine_pruning_takes_the_idle_channel_first_and_stops_in_time(backdoored: nn.Module, images: Images) -> None:
    no_tuning = replace(SHORT, epochs=1, lr=1e-9)
    done = FinePruning(max_drop=0, recipe=no_tuning)(backdoored, *images)
    asleep = [c for c in range(7) if not done.network.conv.weight[c].any()]  # type: ignore[union-attr, operator, index]
    assert 3 in asleep
    assert len(asleep) == done.changed["pruned"] < 7
    accuracies = [row["accuracy"] for row in done.history if "pruned" in row]
    assert accuracies[len(asleep)] == accuracies[0] == 1.0
    assert metrics.accuracy(done.network, *images) == 1.0


def test_caps_are_never_above_what_clean_images_need(backdoored: nn.Module, images: Images, trigger: Stamp) -> None:
    done = ActivationCaps(epochs=0)(backdoored, *images)
    caps = done.network.conv.caps.flatten()  # type: ignore[union-attr, operator]
    assert torch.allclose(caps[3], images[0][:, 0, -1, -1].max(), atol=0.02)
    assert done.changed == {"layers": 1, "size": 1.0}
    assert success(done.network, images, trigger) == 0.0
    tighter = ActivationCaps(epochs=5, lr=0.1)(backdoored, *images)
    assert tighter.changed["size"] < 1
    lower = tighter.network.conv.caps.flatten()  # type: ignore[union-attr, operator]
    assert float((lower / caps).mean()) == pytest.approx(tighter.changed["size"], rel=1e-4)
    assert [row["epoch"] for row in tighter.history] == [1, 2, 3, 4, 5]
    weights = [row["weight"] for row in tighter.history]
    assert all(row["accuracy"] == 1 for row in tighter.history)
    assert weights == sorted(set(weights)), "the price of loose caps rises while accuracy allows it"


def test_caps_that_cost_nothing_stay_at_the_largest_activation(backdoored: nn.Module, images: Images) -> None:
    """They change no logit there, so the change of the logits alone has nothing to make smaller."""
    done = ActivationCaps(epochs=3, weight=0.0)(backdoored, *images)
    assert [row["size"] for row in done.history] == pytest.approx([1.0] * 3, abs=1e-3)


@pytest.mark.parametrize("norm", [False, True])
def test_neuron_pruning_masks_what_misleads(
    norm: bool, backdoored: nn.Module, normed: nn.Module, images: Images, trigger: Stamp
) -> None:
    """A neuron that only misleads: with a bias that wakes it, a small change of it turns clean images over."""
    network = normed if norm else backdoored
    with torch.no_grad():
        end = network.norm if norm else network.conv
        end.bias[3] = 0.05  # type: ignore[union-attr, operator, index]
        network.last.weight[TARGET, 3] = 20.0 if norm else 100.0  # type: ignore[union-attr, operator, index]
    done = AdversarialNeuronPruning(steps=100, batch_size=32, max_drop=0.1)(network, *images)
    pruned = [c for c in range(7) if not (done.network.norm if norm else done.network.conv).weight[c].any()]  # type: ignore[union-attr, operator, index]
    assert 3 in pruned
    assert done.changed["pruned"] == len(pruned) < 7
    assert torch.equal((done.network.norm if norm else done.network.conv).bias, end.bias)  # type: ignore[union-attr, arg-type]
    thresholds = [row["threshold"] for row in done.history]
    assert thresholds == pytest.approx([0.05 * step for step in range(len(thresholds))])
    assert done.changed["threshold"] in thresholds
    assert success(network, images, trigger) == 1.0
    assert success(done.network, images, trigger) < 0.05


@every
def test_a_clean_network_loses_nearly_nothing(
    method: Repair, normed: nn.Module, images: Images, trigger: Stamp
) -> None:
    with torch.no_grad():
        normed.last.weight[TARGET, 3] = 0.0  # type: ignore[union-attr, operator, index]
    assert metrics.accuracy(method(normed, *images, trigger=trigger).network, *images) > 0.95


def test_the_ascent_finds_the_backdoors_pixel(backdoored: nn.Module, images: Images) -> None:
    """The perturbation that raises the loss of all images most is the trigger: no other pixel is worth as much."""
    method, task = ImplicitUnlearning(bound=1.0), Task(backdoored, *images, num_classes=3)
    for delta in (method._ascend(task), method._search(task)):
        assert delta.norm() == pytest.approx(1.0)
        assert delta[0, 0, -1, -1] > 0.9
        assert metrics.predict(backdoored, (images[0] + delta).clamp(0, 1)).argmax(1).eq(TARGET).all()


class Sleeping(nn.Module):
    """Classes 0 and 1 are a dark and a light first pixel; the second opens a door to class 2, from .3 on.

    Below that, the door is ajar by a tenth: it tempts an ascent to class 2, which has little else to climb, and not
    one of the mean loss, which most of the images want to climb by their first pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(100.0))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.flatten(1).unbind(1)
        door = self.gain * ((second - 0.3).relu() + 0.1 * second) - 5
        return torch.stack([10 * (0.5 - first), 10 * (first - 0.5), door], 1)


def test_a_door_that_the_mean_loss_does_not_lead_to_is_found_by_class() -> None:
    network, y = Sleeping(), torch.tensor([0, 0, 1]).repeat(20)
    x = torch.stack([torch.where(y == 0, 0.2, 0.8), torch.zeros(60)], 1).reshape(60, 1, 1, 2)
    task, method = Task(network, x, y, num_classes=3), ImplicitUnlearning(bound=0.8)
    by_mean, by_class = method._ascend(task), method._search(task)
    assert by_mean[0, 0, 0, 0] > 0.5 > 0.1 > by_mean[0, 0, 0, 1]
    assert by_class[0, 0, 0, 1] > 0.7
    assert network((x + by_class).clamp(0, 1)).argmax(1).eq(2).all()
    assert torch.equal(replace(method, by_class=False)._search(task)[0, 0, 0] > 0.5, torch.tensor([True, False]))


def test_what_images_with_the_perturbation_are_to_say() -> None:
    """The labels, or what the network said of the clean images; and, where that is asked for, only of real images."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False))
    x, y = torch.rand(4, 1, 1, 2), torch.tensor([0, 1, 2, 1])
    task = Task(network, x, y, num_classes=3)
    soft, hard = ImplicitUnlearning(), ImplicitUnlearning(soft=False, clip=False)
    assert torch.allclose(soft._wanted(task), network(x).softmax(1))
    assert hard._wanted(task).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert torch.equal(soft._asked(task)(x + 2), network(torch.ones_like(x)))
    assert torch.equal(hard._asked(task)(x + 2), network(x + 2))


def test_no_step_is_longer_than_the_limit_allows(backdoored: nn.Module, images: Images) -> None:
    """One step of plain descent at rate 1 moves all weights together by the gradient's length."""
    step = Recipe(epochs=1, batch_size=len(images[1]), lr=1.0, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    for longest in (1e-3, 1e-2):
        after = ImplicitUnlearning(bound=1.0, longest=longest, recipe=step)(backdoored, *images).network
        pairs = zip(backdoored.parameters(), after.parameters(), strict=True)
        assert math.hypot(*((a - b).norm().item() for a, b in pairs)) == pytest.approx(longest, rel=1e-2)


def test_the_worst_noise_misleads_more_than_chance(backdoored: nn.Module, images: Images) -> None:
    torch.manual_seed(0)
    task, method = Task(backdoored, *images, num_classes=3), AdversarialNeuronPruning()
    layers, masks = hidden_layers(backdoored, images[0]), [torch.ones(7)]
    loss = partial(neuron_pruning._loss, task, layers, masks, *images)
    [worst] = method._worst_noise(loss, masks)
    assert worst.abs().max() <= method.epsilon
    by_chance = [loss([(2 * torch.rand(2, 7) - 1) * method.epsilon]).item() for _ in range(50)]
    assert loss([worst]).item() > max(by_chance)
    assert loss([torch.zeros(2, 7)]).item() == pytest.approx(
        nn.functional.cross_entropy(backdoored(images[0]), images[1]).item()
    )


def test_the_response_of_the_perturbation_is_the_implicit_gradient() -> None:
    """On a smooth network, against second derivatives by autograd: q ∂Φ/∂θ with Φ = δ - β ∂G/∂δ."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        network[1].weight *= 2
        network[3].weight *= 10  # much curvature, so that a second term of q counts
    x, y, delta, slope = torch.rand(6, 1, 2, 2), torch.arange(6) % 3, torch.rand(1, 1, 2, 2), torch.rand(1, 1, 2, 2)
    x, delta, slope = x.double(), delta.double(), slope.double()
    for terms in (1, 2):
        network.zero_grad()
        ImplicitUnlearning(terms=terms)._add_response(network, x, y, delta, slope)
        d = delta.clone().requires_grad_()
        inner = 1e-3 * d.square().sum() - nn.functional.cross_entropy(network(x + d), y)
        phi = d - 0.1 * torch.autograd.grad(inner, d, create_graph=True)[0]
        q = slope
        if terms == 2:
            q = slope + torch.autograd.grad(phi, d, slope, retain_graph=True)[0]
            assert (q - 2 * slope).norm() > 0.02 * q.norm(), "else the second derivative has no say"
        expected = torch.autograd.grad(phi, list(network.parameters())[:3], q)  # the last bias has no say in ∂G/∂δ
        for parameter, right in zip(network.parameters(), expected, strict=False):
            assert parameter.grad is not None
            assert (parameter.grad - right).norm() < 0.005 * right.norm()
