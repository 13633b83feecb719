"""What a post-training detector returns: estimates, statistics, verdict (floor 2)."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from btlib.detection import anomaly, few_sources, selection
from btlib.detection.verdict import DEFAULT_LEVEL, Rule, Verdict
from btlib.triggers import Trigger


@dataclass(frozen=True, eq=False)
class Estimate:
    """The smallest pattern found that sends images to one class.

    Attributes:
        target: the putative target class t.
        trigger: the estimate, ready to be embedded: ``additive`` (v_t) or ``blend`` (pattern and mask), not rounded.
        norm: its size: ‖v‖₂ of a perturbation, ‖m‖₁ of a mask, in units of full scale × pixels.
        success: share of the detection images (those of t left out) that it sends to t, in [0, 1].
        by_class: float (K,), the same for each source class, q_st; NaN where there is no image.
        weights: float (K,), the final w_s; uniform where weights are not annealed, NaN where sources are not looked at.
        steps: iterations of the estimation.
        gradients: evaluations of the gradient of one image with respect to its pixels.
        converged: whether the wished misclassification was reached within the allowed steps.
        history: by iteration: ``step``, ``norm``, ``Q`` (n,) and ``weights`` (n, K), where they were recorded.
        source: for RED-P the source class s of this pair; None: all classes at once.
    """

    target: int
    trigger: Trigger
    norm: float
    success: float
    by_class: Tensor
    weights: Tensor
    steps: int
    gradients: int
    converged: bool
    history: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    source: int | None = None

    @property
    def pattern(self) -> Tensor:
        """The estimated pattern, float (C, H, W)."""
        return self.trigger.pattern

    @property
    def mask(self) -> Tensor:
        """The estimated mask, float (1, H, W) in [0, 1]; where the pattern is not zero, for a perturbation."""
        return self.trigger.mask

    def sources(self, share: float = 0.5) -> tuple[int, ...]:
        """Source classes read from the weights: those with at least `share` of the largest weight.

        The paper shows weights (Figure 2b) and gives no rule; the choice is in docs/choices.md.
        """
        if self.source is not None:
            return (self.source,)
        return tuple(int(s) for s in (self.weights >= share * self.weights.max()).nonzero().flatten())


class Estimates(Mapping[int, Estimate]):
    """Target class → its estimate, in the order in which the classes were asked for; it can't be changed.

    Example:
        >>> patch = Trigger("blend", torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
        >>> found = Estimates(Estimate(t, patch, 5.0, 1.0, torch.ones(9), uniform(9, t), 1, 1, True) for t in (8, 0))
        >>> list(found), found[8].norm
        ([8, 0], 5.0)
    """

    def __init__(self, estimates: Iterable[Estimate]) -> None:
        self._by_class = {estimate.target: estimate for estimate in estimates}

    def __getitem__(self, target: int) -> Estimate:
        """The estimate of a class; KeyError for one that was not among the targets."""
        if target not in self._by_class:
            known = ", ".join(map(str, self))
            raise KeyError(f"estimates: expected one of the classes {known}, got {target}; name it in targets")
        return self._by_class[target]

    def __iter__(self) -> Iterator[int]:
        """The target classes."""
        return iter(self._by_class)

    def __len__(self) -> int:
        """How many classes."""
        return len(self._by_class)


@dataclass(frozen=True, eq=False)
class Detection:
    """The outcome of a post-training detector over all classes.

    Attributes:
        method: its name, for titles.
        estimates: by target class, `estimates[t]`, in the order of `targets`; for RED-P the smallest of t's pairs.
        rule: how `verdict` decides unless told otherwise: the detector's own, published, rule.
        seconds: wall time of the estimation.
        settings: what it was run with.
        warnings: what makes the outcome less to be trusted.
        pairs: RED-P's estimates by source and target, K(K-1) for all targets; empty for the others.
        size_name: what `norms` are, in words.
        references: float (m, K), norms of clean networks of the same task by the same detector; see `against`.
        contenders: how many of the targets were chosen from all classes by a short search, see `selection`.
    """

    method: str
    estimates: Estimates
    rule: Rule
    seconds: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    pairs: Sequence[Estimate] = ()
    size_name: str = "size of the pattern"
    references: np.ndarray | None = None
    contenders: int = 0

    @property
    def num_classes(self) -> int:
        """K, of the network."""
        return len(next(iter(self.estimates.values())).by_class)

    @property
    def norms(self) -> np.ndarray:
        """float64 (K,): sizes by class, NaN for those that were not among the targets."""
        norms = np.full(self.num_classes, np.nan)
        for target, estimate in self.estimates.items():
            norms[target] = estimate.norm
        return norms

    @property
    def pair_norms(self) -> np.ndarray:
        """float64 (K, K): RED-P's norms by source and target, NaN where none was estimated, as on the diagonal."""
        norms = np.full((self.num_classes,) * 2, np.nan)
        for pair in self.pairs:
            norms[pair.source, pair.target] = pair.norm
        return norms

    def against(self, references: np.ndarray | Sequence["Detection"]) -> "Detection":
        """The same outcome, judged by norms relative to those of clean networks: see `anomaly.relative`.

        Suspect, statistics and verdict then rest on the ratios; `norms` stay what they are.

        Args:
            references: outcomes of the same detector on clean networks of the same task, or their norms, (m, K); by
                source and target, (m, K, K), where it searches pairs (see `few_sources`).

        Raises:
            ValueError: norms of other classes, or ones that are not finite and positive; pairs of some targets only.
        """
        if self.pairs:
            norms = np.array([r.pair_norms if isinstance(r, Detection) else r for r in references], dtype=float)
            few_sources.residuals(self.pair_norms, norms)  # which checks the numbers
            return replace(self, references=norms)
        norms = np.array([r.norms if isinstance(r, Detection) else r for r in references], dtype=float)
        if norms.ndim != 2 or norms.shape[1] != self.num_classes:
            raise ValueError(f"references: expected norms of {self.num_classes} classes for each network, got shape "
                             f"{norms.shape}; use networks of the same task")  # fmt: skip
        anomaly.relative(self.norms[self._targets], norms[:, self._targets])  # which checks the numbers
        return replace(self, references=norms)

    @property
    def relative_norms(self) -> np.ndarray:
        """float64 (K,): `norms`, divided by those of references where there are some; for pairs see `few_sources`."""
        norms = self.norms
        if self._left is not None:
            return few_sources.sizes(self._left)
        if self.references is not None:
            norms[self._targets] = anomaly.relative(norms[self._targets], self.references[:, self._targets])
        return norms

    @property
    def suspect(self) -> int:
        """The class with the smallest estimate: arg max r_t."""
        return int(np.nanargmin(self.relative_norms))

    @property
    def sources(self) -> tuple[int, ...]:
        """The suspect's source classes, as far as they can be told."""
        if self._left is not None:
            return few_sources.sources(self._left, self.suspect)
        return self.estimates[self.suspect].sources()

    @property
    def anomaly_index(self) -> np.ndarray:
        """float64 (K,): how far `relative_norms` lie below their median, in MAD × 1.4826, negative above it; or NaN."""
        index = self.relative_norms
        index[self._targets] = anomaly.mad_index(index[self._targets])
        return index

    @property
    def _left(self) -> np.ndarray | None:
        """What is left of pairs beside those of references."""
        if not self.pairs or self.references is None:
            return None
        return few_sources.residuals(self.pair_norms, self.references)

    @property
    def _targets(self) -> list[int]:
        return sorted(self.estimates)

    @property
    def log_p_value(self) -> float:
        """Natural logarithm of the order-statistic p-value as published (L-RED 3.2); never underflows."""
        if self.pairs:
            return anomaly.pairs_log_p(self.pair_norms[:, self._targets])
        return anomaly.published_log_p(self._statistics())

    @property
    def p_value(self) -> float:
        """The order-statistic p-value as published, in [0, 1]; 0 where it underflows, see `log_p_value`."""
        return float(np.exp(self.log_p_value))

    @property
    def calibrated_p_value(self) -> float:
        """The p-value whose false-alarm rate is what it says, in (0, 1], by Monte Carlo; see `anomaly.calibrated_p`."""
        if self._left is not None:
            return few_sources.calibrated_p(self._left)
        if self.pairs:
            return anomaly.calibrated_pairs_p(self.pair_norms[:, self._targets])
        count = 0 if self.references is None else len(self.references)
        if self.contenders:
            return selection.selected_p(self._statistics(), self.num_classes, self.contenders, references=count)
        return anomaly.calibrated_p(self._statistics(), references=count)

    def _statistics(self) -> np.ndarray:
        """r_t (L-RED 3.2), float64 (T,)."""
        stuck = [t for t, estimate in self.estimates.items() if estimate.norm == 0]
        if stuck:
            raise ValueError(f"network: expected logits that change with the image, got none towards class {stuck}, "
                             "so the search can't take a step; check that it returns logits, not classes")  # fmt: skip
        return 1 / self.relative_norms[self._targets]

    def verdict(self, threshold: float | None = None, rule: Rule | None = None) -> Verdict:
        """Attacked or not, at a threshold.

        Args:
            threshold: 2 for the anomaly index, the level θ = 0.05 for p-values, unless given.
            rule: "mad" (Neural Cleanse), "published" (L-RED 3.2), "calibrated"; None: the detector's own.

        Raises:
            ValueError: unknown rule.
        """
        rule = rule or self.rule
        if rule not in DEFAULT_LEVEL:
            raise ValueError(f"rule: expected one of {', '.join(DEFAULT_LEVEL)}, got {rule!r}; see Detection.verdict")
        level = DEFAULT_LEVEL[rule] if threshold is None else threshold
        if rule == "mad":
            statistic = float(self.anomaly_index[self.suspect])
            attacked = statistic > level
        else:
            statistic = self.p_value if rule == "published" else self.calibrated_p_value
            attacked = statistic < level
        target, sources = (self.suspect, self.sources) if attacked else (None, ())
        return Verdict(attacked, target, sources, statistic, level, rule)


def shared_warnings(estimates: Collection[Estimate]) -> list[str]:
    """What every detector says about its own estimates: not converged, too few classes, no spread."""
    said = [f"class {e.target}: the pattern did not reach the wished success" for e in estimates if not e.converged]
    norms = np.array([e.norm for e in estimates])
    if len(norms) < 7:
        said.append(f"{len(norms)} classes are few for an outlier test; look at the norms themselves")
    mad, middle = np.median(np.abs(norms - np.median(norms))), np.median(norms)
    if mad == 0:
        said.append("the norms do not vary (MAD 0): the anomaly index means nothing")
    elif mad < 0.01 * middle:  # of 512 searches on trained networks the least was 3 %
        said.append(
            "the norms hardly vary (MAD below 1 % of their median): a small difference has a large anomaly index"
        )
    return said


def uniform(num_classes: int, target: int) -> Tensor:
    """w^(0) of Algorithm 1: 1/(K-1) for every class but the target, whose weight is 0.

    Example:
        >>> uniform(3, target=1).tolist()
        [0.5, 0.0, 0.5]
    """
    weights = torch.full((num_classes,), 1 / (num_classes - 1))
    weights[target] = 0
    return weights
