"""STRIP: blend the image with clean ones; a trigger's prediction does not move (Gao et al. 2019; in-flight 2)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from btlib.datasets import check_images
from btlib.inflight.base import Embedding, InFlightDetector, Measured, check_rate
from btlib.metrics import evaluating
from btlib.networks import Network, anchor
from btlib.networks.layers import PooledConv2d

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
        >>> net = checkpoints.load_or_train(checkpoints.shipped()["box"])
        >>> x, y = datasets.load("fashion-mnist").clean_images(10)
        >>> StripDetector(overlays=20).fit(net, x, y, target=9).scores(x).max().item() <= 0
        True
    """

    overlays_: Tensor

    def __init__(
        self, overlays: int = 100, weight: float | None = 0.5, *, fpr: float = 0.05, seed: int = 0
    ) -> None:  # fmt: skip
        if overlays < 1:
            raise ValueError(f"overlays: expected 1 or more images, got {overlays}; 100 is STRIP's")
        if weight is not None:
            check_rate("weight", weight)
        check_rate("fpr", fpr)
        self.overlays, self.weight, self.fpr, self.seed = overlays, weight, fpr, seed

    def scores(self, images: Tensor) -> Tensor:
        """Minus the entropy of every image's blends, whatever it is predicted as, float32 (N,)."""
        self._check(images)
        return self._entropy_scores(images)

    def _fit(self, net: nn.Module, x: Tensor, y: Tensor, target: int, trigger: Embedding | None) -> float:
        if len(x) < self.overlays:
            raise ValueError(f"x: expected at least {self.overlays} clean images to blend with, got {len(x)}; "
                             "pass more, or lower `overlays`")  # fmt: skip
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        self.overlays_ = x[order[: self.overlays].to(x.device)]
        return self._threshold_on(x[(y == target).to(x.device)], self.fpr)

    def _measure(self, images: Tensor) -> Measured:
        place = anchor(self.net_)
        with evaluating(self.net_):
            logits = torch.cat([self.net_(batch.to(place)).float().cpu() for batch in images.split(_BLOCK)])
        predicted = logits.argmax(1)
        judged = predicted == self.target_  # the others can't be flagged, and a score costs a hundred forward passes
        scores = torch.full((len(images),), -torch.inf)
        scores[judged] = self._entropy_scores(images[judged.to(images.device)])
        return Measured(predicted, scores)

    def _entropy_scores(self, images: Tensor) -> Tensor:
        return -blend_entropy(self.net_, images, self.overlays_, self.weight)


def blend_entropy(net: nn.Module, images: Tensor, overlays: Tensor, weight: float | None = 0.5) -> Tensor:
    """Mean entropy over blends, ``1/N Σ_n H(softmax f(weight·x + (1-weight)·o_n))``, in bits.

    Low for triggers. With weight None a blend is ``x + o_n``: STRIP's public code adds float images with OpenCV, which
    does not cut them off at white. The whole trigger survives, where half and half leaves half of it.

    Where the network begins with a convolution, images and overlays go through it once each and are blended behind
    it: the layer is affine, so that is the same function.

    Args:
        net: images in [0, 1] → logits (N, K).
        images: float (N, C, H, W) in [0, 1].
        overlays: float (M, C, H, W) in [0, 1].
        weight: of the image, in (0, 1), or None.

    Returns:
        float32 (N,), between 0 and log2 K, on the CPU.

    Raises:
        TypeError, ValueError: images or overlays that are not floats in [0, 1] of one shape, or no overlay.

    Example:
        >>> from btlib import networks
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
        >>> bits = blend_entropy(net, torch.rand(2, 1, 28, 28), torch.rand(5, 1, 28, 28))
        >>> bool((bits <= math.log2(10)).all())
        True
    """
    check_images(images)
    check_images(overlays, name="overlays")
    if weight is not None:
        check_rate("weight", weight)
    if len(overlays) == 0 or overlays.shape[1:] != images.shape[1:]:
        raise ValueError(f"overlays: expected at least one image of shape {tuple(images.shape[1:])}, "
                         f"got {tuple(overlays.shape)}; use clean images of the same data set")  # fmt: skip
    per_block, place = max(1, _BLOCK // len(overlays)), anchor(net)
    # One tensor for all results: small ones kept from every block can hinder the reuse of what large ones leave.
    means = torch.empty(len(images))
    with evaluating(net):
        blend, rest = _blender(net, overlays.to(place), weight, min(per_block, len(images)))
        for block, mean in zip(images.split(per_block), means.split(per_block), strict=True):
            log_p = rest(blend(block.to(place)).flatten(0, 1)).float().log_softmax(1)
            entropy = -(log_p.exp() * log_p).sum(1) / math.log(2)  # over the classes, for each blend
            mean.copy_(entropy.unflatten(0, (len(block), len(overlays))).mean(1))
    return means


def _blender(
    net: nn.Module, overlays: Tensor, weight: float | None, most: int
) -> tuple[Callable[[Tensor], Tensor], nn.Module]:
    """Up to `most` images → their blends (block, overlays, …), and the network that takes these."""
    first, rest = _split(net)
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


def _split(net: nn.Module) -> tuple[Callable[[Tensor], Sequence[Tensor]], nn.Module]:
    """Affine maps that images may be blended behind, and the rest of the network, which takes their maximum."""
    if not (isinstance(net, Network) and isinstance(net.body[0], nn.Conv2d)):
        return lambda images: [images], net
    convolution, rest = net.body[0], nn.Sequential(*net.body[1:], net.head)
    if isinstance(convolution, PooledConv2d):
        return lambda images: convolution.windows(net.normalize(images)).chunk(4, 1), rest
    return lambda images: [convolution(net.normalize(images))], rest
