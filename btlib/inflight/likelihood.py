"""The likelihood-based in-flight detector (Li, Xiang, Miller and Kesidis, Section 4.2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from btlib.inflight.base import InFlightDetector, Measured
from btlib.inflight.checks import Embedding, Patterns, check_rate, patterns_of, threshold_at
from btlib.inflight.densities import Covariance, Densities, DensitySettings, Scorer, fit_densities
from btlib.inflight.features import Described, describe
from btlib.seeds import generator

_FOLDS = 5
_AGREEING = 0.8  # mean of `left_out_`: below it where one of three or four stands alone, not where one of six does
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
    (`HeldOutRates`, or None where a class has too few images), ``left_out_`` (below) and ``warnings_``: why not to
    trust the fit.

    `fit` takes one pattern, as the paper has it, or several estimates of it: every class is then represented by its
    images with each of them. ``left_out_`` says of each pattern what share of the images that carry it, and go to
    the target, is flagged by densities fitted with the others only (NaN: it moves no image, or no other does). The
    mean is what a further pattern can expect, the attacker's too: held-out images alone tell nothing of a pattern
    that was not estimated.

    Args:
        components: Gaussians per class.
        covariance: ``"shared"`` by all classes (the default; docs/choices.md has the evidence), or one for each:
            ``"full"``, ``"tied"`` over a class's components, ``"diag"``, ``"spherical"``.
        layer: one of `network.feature_layers`, any submodule's dotted name, or ``"penultimate"``
            (`features.trace`); convolutional ones are pooled to the penultimate layer's width.
        fpr: None: the paper's arg max. A rate: the calibrated mode; the threshold is then set by
            cross-validation on the clean target images.
        seed: of the mixtures' first guess and of the cross-validation's parts.

    Raises:
        ValueError: a setting outside its range.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> spec = checkpoints.shipped()["box"]
        >>> network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> images, labels = datasets.load("fashion-mnist").clean_images(20)
        >>> guard = LikelihoodDetector().fit(network, images, labels, target=9, trigger=trigger)
        >>> guard.inspect(trigger(images[:20])).is_trigger.float().mean().item() > 0.9
        True
    """

    #: See `DensitySettings`; benchmarks/inflight_choices.py tries others.
    regularization: ClassVar[float] = DensitySettings.regularization
    min_std: ClassVar[float] = DensitySettings.min_std
    infers_source = True
    densities_: Densities
    scorer_: Scorer
    trigger_success_: dict[int, float]
    held_out_: HeldOutRates | None
    left_out_: tuple[float, ...]

    def __init__(
        self, components: int = 1, covariance: Covariance = "shared", layer: str = "penultimate", *,
        fpr: float | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.components, self.covariance, self.layer, self.fpr, self.seed = components, covariance, layer, fpr, seed
        if fpr is not None:
            check_rate("fpr", fpr)
        _ = self.settings  # which checks the others

    @property
    def expected(self) -> float:
        """What share of a further pattern's images would be flagged: the mean of ``left_out_``; NaN: not known."""
        known = [share for share in self.left_out_ if not math.isnan(share)]
        return sum(known) / len(known) if known else math.nan

    @property
    def settings(self) -> DensitySettings:
        """Of the densities."""
        return DensitySettings(self.components, self.covariance, self.regularization, self.min_std, self.seed)

    def log_likelihoods(self, images: Tensor) -> Tensor:
        """log P[f_L(w)|θ_c] of each image under each class, float64 (N, classes), by scikit-learn.

        Columns follow ``densities_.classes``. `inspect` uses the faster scorer, which leaves out what all
        classes have in common.

        Raises:
            NotFittedError, TypeError, ValueError: as `inspect`.
        """
        images = self._checked(images)
        return self.densities_.log_likelihoods(describe(self.network_, images, self.layer).features)

    def _fit(self, images: Tensor, labels: Tensor, trigger: Patterns | None) -> float:
        target, classes = self.target_, labels.unique().tolist()
        if classes == [target]:
            raise ValueError(f"labels: expected images of other classes beside the target {target}, got none; "
                             "a source can't be told from nothing")  # fmt: skip
        shown = self._shown(images, labels, patterns_of(trigger, who=type(self).__name__))
        known, own, judged = shown.known, shown.labels == target, shown.known.logits.argmax(1) == target
        self.densities_ = fit_densities({c: known.features[shown.labels == c] for c in classes}, self.settings)
        self.scorer_ = self.densities_.scorer()
        self.trigger_success_ = {c: judged[shown.labels == c].float().mean().item() for c in classes if c != target}
        scores, source, folds = self._held_out_scores(shown, labels)
        threshold, warning = 0.0, None
        if self.fpr is not None:
            if bool(scores.isnan().any()):
                fewest = int(torch.bincount(labels)[classes].min())
                raise ValueError(f"images: expected more of each class to choose a threshold for fpr={self.fpr:g}, "
                                 f"got {fewest} of some class; leave fpr out")  # fmt: skip
            threshold, warning = threshold_at(scores[judged & own], self.fpr)
        self.held_out_ = _rates(
            scores[judged], source[judged], shown.labels[judged], target, folds=folds, threshold=threshold
        )
        self.left_out_ = self._left_out(shown, judged, threshold)
        self.warnings_ += self.densities_.warnings + self._doubts(labels, shown.best())
        self.warnings_ += (warning,) if warning else ()
        return threshold

    def _shown(self, images: Tensor, labels: Tensor, patterns: Sequence[Embedding | None]) -> "_Shown":
        """One row for each image of the target as it is, and one for each other image and pattern."""
        own = labels == self.target_
        others = (~own).nonzero()[:, 0]
        rows = [torch.arange(len(labels)), *[others] * (len(patterns) - 1)]
        described = []
        for trigger, which in zip(patterns, rows, strict=True):
            clean, as_is = images[which.to(images.device)], own[which].to(images.device)
            stamped = torch.where(as_is[:, None, None, None], clean, self._embedded(trigger, clean))
            described.append(describe(self.network_, stamped, self.layer))
        known = Described(*(torch.cat(parts) for parts in zip(*described, strict=True)))
        image, pattern = torch.cat(rows), torch.repeat_interleave(torch.tensor([len(each) for each in rows]))
        return _Shown(known, labels[image], self.target_, image, pattern)

    def _measure(self, images: Tensor) -> Measured:
        logits, features = describe(self.network_, images, self.layer)
        scores, source = decide(self.scorer_(features), self.densities_.classes, self.target_)
        return Measured(logits.argmax(1), scores, source)

    # ------------------------------------------------------------------------------------------ can it be trusted?

    def _held_out_scores(self, shown: "_Shown", labels: Tensor) -> tuple[Tensor, Tensor, int]:
        """Score and source of each row from densities that have not seen its image (NaN: too few); the folds."""
        counts = torch.bincount(labels)
        smallest = int(counts[counts > 0].min())
        folds = min(_FOLDS, smallest)
        scores, source = torch.full((len(shown.labels),), torch.nan), torch.full_like(shown.labels, self.target_)
        if smallest - -(-smallest // folds) < max(2, self.components):
            return scores, source, folds
        part = torch.zeros_like(labels)
        draws = generator(self.seed)
        for c in set(labels.tolist()):
            members = (labels == c).nonzero().flatten()
            part[members[torch.randperm(len(members), generator=draws)]] = torch.arange(len(members)) % folds
        for fold in range(folds):
            unseen = part[shown.image] == fold
            scores[unseen], source[unseen] = self._judged(shown, ~unseen, unseen)
        return scores, source, folds

    def _left_out(self, shown: "_Shown", judged: Tensor, threshold: float) -> tuple[float, ...]:
        """Of the moved rows with each pattern, the share flagged by densities of the others that move any."""
        own, every = shown.labels == self.target_, range(shown.patterns)
        rows = [~own & (shown.pattern == pattern) for pattern in every]
        moving = [pattern for pattern in every if bool((rows[pattern] & judged).any())]
        shares = [math.nan] * shown.patterns
        for pattern in moving if len(moving) > 1 else ():
            others = torch.stack([rows[other] for other in moving if other != pattern]).any(0)
            scores, _ = self._judged(shown, own | others, rows[pattern] & judged)
            shares[pattern] = (scores > threshold).float().mean().item()
        return tuple(shares) if shown.patterns > 1 else ()

    def _judged(self, shown: "_Shown", seen: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Score and source of the rows `asked` by densities of the rows `seen`."""
        features, classes = shown.known.features, self.densities_.classes
        densities = fit_densities({c: features[seen & (shown.labels == c)] for c in classes}, self.settings)
        return decide(densities.scorer()(features[asked]), classes, self.target_)

    def _doubts(self, labels: Tensor, best: Sequence[float]) -> tuple[str, ...]:
        """What speaks against the fit, in words; `best`: of each pattern, its success in the class it moves most."""
        doubts, form = [], self.covariance
        counts = torch.bincount(labels, minlength=self.num_classes_).tolist()
        absent = [c for c, n in enumerate(counts) if n == 0]
        if absent:
            doubts.append(f"no clean images of class {', '.join(map(str, absent))}: it can't be inferred as a source")
        fewest = min(n for n in counts if n)
        if fewest < _FEW:
            doubts.append(f"only {fewest} clean images of some class; the paper has 100 of each")
        width = len(self.densities_.mean)
        available = {"full": fewest // self.components, "tied": fewest, "shared": sum(counts)}
        if available.get(form, width) < width:
            doubts.append(f"fewer images ({available[form]}) than features ({width}) for a "
                          f"{form} covariance: regularization fills the gap")  # fmt: skip
        for number, share in enumerate(best, 1):
            if share < 0.5:  # of the most obedient class: an attack may have a single source class
                which = "the pattern" if len(best) == 1 else f"pattern {number}"
                doubts.append(f"{which} sends at most {share:.0%} of a class's images to the target: "
                              "it is hardly the attacker's")  # fmt: skip
        held = self.held_out_
        if held is None:
            doubts.append("too few images to check the fit on images it has not seen")
        elif held.fpr > max(0.1, self.fpr or 0.0) or held.tpr < 0.9:
            doubts.append(f"on images it has not seen it flags {held.fpr:.0%} of the clean and {held.tpr:.0%} of the "
                          "stamped ones")  # fmt: skip
        if self.expected < _AGREEING:
            doubts.append(f"the patterns show different things: fits that lack one of them flag {self.expected:.0%} of "
                          "the images with it; add more, since the attacker's may be yet another")  # fmt: skip
        return tuple(doubts)


class _Shown(NamedTuple):
    """What a fit looks at, one row for each image and pattern.

    Attributes:
        known: logits and features.
        labels: int64 (rows,).
        target: the class whose images carry no pattern.
        image: the fitting image that a row shows, int64 (rows,).
        pattern: the pattern on it, int64 (rows,); 0 for images of the target, which carry none.
    """

    known: Described
    labels: Tensor
    target: int
    image: Tensor
    pattern: Tensor

    @property
    def patterns(self) -> int:
        """How many there are."""
        return int(self.pattern.max()) + 1

    def best(self) -> list[float]:
        """Of each pattern, the share of images that it moves to the target, in the class that it moves most."""
        moved, best = self.known.logits.argmax(1) == self.target, []
        for pattern in range(self.patterns):
            rows = (self.pattern == pattern) & (self.labels != self.target)
            best.append(max(moved[rows & (self.labels == c)].float().mean().item()
                            for c in self.labels[rows].unique()))  # fmt: skip
        return best


def _rates(
    scores: Tensor, source: Tensor, labels: Tensor, target: int, *, folds: int, threshold: float
) -> HeldOutRates | None:  # fmt: skip
    """What held-out scores of images predicted as the target amount to; None where there are none."""
    own = labels == target
    if bool(scores.isnan().any()) or not bool(own.any()) or bool(own.all()):
        return None
    flagged = scores > threshold
    right = (flagged & (source == labels))[~own]
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
