"""What a detector says at one threshold, and the rules that decide (floor 2)."""

from dataclasses import dataclass
from typing import Literal

Rule = Literal["mad", "published", "calibrated"]
DEFAULT_LEVEL: dict[Rule, float] = {"mad": 2.0, "published": 0.05, "calibrated": 0.05}


@dataclass(frozen=True)
class Verdict:
    """What a detector says at one threshold.

    Attributes:
        attacked: the answer.
        target: inferred target class; None when not attacked.
        sources: inferred source classes; empty when not attacked.
        statistic: anomaly index (rule "mad") or p-value (the others) of the most suspicious class.
        threshold: what it was compared with.
        rule: "mad", "published" or "calibrated".
    """

    attacked: bool
    target: int | None
    sources: tuple[int, ...]
    statistic: float
    threshold: float
    rule: Rule

    def __str__(self) -> str:
        """One sentence."""
        name = "anomaly index" if self.rule == "mad" else f"{self.rule} p-value"
        sources = f", sources {', '.join(map(str, self.sources))}" if self.sources else ""
        said = f"attacked, target {self.target}{sources}" if self.attacked else "no backdoor found"
        return f"{said} ({name} {self.statistic:.3g}, threshold {self.threshold:g})"
