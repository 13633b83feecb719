"""Neural Cleanse's filter: a trigger excites the neurons that the estimated pattern excites (Wang et al. 2019)."""

import math

import torch
from torch import Tensor

from btlib.inflight.base import InFlightDetector, Measured
from btlib.inflight.checks import Embedding, check_rate
from btlib.inflight.features import describe


class NeuronDetector(InFlightDetector):
    """The mean activation of the neurons most relevant to the estimated pattern.

    Neurons of a layer are ranked by how much more active they are, on average, on images of the other classes
    with the pattern embedded than on the same images without. ``neurons_`` holds the chosen ones.

    Args:
        share: of the layer's neurons to watch; Neural Cleanse takes the top 1 %, at least one.
        layer: see `features.trace`; Neural Cleanse takes the second to last layer.
        fpr: false-positive rate on clean images predicted as the target that sets the threshold.

    Raises:
        ValueError: a share or rate outside (0, 1).

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> images, labels = datasets.load("fashion-mnist").clean_images(10)
        >>> len(NeuronDetector().fit(network, images, labels, target=9, trigger=trigger).neurons_)
        1
    """

    neurons_: Tensor

    def __init__(self, share: float = 0.01, layer: str = "penultimate", *, fpr: float = 0.05) -> None:
        check_rate("share", share)
        check_rate("fpr", fpr)
        self.share, self.layer, self.fpr = share, layer, fpr

    def _fit(self, images: Tensor, labels: Tensor, trigger: Embedding | None) -> float:
        own = (labels == self.target_).to(images.device)
        others = images[~own]
        if len(others) == 0:
            raise ValueError(f"labels: expected images of other classes beside the target {self.target_}, got none; "
                             "the pattern shows on them")  # fmt: skip
        shown = others, self._embedded(trigger, others)
        clean, stamped = (describe(self.network_, each, self.layer).features for each in shown)
        self.neurons_ = torch.tensor(relevant_neurons(clean, stamped, self.share))
        return self._threshold_on(images[own], self.fpr)

    def _measure(self, images: Tensor) -> Measured:
        logits, features = describe(self.network_, images, self.layer)
        return Measured(logits.argmax(1), features[:, self.neurons_].mean(1))


def relevant_neurons(clean: Tensor, stamped: Tensor, share: float) -> list[int]:
    """The ⌈share·D⌉ neurons whose mean activation the pattern raises most, the most excited first.

    Args:
        clean: activations, float (N, D), of clean images.
        stamped: of the same images with the pattern, float (N, D).
        share: of the neurons, in (0, 1]; Neural Cleanse takes 0.01.

    Example:
        >>> import torch
        >>> relevant_neurons(torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[9.0, 2.0, 5.0]]), share=0.5)
        [2, 1]
    """
    raised = stamped.mean(0) - clean.mean(0)
    return raised.topk(math.ceil(share * len(raised))).indices.tolist()
