"""Who is poisoned, how labels change, what becomes of the originals, and what the record says."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toys import toy_data

from btlib import poisoning, triggers
from btlib.attacks import GeneratedTrigger
from btlib.datasets import ImageDataset, to_float, to_uint8
from btlib.networks.generator import Generator
from btlib.poisoning import PoisonedDataset, poison


def data() -> ImageDataset:
    """Four classes, sixty training images each."""
    return toy_data(240, 40, classes=4, size=20)


def trigger_for(clean: ImageDataset) -> triggers.Trigger:
    return triggers.box(clean.image_shape)


def multiset(bad: PoisonedDataset) -> list[tuple[bytes, int]]:
    return sorted((x.numpy().tobytes(), int(y)) for x, y in zip(bad.x_train, bad.y_train, strict=True))


@pytest.mark.parametrize("originals", ["replace", "add", "remove"])
def test_record_and_data_agree(originals: poisoning.Originals) -> None:
    clean = data()
    before = clean.fingerprint, clean.x_train.clone(), clean.y_train.clone()
    trigger = trigger_for(clean)
    bad = poison(clean, trigger, target=1, per_class=10, originals=originals, seed=3)
    record = bad.record

    assert len(record) == 30
    assert len(bad.y_train) == 240 + (30 if originals == "add" else 0)
    assert (record.target, record.sources, record.per_class, record.originals, record.seed) == (
        1,
        (0, 2, 3),
        10,
        originals,
        3,
    )
    assert record.trigger is trigger
    # The stamped images are the trigger on their originals, rounded to 8 bits, and carry the target's label.
    assert torch.equal(bad.x_train[record.indices], to_uint8(trigger(to_float(clean.x_train[record.original_indices]))))
    assert bad.y_train[record.indices].tolist() == [1] * 30
    assert torch.equal(record.original_labels, clean.y_train[record.original_indices])
    assert torch.bincount(record.original_labels, minlength=4).tolist() == [10, 0, 10, 10]
    assert len(record.original_indices.unique()) == len(record.indices.unique()) == 30
    # The others are as they were, in their order.
    others = torch.ones(len(bad.y_train), dtype=torch.bool)
    others[record.indices] = False
    kept = torch.ones(240, dtype=torch.bool)
    if originals != "add":
        kept[record.original_indices] = False
    assert torch.equal(bad.x_train[others], clean.x_train[kept])
    assert torch.equal(bad.y_train[others], clean.y_train[kept])
    # Test images and the clean set are untouched.
    assert torch.equal(bad.x_test, clean.x_test)
    assert torch.equal(bad.y_test, clean.y_test)
    assert torch.equal(clean.x_train, before[1])
    assert torch.equal(clean.y_train, before[2])
    assert ImageDataset(clean.name, clean.x_train, clean.y_train, clean.x_test, clean.y_test,
                        clean.classes).fingerprint == before[0]  # fmt: skip


def test_replace_and_remove_train_on_the_same_images() -> None:
    clean = data()
    replaced, removed, added = (
        poison(clean, trigger_for(clean), 0, per_class=7, originals=how) for how in ("replace", "remove", "add")
    )
    assert multiset(replaced) == multiset(removed)
    assert torch.equal(replaced.record.indices, replaced.record.original_indices)
    assert removed.record.indices.tolist() == list(range(240 - 21, 240))
    assert added.record.indices.tolist() == list(range(240, 261))


def test_only_the_chosen_sources_are_stamped() -> None:
    clean = data()
    for sources, expected in ((3, {3}), ([2, 0], {0, 2}), ("all", {0, 2, 3})):
        bad = poison(clean, trigger_for(clean), target=1, sources=sources, per_class=4)
        assert set(bad.record.original_labels.tolist()) == expected
        assert len(bad.record) == 4 * len(expected)


def test_the_seed_draws_the_images() -> None:
    clean = data()

    def drawn(seed: int) -> Tensor:
        return poison(clean, trigger_for(clean), 0, per_class=10, seed=seed).record.original_indices

    assert torch.equal(drawn(0), drawn(0))
    # Two draws of 10 from 60, three times: 5 in common expected, all 30 never.
    assert len(set(drawn(0).tolist()) & set(drawn(1).tolist())) < 20
    state = torch.get_rng_state()
    drawn(0)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was used"


@pytest.mark.parametrize("originals", ["replace", "add", "remove"])
@pytest.mark.parametrize(("sources", "covered"), [((0,), [0, 0, 5, 5]), ("all", [5, 0, 5, 5])])
def test_covers_carry_the_trigger_and_keep_their_label(
    sources: tuple[int, ...] | str, covered: list[int], originals: poisoning.Originals
) -> None:
    """On classes that are neither source nor target; where there are none, on other images of the sources."""
    clean = data()
    plain = poison(clean, trigger_for(clean), 1, sources, per_class=8, originals=originals)
    bad = poison(clean, trigger_for(clean), 1, sources, per_class=8, originals=originals, covers=5)
    record, count = bad.record, sum(covered)
    where, origin = record.cover_indices, record.cover_original_indices
    assert torch.equal(record.original_indices, plain.record.original_indices), "covers changed who is stamped"
    assert len(plain.record.cover_indices) == 0
    assert len(where) == len(where.unique()) == len(origin.unique()) == count
    assert torch.equal(bad.x_train[where], to_uint8(trigger_for(clean)(to_float(clean.x_train[origin]))))
    assert torch.equal(bad.y_train[where], clean.y_train[origin])
    assert torch.bincount(bad.y_train[where], minlength=4).tolist() == covered
    assert not set(origin.tolist()) & set(record.original_indices.tolist())
    assert len(bad.y_train) == 240 + (len(record) + count if originals == "add" else 0)
    # everything else is a clean image with its label
    rest = torch.ones(len(bad.y_train), dtype=torch.bool)
    rest[torch.cat([where, record.indices])] = False
    kept = torch.ones(240, dtype=torch.bool)
    if originals != "add":
        kept[torch.cat([origin, record.original_indices])] = False
    assert torch.equal(bad.x_train[rest], clean.x_train[kept])
    assert torch.equal(bad.y_train[rest], clean.y_train[kept])


def test_clean_labels_are_all_true_and_only_target_images_are_stamped() -> None:
    clean = data()
    bad = poison(clean, trigger_for(clean), 1, per_class=10, clean_label=True)
    assert torch.equal(bad.y_train, clean.y_train)
    assert bad.record.original_labels.tolist() == [1] * 10
    assert bad.record.sources == (0, 2, 3), "whom the trigger is for"
    changed = (bad.x_train != clean.x_train).flatten(1).any(1).nonzero().flatten()
    assert set(changed.tolist()) <= set(bad.record.indices.tolist())
    assert len(changed) >= 9  # a box that was white already changes nothing


def test_a_trigger_says_itself_what_training_images_get() -> None:
    """Stamped images and covers may get other things, and neither the trigger that comes at the test."""

    class Shy:
        def __call__(self, images: Tensor) -> Tensor:
            raise AssertionError("the whole trigger was shown in training")

        def in_training(self, images: Tensor, *, cover: bool, seed: int) -> Tensor:
            return torch.full_like(images, 1.0 if cover else 0.0)

    bad = poison(data(), Shy(), 1, sources=0, per_class=3, covers=2)
    assert bad.x_train[bad.record.indices].amax() == 0
    assert bad.x_train[bad.record.cover_indices].amin() == 255


def test_more_covers_than_there_are_images_are_refused() -> None:
    clean = data()
    with pytest.raises(ValueError, match=r"covers: .*at most 60 .*got 61"):
        poison(clean, trigger_for(clean), 1, sources=0, per_class=3, covers=61)
    with pytest.raises(ValueError, match=r"covers: .*at most 40 .*got 50"):
        poison(clean, trigger_for(clean), 1, per_class=20, covers=50)
    assert len(poison(clean, trigger_for(clean), 1, per_class=20, covers=40).record.cover_indices) == 3 * 40


def test_no_poison_gives_the_clean_set_and_an_empty_record() -> None:
    clean = data()
    for originals in ("replace", "add", "remove"):
        bad = poison(clean, trigger_for(clean), 0, per_class=0, originals=originals)
        assert len(bad.record) == 0
        assert bad.fingerprint == clean.fingerprint


def test_whole_class_can_be_poisoned_but_no_more() -> None:
    clean = data()
    assert len(poison(clean, trigger_for(clean), 0, sources=2, per_class=60).record) == 60
    with pytest.raises(ValueError, match=r"at most 60 .*class 2.*got 61"):
        poison(clean, trigger_for(clean), 0, sources=2, per_class=61)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target": 4}, "got 4"),
        ({"target": -1}, "got -1"),
        ({"sources": "some"}, "got 'some'"),
        ({"sources": [0, 1]}, r"other than the target 0, got \(0, 1\)"),
        ({"sources": 0}, r"other than the target 0"),
        ({"sources": []}, "sources: expected at least one class, got none"),
        ({"sources": [1, 9]}, "sources: expected a class in 0…3, got 9"),
        ({"per_class": -1}, "got -1"),
        ({"covers": -1}, "covers: expected an integer of 0 or more, got -1"),
        ({"originals": "hide"}, "got 'hide'"),
        ({"trigger": triggers.box((3, 20, 20))}, r"got \(3, 20, 20\)"),
    ],
)
def test_bad_input_is_refused(settings: dict[str, object], says: str) -> None:
    clean = data()
    call = {"trigger": trigger_for(clean), "target": 0} | settings
    with pytest.raises(ValueError, match=says):
        poison(clean, **call)  # type: ignore[arg-type]


def test_any_function_is_a_trigger() -> None:
    """As in the metrics, which take any callable: here white images, and one whose kind knows no shape."""
    clean = data()
    for trigger in (lambda images: 1 - images, GeneratedTrigger(Generator(1, seed=0), 0.4)):
        bad = poison(clean, trigger, 0, per_class=5)
        chosen = bad.record.original_indices
        assert torch.equal(bad.x_train[bad.record.indices], to_uint8(trigger(to_float(clean.x_train[chosen]))))
        assert bad.record.trigger is trigger


@pytest.mark.parametrize(("trigger", "error", "says"), [
    (lambda images: images * 255, ValueError, r"expected values in \[0, 1\], got 0…"),
    (lambda images: images * float("nan"), ValueError, "got nan"),
    (lambda images: images[:1], ValueError, r"trigger: expected .* \(15, 1, 20, 20\), got \(1, 1, 20"),
    (lambda images: images.repeat(1, 3, 1, 1), ValueError, r"got \(15, 3, 20, 20\)"),
    (lambda images: to_uint8(images), TypeError, "what the trigger gives: expected a float tensor"),
    (lambda images: None, TypeError, "got NoneType"),
])  # fmt: skip
def test_what_a_trigger_gives_is_checked(
    trigger: Callable[[Tensor], Tensor], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        poison(data(), trigger, 0, per_class=5)


def test_source_classes() -> None:
    assert poisoning.source_classes("all", 9, 10) == tuple(range(9))
    assert poisoning.source_classes(3, 9, 10) == (3,)
    assert poisoning.source_classes([5, 3, 5], 9, 10) == (3, 5)


def test_the_record_stays_true_to_the_data() -> None:
    """A part of the training images would leave the record's indices pointing anywhere."""
    clean = data()
    bad = poison(clean, trigger_for(clean), 0, per_class=5)
    with pytest.raises(ValueError, match="got 50"):
        bad.subset(train=50)
    fewer = bad.subset(test=8)
    assert torch.equal(fewer.x_test, bad.subset(test=8, seed=0).x_test)
    assert not torch.equal(fewer.x_test, bad.subset(test=8, seed=1).x_test)
    assert (len(fewer.y_train), len(fewer.y_test)) == (240, 8)
    assert torch.equal(fewer.y_train[fewer.record.indices], torch.zeros(15, dtype=torch.int64))
    assert isinstance(bad.to("cpu"), PoisonedDataset)
