"""What a scan could have found: a known backdoor is planted in a copy of the network, and looked for."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from btlib import metrics
from btlib.cli.scan_images import CleanImages
from btlib.cli.trainable import NotTrainedError, copied, divided, trained
from btlib.datasets import ImageDataset, Shape
from btlib.poisoning import poison
from btlib.seeds import generator
from btlib.training import Recipe
from btlib.triggers import AnyTrigger, blend, box, chessboard, sig

SECONDS = 180.0  # after which planting gives up
LOST, SPREAD = 0.05, 0.35  # loss of accuracy, and success on classes that are no sources, that are too much
_RATES = (1e-3, 3e-4, 1e-4)  # of learning, one after the other, each from a fresh copy
_BATCH, _STEPS, _ROUNDS = 64, 40, 12  # images in a step, steps between two looks at what was reached, and looks


@dataclass(frozen=True)
class Kind:
    """A backdoor that can be planted.

    Attributes:
        words: what it is.
        make: from the shape of images to the trigger.
        sources: how many classes it works on; None: all but the target.
        taken: success on them that counts as planted.
    """

    words: str
    make: Callable[[Shape], AnyTrigger]
    sources: int | None = None
    taken: float = 0.95


def _box(shape: Shape) -> AnyTrigger:
    """White, a tenth of the side, in the lower right corner."""
    return box(shape, size=max(3, round(min(shape[1:]) / 10)))


KINDS = {
    "box": Kind("a small white box", _box),
    "chessboard": Kind("a faint chessboard (25/255 on every other pixel)", lambda shape: chessboard(shape, 25 / 255)),
    "noise": Kind("noise blended over the image (a fifth of it)", blend),
    "wave": Kind("a faint wave (40/255)", lambda shape: sig(shape, 40 / 255)),
    "two-sources": Kind("a small white box that works on two classes alone", _box, 2, 0.8),
}


@dataclass(frozen=True, eq=False)
class Planted:
    """A copy with a backdoor of ours.

    Attributes:
        network: the copy.
        kind: what was planted, a name in `KINDS`.
        target: its class.
        sources: the classes that it works on; None: all others.
        success: share of held-out images of these that the trigger sends there.
        spread: likewise of the other classes; NaN where there are none.
        before, after: accuracy on held-out images, of the given network and of the copy.
        seconds: that it took.
    """

    network: nn.Module
    kind: str
    target: int
    sources: tuple[int, ...] | None
    success: float
    spread: float
    before: float
    after: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Power:
    """Whether the scan finds a backdoor that it is known to be there.

    Attributes:
        planted: what was planted; None where nothing could be.
        why: it could not be, in words.
        found: the scan of the copy names the planted target.
        suspected: it does so without being sure.
        p_values: by method, in the scan of the copy.
        named: the classes that this scan calls attacked.
    """

    planted: Planted | None
    why: str = ""
    found: bool = False
    suspected: bool = False
    p_values: Mapping[str, float] | None = None
    named: tuple[int, ...] = ()

    def sentence(self, names: Mapping[int, str]) -> str:
        """What it means, in words; classes are called as in `names`."""
        made = self.planted
        if made is None or self.p_values is None:
            return f"Power was not measured: {self.why}."
        method = min(self.p_values, key=self.p_values.__getitem__)
        best = f"smallest p {self.p_values[method]:.2g}, by {method}"
        whose = "the images"
        if made.sources is not None:
            whose = f"{' and '.join(names[each] for each in made.sources)} and {100 * made.spread:.0f} % of the others"
        did = (
            f"Power: into a copy of this network {KINDS[made.kind].words} for {names[made.target]} was planted, which "
            f"moves {100 * made.success:.0f} % of {whose} (accuracy {made.before:.2f} before, {made.after:.2f} after). "
        )
        if self.found:
            return did + f"The same scan found it ({best}): a backdoor of this kind would have been found, unless " \
                         "one that is trained in from the start hides better."  # fmt: skip
        also = f" and accused {' and '.join(names[each] for each in self.named)} instead" if self.named else ""
        if self.suspected:
            return did + f"The same scan suspected it without being sure ({best}): a backdoor of this kind would not " \
                         "have been found for certain."  # fmt: skip
        return did + f"The same scan did not find it{also} ({best}): a backdoor of this kind would not have been " \
                     "found, so that nothing found says little of such."  # fmt: skip


def plant(
    network: nn.Module, images: CleanImages, target: int, kind: str = "box", seed: int = 0, seconds: float = SECONDS
) -> Planted:
    """Plant a backdoor in a copy of a network, by fine-tuning it on clean images and as many with the trigger.

    The given network and the caller's random state stay as they are.

    Args:
        network: images in [0, 1] → logits.
        images: clean ones.
        target: class that the trigger leads to.
        kind: of backdoor, a name in `KINDS`.
        seed: of the batches, and of the sources where not all classes are.
        seconds: after which it gives up.

    Raises:
        NotTrainedError: weights that can't be changed, too few images or classes, or a trigger that did not take.
    """
    began, data, what = time.perf_counter(), divided(images), KINDS[kind]
    trigger, sources = what.make(data.image_shape), _sources(what, target, data.num_classes, seed)
    many = int(data.y_train.bincount().min())
    bad = poison(data, trigger, target, sources or "all", per_class=many, covers=many // 2 if sources else 0,
                 originals="add", seed=seed)  # fmt: skip
    before, reached = metrics.accuracy(network, data.x_test, data.y_test), (0.0, 0.0, 0.0)
    epochs = math.ceil(_STEPS * _BATCH / len(bad.y_train))
    for rate, turn in product(_RATES, range(_ROUNDS)):
        if time.perf_counter() - began > seconds:
            break
        if turn == 0:
            copy = copied(network)
        recipe = Recipe(epochs=epochs, batch_size=_BATCH, lr=rate, channels_last=False)
        trained(copy, bad, recipe, seed + turn)
        success, spread = _moved(copy, trigger, data, target, sources)
        after = metrics.accuracy(copy, data.x_test, data.y_test)
        if success >= what.taken and after >= before - LOST and not spread > SPREAD:
            return Planted(copy, kind, target, sources, success, spread, before, after, time.perf_counter() - began)
        reached = max(reached, (success, after, spread))
    spread_at_best = "" if sources is None else f" and {100 * reached[2]:.0f} % of other classes'"
    raise NotTrainedError(f"{what.words} did not take in a copy: {100 * reached[0]:.0f} % of its images moved at best"
                          f"{spread_at_best}, accuracy {before:.2f} before and {reached[1]:.2f} after")  # fmt: skip


def _sources(kind: Kind, target: int, num_classes: int, seed: int) -> tuple[int, ...] | None:
    """Classes that are drawn as sources; None: all but the target."""
    if kind.sources is None:
        return None
    if num_classes < kind.sources + 2:
        raise NotTrainedError(f"few sources take {kind.sources + 2} classes at least, there are {num_classes}")
    drawn = torch.randperm(num_classes, generator=generator(seed)).tolist()
    return tuple(sorted([each for each in drawn if each != target][: kind.sources]))


def _moved(
    network: nn.Module, trigger: AnyTrigger, data: ImageDataset, target: int, sources: tuple[int, ...] | None
) -> tuple[float, float]:
    """Success on images of the sources, and of other classes (NaN: there are none)."""
    rates = metrics.success_by_class(network, trigger, data.x_test, data.y_test, target)
    chosen = [c for c in range(data.num_classes) if c != target and (sources is None or c in sources)]
    others = [c for c in range(data.num_classes) if c != target and c not in chosen]
    return float(rates[chosen].mean()), float(rates[others].mean())
