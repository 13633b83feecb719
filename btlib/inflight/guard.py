"""A network with its likelihood detector inside: one forward pass, one file, no pickle."""

import copy
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from btlib import networks, sealed
from btlib.inflight.checks import check_like
from btlib.inflight.densities import COVARIANCES, Scorer
from btlib.inflight.features import pooled, trace
from btlib.inflight.likelihood import LikelihoodDetector
from btlib.networks import Network, reference

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


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """What a guard's file says beside its tensors.

    Attributes:
        layer, covariance, classes, target, threshold: of the fitted detector; a guard puts the target last.
        image_shape, num_classes: of the network.
        warnings: why the fit is not to be trusted, in words.

    Raises:
        ValueError: settings that no fit has.
    """

    layer: str
    covariance: str
    classes: tuple[int, ...]
    target: int
    threshold: float
    image_shape: tuple[int, ...]
    num_classes: int
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sound = (
            isinstance(self.layer, str) and self.covariance in COVARIANCES and math.isfinite(self.threshold)
            and self.target in self.classes and len(set(self.classes)) == len(self.classes) > 1
            and len(self.image_shape) == 3 and all(c in range(self.num_classes) for c in self.classes)
        )  # fmt: skip
        if not sound:
            raise ValueError(f"settings: expected those of a fitted detector, got {self}; fit it anew")


class Guard(nn.Module):
    """A network that says what it sees, and, when someone pulls the trigger, what is really there.

    It holds a copy of the network, so that what happens to the original later can't disagree with the densities.
    Features are computed once. With the penultimate layer, a shared covariance and one component, the scores are linear
    in the features and come from the same matrix product as the logits; otherwise only images predicted as the target
    are scored. It stays in evaluation mode, runs without gradients, and moves with `.to(device)`.

    Args:
        network: the one the detector was fitted to, of whatever kind.
        detector: a fitted `LikelihoodDetector`.

    Raises:
        TypeError: another kind of detector.
        NotFittedError: a detector before its fit.
        ValueError: the detector was fitted to another network.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> images, labels = datasets.load("fashion-mnist").clean_images(20)
        >>> guard = Guard(network, LikelihoodDetector().fit(network, images, labels, target=9, trigger=trigger))
        >>> guard(trigger(images[:20])).is_trigger.float().mean().item() > 0.9
        True
    """

    joined_weight: Tensor
    joined_bias: Tensor
    others: Tensor

    def __init__(self, network: nn.Module, detector: LikelihoodDetector) -> None:
        super().__init__()
        if not isinstance(detector, LikelihoodDetector):
            raise TypeError(f"detector: expected a LikelihoodDetector, got {type(detector).__name__}; "
                            "the others infer no source")  # fmt: skip
        if not hasattr(detector, "threshold_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("detector: expected a fitted one; "
                                 "call fit(network, images, labels, target=…, trigger=…) first")  # fmt: skip
        _same_network(network, detector.network_)
        settings = GuardSettings(
            layer=detector.layer, covariance=detector.covariance, classes=detector.densities_.classes,
            target=detector.target_, threshold=detector.threshold_, image_shape=detector.image_shape_,
            num_classes=detector.num_classes_, warnings=detector.warnings_,
        )  # fmt: skip
        self._assemble(copy.deepcopy(network), copy.deepcopy(detector.scorer_), settings)

    def _assemble(self, network: nn.Module, scorer: Scorer, settings: GuardSettings) -> None:
        classes, target = settings.classes, settings.target
        last = [c for c in classes if c != target] + [target]  # so that the other classes are a slice, not a selection
        self.network, self.scorer = network, scorer.ordered([classes.index(c) for c in last])
        self.settings = replace(settings, classes=tuple(last))
        self.register_buffer("others", torch.tensor(last[:-1]), persistent=False)
        self.requires_grad_(False)
        self.to(reference(network).device)
        self._joined = (
            isinstance(network, Network) and settings.layer == "penultimate" and settings.covariance == "shared"
            and self.scorer.matrix.shape[1] == len(classes)
        )  # fmt: skip
        if self._joined:
            self._join(cast(Network, network).head)
        self.register_load_state_dict_pre_hook(_refuse)
        self.eval()

    def _join(self, head: nn.Linear) -> None:
        """Join the scores to the head: with a shared covariance and one component, L_c - L_t is linear too.

        After the K logits come K columns of L_c - L_t, -inf where there is no class to infer, so that one maximum
        gives both answers: every operation after a network costs as much as a thousandth of a small one.
        """
        margins, constants = self.scorer.matrix[:, :-1] - self.scorer.matrix[:, -1:], self.scorer.constant
        weight, bias = head.weight.new_zeros(head.weight.T.shape), head.weight.new_full((len(head.weight),), -torch.inf)
        weight[:, self.others], bias[self.others] = margins.to(weight), (constants[:-1] - constants[-1]).to(bias)
        plain = head.bias if head.bias is not None else torch.zeros_like(bias)
        self.register_buffer("joined_weight", torch.cat([head.weight.T, weight], 1), persistent=False)
        self.register_buffer("joined_bias", torch.cat([plain, bias]), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Keeps evaluation mode: dropout or moving statistics would change the features behind the densities."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> GuardedPrediction:
        """Images (N, C, H, W), float in [0, 1] or uint8 → what is seen; wrong ones raise as in the detectors."""
        images, settings = check_like(images, self.settings.image_shape), self.settings
        if self._joined:  # a few columns: deciding for all images costs less than picking some
            features = cast(Network, self.network).features(images.to(self.joined_weight))
            both = torch.addmm(self.joined_bias, features, self.joined_weight)
            largest = both.unflatten(1, (2, settings.num_classes)).max(2)
            predicted, inferred = largest.indices.unbind(1)
            scores = largest.values[:, 1].masked_fill(predicted != settings.target, -torch.inf)  # can't be flagged
        else:
            logits, activations, width = trace(self.network, images.to(reference(self.network)), settings.layer)
            predicted = logits.argmax(1)
            rows = (predicted == settings.target).nonzero()[:, 0]
            scores, inferred = torch.full_like(logits[:, 0], -torch.inf), predicted.clone()
            likelihoods = self.scorer(pooled(activations[rows], width).float())
            largest, place = likelihoods[:, :-1].max(1)
            scores[rows], inferred[rows] = largest - likelihoods[:, -1], self.others.index_select(0, place)
        flagged = scores > settings.threshold
        return GuardedPrediction(torch.where(flagged, inferred, predicted), flagged, predicted, scores)

    # ------------------------------------------------------------------------------------------ on disk

    def save(self, path: str | Path, *, network_name: str | None = None) -> Path:
        """Write network, densities and settings into one safetensors file, whole or not at all.

        Args:
            path: the file.
            network_name: in `networks.NETWORKS`, so that `load` can build one of ours; default: what its checkpoint's
                card says. Without either, `load` wants a network to fill.

        Raises:
            ValueError: a name that `networks.build` does not know, or that can't be this network's.
        """
        card = getattr(self.network, "card", None)
        if network_name is None and card is not None:
            network_name = card.spec["network"]
        if network_name is not None and not (isinstance(self.network, Network) and network_name in networks.NETWORKS):
            raise ValueError(f"network_name: expected one of {', '.join(networks.NETWORKS)} for one of ours, got "
                             f"{network_name!r} for a {type(self.network).__name__}; "
                             "leave it out and pass your own network to load")  # fmt: skip
        tensors = {name: tensor.clone() for name, tensor in self.state_dict().items()}  # tied weights: each its own
        return sealed.write(path, KIND, {"network": network_name, **asdict(self.settings)}, tensors)

    @classmethod
    def load(cls, path: str | Path, network: nn.Module | None = None) -> Self:
        """A guard from its file.

        Args:
            path: what `save` wrote.
            network: one of the same architecture, when it is none of `networks.NETWORKS`; it is copied, and its
                weights come from the file.

        Raises:
            ValueError: not a guard's file, changed after it was written, or no network to fill.
        """
        try:
            found = sealed.read(path, KIND)
            card: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in found.card.items()
            }
            name = card.pop("network")
            settings = GuardSettings(**card)
            count = len(settings.classes)
            scorer = Scorer(settings.covariance, count, sealed.part(found.tensors, "scorer.")).ordered(range(count))
            if network is None and name is not None:
                shape, weight = settings.image_shape, found.tensors["network.head.weight"]
                network = networks.build(name, image_shape=shape, num_classes=len(weight), seed=0)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"path: expected a guard's file as it was written, got {path} ({error}); "
                             "save the guard again") from error  # fmt: skip
        if network is None:
            raise ValueError(f"network: expected one of the architecture saved in {path}, got None; "
                             "its name was not saved, so pass one to fill")  # fmt: skip
        network = copy.deepcopy(network)
        try:
            network.load_state_dict(sealed.part(found.tensors, "network."))
        except RuntimeError as error:
            raise ValueError(f"network: expected one of the architecture saved in {path}, got another "
                             f"({error}); build it as it was when the guard was saved") from error  # fmt: skip
        guard = cls.__new__(cls)
        nn.Module.__init__(guard)
        guard._assemble(network, scorer, settings)
        return guard


def _same_network(network: nn.Module, fitted: nn.Module) -> None:
    mine, theirs = network.state_dict(), fitted.state_dict()
    if mine.keys() != theirs.keys() or not all(torch.equal(mine[k].cpu(), theirs[k].cpu()) for k in mine):
        raise ValueError("detector: expected one fitted to this network, got one fitted to other weights; fit it anew")


def _refuse(*_: object) -> None:
    """Weights of another guard would leave this one's classes, threshold and joined head behind."""
    raise ValueError("state_dict: expected a whole guard, got tensors alone, which lack its settings; "
                     "use Guard.load(path), or Guard(network, detector)")  # fmt: skip
