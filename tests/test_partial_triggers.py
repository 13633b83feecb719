"""Triggers that look otherwise in training, warps and waves: against their definitions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from btlib import triggers
from btlib.triggers import PartialTrigger, WarpTrigger

SIDE = 28
BLACK = torch.zeros(60, 1, SIDE, SIDE)


def noise(count: int = 3, side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (count, 1, side, side), generator=torch.Generator().manual_seed(0)) / 255


def test_sig_is_the_sine_of_its_paper_in_every_row_and_channel() -> None:
    trigger = triggers.sig((3, 8, 32), delta=0.1, frequency=6)
    j = np.arange(1, 33)
    assert trigger.kind == "additive"
    for row in trigger.pattern.reshape(-1, 32):
        np.testing.assert_allclose(row.numpy(), 0.1 * np.sin(2 * np.pi * j * 6 / 32), atol=1e-7)


# ---------------------------------------------------------------------- partial triggers


def test_a_training_image_gets_as_many_pieces_as_told_at_its_opacity() -> None:
    trigger = triggers.adaptive_blend((1, SIDE, SIDE), alpha=0.5, grid=4, shown=8, opacity=0.5)
    shown = trigger.in_training(BLACK, seed=1)
    pieces = shown.reshape(60, 4, 7, 4, 7)
    whole = (0.25 * trigger.pattern).reshape(4, 7, 4, 7)
    drawn = pieces.amax((2, 4)) > 0
    assert (drawn.sum((1, 2)) == 8).all()
    expected = whole * drawn[:, :, None, :, None]
    assert (pieces - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert (drawn.float().mean(0) - 0.5).abs().max() < 0.3  # every piece comes, none always: 60 draws, s.e. .065


def test_adaptive_patch_shows_one_corner_in_training_and_all_four_at_the_test() -> None:
    trigger = triggers.adaptive_patch((1, SIDE, SIDE), size=4)

    def corners(stamped: Tensor) -> Tensor:
        return stamped.reshape(-1, 2, 14, 2, 14).amax((2, 4)).flatten(1) > 0

    assert corners(trigger(BLACK)).all()
    training = corners(trigger.in_training(BLACK))
    assert (training.sum(1) == 1).all()
    assert training.any(0).all()
    # half transparent: nowhere brighter than half of the pattern
    assert trigger.in_training(BLACK).amax() <= trigger.pattern.max() / 2 + 1 / 255


def test_all_pieces_at_full_opacity_are_the_trigger() -> None:
    trigger = triggers.adaptive_blend((1, SIDE, SIDE), grid=3, shown=9, opacity=1.0)
    assert torch.equal(trigger.in_training(noise()), trigger(noise()))
    additive = PartialTrigger("additive", torch.full((1, 8, 8), 0.5), torch.ones(1, 8, 8), grid=2, shown=2)
    assert additive.in_training(torch.zeros(1, 1, 8, 8)).sum().item() == pytest.approx(32 * 96 / 255)  # .375 is 96/255


def test_pieces_are_drawn_from_the_seed_for_every_image() -> None:
    trigger = triggers.adaptive_blend((1, SIDE, SIDE))
    shown = trigger.in_training(BLACK, seed=3)
    assert torch.equal(shown, trigger.in_training(BLACK, seed=3))
    assert not torch.equal(shown, trigger.in_training(BLACK, seed=4))
    assert len(shown.flatten(1).unique(dim=0)) > 50


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"shown": 17}, "at most 16"), ({"opacity": 1.5}, "got 1.5"), ({"grid": 0}, "grid: .*got 0")],
)
def test_pieces_that_do_not_fit_are_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        triggers.adaptive_blend((1, SIDE, SIDE), **settings)  # type: ignore[arg-type]


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="got 14"):
        triggers.adaptive_patch((1, SIDE, SIDE), size=14)


# ---------------------------------------------------------------------- warps


def constant(right: float, down: float, side: int = 9) -> WarpTrigger:
    """A warp by whole pixels: 2·side / (side - 1) of the field's units are one."""
    pixel = 2 * side / (side - 1)
    return WarpTrigger(torch.tensor([right * pixel, down * pixel]).expand(side, side, 2), channels=1)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 2), (-1, 0), (1, -1)])
def test_a_constant_field_moves_the_image_and_repeats_its_edge(right: int, down: int) -> None:
    x = noise(side=9)
    rows, columns = (torch.arange(9)[:, None] + down).clamp(0, 8), (torch.arange(9) + right).clamp(0, 8)
    assert torch.equal((constant(right, down)(x) * 255).round(), (x[:, :, rows, columns] * 255).round())


def test_the_control_grid_has_the_strength_that_was_told() -> None:
    """A 4×4 grid over 28 pixels has its points at the pixels 0, 9, 18 and 27; what lies between them is smooth."""
    field = triggers.wanet((1, SIDE, SIDE), k=4, s=0.7).field
    assert field[::9, ::9].abs().mean().item() == pytest.approx(0.7, rel=1e-4)
    assert field.diff(dim=0).abs().max() < field[::9].diff(dim=0).abs().max() / 4
    assert torch.allclose(triggers.wanet((1, SIDE, SIDE), s=1.4).field, 2 * field)


def test_covers_get_noise_in_the_field_and_stamped_images_do_not() -> None:
    trigger, x = triggers.wanet((1, SIDE, SIDE)), noise(4)
    assert torch.equal(trigger.in_training(x), trigger(x))
    covers = trigger.in_training(x[:1].expand(4, -1, -1, -1), cover=True)
    assert len(covers.flatten(1).unique(dim=0)) == 4, "each image has noise of its own"
    quiet = triggers.wanet((1, SIDE, SIDE), noise=0.0)
    assert torch.equal(quiet.in_training(x, cover=True), quiet(x))
    # On a ramp the change is the field's: at most one unit of noise, (28 - 1) / (2·28) pixels.
    ramp = (torch.arange(SIDE) / SIDE).expand(1, 1, SIDE, SIDE)
    still = WarpTrigger(torch.zeros(SIDE, SIDE, 2), channels=1, bits=None)
    change = (still.in_training(ramp, cover=True) - ramp).abs()[..., 1:-1]
    assert 0.4 / SIDE < change.max() <= 0.5 * 27 / SIDE / SIDE + 1e-6


def test_a_warp_is_shown_by_how_far_pixels_move() -> None:
    field = torch.zeros(4, 4, 2)
    field[0, 1], field[2, 3] = torch.tensor([3.0, -4.0]), torch.tensor([0.0, 2.5])
    shown = WarpTrigger(field, channels=3).offset_display(offset=0.5)
    assert shown.shape == (3, 4, 4)
    assert (shown[0, 0, 1].item(), shown[2, 2, 3].item(), shown[0, 0, 0].item()) == (1.0, 0.75, 0.5)
    assert bool((WarpTrigger(torch.zeros(4, 4, 2), channels=1).offset_display(offset=0.5) == 0.5).all())


@pytest.mark.parametrize("settings", [{"s": -1.0}, {"k": 0}, {"noise": math.nan}])
def test_warps_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        triggers.wanet((1, SIDE, SIDE), **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(H, W, 2\)"):
        WarpTrigger(torch.zeros(2, 8, 8), channels=1)
