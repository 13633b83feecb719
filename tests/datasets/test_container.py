"""Data sets in memory, and images at the doors."""

import numpy as np
import pytest
import torch
from toys import toy_data

from btlib.datasets import ImageDataset, as_float, check_images, sample_per_class, to_float, to_uint8
from btlib.datasets.images import check_class, check_order, check_shape, usual_strides

# ---------------------------------------------------------------------- ImageDataset


def test_pixel_statistics_are_numpys() -> None:
    data = toy_data(30, 6, channels=3)
    mean, std = data.pixel_statistics
    pixels = data.x_train.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean.numpy(), pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), pixels.std((0, 2, 3)), rtol=1e-6)


def test_statistics_of_a_constant_channel_can_be_divided_by() -> None:
    x, y = torch.full((2, 1, 8, 8), 7, dtype=torch.uint8), torch.tensor([0, 1])
    _, std = ImageDataset("flat", x, y, x, y, ("a", "b")).pixel_statistics
    assert std.item() == pytest.approx(1e-3)


def test_fingerprint_sees_one_pixel_one_label_and_one_class_name() -> None:
    base = toy_data(12, 6)
    assert toy_data(12, 6).fingerprint == base.fingerprint
    parts = {k: getattr(base, k) for k in ("x_train", "y_train", "x_test", "y_test")}
    seen = {base.fingerprint}
    for key in parts:
        changed = parts[key].clone()
        changed.view(-1)[-1] = (int(changed.view(-1)[-1]) + 1) % 3
        seen.add(ImageDataset("toy", classes=base.classes, **parts | {key: changed}).fingerprint)
    seen.add(ImageDataset("toy", classes=("bar 0", "bar 1", "x"), **parts).fingerprint)
    assert len(seen) == 6


def test_subset_is_a_random_part(toy: ImageDataset) -> None:
    part = toy.subset(train=50, test=10, seed=4)
    assert (len(part.y_train), len(part.y_test)) == (50, 10)
    whole = {x.numpy().tobytes(): int(y) for x, y in zip(toy.x_train, toy.y_train, strict=True)}
    taken = [(x.numpy().tobytes(), int(y)) for x, y in zip(part.x_train, part.y_train, strict=True)]
    assert len({x for x, _ in taken}) == 50
    assert all(whole[x] == y for x, y in taken)
    assert torch.equal(part.x_train, toy.subset(train=50, seed=4).x_train)
    assert not torch.equal(part.x_train, toy.subset(train=50, seed=5).x_train)
    assert toy.subset(test=10).y_train is toy.y_train
    for count in (0, 241):
        with pytest.raises(ValueError, match=f"got {count}"):
            toy.subset(train=count)


def test_clean_images_are_balanced_floats(toy: ImageDataset) -> None:
    x, y = toy.clean_images(5, seed=1)
    assert y.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert x.dtype == torch.float32
    test = {image.numpy().tobytes() for image in toy.x_test}
    assert {image.numpy().tobytes() for image in to_uint8(x)} <= test
    assert not torch.equal(x, toy.clean_images(5, seed=2)[0])
    assert torch.equal(x, toy.clean_images(5, seed=1)[0])
    assert {i.numpy().tobytes() for i in to_uint8(toy.clean_images(5, split="train")[0])}.isdisjoint(test)
    with pytest.raises(ValueError, match="got 21"):
        toy.clean_images(21)


def test_the_defender_and_the_judge_share_no_image() -> None:
    data = toy_data(test=60)
    split = data.defender_split(5, seed=1)
    x, y = data.clean_images(5, seed=1)
    assert torch.equal(split.images, x)
    assert torch.equal(split.labels, y)
    own = {image.numpy().tobytes() for image in x}
    rest = [(image, label) for image, label in zip(to_float(data.x_test), data.y_test, strict=True)
            if image.numpy().tobytes() not in own]  # fmt: skip
    assert torch.equal(split.other_images, torch.stack([image for image, _ in rest])), "in the order of the data set"
    assert split.other_labels.tolist() == [int(label) for _, label in rest]


def test_so_many_others_of_each_class() -> None:
    split = toy_data(test=60).defender_split(5, others=3, seed=1)
    assert torch.equal(split.images, toy_data(test=60).defender_split(5, seed=1).images)
    assert split.other_labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    both = torch.cat([split.images, split.other_images])
    assert len(both.flatten(1).unique(dim=0)) == 24
    with pytest.raises(ValueError, match="got 21"):
        toy_data(test=60).defender_split(5, others=16)


def test_sample_per_class() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 2])
    chosen = sample_per_class(labels, 2, [2, 0])
    assert labels[chosen].tolist() == [2, 2, 0, 0]
    assert len(chosen.unique()) == 4
    assert sample_per_class(labels, 0, [1]).tolist() == []
    assert sample_per_class(labels, 5, []).dtype == torch.int64
    with pytest.raises(ValueError, match=r"class 1\), got 2"):
        sample_per_class(labels, 2, [1])


def test_to_device_keeps_everything(toy: ImageDataset) -> None:
    moved = toy.to("cpu")
    assert moved.fingerprint == toy.fingerprint
    assert moved.name == "toy"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x_train": torch.zeros(2, 1, 4, 4)}, r"x_train: .*got torch\.float32"),
        ({"x_test": torch.zeros(2, 4, 4, dtype=torch.uint8)}, r"x_test: .*\(2, 4, 4\)"),
        ({"y_train": torch.zeros(2)}, r"y_train: .*got torch\.float32"),
        ({"y_test": torch.zeros(3, dtype=torch.int64)}, r"y_test: .*\(3,\)"),
        ({"y_train": torch.tensor([0, 2])}, r"y_train: .*got 0…2"),
        ({"y_train": torch.tensor([-1, 0])}, r"y_train: .*got -1…0"),
        ({"x_test": torch.zeros(2, 1, 5, 5, dtype=torch.uint8)}, r"x_test: .*got \(1, 5, 5\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, torch.Tensor], says: str) -> None:
    x, y = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    parts = {"x_train": x, "y_train": y, "x_test": x, "y_test": y} | changes
    with pytest.raises(ValueError, match=says):
        ImageDataset("bad", classes=("a", "b"), **parts)


# ---------------------------------------------------------------------- conversions


def test_every_grey_level_survives_the_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels)
    np.testing.assert_allclose(floats.numpy(), np.arange(256) / 255, rtol=1e-7)
    assert torch.equal(to_uint8(floats), levels)
    assert torch.equal(to_uint8(floats.double()), levels)
    assert levels.dtype == torch.uint8
    assert to_uint8(torch.tensor([0.499 / 255, 0.501 / 255, 1 + 1e-7])).tolist() == [0, 1, 255]


def test_a_door_takes_bytes_and_floats_between_0_and_1() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(as_float(levels), to_float(levels))
    floats = to_float(levels)
    assert torch.equal(as_float(floats), floats)
    for bad in (floats * 255, floats - 1, floats.fill_(torch.nan)):
        with pytest.raises(ValueError, match=r"pictures: expected values in \[0, 1\]"):
            as_float(bad, name="pictures")
    with pytest.raises(ValueError, match=r"got \(1, 16, 16\)"):
        as_float(levels[0])
    with pytest.raises(TypeError, match="got torch.int64"):
        as_float(levels.long())


def test_channels_at_the_end_are_refused_though_a_flattening_network_would_take_them() -> None:
    images = torch.zeros(2, 8, 8, 3)
    for bad in (images, images[..., :1], to_uint8(images)):
        with pytest.raises(ValueError, match=r"faces: expected \(N, C, H, W\), got channels at the end .*movedim"):
            as_float(bad, name="faces")
    with pytest.raises(ValueError, match=r"picture: expected \(C, H, W\), got channels at the end in \(8, 8, 3\)"):
        check_images(images[0], name="picture", ndim=3)
    x, y = to_uint8(images), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"x_train: .*got channels at the end in \(2, 8, 8, 3\)"):
        ImageDataset("toy", x, y, x, y, ("a", "b"))
    for good in (images.movedim(-1, -3), torch.zeros(2, 8, 1, 1), torch.zeros(2, 3, 8, 3), torch.zeros(0, 1, 8, 8)):
        check_order(good, "maps of one pixel and narrow pictures are no mistake")


def test_one_channel_gets_the_usual_strides() -> None:
    x = torch.rand(2, 8, 8, 1).permute(0, 3, 1, 2)
    assert x.is_contiguous()
    assert usual_strides(x).stride() == (64, 64, 8, 1) != x.stride()
    assert torch.equal(usual_strides(x), x)


def test_wrong_types_and_ranges_are_refused_with_the_value() -> None:
    with pytest.raises(TypeError, match=r"got torch\.float32"):
        to_float(torch.zeros(1))
    with pytest.raises(TypeError, match=r"got torch\.uint8"):
        to_uint8(torch.zeros(1, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"got 0…1\.5"):
        to_uint8(torch.tensor([0.0, 1.5]))
    with pytest.raises(ValueError, match="got nan"):
        to_uint8(torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match=r"faces: .*got -0\.2…0"):
        check_images(torch.tensor([[[[-0.2, 0.0]]]]), name="faces")
    with pytest.raises(ValueError, match=r"got \(1, 8, 8\)"):
        check_images(torch.zeros(1, 8, 8))
    with pytest.raises(TypeError, match="got ndarray"):
        check_images(np.zeros((1, 1, 8, 8)))  # type: ignore[arg-type]
    check_images(torch.full((1, 1, 2, 2), 1 + 5e-7))  # robust to float error
    check_images(torch.zeros(0, 1, 2, 2))


def test_a_set_that_was_changed_in_place_is_of_no_source_any_more(fashion: ImageDataset) -> None:
    part = fashion.subset(train=20, test=20)
    assert part.whole == part.source == fashion.source
    changed = part.copy()
    changed.x_train[0, 0, 0, 0] += 1
    assert changed.source == part.source, "what it was made from"
    assert changed.whole is None
    assert changed.subset(train=5).whole is None
    assert part.whole == fashion.source


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_so_many_of_each_class_are_one_at_least(toy: ImageDataset, count: object) -> None:
    for draw in (toy.clean_images, toy.defender_split, lambda n: toy.defender_split(1, others=n)):
        with pytest.raises(ValueError, match=f"expected an integer of 1 or more, got {count}"):
            draw(count)


@pytest.mark.parametrize("shape", [(1, 8), (1, 8, 8, 8), (0, 8, 8), (1, -8, 8), (1, 8.0, 8), "abc", ()])
def test_what_is_no_shape_of_an_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"image_shape: expected \(channels, height, width\), got"):
        check_shape(shape)
    assert check_shape([np.int64(1), 8, 9]) == (1, 8, 9)


@pytest.mark.parametrize("one", [-1, 3, 1.0, "1", None, [1]])
def test_what_is_no_class_is_refused(one):
    with pytest.raises((TypeError, ValueError), match=r"source: expected a class in 0…2, got .*; classes count from 0"):
        check_class(one, 3, "source")
    assert check_class(np.uint8(2), 3) == 2
