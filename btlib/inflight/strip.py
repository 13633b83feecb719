"""STRIP: blend the image with clean ones; a trigger's prediction does not move (Gao et al. 2019; in-flight 2)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from btlib.datasets import as_float
from btlib.datasets.images import check_count
from btlib.inflight.base import InFlightDetector, Measured
from btlib.inflight.checks import Embedding, check_rate
from btlib.metrics import evaluating
from btlib.metrics.prediction import logits_of
from btlib.networks import Network, images_at_once, reference
from btlib.networks.layers import PooledConv2d
from btlib.seeds import generator

_BLOCK = 800  # blends per forward pass: more leave the cache, fewer pay for the calls


class StripDetector(InFlightDetector):
    """An image whose blends with clean images are all classified with confidence is suspicious.

    The score is minus the mean entropy in bits of softmax outputs over the blends.

    Args:
        overlays: clean images to blend with, the same ones for all inspected images (STRIP: 100).
        weight: of the inspected image (in-flight 5.2: 0.5); None adds the two at full strength, as STRIP's public
            code does, sums above white included (`blend_entropy`).
        fpr: false-positive rate on clean images predicted as the target that sets the threshold.
        seed: which of the clean images are the overlays.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> network = checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> images, labels = datasets.load("fashion-mnist").clean_images(10)
        >>> StripDetector(overlays=20).fit(network, images, labels, target=9).scores(images).max().item() <= 0
        True
    """

    overlays_: Tensor

    def __init__(
        self, overlays: int = 100, weight: float | None = 0.5, *, fpr: float = 0.05, seed: int = 0
    ) -> None:  # fmt: skip
        check_count("overlays", overlays, usual=100)
        if weight is not None:
            check_rate("weight", weight)
        check_rate("fpr", fpr)
        self.overlays, self.weight, self.fpr, self.seed = overlays, weight, fpr, seed

    def _fit(self, images: Tensor, labels: Tensor, trigger: Embedding | None) -> float:
        if len(images) < self.overlays:
            raise ValueError(f"images: expected at least {self.overlays} clean ones to blend with, got {len(images)}; "
                             "pass more, or lower `overlays`")  # fmt: skip
        order = torch.randperm(len(images), generator=generator(self.seed))
        self.overlays_ = images[order[: self.overlays].to(images.device)]
        return self._threshold_on(images[(labels == self.target_).to(images.device)], self.fpr)

    def _measure(self, images: Tensor) -> Measured:
        like = reference(self.network_)
        with evaluating(self.network_):
            logits = torch.cat([self.network_(batch.to(like)).float().cpu() for batch in images.split(_BLOCK)])
        predicted = logits.argmax(1)
        judged = predicted == self.target_  # the others can't be flagged, and a score costs a hundred forward passes
        scores = torch.full((len(images),), -torch.inf)
        scores[judged] = self._score(images[judged.to(images.device)])
        return Measured(predicted, scores)

    def _score(self, images: Tensor) -> Tensor:
        return -blend_entropy(self.network_, images, self.overlays_, self.weight)


def blend_entropy(network: nn.Module, images: Tensor, overlays: Tensor, weight: float | None = 0.5) -> Tensor:
    """Mean entropy over blends, ``1/N Σ_n H(softmax f(weight·x + (1-weight)·o_n))``, in bits.

    Low for triggers. With weight None a blend is ``x + o_n``: STRIP's public code adds float images with OpenCV, which
    does not cut them off at white. The whole trigger survives, where half and half leaves half of it.

    Where the network begins with a convolution, images and overlays go through it once each and are blended behind
    it: the layer is affine, so that is the same function.

    Args:
        network: images in [0, 1] → logits (N, K).
        images: float in [0, 1] or uint8, (N, C, H, W).
        overlays: likewise, (M, C, H, W).
        weight: of the image, in (0, 1), or None.

    Returns:
        float32 (N,), between 0 and log2 K, on the CPU.

    Raises:
        TypeError, ValueError: images or overlays that are neither uint8 nor float in [0, 1], or of two
            shapes; no overlay; a network that gives no logits.

    Example:
        >>> from btlib import networks
        >>> network = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
        >>> bits = blend_entropy(network, torch.rand(2, 1, 28, 28), torch.rand(5, 1, 28, 28))
        >>> bool((bits <= math.log2(10)).all())
        True
    """
    images, overlays = as_float(images), as_float(overlays, name="overlays")
    if weight is not None:
        check_rate("weight", weight)
    if len(overlays) == 0 or overlays.shape[1:] != images.shape[1:]:
        raise ValueError(f"overlays: expected at least one image of shape {tuple(images.shape[1:])}, "
                         f"got {tuple(overlays.shape)}; use clean images of the same data set")  # fmt: skip
    logits_of(network, overlays[:1])
    like = reference(network)
    per_block = max(1, images_at_once(_BLOCK, like.device) // len(overlays))
    # One tensor for all results: small ones kept from every block can hinder the reuse of what large ones leave.
    means = torch.empty(len(images))
    with evaluating(network):
        blend, rest = _blender(network, overlays.to(like), weight, min(per_block, len(images)))
        for block, mean in zip(images.split(per_block), means.split(per_block), strict=True):
            log_p = rest(blend(block.to(like)).flatten(0, 1)).float().log_softmax(1)
            entropy = -(log_p.exp() * log_p).sum(1) / math.log(2)  # over the classes, for each blend
            mean.copy_(entropy.unflatten(0, (len(block), len(overlays))).mean(1))
    return means


def _blender(
    network: nn.Module, overlays: Tensor, weight: float | None, most: int
) -> tuple[Callable[[Tensor], Tensor], nn.Module]:
    """Up to `most` images → their blends (block, overlays, …), and the network that takes these."""
    first, rest = _split(network)
    own_weight, other_weight = (1.0, 1.0) if weight is None else (weight, 1 - weight)
    # An affine map of a·x + b·o is a·f(x) + b·f(o) + (1 - a - b)·f(0); the two weights need not sum to 1.
    surplus = [(1 - own_weight - other_weight) * part for part in first(torch.zeros_like(overlays[:1]))]
    laid_over = [other_weight * part + more for part, more in zip(first(overlays), surplus, strict=True)]
    # Two tensors serve all blocks: fresh ones would be handed to the system and faulted in again each time.
    highest, other = (laid_over[0].new_empty((most, *laid_over[0].shape)) for _ in range(2))

    def blend(block: Tensor) -> Tensor:
        own = [(part * own_weight)[:, None] for part in first(block)]
        blended, spare = highest[: len(block)], other[: len(block)]
        torch.add(own[0], laid_over[0], out=blended)
        for mine, theirs in zip(own[1:], laid_over[1:], strict=True):
            torch.maximum(blended, torch.add(mine, theirs, out=spare), out=blended)
        return blended

    return blend, rest


def _split(network: nn.Module) -> tuple[Callable[[Tensor], Sequence[Tensor]], nn.Module]:
    """Affine maps that images may be blended behind, and the rest of the network, which takes their maximum."""
    if not (isinstance(network, Network) and isinstance(network.body[0], nn.Conv2d)):
        return lambda images: [images], network
    convolution, rest = network.body[0], nn.Sequential(*network.body[1:], network.head)
    if isinstance(convolution, PooledConv2d):
        return lambda images: convolution.windows(network.normalize(images)).chunk(4, 1), rest
    return lambda images: [convolution(network.normalize(images))], rest
