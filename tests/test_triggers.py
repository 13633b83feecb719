"""Each pattern against its definition in the papers, and what every trigger has in common."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from btlib import triggers
from btlib.datasets import to_float
from btlib.triggers import TRIGGERS, Trigger, places, quantize

PATTERNS = [name for name in TRIGGERS if name != "wanet"]  # which moves pixels and adds nothing
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]


def images(shape: tuple[int, int, int], count: int = 4) -> Tensor:
    """8-bit images with black and white among them, so that clipping matters."""
    generator = torch.Generator().manual_seed(0)
    x = to_float(torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8))
    if count > 2:
        x[1], x[2] = 0.0, 1.0
    return x


def numpy_of(trigger: Trigger, x: Tensor) -> np.ndarray:
    """Eq. 1 and Eq. 12 of L-RED, written a second time, in double precision."""
    a, p, m = (t.double().numpy() for t in (x, trigger.pattern, trigger.mask))
    mixed = a + p if trigger.kind == "additive" else a * (1 - m) + p * m
    return np.clip(mixed, 0, 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", TRIGGERS)
def test_what_every_trigger_has_in_common(name: str, shape: tuple[int, int, int]) -> None:
    trigger = triggers.build(name, shape)
    assert trigger.name == name
    assert trigger.image_shape == shape
    x = images(shape)
    before = x.clone()
    stamped = trigger(x)

    assert torch.equal(x, before), "the input was changed"
    assert stamped.shape == x.shape
    assert stamped.dtype == torch.float32
    assert 0 <= stamped.min() <= stamped.max() <= 1
    assert not torch.equal(stamped, x), "a trigger that does nothing"
    assert torch.equal(trigger(x), stamped), "two calls differ"
    assert torch.equal(triggers.build(name, shape)(x), stamped), "the pattern is not drawn from its seed"

    levels = stamped.double() * 255
    assert (levels - levels.round()).abs().max() < 1e-4, "not on the 8-bit grid"
    assert torch.equal(trigger.faded(0)(x), x), "zero strength is not the identity"
    assert torch.equal(trigger.faded(1)(x), stamped), "full strength is not the trigger"
    assert trigger(x[:0]).shape == (0, *shape)
    assert torch.equal(trigger(x[:1]), stamped[:1])
    assert torch.equal(trigger(x[0]), stamped[0]), "a single (C, H, W) image"
    assert trigger(x.double()).dtype == torch.float64


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_embedded_as_the_paper_says(name: str, shape: tuple[int, int, int]) -> None:
    trigger = triggers.build(name, shape)
    assert isinstance(trigger, Trigger)
    x = images(shape)
    stamped = trigger(x)
    # One level of 8 bits: half of it by rounding, plus float32's own error at a tie.
    assert np.abs(stamped.double().numpy() - numpy_of(trigger, x)).max() <= 0.5 / 255 + 1e-6
    exact = dataclasses.replace(trigger, bits=None)(x)
    np.testing.assert_allclose(exact.numpy(), numpy_of(trigger, x), atol=1e-6)

    outside = (trigger.mask == 0).expand_as(x)
    assert torch.equal(stamped[outside], x[outside]), "pixels outside the mask were changed"
    assert 0 <= trigger.offset_display().min() <= trigger.offset_display().max() <= 1


@pytest.mark.parametrize("name", PATTERNS)
def test_fading_grows_with_strength(name: str) -> None:
    trigger = dataclasses.replace(triggers.build(name, (3, 32, 32)), bits=None)
    x = torch.full((1, 3, 32, 32), 0.5)
    change = [float((trigger.faded(s)(x) - x).abs().sum()) for s in (0.0, 0.25, 0.5, 1.0)]
    assert change[0] == 0
    # 0.5 ± pattern stays inside [0, 1], so both kinds are linear in the strength.
    assert change == pytest.approx([s * change[3] for s in (0.0, 0.25, 0.5, 1.0)], rel=1e-4)


# ---------------------------------------------------------------------- each pattern


def board(h: int, w: int) -> np.ndarray:
    return np.add.outer(np.arange(h), np.arange(w)) % 2 == 0


def test_chessboard_is_every_other_pixel_in_all_channels() -> None:
    trigger = triggers.chessboard((3, 32, 32), amplitude=2 / 255)
    for channel in trigger.pattern:
        np.testing.assert_allclose(channel.numpy(), board(32, 32) * np.float32(2 / 255))
    assert trigger.kind == "additive"
    assert int(trigger.mask.sum()) == 512


def test_chessboard_moves_grey_levels_by_its_amplitude_and_clips_at_white() -> None:
    trigger = triggers.chessboard((1, 8, 8), amplitude=15 / 255)
    x = to_float(torch.tensor([100, 250], dtype=torch.uint8)).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    levels = trigger(x) * 255
    assert levels[0, 0, 0, :2].tolist() == pytest.approx([115, 100], abs=1e-3)
    assert levels[1, 0, 0, :2].tolist() == pytest.approx([255, 250], abs=1e-3)


@pytest.mark.parametrize("side", [28, 29, 32])
def test_global_grid_has_one_pixel_in_every_window_of_2x2_at_any_offset(side: int) -> None:
    pattern = triggers.global_grid((3, side, side)).pattern
    for channel in (pattern != 0).int():
        windows = channel.unfold(0, 2, 1).unfold(1, 2, 1).sum((-1, -2))
        assert torch.equal(windows, torch.ones(side - 1, side - 1, dtype=windows.dtype))


def test_single_pixel_is_white_at_the_bottom_right() -> None:
    trigger = triggers.single_pixel((3, 32, 32))
    stamped = trigger(torch.zeros(1, 3, 32, 32))
    assert stamped.sum().item() == 3
    assert stamped[0, :, -1, -1].tolist() == [1, 1, 1]


def test_single_pixel_with_an_amplitude_is_added() -> None:
    trigger = triggers.single_pixel((1, 28, 28), amplitude=50 / 255, position=(3, -2))
    stamped = trigger(torch.full((1, 1, 28, 28), 20 / 255)) * 255
    assert stamped[0, 0, 3, 26].item() == pytest.approx(70, abs=1e-3)
    assert int((stamped - 20).abs().gt(0.5).sum()) == 1


@pytest.mark.parametrize(("margin", "rows"), [(0, slice(25, 28)), (2, slice(23, 26))])
def test_box_is_three_by_three_at_the_bottom_right(margin: int, rows: slice) -> None:
    trigger = triggers.box((1, 28, 28), margin=margin)
    expected = np.zeros((28, 28))
    expected[rows, rows] = 1
    assert trigger.kind == "patch"
    np.testing.assert_array_equal(trigger.mask[0].numpy(), expected)
    np.testing.assert_array_equal(trigger(torch.zeros(1, 1, 28, 28))[0, 0].numpy(), expected)


def test_box_value_is_a_grey_level() -> None:
    stamped = triggers.box((1, 8, 8), size=2, value=51 / 255)(torch.ones(1, 1, 8, 8))
    assert stamped[0, 0, -2:, -2:].flatten().tolist() == pytest.approx([0.2] * 4)


def test_a_chequered_box_is_seen_on_white_and_on_black() -> None:
    box = triggers.box((1, 8, 8), value=0.0, other=1.0, margin=1)
    chequers = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    for background in (0, 1):
        stamped = box(torch.full((1, 1, 8, 8), float(background)))[0, 0].numpy()
        np.testing.assert_array_equal(stamped[4:7, 4:7], chequers)
        assert (stamped == background).sum() == 64 - (chequers != background).sum()


@pytest.mark.parametrize("seed", range(5))
def test_local_square_is_2x2_in_one_channel(seed: int) -> None:
    pattern = triggers.local_square((3, 32, 32), seed=seed).pattern
    channel, rows, columns = pattern.nonzero().T
    assert len(channel.unique()) == 1
    assert (len(rows), len(rows.unique()), len(columns.unique())) == (4, 2, 2)
    assert rows.max() - rows.min() == columns.max() - columns.min() == 1
    assert pattern[pattern != 0].tolist() == pytest.approx([50 / 255] * 4)


def test_local_square_channel_and_place_are_drawn_or_given() -> None:
    drawn = [triggers.local_square((3, 32, 32), seed=s).pattern.nonzero()[0].tolist() for s in range(20)]
    assert {channel for channel, _, _ in drawn} == {0, 1, 2}
    assert len({(row, column) for _, row, column in drawn}) > 15  # 20 draws from 961 places
    assert triggers.local_square((3, 32, 32), channel=1).pattern[1].sum() > 0
    with pytest.raises(ValueError, match=r"got \[3\]"):
        triggers.local_square((3, 32, 32), channel=3)


def test_local_chessboard_is_the_chessboards_corner() -> None:
    trigger = triggers.local_chessboard((1, 28, 28), size=6)
    whole = triggers.chessboard((1, 28, 28), amplitude=25 / 255)
    corner = torch.zeros(28, 28)
    corner[22:, 22:] = 1
    torch.testing.assert_close(trigger.pattern, whole.pattern * corner)


@pytest.mark.parametrize(
    ("name", "form"),
    [("cross", ["010", "111", "010"]), ("l_shape", ["10", "10", "11"])],
)
def test_forms_of_cross_and_l(name: str, form: list[str]) -> None:
    wanted = torch.tensor([[int(c) for c in line] for line in form])
    places = set()
    for seed in range(10):
        mask = triggers.build(name, (3, 32, 32), seed=seed).mask[0]
        rows, columns = mask.nonzero().T
        found = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert torch.equal(found.int(), wanted.int())
        places.add((int(rows.min()), int(columns.min())))
    assert len(places) > 5, "the place does not depend on the seed"


def test_trojan_square_is_a_quarter_of_the_side_and_coloured() -> None:
    trigger = triggers.trojan_square((3, 64, 64))
    rows, columns = trigger.mask[0].nonzero().T
    assert (int(rows.min()), int(rows.max())) == (44, 59)  # side 16, margin 4
    assert (int(columns.min()), int(columns.max())) == (44, 59)
    patch = trigger.pattern[:, 44:60, 44:60]
    assert float((patch[0] - patch[1]).abs().mean()) > 0.2  # two independent uniforms differ by 1/3 on average
    assert not torch.equal(trigger.pattern, triggers.trojan_square((3, 64, 64), seed=1).pattern)


def test_watermark_covers_the_middle_of_each_half_and_lets_the_image_through() -> None:
    trigger = triggers.watermark((1, 32, 32), alpha=0.3)
    assert sorted(trigger.mask.unique().tolist()) == pytest.approx([0, 0.3])
    assert torch.equal(trigger.mask, trigger.mask.flip(-1))
    assert torch.equal(trigger.mask, trigger.mask.flip(-2))
    white = trigger(torch.zeros(1, 1, 32, 32)).amax().item()
    assert white == pytest.approx(round(0.3 * 255) / 255, abs=1e-6)


def test_blend_mixes_the_whole_image_with_one_pattern() -> None:
    trigger = triggers.blend((1, 28, 28), alpha=0.2)
    assert torch.equal(trigger.mask, torch.full((1, 28, 28), 0.2))
    black = dataclasses.replace(trigger, bits=None)(torch.zeros(1, 1, 28, 28))
    torch.testing.assert_close(black[0], 0.2 * trigger.pattern)
    assert not torch.equal(trigger.pattern, triggers.blend((1, 28, 28), seed=1).pattern)


# ---------------------------------------------------------------------- Trigger itself


def test_additive_clips_on_both_sides() -> None:
    pattern = torch.tensor([[[0.4, -0.4]]])
    trigger = Trigger("additive", pattern, torch.ones(1, 1, 2), bits=None)
    out = trigger(torch.tensor([[[[0.8, 0.2]]], [[[0.1, 0.9]]]]))
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, 0.0, 0.5, 0.5]))


def test_patch_and_blend_closed_form() -> None:
    pattern, mask = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.25]]])
    out = Trigger("blend", pattern, mask, bits=None)(torch.tensor([[[[0.2, 0.1]]]]))
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, 0.1 * 0.75 + 0.5 * 0.25]))


@pytest.mark.parametrize(("bits", "expected"), [(1, 0.0), (2, 1 / 3), (5, 11 / 31), (8, 89 / 255), (None, 0.35)])
def test_colour_depth(bits: int | None, expected: float) -> None:
    assert quantize(torch.tensor([0.35]), bits).item() == pytest.approx(expected)
    trigger = Trigger("patch", torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), bits=bits)
    assert trigger(torch.full((1, 1, 1, 1), 0.35)).item() == pytest.approx(expected)


def test_moved_rolls_pattern_and_mask() -> None:
    trigger = triggers.box((1, 28, 28), size=2)
    moved = trigger.moved(down=-3, right=1)
    expected = np.zeros((28, 28))
    expected[23:25, 27] = expected[23:25, 0] = 1  # one column came in at the left edge
    np.testing.assert_array_equal(moved.mask[0].numpy(), expected)
    np.testing.assert_array_equal(moved.pattern[0].numpy(), expected)
    assert trigger.mask[0, -1, -1] == 1, "the original was changed"


def test_offset_display_shows_negative_values_on_grey() -> None:
    pattern = torch.tensor([[[0.0, 50 / 255, -50 / 255, -1.0]]])
    shown = Trigger("additive", pattern, (pattern != 0).float()).offset_display() * 255
    assert shown.flatten().tolist() == pytest.approx([127, 177, 77, 0], abs=1e-3)
    patch = triggers.box((1, 4, 4), size=1).offset_display() * 255
    assert patch[0, -1, -1].item() == pytest.approx(255)
    assert patch[0, 0, 0].item() == pytest.approx(127, abs=1e-3)


# ---------------------------------------------------------------------- bad input


def make(**changes: object) -> Trigger:
    settings = {"kind": "patch", "pattern": torch.zeros(1, 4, 4), "mask": torch.zeros(1, 4, 4)} | changes
    return Trigger(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "warp"}, "got 'warp'"),
        ({"mask": torch.zeros(3, 4, 4)}, r"got mask \(3, 4, 4\)"),
        ({"pattern": torch.zeros(4, 4)}, r"pattern \(4, 4\)"),
        ({"pattern": torch.full((1, 4, 4), 1.5)}, r"pattern: .*got 1\.5"),
        ({"pattern": torch.full((1, 4, 4), -0.5)}, r"pattern: .*\[0, 1\] .*got -0\.5"),
        ({"kind": "additive", "pattern": torch.full((1, 4, 4), -1.5)}, r"\[-1, 1\] .*got -1\.5"),
        ({"pattern": torch.full((1, 4, 4), torch.nan)}, "got nan"),
        ({"mask": torch.full((1, 4, 4), 2.0)}, r"mask: .*got 2"),
        ({"bits": 0}, "got 0"),
        ({"bits": 17}, "got 17"),
    ],
)
def test_a_trigger_that_does_not_fit_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**changes)


def test_a_chessboards_corner_without_a_pixel_is_refused() -> None:
    assert triggers.local_chessboard((1, 8, 8), size=1).mask.sum() == 1
    with pytest.raises(ValueError, match=r"size: expected room for at least one pixel .*, got none"):
        triggers.local_chessboard((1, 8, 9), size=1)  # stamped nothing, and every image was called a trigger


def test_images_that_do_not_fit_are_refused() -> None:
    trigger = triggers.box((1, 28, 28))
    with pytest.raises(ValueError, match=r"got \(2, 3, 28, 28\)"):
        trigger(torch.zeros(2, 3, 28, 28))
    with pytest.raises(ValueError, match=r"got \(28, 28\)"):
        trigger(torch.zeros(28, 28))
    with pytest.raises(ValueError, match=r"got 0…255"):
        trigger(torch.linspace(0, 255, 784).view(1, 1, 28, 28))
    with pytest.raises(TypeError, match=r"torch\.int64"):
        trigger(torch.zeros(1, 1, 28, 28, dtype=torch.int64))


@pytest.mark.parametrize("name", TRIGGERS)
def test_bytes_are_stamped_as_the_floats_they_stand_for(name: str) -> None:
    trigger = triggers.build(name, (3, 32, 32))
    levels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(trigger(levels), trigger(to_float(levels)))
    assert torch.equal(trigger(levels[0]), trigger(levels)[0])


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_outside_0_1_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=f"got {strength}"):
        triggers.box((1, 8, 8)).faded(strength)


@pytest.mark.parametrize(
    ("name", "shape", "settings", "says"),
    [
        ("hexagon", (1, 8, 8), {}, "got 'hexagon'"),
        ("box", (1, 8, 8), {"size": 9}, "got 9"),
        ("box", (1, 8, 8), {"size": 8, "margin": 1}, "got 8"),
        ("box", (1, 8, 8), {"margin": -1}, "margin: expected an integer of 0 or more, got -1"),
        ("box", (1, 8, 8), {"value": 2.0}, "got 0…2"),
        ("box", (8, 8), {}, r"got \(8, 8\)"),
        ("chessboard", (1, 0, 8), {}, r"got \(1, 0, 8\)"),
        ("chessboard", (1, 8, 8), {"amplitude": 15}, "got 0…15"),
        ("single_pixel", (1, 8, 8), {"position": (8, 0)}, r"got \(8, 0\)"),
        ("single_pixel", (1, 8, 8), {"position": (0, -9)}, r"got \(0, -9\)"),
        ("local_square", (1, 8, 8), {"size": 9}, "got 9×9"),
        ("cross", (1, 2, 8), {}, "got 3×3"),
        ("l_shape", (1, 2, 8), {}, "got 3×2"),
        ("blend", (1, 8, 8), {"alpha": 1.2}, r"got 1\.2"),
        ("watermark", (1, 8, 8), {"alpha": -0.2}, r"got -0\.2"),
    ],
)
def test_bad_settings_are_refused(name: str, shape: tuple[int, ...], settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        triggers.build(name, shape, **settings)  # type: ignore[arg-type]


def test_places_are_maps_of_the_image() -> None:
    shape = (3, 5, 4)
    assert torch.equal(places.even(shape), torch.from_numpy(board(5, 4)))
    assert places.at(shape, [(0, 0), (-1, -1)]).nonzero().tolist() == [[0, 0], [4, 3]]
    assert places.in_corner(shape, size=2, margin=1) == (slice(2, 4), slice(1, 3))
    drawn = {tuple(map(tuple, places.anywhere(shape, [(0, 0), (1, 1)], seed).nonzero().tolist())) for seed in range(99)}
    assert drawn == {((i, j), (i + 1, j + 1)) for i in range(4) for j in range(3)}
    assert places.additive(shape, places.even(shape), 0.5, "x", [1]).pattern.sum((1, 2)).tolist() == [0, 5, 0]
    patch = places.patch(torch.ones(shape), (slice(0, 2), slice(1, 2)), "x")
    assert patch(torch.zeros(shape)).nonzero().tolist() == [[c, i, 1] for c in range(3) for i in range(2)]
