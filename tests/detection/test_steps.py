"""How far the searches go, on networks whose thresholds are written down."""

import math

import torch
from torch import Tensor, nn

from btlib.detection import MMBD, RedU, Search
from btlib.seeds import generator


class TwoThresholds(nn.Module):
    """Class 2 is one pixel: class 0 needs it at .25, class 1 at .5; another pixel says which of the two it is."""

    def forward(self, x: Tensor) -> Tensor:
        lit, second = x[:, 0, 0, 0], (x[:, 0, 0, 1] > 0.5).float()
        return 40 * torch.stack([0.25 - 9 * second, 0.5 - 9 * (1 - second), lit], 1)


def test_the_last_step_is_halved_until_the_mean_over_both_sources_is_reached() -> None:
    x, y = torch.zeros(9, 1, 1, 2), torch.arange(9) % 3
    x[y == 1, 0, 0, 1] = x[y == 2, 0, 0, 0] = 1.0
    sizes = {}
    for pi in (0.4, 0.5, 0.6):  # half of the images are more than .4, and not more than .5
        search = Search(delta=1.0, max_norm=3.0, pi=pi, bisections=20)
        found = RedU(per_class=3, search=search)(TwoThresholds(), x, y, targets=[2])
        sizes[pi] = float(found.norms[2])
    # .04 above: at the threshold itself the two logits are equal, and the images near it turn one after the other
    assert math.isclose(sizes[0.4], 0.25, abs_tol=0.04)
    assert math.isclose(sizes[0.5], 0.5, abs_tol=0.04)
    assert math.isclose(sizes[0.6], 0.5, abs_tol=0.04)


def test_signed_steps_shrink_in_the_second_half() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([-1.0, 1.0, -1.0])[:, None].expand(3, 4))
    images, labels = torch.zeros(3, 1, 2, 2), torch.arange(3)
    found = MMBD(starts=1, steps=10, lr=0.01, seed=0)(net, images, labels, targets=[1])
    first = torch.rand(1, 1, 2, 2, generator=generator(0))
    assert first.max() < 0.92  # no pixel meets its end
    way = found.estimates[1].trigger.pattern - first[0]
    # six whole steps, then .8, .6, .4 and .2 of one
    assert torch.allclose(way, torch.full_like(way, 0.08), atol=1e-6)
