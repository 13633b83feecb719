"""A network with its likelihood detector inside: one forward pass, one file, no pickle."""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from btlib import networks, sealed
from btlib.datasets import check_images
from btlib.inflight.densities import Scorer
from btlib.inflight.features import pooled
from btlib.inflight.likelihood import LikelihoodDetector
from btlib.networks import Network
from btlib.sealed import SealError

KIND = "guard"


@dataclass(frozen=True, eq=False)
class GuardedPrediction:
    """What a guard answers.

    Attributes:
        label: int64 (N,): the network's class, or the inferred source class where a trigger was seen.
        is_trigger: bool (N,).
        predicted: int64 (N,): the network's class in any case.
        scores: float32 (N,), higher is more suspicious; -inf for images that are not predicted as the target.
    """

    label: Tensor
    is_trigger: Tensor
    predicted: Tensor
    scores: Tensor


@dataclass(frozen=True)
class GuardSettings:
    """What a guard's file says beside its tensors.

    Attributes:
        layer, covariance, classes, target, threshold: of the fitted detector; a guard puts the target last.
        image_shape, num_classes: of the network.
        warnings: why the fit is not to be trusted, in words.
    """

    layer: str
    covariance: str
    classes: tuple[int, ...]
    target: int
    threshold: float
    image_shape: tuple[int, ...]
    num_classes: int
    warnings: tuple[str, ...] = ()


class Guard(nn.Module):
    """A network that says what it sees, and, when someone pulls the trigger, what is really there.

    It holds a copy of the network, so that what happens to the original later can't disagree with the densities.
    Features are computed once. With the penultimate layer and a shared covariance, the scores are linear in the
    features and come from the same matrix product as the logits; otherwise only images predicted as the target
    are scored. It stays in evaluation mode, runs without gradients, and moves with `.to(device)`.

    Args:
        net: the network the detector was fitted to.
        detector: a fitted `LikelihoodDetector`.

    Raises:
        TypeError: another kind of detector.
        NotFittedError: a detector before its fit.
        ValueError: the detector was fitted to another network.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> net, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> x, y = datasets.load("fashion-mnist").clean_images(20)
        >>> guard = Guard(net, LikelihoodDetector().fit(net, x, y, target=9, trigger=trigger))
        >>> guard(trigger(x[:20])).is_trigger.float().mean().item() > 0.9
        True
    """

    joined_weight: Tensor
    joined_bias: Tensor
    others: Tensor

    def __init__(self, net: Network, detector: LikelihoodDetector) -> None:
        super().__init__()
        if not isinstance(detector, LikelihoodDetector):
            raise TypeError(f"detector: expected a LikelihoodDetector, got {type(detector).__name__}; "
                            "the others infer no source")  # fmt: skip
        if not hasattr(detector, "threshold_"):
            raise NotFittedError("detector: expected a fitted one; call fit(net, x, y, target=…, trigger=…) first")
        _same_network(net, detector.net_)
        settings = GuardSettings(
            detector.layer, detector.settings.covariance, detector.densities_.classes, detector.target_,
            detector.threshold_, net.image_shape, net.num_classes, detector.warnings_,
        )  # fmt: skip
        self._assemble(copy.deepcopy(net), copy.deepcopy(detector.scorer_), settings)

    def _assemble(self, net: Network, scorer: Scorer, settings: GuardSettings) -> None:
        classes, target = settings.classes, settings.target
        last = [c for c in classes if c != target] + [target]  # so that the other classes are a slice, not a selection
        self.net, self.scorer = net, scorer.ordered([classes.index(c) for c in last])
        self.settings = replace(settings, classes=tuple(last))
        self.register_buffer("others", torch.tensor(last[:-1]), persistent=False)
        self.requires_grad_(False)
        self.to(net.head.weight.device)
        # Scores of a shared covariance with one component are a linear layer: it is joined to the head.
        self._joined = settings.layer == "penultimate" and settings.covariance == "shared"
        if self._joined:
            bias = net.head.bias if net.head.bias is not None else net.head.weight.new_zeros(len(net.head.weight))
            both = torch.cat([net.head.weight.T, self.scorer.matrix.to(net.head.weight)], 1)
            self.register_buffer("joined_weight", both, persistent=False)
            self.register_buffer("joined_bias", torch.cat([bias, self.scorer.constant.to(bias)]), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Keeps evaluation mode: dropout or moving statistics would change the features behind the densities."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> GuardedPrediction:
        """Float images (N, C, H, W) in [0, 1] → what is seen; wrong images raise as in the detectors."""
        check_images(images)
        if tuple(images.shape[1:]) != self.settings.image_shape:
            raise ValueError(f"images: expected shape (N, {', '.join(map(str, self.settings.image_shape))}), "
                             f"got {tuple(images.shape)}; resize them")  # fmt: skip
        images, settings = images.to(self.net.head.weight), self.settings
        if self._joined:  # a few columns: deciding for all images costs less than picking some
            both = torch.addmm(self.joined_bias, self.net.features(images), self.joined_weight)
            predicted = both[:, : settings.num_classes].argmax(1)
            scores, inferred = self._decide(self.scorer.combined(both[:, settings.num_classes :]))
            scores.masked_fill_(predicted != settings.target, -torch.inf)  # no other image can be flagged
        else:
            logits, activations = self.net.with_features(images, settings.layer)
            predicted = logits.argmax(1)
            rows = (predicted == settings.target).nonzero()[:, 0]
            likelihoods = self.scorer(pooled(activations[rows], self.net.head.in_features).float())
            scores, inferred = torch.full_like(logits[:, 0], -torch.inf), predicted.clone()
            scores[rows], inferred[rows] = self._decide(likelihoods)
        flagged = scores > settings.threshold
        return GuardedPrediction(torch.where(flagged, inferred, predicted), flagged, predicted, scores)

    def _decide(self, likelihoods: Tensor) -> tuple[Tensor, Tensor]:
        """`likelihood.decide` with the target in the last column: fewer and quicker operations."""
        above = likelihoods[:, :-1]
        return above.amax(1) - likelihoods[:, -1], self.others[above.argmax(1)]

    # ------------------------------------------------------------------------------------------ on disk

    def save(self, path: str | Path, *, network: str | None = None) -> Path:
        """Write network, densities and settings into one safetensors file, whole or not at all.

        Args:
            path: the file.
            network: its name in `networks.NETWORKS`, so that `load` can build it; default: what its checkpoint's
                card says. Without either, `load` wants a network to fill.

        Raises:
            ValueError: a name that `networks.build` does not know.
        """
        if network is None and self.net.card is not None:
            network = self.net.card.spec["network"]
        if network is not None and network not in networks.NETWORKS:
            raise ValueError(f"network: expected one of {', '.join(networks.NETWORKS)}, got {network!r}; "
                             "leave it out and pass your own network to load")  # fmt: skip
        return sealed.write(path, KIND, {"network": network, **asdict(self.settings)}, self.state_dict())

    @classmethod
    def load(cls, path: str | Path, net: Network | None = None) -> Self:
        """A guard from its file.

        Args:
            path: what `save` wrote.
            net: a network of the same architecture, when it is none of `networks.NETWORKS`; it is copied, and its
                weights come from the file.

        Raises:
            ValueError: not a guard's file, changed after it was written, or no network to fill.
            OSError: no such file.
        """
        try:
            found = sealed.read(path, KIND)
            fields: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in found.card.items()
            }
            name = fields.pop("network")
            settings = GuardSettings(**fields)
        except (SealError, KeyError, TypeError) as error:
            raise ValueError(f"path: expected a guard's file as it was written, got {path} ({error}); "
                             "save the guard again") from error  # fmt: skip
        if net is None:
            if name is None:
                raise ValueError(f"net: expected a network of the architecture saved in {path}, got None; "
                                 "its name was not saved, so pass one to fill")  # fmt: skip
            channels, height, width = settings.image_shape
            net = networks.build(name, image_shape=(channels, height, width), num_classes=settings.num_classes, seed=0)
        net = copy.deepcopy(net)
        net.load_state_dict(sealed.part(found.tensors, "net."))
        guard = cls.__new__(cls)
        nn.Module.__init__(guard)
        guard._assemble(
            net, Scorer(settings.covariance, len(settings.classes), sealed.part(found.tensors, "scorer.")), settings
        )
        return guard


def _same_network(net: Network, fitted: nn.Module) -> None:
    mine, theirs = net.state_dict(), fitted.state_dict()
    if mine.keys() != theirs.keys() or not all(torch.equal(mine[k].cpu(), theirs[k].cpu()) for k in mine):
        raise ValueError("detector: expected one fitted to this network, got one fitted to other weights; fit it anew")
