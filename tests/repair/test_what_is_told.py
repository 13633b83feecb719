"""What a repair tells of its rounds, and the range of its masks, on networks whose numbers are known."""

import math
from functools import partial

import torch
from torch import nn

from btlib.repair.base import Task
from btlib.repair.channels import hidden_layers
from btlib.repair.implicit import ImplicitUnlearning
from btlib.repair.neuron_pruning import AdversarialNeuronPruning, _loss
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


def test_masks_go_down_the_loss_with_momentum() -> None:
    """Without noise both parts of the loss are one: softplus of how far the wrong class is ahead, whatever α is."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2, bias=False)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.arange(1.0, 13.0).reshape(3, 4) / 20)
        net[1].bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
        net[2].weight.copy_(torch.tensor([[0.5] * 3, [-0.5] * 3]))
    task = Task(net, IMAGES, torch.ones(6, dtype=torch.int64), num_classes=2)
    (masks,) = AdversarialNeuronPruning(lr=0.1, steps=2, epsilon=0.0)._masks(task, hidden_layers(net, IMAGES))

    activations = (IMAGES.flatten(1) @ net[1].weight.T).detach()  # (images, channels), without the bias

    def slope(mask: torch.Tensor) -> torch.Tensor:
        ahead = activations @ mask + net[1].bias.detach().sum()
        return (ahead.sigmoid()[:, None] * activations).mean(0)

    first = slope(torch.ones(3))
    after_one = 1 - 0.1 * first
    torch.testing.assert_close(masks, after_one - 0.1 * (0.9 * first + slope(after_one)))


def test_noise_is_added_to_the_masks_and_to_biases_as_a_share_of_them() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    task, mask = Task(net, IMAGES, torch.arange(6) % 2, num_classes=2), torch.tensor([1.0, 0.5, 0.2])
    delta, xi = torch.tensor([[0.3, -0.2, 0.1], [-0.4, 0.25, 0.4]])
    found = _loss(task, hidden_layers(net, IMAGES), [mask], task.images, task.labels, [torch.stack([delta, xi])])
    with torch.no_grad():  # the same in the weights themselves
        net[1].weight *= (mask + delta)[:, None]
        net[1].bias *= 1 + xi
    torch.testing.assert_close(found, nn.functional.cross_entropy(net(IMAGES), task.labels))


def test_noise_that_misleads_nobody_is_the_draw_it_starts_from() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 200), nn.ReLU(), nn.Linear(200, 3)).eval()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    task, layers = Task(net, IMAGES, torch.tensor([0, 1, 2, 0, 1, 2]), num_classes=3), hidden_layers(net, IMAGES)
    masks, method = [torch.ones(200)], AdversarialNeuronPruning()
    (worst,) = method._worst_noise(partial(_loss, task, layers, masks, task.images, task.labels), masks)
    # 400 uniform numbers in ±.4: their mean is 0 with a standard error of .012
    assert abs(float(worst.mean())) < 0.05
    assert -0.4 <= worst.min() < -0.35 < 0.35 < worst.max() <= 0.4


class Watched(nn.Module):
    """A linear classifier that notes the images it is shown, and whether a gradient was wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        self.shown: list[tuple[torch.Tensor, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shown.append((x.detach().clone(), torch.is_grad_enabled()))
        return self.net(x)


def watched(count: int) -> tuple[Watched, Task]:
    torch.manual_seed(0)
    net = Watched()
    return net, Task(net, 0.4 + 0.2 * torch.rand(count, 1, 2, 2), torch.arange(count) % 3, num_classes=3)


def test_an_ascent_sees_fifty_images_a_step_and_250_judge_what_it_found() -> None:
    net, task = watched(500)
    ImplicitUnlearning(ascents=4)._search(task)
    sizes = [(len(images), gradient) for images, gradient in net.shown]
    assert sizes.count((50, True)) == 4 * 4  # of the mean loss and towards each of three classes
    assert sizes.count((250, False)) == 4
    assert len(sizes) == 20


def test_the_share_of_each_batch_wears_the_perturbation() -> None:
    net, task = watched(100)
    method, chosen = ImplicitUnlearning(share=0.07, terms=0), torch.arange(100)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    method._descend(task, optimizer, chosen, method._wanted(task), torch.full((1, 1, 2, 2), 0.1))
    images, _ = net.shown[-1]
    assert int((images != task.images).flatten(1).any(1).sum()) == 7


def test_a_quarter_of_each_batch_is_enough_for_the_response() -> None:
    net, task = watched(100)
    method, chosen = ImplicitUnlearning(share=0.07), torch.arange(100)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    method._descend(task, optimizer, chosen, method._wanted(task), torch.full((1, 1, 2, 2), 0.1))
    assert [len(images) for images, _ in net.shown[-3:]] == [100, 25, 25]


def test_second_derivatives_are_differences_over_a_tenth_to_either_side() -> None:
    net, task = watched(10)
    slope = torch.tensor([3.0, 0.0, 0.0, 4.0]).reshape(1, 1, 2, 2)
    ImplicitUnlearning()._add_response(net, task.images, task.labels, torch.zeros(1, 1, 2, 2), slope)
    (ahead, _), (behind, _) = net.shown
    torch.testing.assert_close(ahead - task.images, (0.1 * slope / 5).expand_as(ahead))
    torch.testing.assert_close(behind - task.images, (-0.1 * slope / 5).expand_as(behind))
