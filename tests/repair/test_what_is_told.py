"""What a repair tells of its rounds, and the range of its masks, on networks whose numbers are known."""

import math

import torch
from torch import nn

from btlib.repair.base import Task
from btlib.repair.channels import hidden_layers
from btlib.repair.implicit import ImplicitUnlearning
from btlib.repair.neuron_pruning import AdversarialNeuronPruning
from btlib.training import Recipe

IMAGES = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def silent() -> nn.Sequential:
    """It says the same to everything: whatever is done to an image, the loss is log 3."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return net.eval()


def test_rounds_steps_and_mean_loss() -> None:
    task = Task(silent(), IMAGES, torch.tensor([0, 1, 2, 0, 1, 2]), num_classes=3)
    _, changed, history = ImplicitUnlearning(
        rounds=3, ascents=1, recipe=Recipe(epochs=2, batch_size=4, lr=1e-12)
    ).repair(task)
    assert changed == {"rounds": 3, "steps": 12}  # four images and two, twice in each of three rounds
    assert [entry["round"] for entry in history] == [1, 2, 3]
    assert all(math.isclose(entry["loss"], math.log(3), rel_tol=1e-6) for entry in history)


def test_masks_stay_between_nothing_and_the_whole_channel() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    task = Task(net, IMAGES, net(IMAGES).argmax(1), num_classes=2)
    (masks,) = AdversarialNeuronPruning(lr=100.0, steps=3)._masks(task, hidden_layers(net, IMAGES))
    assert masks.min() == 0  # such steps leave the range at both ends
    assert masks.max() == 1
