"""What a detector says at one threshold, and the rules that decide (floor 2)."""

from collections.abc import Sequence
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
        """One sentence, with numbers of classes."""
        return self.in_words()

    def in_words(self, classes: Sequence[str] | None = None) -> str:
        """One sentence.

        Args:
            classes: the names of all classes in their order; None: numbers stand for them.

        Example:
            >>> Verdict(True, 1, (0,), 0.004, 0.05, "published").in_words(("coat", "bag"))
            'attacked, target bag, sources coat (published p-value 0.004, threshold 0.05)'
        """
        name = "anomaly index" if self.rule == "mad" else f"{self.rule} p-value"
        said = "no backdoor found"
        if self.target is not None:
            target, *sources = [str(c if classes is None else classes[c]) for c in (self.target, *self.sources)]
            said = f"attacked, target {target}" + (f", sources {', '.join(sources)}" if sources else "")
        return f"{said} ({name} {self.statistic:.3g}, threshold {self.threshold:g})"
