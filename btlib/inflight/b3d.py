"""B3D's in-flight rule: a trigger's output hardly changes when the estimated pattern is added (Dong et al. 2021)."""

from torch import Tensor

from btlib.inflight.base import InFlightDetector, Measured
from btlib.inflight.checks import Embedding, check_rate
from btlib.metrics import predict


class B3DDetector(InFlightDetector):
    """Compare what the network says of an image and of the same image with the estimated pattern embedded.

    The score is minus the total variation distance of the two softmax outputs, in [-1, 0]. A clean image of the
    target class scores as high as a trigger, since both stay the target (in-flight 2): that is why it fails.

    Args:
        fpr: false-positive rate on clean images predicted as the target that sets the threshold.

    Raises:
        ValueError: a rate outside (0, 1).

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> images, labels = datasets.load("fashion-mnist").clean_images(10)
        >>> detector = B3DDetector().fit(network, images, labels, target=9, trigger=trigger)
        >>> detector.scores(images[labels == 0]).mean().item() < -0.9
        True
    """

    trigger_: Embedding | None

    def __init__(self, *, fpr: float = 0.05) -> None:
        check_rate("fpr", fpr)
        self.fpr = fpr

    def _fit(self, images: Tensor, labels: Tensor, trigger: Embedding | None) -> float:
        self.trigger_ = trigger
        return self._threshold_on(images[(labels == self.target_).to(images.device)], self.fpr)

    def _measure(self, images: Tensor) -> Measured:
        without = predict(self.network_, images)
        embedded = predict(self.network_, self._embedded(self.trigger_, images))
        return Measured(without.argmax(1), output_change(without, embedded))


def output_change(without: Tensor, embedded: Tensor) -> Tensor:
    """B3D's score: minus the total variation distance of two softmax outputs, ``-½ Σ_k |p_k - q_k|``.

    Args:
        without: logits (N, K) of images.
        embedded: logits (N, K) of the same images with the pattern.

    Returns:
        float32 (N,) in [-1, 0]: 0 where nothing moves, -1 where everything does.

    Example:
        >>> import torch
        >>> output_change(torch.tensor([[9.0, 9.0]]), torch.tensor([[99.0, 0.0]])).tolist()
        [-0.5]
    """
    # Doubles: where both outputs are nearly certain, single precision would round the difference to a tie.
    difference = without.double().softmax(1) - embedded.double().softmax(1)
    return -difference.abs().sum(1).float() / 2
