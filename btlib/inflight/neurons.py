"""Neural Cleanse's filter: a trigger excites the neurons that the estimated pattern excites (Wang et al. 2019)."""

import math

import torch
from torch import Tensor, nn

from btlib.inflight.base import Embedding, InFlightDetector, Measured, check_rate
from btlib.inflight.features import check_network, describe


class NeuronDetector(InFlightDetector):
    """The mean activation of the neurons most relevant to the estimated pattern.

    Neurons of a layer are ranked by how much more active they are, on average, on images of the other classes
    with the pattern embedded than on the same images without. ``neurons_`` holds the chosen ones.

    Args:
        share: of the layer's neurons to watch; Neural Cleanse takes the top 1 %, at least one.
        layer: one of `net.feature_layers`; Neural Cleanse takes the second to last layer.
        fpr: false-positive rate on clean images predicted as the target that sets the threshold.

    Raises:
        ValueError: a share or rate outside (0, 1).

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> net, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> x, y = datasets.load("fashion-mnist").clean_images(10)
        >>> len(NeuronDetector().fit(net, x, y, target=9, trigger=trigger).neurons_)
        1
    """

    neurons_: Tensor

    def __init__(self, share: float = 0.01, layer: str = "penultimate", *, fpr: float = 0.05) -> None:
        check_rate("share", share)
        check_rate("fpr", fpr)
        self.share, self.layer, self.fpr = share, layer, fpr

    def _fit(self, net: nn.Module, x: Tensor, y: Tensor, target: int, trigger: Embedding | None) -> float:
        network, pattern = check_network(net, self.layer), self._needed(trigger)
        others = x[(y != target).to(x.device)]
        if len(others) == 0:
            raise ValueError(f"y: expected images of other classes beside the target {target}, got none; "
                             "the pattern shows on them")  # fmt: skip
        clean, stamped = (describe(network, images, self.layer).features for images in (others, pattern(others)))
        self.neurons_ = torch.tensor(relevant_neurons(clean, stamped, self.share), device=clean.device)
        return self._threshold_on(x[(y == target).to(x.device)], self.fpr)

    def _measure(self, images: Tensor) -> Measured:
        logits, features = describe(check_network(self.net_, self.layer), images, self.layer)
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
