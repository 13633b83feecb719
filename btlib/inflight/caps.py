"""MMDF: a trigger's output changes when activations are capped as clean images allow (Wang et al. 2023)."""

import torch
from torch import Tensor, nn

from btlib.inflight.base import InFlightDetector, Measured
from btlib.inflight.checks import Embedding, check_rate
from btlib.metrics import predict
from btlib.repair.caps import ActivationCaps

CAPS = ActivationCaps()


class CapsDetector(InFlightDetector):
    """Compare what the network says of an image with what its capped copy says.

    Wang, Xiang, Miller, Kesidis, "Improved activation clipping for universal backdoor mitigation and test-time
    detection", 2023: "detection and correction based on the output differences between the original and
    activation-bounded networks". The caps are those of MM-BM (`repair.ActivationCaps`). The score is `logit_change`;
    the inferred source is what the capped network would say if there were no target class. No estimated pattern is
    needed.

    Args:
        caps: how the activations are capped.
        fpr: false-positive rate on clean images predicted as the target that sets the threshold.
        seed: of the caps.

    Raises:
        ValueError: a rate outside (0, 1).

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> images, labels = datasets.load("fashion-mnist").clean_images(50)
        >>> detector = CapsDetector(ActivationCaps(epochs=5)).fit(network, images, labels, target=9)
        >>> detector.inspect(trigger(images[labels == 0])).is_trigger.float().mean().item() > 0.9
        True
    """

    infers_source = True
    capped_: nn.Module

    def __init__(self, caps: ActivationCaps = CAPS, *, fpr: float = 0.05, seed: int = 0) -> None:
        check_rate("fpr", fpr)
        self.caps, self.fpr, self.seed = caps, fpr, seed

    def _fit(self, images: Tensor, labels: Tensor, trigger: Embedding | None) -> float:
        held = (labels == self.target_).nonzero()[::2, 0]  # the caps move images less that they were fitted to
        learned = torch.ones_like(labels, dtype=torch.bool).index_fill(0, held, False)
        shown = images[learned.to(images.device)], labels[learned]
        self.capped_ = self.caps(self.network_, *shown, seed=self.seed).network
        return self._threshold_on(images[held.to(images.device)], self.fpr)

    def _measure(self, images: Tensor) -> Measured:
        given, capped = predict(self.network_, images), predict(self.capped_, images)
        others = capped.index_fill(1, torch.tensor(self.target_), -torch.inf)
        return Measured(given.argmax(1), logit_change(given, capped), others.argmax(1))


def logit_change(given: Tensor, capped: Tensor) -> Tensor:
    """How far the caps move the logits, in lengths of the logits: ``‖f(x) - f̂(x)‖₂ / ‖f(x)‖₂``.

    Args:
        given: logits (N, K) of the network.
        capped: of its capped copy.

    Returns:
        float32 (N,), 0 where nothing moves.

    Example:
        >>> logit_change(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 4.0]]))
        tensor([0.6000])
    """
    return (given - capped).norm(dim=1) / given.norm(dim=1).clamp_min(torch.finfo(given.dtype).tiny)
