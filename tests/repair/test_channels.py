"""Channels are found, watched, changed and pruned in networks of any make."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from btlib import networks
from btlib.repair.base import Task, require
from btlib.repair.caps import Capped
from btlib.repair.channels import Layer, hidden_layers, outputs, outputs_changed, prune, prune_while
from btlib.repair.finetuning import tune
from btlib.repair.pruning import FinePruning, lipschitz_bounds, mean_activation
from btlib.training import Recipe


def test_layers_of_our_networks_in_order_of_computation() -> None:
    lenet = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10, seed=0)
    assert [(layer.name, layer.size) for layer in hidden_layers(lenet, torch.zeros(1, 1, 28, 28))] == [
        ("body.conv1", 6), ("body.conv2", 16), ("body.fc1", 120), ("body.fc2", 84)
    ]  # fmt: skip
    resnet = networks.build("resnet18", image_shape=(3, 32, 32), num_classes=10, seed=0)
    layers = hidden_layers(resnet.eval(), torch.zeros(1, 3, 32, 32))
    assert len(layers) == 20
    assert all(layer.norm is not None for layer in layers)


def test_a_network_of_one_layer_has_no_hidden_one() -> None:
    with pytest.raises(ValueError, match="expected hidden convolutions or linear layers, got none"):
        hidden_layers(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 1, 2, 2))


def test_pruned_channels_put_out_their_bias_or_nothing() -> None:
    layer = nn.Linear(2, 3)
    bias = layer.bias.detach().clone()
    prune(Layer("", layer), torch.tensor([0]), bias=False)
    prune(Layer("", layer), torch.tensor([False, True, False]))
    out = layer(torch.ones(1, 2))[0]
    assert out[0] == bias[0]
    assert out[1] == 0
    assert out[2] != bias[2]


def test_outputs_are_seen_and_changed_inside_only() -> None:
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
    x, layers = torch.arange(501.0).reshape(-1, 1), [Layer("0", net[0])]
    [largest] = outputs(net, x, layers, lambda output: output.abs().amax(0))
    assert torch.allclose(largest.amax(0), 500 * net[0].weight.abs().flatten())
    plain = net(x)
    with outputs_changed(layers, lambda number, output: output * 2):
        assert torch.allclose(net(x), 2 * plain)
    assert torch.equal(net(x), plain)


def task(network: nn.Module, x: Tensor, y: Tensor) -> Task:
    return Task(network, x, y, num_classes=2)


def test_the_step_too_far_is_taken_back() -> None:
    linear = nn.Linear(2, 2, bias=False)
    nn.init.eye_(linear.weight)
    held, layer = (
        task(nn.Sequential(nn.Flatten(), linear), torch.eye(2).reshape(2, 1, 1, 2), torch.arange(2)),
        Layer("", linear),
    )
    steps = [lambda: None, lambda: prune(layer, torch.tensor([1])), lambda: prune(layer, torch.tensor([0]))]
    taken, accuracies = prune_while(held, steps, max_drop=0.4)
    assert (taken, accuracies) == (1, [1.0, 1.0, 0.5])
    assert torch.equal(linear.weight, torch.eye(2))
    assert prune_while(held, steps, max_drop=0.5)[0] == 3


def test_accuracy_is_held_against_that_before_the_first_step() -> None:
    linear = nn.Linear(4, 4, bias=False)
    nn.init.eye_(linear.weight)
    held = task(nn.Sequential(nn.Flatten(), linear), torch.eye(4).reshape(4, 1, 1, 4), torch.arange(4))
    steps = [partial(prune, Layer("", linear), torch.tensor([channel])) for channel in (1, 2, 3)]
    assert prune_while(held, steps, max_drop=0.5) == (2, [1.0, 0.75, 0.5, 0.25])


def test_a_fifth_of_every_class_is_held_out() -> None:
    y = torch.arange(100) % 4
    learned, held = task(nn.Linear(1, 4), torch.arange(100.0).reshape(100, 1), y).split()
    assert torch.bincount(held.labels).tolist() == [5] * 4
    assert sorted([*learned.images.flatten().tolist(), *held.images.flatten().tolist()]) == list(range(100))
    assert sorted(x.item() for batch, _ in held.batches(7) for x in batch) == sorted(held.images.flatten().tolist())


def test_bounds_are_those_of_the_normalised_kernels() -> None:
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    nn.init.uniform_(norm.weight, -2, 2)
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    kernels = conv.weight * (norm.weight / (norm.running_var + norm.eps).sqrt()).reshape(-1, 1, 1, 1)  # type: ignore[operator]
    expected = torch.stack([torch.linalg.svdvals(kernel.flatten(1)).max() for kernel in kernels])
    assert torch.allclose(lipschitz_bounds(Layer("", conv, norm)), expected, atol=1e-5)


def test_capped_layers_put_out_at_most_their_caps() -> None:
    assert Capped(nn.Identity(), torch.tensor([0.5]))(torch.tensor([[-1.0, 0.2, 3.0]])).tolist() == [
        pytest.approx([-1.0, 0.2, 0.5])
    ]


def test_tuning_learns_the_images_it_is_given() -> None:
    x = torch.zeros(40, 1, 2, 2)
    x[::2, 0, 0, 0] = 1.0
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    tune(task(net, torch.zeros_like(x), (torch.arange(40) + 1) % 2), Recipe(epochs=30, batch_size=8, lr=0.1), x)
    assert torch.equal(net(x).argmax(1), (torch.arange(40) + 1) % 2)


def test_a_setting_outside_its_range_is_named() -> None:
    with pytest.raises(ValueError, match="max_drop: expected 0…0.01, got 0.04; see the docs of FinePruning"):
        require(FinePruning(), max_drop=(0, 0.01))


def test_mean_activation_is_of_each_channel_behind_a_rectifier() -> None:
    images = torch.tensor([[[[1.0, -9.0]], [[0.0, 2.0]]], [[[3.0, -1.0]], [[2.0, 0.0]]]])  # 2 images, 2 channels
    same = nn.Conv2d(2, 2, 1, bias=False)
    nn.init.dirac_(same.weight)
    assert mean_activation(same, Layer("", same), images).tolist() == [1.0, 1.0]
    neurons = nn.Linear(2, 2, bias=False)
    nn.init.eye_(neurons.weight)
    rows = torch.tensor([[1.0, -1.0], [3.0, 4.0]]).repeat(200, 1)  # a whole batch and a smaller one
    assert mean_activation(neurons, Layer("", neurons), rows).tolist() == [2.0, 2.0]
    assert mean_activation(neurons, Layer("", neurons), rows.sort(0).values).tolist() == [2.0, 2.0]


def test_fine_pruning_counts_each_image_once_though_the_last_batch_is_small() -> None:
    """320 images wake the first channel by 1, the last 20 the second by 12: less, but more of a mean of batch means."""
    x, y = torch.zeros(425, 1, 1, 2), (torch.arange(425) >= 400).long()
    x[:400, 0, 0, 0] = x[400:, 0, 0, 1] = 1.0
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.diag(torch.tensor([1.0, 12.0])))
        net[3].weight.copy_(torch.eye(2))
    done = FinePruning(max_drop=1, recipe=Recipe(epochs=1, batch_size=32, lr=1e-9))(net, x, y)
    assert done.network[1].weight[1].abs().max() < 1e-6 < 1 - 1e-6 < done.network[1].weight[0, 0]  # type: ignore[operator, index, union-attr]
