"""The likelihood-based in-flight detector (Li, Xiang, Miller and Kesidis, Section 4.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from btlib.inflight.base import Embedding, InFlightDetector, Measured, check_rate, threshold_at
from btlib.inflight.densities import Covariance, Densities, DensitySettings, Scorer, fit_densities
from btlib.inflight.features import Described, check_network, describe

_FOLDS = 5
_FEW = 10  # images of a class: with fewer, held-out rates come in steps of more than a tenth


@dataclass(frozen=True)
class HeldOutRates:
    """What the fit says of fitting images that it has not seen (cross-validation over at most five parts).

    Attributes:
        tpr: share of stamped images predicted as the target that are flagged.
        fpr: share of clean target images predicted as the target that are flagged.
        sia: share of those stamped images whose class of origin is inferred.
        folds: number of parts.
    """

    tpr: float
    fpr: float
    sia: float
    folds: int


class LikelihoodDetector(InFlightDetector):
    """Which class's density explains the features of this image best: the target's, or another's with the trigger?

    Every class but the target is represented by its clean images with the estimated pattern embedded, the target by
    its clean images. Features of a deep layer are standardised, each class gets a density, and an image predicted
    as the target whose likelihood is largest under another class is a trigger that comes from that class.

    The score is ``max_{c≠t} log L_c - log L_t`` and the threshold 0: the arg max of the paper.

    After `fit` also: ``densities_`` (the scikit-learn mixtures), ``scorer_`` (the same in torch),
    ``trigger_success_`` (class → share of its stamped fitting images predicted as the target), ``held_out_``
    (`HeldOutRates`, or None where a class has too few images) and ``warnings_``: why not to trust the fit.

    Args:
        components: Gaussians per class.
        covariance: ``"shared"`` by all classes (the default; docs/choices.md has the evidence), or one for each:
            ``"full"``, ``"tied"`` over a class's components, ``"diag"``, ``"spherical"``.
        layer: one of `net.feature_layers`; convolutional ones are pooled to the penultimate layer's width.
        regularization, min_std, seed: see `DensitySettings`.
        fpr: None: the paper's arg max. A rate: the calibrated mode; the threshold is then set by
            cross-validation on the clean target images.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> net, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> data = datasets.load("fashion-mnist")
        >>> x, y = data.clean_images(20)
        >>> guard = LikelihoodDetector().fit(net, x, y, target=9, trigger=trigger)
        >>> guard.inspect(trigger(x[:20])).is_trigger.float().mean().item() > 0.9
        True
    """

    infers_source = True
    densities_: Densities
    scorer_: Scorer
    trigger_success_: dict[int, float]
    held_out_: HeldOutRates | None

    def __init__(
        self, components: int = 1, covariance: Covariance = "shared", layer: str = "penultimate", *,
        regularization: float = 1e-2, min_std: float = 0.05, fpr: float | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.settings = DensitySettings(components, covariance, regularization, min_std, seed)
        if fpr is not None:
            check_rate("fpr", fpr)
        self.layer, self.fpr = layer, fpr

    def log_likelihoods(self, images: Tensor) -> Tensor:
        """log P[f_L(w)|θ_c] of each image under each class, float64 (N, classes), by scikit-learn.

        Columns follow ``densities_.classes``. `inspect` uses the faster scorer, which leaves out what all
        classes have in common.

        Raises:
            NotFittedError, TypeError, ValueError: as `inspect`.
        """
        self._check(images)
        return self.densities_.log_likelihoods(describe(check_network(self.net_, self.layer), images, self.layer)[1])

    def _fit(self, net: nn.Module, x: Tensor, y: Tensor, target: int, trigger: Embedding | None) -> float:
        network, pattern = check_network(net, self.layer), self._needed(trigger)
        own = y == target
        known = describe(network, torch.where(own[:, None, None, None].to(x.device), x, pattern(x)), self.layer)
        classes = sorted(set(y.tolist()))
        if classes == [target]:
            raise ValueError(f"y: expected images of other classes beside the target {target}, got none; "
                             "a source can't be told from nothing")  # fmt: skip
        self.densities_ = fit_densities({c: known.features[y == c] for c in classes}, self.settings)
        self.scorer_ = self.densities_.scorer()
        judged = known.logits.argmax(1) == target
        self.trigger_success_ = {c: judged[y == c].float().mean().item() for c in classes if c != target}
        scores, source, folds = self._held_out_scores(known, y, target)
        threshold, warning = 0.0, None
        if self.fpr is not None:
            if bool(scores.isnan().any()):
                fewest = int(torch.bincount(y)[classes].min())
                raise ValueError(f"x: expected more images of each class to choose a threshold for fpr={self.fpr:g}, "
                                 f"got {fewest} of some class; leave fpr out")  # fmt: skip
            threshold, warning = threshold_at(scores[judged & own], self.fpr)
        self.held_out_ = _rates(scores[judged], source[judged], y[judged], target, folds, threshold)
        self.warnings_ += self.densities_.warnings + self._doubts(network, y) + ((warning,) if warning else ())
        return threshold

    def _measure(self, images: Tensor) -> Measured:
        logits, features = describe(check_network(self.net_, self.layer), images, self.layer)
        scores, source = decide(self.scorer_(features), self.densities_.classes, self.target_)
        return Measured(logits.argmax(1), scores, source)

    # ------------------------------------------------------------------------------------------ can it be trusted?

    def _held_out_scores(self, known: Described, y: Tensor, target: int) -> tuple[Tensor, Tensor, int]:
        """Score and source of each fitting image from densities that have not seen it (NaN: too few); the folds."""
        counts = torch.bincount(y)
        smallest = int(counts[counts > 0].min())
        folds = min(_FOLDS, smallest)
        scores, source = torch.full((len(y),), torch.nan), torch.full_like(y, target)
        if smallest - -(-smallest // folds) < max(2, self.settings.components):
            return scores, source, folds
        part = torch.zeros_like(y)
        generator = torch.Generator().manual_seed(self.settings.seed)
        for c in set(y.tolist()):
            members = (y == c).nonzero().flatten()
            part[members[torch.randperm(len(members), generator=generator)]] = torch.arange(len(members)) % folds
        for fold in range(folds):
            seen = {c: known.features[(y == c) & (part != fold)] for c in self.densities_.classes}
            densities = fit_densities(seen, self.settings)
            unseen = part == fold
            likelihoods = densities.scorer()(known.features[unseen])
            scores[unseen], source[unseen] = decide(likelihoods, densities.classes, target)
        return scores, source, folds

    def _doubts(self, net: nn.Module, y: Tensor) -> tuple[str, ...]:
        """What speaks against the fit, in words."""
        doubts, settings = [], self.settings
        counts = torch.bincount(y, minlength=getattr(net, "num_classes", 0)).tolist()
        absent = [c for c, n in enumerate(counts) if n == 0]
        if absent:
            doubts.append(f"no clean images of class {', '.join(map(str, absent))}: it can't be inferred as a source")
        fewest = min(n for n in counts if n)
        if fewest < _FEW:
            doubts.append(f"only {fewest} clean images of some class; the paper has 100 of each")
        width = len(self.densities_.mean)
        available = {"full": fewest // settings.components, "tied": fewest, "shared": sum(counts)}
        if available.get(settings.covariance, width) < width:
            doubts.append(f"fewer images ({available[settings.covariance]}) than features ({width}) for a "
                          f"{settings.covariance} covariance: regularization fills the gap")  # fmt: skip
        best = max(self.trigger_success_.values())
        if best < 0.5:  # of the most obedient class: an attack may have a single source class
            doubts.append(f"the pattern sends at most {best:.0%} of a class's images to the target: "
                          "it is hardly the attacker's")  # fmt: skip
        held = self.held_out_
        if held is None:
            doubts.append("too few images to check the fit on images it has not seen")
        elif held.fpr > max(0.1, self.fpr or 0.0) or held.tpr < 0.9:
            doubts.append(f"on images it has not seen it flags {held.fpr:.0%} of the clean and {held.tpr:.0%} of the "
                          "stamped ones")  # fmt: skip
        return tuple(doubts)


def _rates(
    scores: Tensor, source: Tensor, y: Tensor, target: int, folds: int, threshold: float
) -> HeldOutRates | None:  # fmt: skip
    """What held-out scores of images predicted as the target amount to; None where there are none."""
    own = y == target
    if bool(scores.isnan().any()) or not bool(own.any()) or bool(own.all()):
        return None
    flagged = scores > threshold
    right = (flagged & (source == y))[~own]
    tpr, fpr, sia = (each.float().mean().item() for each in (flagged[~own], flagged[own], right))
    return HeldOutRates(tpr, fpr, sia, folds)


def decide(likelihoods: Tensor, classes: tuple[int, ...], target: int) -> tuple[Tensor, Tensor]:
    """Score ``max_{c≠t} L_c - L_t`` (N,), in nats, and the class that reaches the maximum, int64 (N,).

    Args:
        likelihoods: log-likelihoods (N, len(classes)), up to a term common to all classes.
        classes: what the columns stand for.
        target: t, one of them.

    Example:
        >>> scores, source = decide(torch.tensor([[1.0, 3.0, 0.5]]), classes=(0, 4, 9), target=9)
        >>> scores.item(), source.item()
        (2.5, 4)
    """
    columns = [k for k, c in enumerate(classes) if c != target]
    best = likelihoods[:, columns].max(1)
    others = torch.tensor([classes[k] for k in columns], device=likelihoods.device)
    return best.values - likelihoods[:, classes.index(target)], others[best.indices]
