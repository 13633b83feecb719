"""Post-training detection: is this network backdoored? (floor 2)

`neural_cleanse` and `red_a_mask` look for small patches, `red_a`, `red_u` and `red_p` for small perturbations.
All return a `Detection`.
"""

from btlib.detection import anomaly
from btlib.detection.descent import Inversion
from btlib.detection.neural_cleanse import PUBLIC, QUICK, neural_cleanse, red_a_mask
from btlib.detection.outcome import Detection, Estimate, Verdict
from btlib.detection.perturbation import FAITHFUL, FAST, FOCUSED, Search
from btlib.detection.red import additive_estimation, red_a, red_p, red_u

__all__ = [
    "FAITHFUL", "FAST", "FOCUSED", "PUBLIC", "QUICK", "Detection", "Estimate", "Inversion", "Search", "Verdict",
    "additive_estimation", "anomaly", "neural_cleanse", "red_a", "red_a_mask", "red_p", "red_u",
]  # fmt: skip
