"""The capstone's marks: what is said of a network, beside what is true (lesson 12)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from btlib import inflight, metrics
from btlib.inflight import InFlightDetector
from btlib.networks import Network
from btlib.triggers import AnyTrigger


@dataclass(frozen=True, eq=False)
class Report:
    """What an investigator says of one network.

    Attributes:
        attacked: whether it has a backdoor.
        target: the class that triggers are sent to; None where not attacked, or not known.
        sources: the classes they come from.
        pattern: an estimate of the trigger, or None.
        guard: a fitted in-flight detector, or None.
    """

    attacked: bool
    target: int | None = None
    sources: Sequence[int] = ()
    pattern: AnyTrigger | None = field(default=None, repr=False)
    guard: InFlightDetector | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of one network.

    Attributes:
        attacked, target, sources: as in `Report`.
        trigger: the attacker's; None for a clean network.
    """

    attacked: bool
    target: int | None = None
    sources: tuple[int, ...] = ()
    trigger: AnyTrigger | None = None


@dataclass(frozen=True)
class Mark:
    """One line of the report card.

    Attributes:
        network: its name.
        item: what is marked.
        points: in 0 … out_of.
        out_of: the most that can be had.
        why: why points were lost, or what was measured.
    """

    network: str
    item: str
    points: float
    out_of: int
    why: str


#: Points for each item of an attacked network; a clean one has its state only.
RUBRIC = {"state": 20, "target": 20, "sources": 20, "pattern": 20, "guard": 20}
_ALLOWED_FPR = 0.05  # full marks up to here, none from five times as much
_LEFT = (
    0.5,
    0.75,
)  # share of what tells images apart: a pattern that leaves less has no marks, one that leaves more all


def mark(name: str, net: Network, report: Report, truth: Truth, x: Tensor, y: Tensor) -> list[Mark]:
    """The marks of one network.

    Args:
        name: of the network.
        net: it.
        report: what is said.
        truth: what is true.
        x, y: clean images float (N, C, H, W) in [0, 1] that the investigator has not seen, and labels (N,).

    Returns:
        one mark per item of `RUBRIC`; for a clean network, its state only.

    Raises:
        TypeError: something else than a `Report`.

    Example:
        >>> from torch import nn, zeros
        >>> mark("A", nn.Identity(), Report(attacked=True), Truth(False), zeros(0, 1, 2, 2), zeros(0))[0].points
        0.0
    """
    if not isinstance(report, Report):
        raise TypeError(f"reports[{name!r}]: expected a Report, got {type(report).__name__}; write Report(attacked=…)")
    right = bool(report.attacked) == truth.attacked
    found = {"state": (float(right), "right" if right else "the verdict is wrong")}
    if truth.target is not None and truth.trigger is not None:
        found |= {
            "target": (1.0, "right") if report.target == truth.target else (0.0, "another class is the target"),
            "sources": _sources(report, truth.sources),
            "pattern": _pattern(net, report, truth.target, truth.sources, x, y),
            "guard": _guard(report, truth.target, truth.sources, truth.trigger, x, y),
        } if right else dict.fromkeys(list(RUBRIC)[1:], (0.0, "nothing was looked for in this network"))  # fmt: skip
    return [Mark(name, item, round(RUBRIC[item] * share, 1), RUBRIC[item], why) for item, (share, why) in found.items()]


def _sources(report: Report, sources: tuple[int, ...]) -> tuple[float, str]:
    """Overlap: classes in both, over classes in either."""
    said, true = set(report.sources), set(sources)
    share = len(said & true) / len(said | true)
    if share == 1:
        return share, "right"
    return share, f"{len(said - true)} named that are none, {len(true - said)} missed"


def _pattern(
    net: Network, report: Report, target: int, sources: tuple[int, ...], x: Tensor, y: Tensor
) -> tuple[float, str]:
    """How often the pattern sends unseen images of the true sources to the true target, if it leaves the images.

    A picture of the target class in place of every image would be classified as the target by any network.
    """
    if report.pattern is None:
        return 0.0, "no pattern was handed in"
    share = metrics.attack_success_rate(net, report.pattern, x, y, target, sources)
    clean, stamped = (images.double().std(0, correction=0).mean() for images in (x, report.pattern(x)))
    left = float(stamped / clean)
    why = f"it sends {share:.0%} of unseen source images to the target"
    if left < _LEFT[1]:
        why += f", and leaves {left:.0%} of what tells them apart: a pattern is a small change, not another picture"
    return share * min(1.0, max(0.0, (left - _LEFT[0]) / (_LEFT[1] - _LEFT[0]))), why


def _guard(
    report: Report, target: int, sources: tuple[int, ...], trigger: AnyTrigger, x: Tensor, y: Tensor
) -> tuple[float, str]:
    """Two fifths for TPR, two for a low FPR, one for SIA."""
    if report.guard is None:
        return 0.0, "no guard was deployed"
    if report.guard.target_ != target:
        return 0.0, "it watches another class"
    rates = inflight.measure_rates(report.guard, x, y, trigger=trigger, sources=sources)
    calm = min(1.0, max(0.0, (5 * _ALLOWED_FPR - rates.fpr) / (4 * _ALLOWED_FPR)))
    sia = rates.sia if report.guard.infers_source else 0.0
    why = f"TPR {rates.tpr:.0%}, FPR {rates.fpr:.0%}, SIA {sia:.0%} on unseen images"
    return 0.4 * rates.tpr + 0.4 * calm + 0.2 * sia, why
