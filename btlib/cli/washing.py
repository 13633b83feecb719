"""A washed copy of a network, a reference of its own: half of each weight thrown away, then trained on clean images."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from btlib import metrics
from btlib.cli.scan_images import CleanImages
from btlib.cli.trainable import NotTrainedError, copied, divided, trained
from btlib.detection import Detection
from btlib.networks import reference
from btlib.training import Recipe, seeded

KEPT = 0.5  # of every weight; the rest comes from a fresh one
STEPS, BATCH, RATE = 750, 32, 3e-3  # as many steps, at least, however few the images are
LOST = 0.25  # of accuracy: a copy that lost more is another network
APART = 0x5EED  # from the seed that a network was made with, whose fresh weights are those that it began with
FRESH = 0.5  # of the weights: where fewer can be made afresh (behind a weight norm, none), nothing would be forgotten


@dataclass(frozen=True, eq=False)
class Washed:
    """A copy that has forgotten what the clean images do not teach.

    Attributes:
        network: the copy.
        before, after: accuracy on held-out images, of the given network and of the copy.
        seconds: that it took.
    """

    network: nn.Module
    before: float
    after: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Washing:
    """What doubtful methods say beside a washed copy.

    Attributes:
        copy: the copy; None where there is none.
        why: there is none, in words.
        beside: by method, what it found, judged relative to what it finds in the copy.
    """

    copy: Washed | None
    why: str = ""
    beside: Mapping[str, Detection] = field(default_factory=dict)

    def sentence(self, said: Mapping[str, str]) -> str:
        """What it means, in words.

        Args:
            said: by method, its p-values and what follows.
        """
        if self.copy is None:
            return f"There is no washed copy to compare with: {self.why}."
        return (
            "A washed copy (half of each weight thrown away, trained again on the clean images: accuracy "
            f"{self.copy.before:.2f} before, {self.copy.after:.2f} after, on held-out ones) shows what "
            f"classes are like by nature. Beside it {'; '.join(f'{method} {words}' for method, words in said.items())}."
        )


def washed_copy(network: nn.Module, images: CleanImages, seed: int = 0) -> Washed:
    """Mix the weights half and half with fresh ones, and train that on the clean images.

    What a class is like by nature comes back with the clean images; a trigger is in none of them. The given network
    and the caller's random state stay as they are.

    Args:
        network: images in [0, 1] → logits.
        images: clean ones.
        seed: of the fresh weights and of the batches.

    Raises:
        NotTrainedError: weights that can't be changed or made afresh, too few images, or a copy that did not learn.
    """
    began, data, copy = time.perf_counter(), divided(images), copied(network)
    mix_with_fresh(copy, seed)
    count = len(data.y_train)
    batch = next(size for size in range(BATCH, 2 * BATCH) if count % size != 1)  # batch norm takes no single image
    epochs = math.ceil(STEPS / math.ceil(count / batch))
    trained(copy, data, Recipe(epochs, batch, RATE, schedule="one_cycle", augment="crop", channels_last=False), seed)
    before, after = (metrics.accuracy(each, data.x_test, data.y_test) for each in (network, copy))
    if after < before - LOST:
        raise NotTrainedError(f"a washed copy did not learn from the clean images (accuracy {before:.2f} before, "
                              f"{after:.2f} after)")  # fmt: skip
    return Washed(copy, before, after, time.perf_counter() - began)


def _afresh(reset: Callable[[], object]) -> None:
    try:
        reset()
    except Exception as error:  # whatever a stranger's layer raises
        raise NotTrainedError(f"a layer can't make fresh weights ({type(error).__name__})") from None


def mix_with_fresh(network: nn.Module, seed: int) -> None:
    """Shrink every weight to half of it and add half of a fresh one, in place; statistics of pixels start anew.

    Raises:
        NotTrainedError: the layers do not say how most of the weights are made.
    """
    weights = [each for each in network.parameters() if each.is_floating_point()]
    old = [each.detach().clone() for each in weights]
    names = ("reset_parameters", "_reset_parameters")  # the second is an attention's
    resets = [reset for each in network.modules() for name in names if callable(reset := getattr(each, name, None))]
    if not resets:
        raise NotTrainedError("no layer of this network says how fresh weights are made")
    with seeded(seed ^ APART, reference(network).device), torch.no_grad():
        for reset in resets:
            _afresh(reset)
        changed = sum(was.numel() for fresh, was in zip(weights, old, strict=True) if not torch.equal(fresh, was))
        share = changed / sum(was.numel() for was in old)
        if share < FRESH:
            raise NotTrainedError(f"its layers make {100 * share:.0f} % of the weights afresh, too few to forget with")
        for fresh, was in zip(weights, old, strict=True):
            fresh.lerp_(was, KEPT)
