"""What a scan could have found: a small known backdoor is planted in a copy of the network, and looked for."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from torch import nn

from btlib import metrics
from btlib.cli.scan_images import CleanImages
from btlib.cli.trainable import NotTrainedError, copied, divided, trained
from btlib.poisoning import poison
from btlib.training import Recipe
from btlib.triggers import box

SECONDS = 180.0  # after which planting gives up
TAKEN, LOST = 0.95, 0.05  # success of the planted box, and loss of accuracy, that count as planted
_RATES = (1e-3, 3e-4, 1e-4)  # of learning, one after the other, each from a fresh copy
_BATCH, _STEPS, _ROUNDS = 64, 40, 12  # images in a step, steps between two looks at what was reached, and looks


@dataclass(frozen=True, eq=False)
class Planted:
    """A copy with a backdoor of ours.

    Attributes:
        network: the copy.
        target: its class.
        side: of the white box in the lower right corner, in pixels.
        success: share of held-out images of other classes that the box sends there.
        before, after: accuracy on held-out images, of the given network and of the copy.
        seconds: that it took.
    """

    network: nn.Module
    target: int
    side: int
    success: float
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
        did = (
            f"Power: into a copy of this network a white {made.side}×{made.side} box for {names[made.target]} was "
            f"planted, which moves {100 * made.success:.0f} % of the images (accuracy {made.before:.2f} before, "
            f"{made.after:.2f} after). "
        )
        if self.found:
            return did + f"The same scan found it ({best}): a backdoor of this kind would have been found, unless " \
                         "one that is trained in from the start hides better."  # fmt: skip
        also = f" and accused {' and '.join(names[each] for each in self.named)} instead" if self.named else ""
        if self.suspected:
            return did + f"The same scan suspected it without being sure ({best}): a backdoor of this kind would not " \
                         "have been found for certain."  # fmt: skip
        return did + f"The same scan did not find it{also} ({best}): a backdoor of this kind would not have been " \
                     "found, so that nothing found says little here."  # fmt: skip


def plant(network: nn.Module, images: CleanImages, target: int, seed: int = 0, seconds: float = SECONDS) -> Planted:
    """Plant a box in a copy of a network, by fine-tuning it on clean images and as many with the box.

    The given network and the caller's random state stay as they are.

    Args:
        network: images in [0, 1] → logits.
        images: clean ones.
        target: class that the box leads to.
        seed: of the batches.
        seconds: after which it gives up.

    Raises:
        NotTrainedError: weights that can't be changed, too few images, or a box that did not take.
    """
    began, data = time.perf_counter(), divided(images)
    side = max(3, round(min(data.image_shape[1:]) / 10))
    trigger = box(data.image_shape, size=side)
    bad = poison(data, trigger, target, per_class=int(data.y_train.bincount().min()), originals="add", seed=seed)
    before, reached = metrics.accuracy(network, data.x_test, data.y_test), (0.0, 0.0)
    epochs = math.ceil(_STEPS * _BATCH / len(bad.y_train))
    for rate, turn in product(_RATES, range(_ROUNDS)):
        if time.perf_counter() - began > seconds:
            break
        if turn == 0:
            copy = copied(network)
        recipe = Recipe(epochs=epochs, batch_size=_BATCH, lr=rate, channels_last=False)
        trained(copy, bad, recipe, seed + turn)
        success = metrics.attack_success_rate(copy, trigger, data.x_test, data.y_test, target=target)
        after = metrics.accuracy(copy, data.x_test, data.y_test)
        if success >= TAKEN and after >= before - LOST:
            return Planted(copy, target, side, success, before, after, time.perf_counter() - began)
        reached = max(reached, (success, after))
    raise NotTrainedError(f"a box did not take in a copy: {100 * reached[0]:.0f} % of the images moved at best, "
                          f"accuracy {before:.2f} before and {reached[1]:.2f} after")  # fmt: skip
