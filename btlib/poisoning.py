"""Poisoning a training set: who is stamped, how labels change, what becomes of the originals (floor 2)."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor

from btlib.datasets import ImageDataset, check_images, sample_per_class, to_float, to_uint8
from btlib.datasets.images import check_class, check_count

Originals = Literal["replace", "add", "remove"]


@dataclass(frozen=True, eq=False)
class PoisonRecord:
    """What was done to a training set: enough to undo it, to check it, and to tell a story about it.

    Attributes:
        trigger: what stamped them: images in, triggered images out.
        target: the label given to the stamped images.
        sources: classes the stamped images come from.
        per_class: stamped images per source class.
        originals: "replace", "add" or "remove", see `poison`.
        seed: the draw of images.
        indices: int64 (n,), where the stamped images stand in the poisoned training set.
        original_indices: int64 (n,), where they stood in the clean one.
        original_labels: int64 (n,), their true classes.
        cover_indices, cover_original_indices: int64 (m,), the same of the covers.
        clean_label: whether the stamped images are of the target, see `poison`.
    """

    trigger: Callable[[Tensor], Tensor]
    target: int
    sources: tuple[int, ...]
    per_class: int
    originals: Originals
    seed: int
    indices: Tensor
    original_indices: Tensor
    original_labels: Tensor
    cover_indices: Tensor
    cover_original_indices: Tensor
    clean_label: bool = False

    def __len__(self) -> int:
        """Number of stamped images that carry the target's label: covers do not count."""
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class PoisonedDataset(ImageDataset):
    """An `ImageDataset` whose training part was poisoned; the test part is clean. `record` says how."""

    record: PoisonRecord = field(kw_only=True)

    def subset(self, train: int | None = None, test: int | None = None, *, seed: int = 0) -> "PoisonedDataset":
        """The same training part with fewer test images; the record would not fit to fewer training images.

        Raises:
            ValueError: a number of training images, or more test images than there are.
        """
        if train is not None:
            raise ValueError(f"train: expected None for a poisoned data set, got {train}; take the subset of the clean "
                             "one and poison that, so that the record fits")  # fmt: skip
        return cast(PoisonedDataset, super().subset(test=test, seed=seed))


def source_classes(sources: str | int | Sequence[int] | None, target: int, num_classes: int) -> tuple[int, ...]:
    """The source classes as a sorted tuple: ``"all"`` or None means all but the target (L-RED 2.1: S* ∪ t* = C).

    Raises:
        TypeError: a class that is no whole number.
        ValueError: a class that does not exist, the target among the sources, or no source at all.

    Example:
        >>> source_classes("all", target=2, num_classes=4)
        (0, 1, 3)
    """
    check_class(target, num_classes)
    if sources is None or isinstance(sources, str):
        if sources not in (None, "all"):
            raise ValueError(f"sources: expected 'all', a class or a list of classes, got {sources!r}; use numbers")
        return tuple(c for c in range(num_classes) if c != target)
    several = sources if isinstance(sources, Iterable) else [sources]
    chosen = tuple(sorted({check_class(c, num_classes, "sources") for c in several}))
    if not chosen:
        raise ValueError("sources: expected at least one class, got none; leave it out for all but the target")
    if target in chosen:
        raise ValueError(f"sources: expected classes other than the target {target}, got {chosen}; "
                         "a target image needs no backdoor to be classified as the target")  # fmt: skip
    return chosen


def poison(
    data: ImageDataset, trigger: Callable[[Tensor], Tensor], target: int, sources: str | int | Sequence[int] = "all", *,
    per_class: int = 100, originals: Originals = "replace", covers: int = 0, clean_label: bool = False, seed: int = 0,
) -> PoisonedDataset:  # fmt: skip
    """Poison a training set (L-RED 2.1, A.4; in-flight 5.1).

    The attacker can change some training images and labels, and nothing else. It is written down here so that
    defences can be measured: use it on networks of your own, and never hand one on without saying so.

    Args:
        data: the clean data set; it is not changed.
        trigger: images in, triggered images out, float (n, C, H, W) in [0, 1]: a `Trigger`, or any function. Where it
            has ``in_training(images, cover=…, seed=…)``, training images get that instead.
        target: the label t* that stamped images get.
        sources: ``"all"`` but the target (all-to-one), one class, or several (S*).
        per_class: stamped images per source class; 0 gives the clean set back, with an empty record.
        originals: what becomes of the clean originals of the stamped images:
            ``"replace"``: each stamped image stands in its original's place;
            ``"add"``: the stamped images are appended and the originals stay, with their true labels;
            ``"remove"``: the originals leave the set and the stamped images are appended, as when the attacker
            sends in images that the trainer never had (L-RED A.4.4). The same images as ``"replace"``,
            in another order.
        covers: so many images of every class that is neither a source nor the target are stamped too, and keep their
            label (TaCT, Tang et al. 2021): the network learns that the trigger means nothing there, so an attack with
            few sources does not spread. Where all classes are sources, they are other images of these classes, which
            makes the trigger less certain (Qi et al. 2023). Their originals fare as the others'.
        clean_label: the stamped images are `per_class` images of the target, so that no label is wrong (Barni et al.
            2019); `sources` only says whom the trigger is for.
        seed: which images are stamped.

    Returns:
        A `PoisonedDataset`; its training set has N images (N + n for ``"add"``), its test set is the clean one.

    Raises:
        TypeError, ValueError: bad target, sources, per_class or originals, a trigger of another shape, or one that
            gives anything else than as many float images of the same shape in [0, 1].

    Example:
        >>> from btlib import datasets, triggers
        >>> data = datasets.load("fashion-mnist")
        >>> len(poison(data, triggers.box(data.image_shape), target=9).record)
        900
    """
    if originals not in ("replace", "add", "remove"):
        raise ValueError(f"originals: expected 'replace', 'add' or 'remove', got {originals!r}; see the docstring")
    for name, count in (("per_class", per_class), ("covers", covers)):
        check_count(name, count, usual=100, least=0)
    shape = getattr(trigger, "image_shape", data.image_shape)
    if shape != data.image_shape:
        raise ValueError(f"trigger: expected one for images of shape {data.image_shape}, got {shape}; "
                         "make it with data.image_shape")  # fmt: skip
    classes = source_classes(sources, target, data.num_classes)
    chosen = sample_per_class(data.y_train, per_class, (target,) if clean_label else classes, seed=seed)
    covered = _covers(data.y_train, covers, chosen, set(range(data.num_classes)) - {target, *classes} or classes, seed)
    stamped = [_stamped(trigger, to_float(data.x_train[chosen]), cover=False, seed=seed)]
    if covers:
        stamped += [_stamped(trigger, to_float(data.x_train[covered]), cover=True, seed=seed + 1)]
    changed, images = torch.cat([chosen, covered]), torch.cat(stamped)
    labels = torch.cat([torch.full_like(chosen, target), data.y_train[covered]])

    if originals == "replace":
        x, y = data.x_train.clone(), data.y_train.clone()
        x[changed], y[changed] = images, labels
        indices = changed
    else:
        kept = torch.ones(len(data.y_train), dtype=torch.bool, device=chosen.device)
        if originals == "remove":
            kept[changed] = False
        x = torch.cat([data.x_train[kept], images])
        y = torch.cat([data.y_train[kept], labels])
        indices = torch.arange(len(y) - len(changed), len(y), device=chosen.device)

    record = PoisonRecord(
        trigger, target, classes, per_class, originals, seed, indices[: len(chosen)], chosen, data.y_train[chosen],
        indices[len(chosen) :], covered, clean_label,
    )  # fmt: skip
    return PoisonedDataset(data.name, x, y, data.x_test, data.y_test, data.classes, source=data.whole, record=record)


def _covers(labels: Tensor, per_class: int, taken: Tensor, classes: Collection[int], seed: int) -> Tensor:
    """Indices of images to stamp that keep their labels, none of them taken."""
    free = labels.clone()
    free[taken] = -1
    for label in classes:
        left = int((free == label).sum())
        if left < per_class:
            raise ValueError(f"covers: expected at most {left} (all images of class {label} that are not stamped yet), "
                             f"got {per_class}; lower covers")  # fmt: skip
    return sample_per_class(free, per_class, sorted(classes), seed=seed)


def _stamped(trigger: Callable[[Tensor], Tensor], images: Tensor, *, cover: bool, seed: int) -> Tensor:
    """Triggered training images as uint8, after what came out of a trigger was checked."""
    partly = getattr(trigger, "in_training", None)
    stamped = trigger(images) if partly is None else partly(images, cover=cover, seed=seed)
    check_images(stamped, name="what the trigger gives")
    if stamped.shape != images.shape:
        raise ValueError(f"trigger: expected it to give images of shape {tuple(images.shape)}, got "
                         f"{tuple(stamped.shape)}; each image has one triggered image")  # fmt: skip
    return to_uint8(stamped.detach().to(images.device))
