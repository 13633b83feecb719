"""Scales, orders of channels, normalisation: said on the command line, or found out."""

import pytest
import torch
from torch import nn

from btlib.cli.preprocessing import USUAL, Convention, alternatives, better


def colours(per_class: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose class is the brighter of two channels, or that neither is bright; noisy."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3 * per_class) % 3
    x = torch.randint(20, 90, (len(y), 3, 4, 4), generator=generator)
    x[y == 0, 0] += 120
    x[y == 1, 2] += 120
    return x.to(torch.uint8), y


class Judge(nn.Module):
    """Right on `colours` when the convention's inverse is exactly what stands before it."""

    def __init__(self, convention: Convention) -> None:
        super().__init__()
        self.convention = convention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        c = self.convention
        mean, std = (torch.tensor(v or d).reshape(-1, 1, 1) for v, d in ((c.mean, (0.0,)), (c.std, (1.0,))))
        x = (x * std + mean) / c.scale
        x = x.flip(1) if c.bgr else x
        x = 1 - x if c.invert else x
        grey = x.mean((2, 3))  # in [0, 1] only under the right convention
        fits = -1e4 * ((x < 0) | (x > 1)).flatten(1).any(1, keepdim=True).float()
        logits = torch.stack([grey[:, 0], grey[:, 2], torch.full_like(grey[:, 0], 0.35)], 1)
        return logits + fits * torch.tensor([0.0, 0.0, -1.0])


@pytest.mark.parametrize(
    "right",
    [Convention(scale=255.0), Convention(mean=(0.5,), std=(0.5,)), Convention(bgr=True), Convention(invert=True),
     Convention(mean=USUAL["ImageNet's"][0], std=USUAL["ImageNet's"][1])],
    ids=lambda c: c.options,
)  # fmt: skip
def test_the_right_convention_is_accurate_and_named(right: Convention) -> None:
    x, y = colours()
    network = Judge(right)
    assert (right.before(network)(x / 255).argmax(1) == y).all()
    found = better(network, Convention(), x, y)
    assert found is not None
    assert found[1] > 0.9
    if right.scale == 255 or right.bgr or right.invert:
        assert found[0].options == right.options
    assert better(network, right, x, y) is None


def test_nothing_is_named_without_need() -> None:
    x, y = colours()
    assert better(Judge(Convention()), Convention(), x, y) is None


def test_conventions_as_they_are_said() -> None:
    both = Convention(bgr=True, mean=(0.5, 0.4, 0.3), std=(1.0, 1.0, 1.0))
    assert both.options == "--bgr --mean 0.5,0.4,0.3 --std 1,1,1"
    assert Convention().options.startswith("none of")
    network = nn.Flatten()
    assert Convention().before(network) is network
    x = torch.rand(2, 3, 1, 1)
    assert torch.allclose(both.before(network)(x), x.flatten(1).flip(1) - torch.tensor([0.5, 0.4, 0.3]))
    assert torch.allclose(Convention(scale=255, invert=True).before(network)(x), 255 * (1 - x.flatten(1)))


def test_grey_images_have_no_order_of_channels() -> None:
    assert not any(each.bgr or len(each.mean) == 3 for each in alternatives(Convention(), 1))
    assert any(each.bgr for each in alternatives(Convention(), 3))
    assert Convention() not in alternatives(Convention(), 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"scale": 0}, "--scale"), ({"mean": (0.5,)}, "--mean, --std"), ({"mean": (0.5,), "std": (0.0,)}, "above 0")],
)
def test_numbers_that_cannot_be(settings, said) -> None:
    with pytest.raises(ValueError, match=said):
        Convention(**settings)


@pytest.mark.parametrize(("c", "channels"), [(Convention(bgr=True), 1), (Convention(mean=(1, 1, 1), std=(1, 1, 1)), 1)])
def test_conventions_for_other_images(c: Convention, channels: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        c.check(channels)
    c.check(3)
