"""Post-training detection: is this network backdoored? (floor 2)

Detectors are objects: settings in the constructor, then `detector(network, images, labels)` returns a `Detection`.
`NeuralCleanse` and `MaskRedA` look for small patches, `RedA`, `RedU` and `RedP` for small perturbations; each has a
function of its own (`neural_cleanse`, …) that takes the settings with the images. `MaskRedP` looks for patches of few
sources, beside clean networks. `MMBD` needs no images: it asks how
sure of a class any image can make the network. `DETECTORS` has them by name.
"""

from btlib.detection import anomaly
from btlib.detection.descent import Inversion
from btlib.detection.detector import Detector
from btlib.detection.margin import MMBD
from btlib.detection.neural_cleanse import PUBLIC, QUICK, MaskRedA, MaskRedP, NeuralCleanse, mask_red_a, neural_cleanse
from btlib.detection.outcome import Detection, Estimate
from btlib.detection.perturbation import FAITHFUL, FAST, FOCUSED, Search
from btlib.detection.red import RedA, RedP, RedU, additive_estimation, red_a, red_p, red_u
from btlib.detection.registry import DETECTORS, configured, find, register, settings_of
from btlib.detection.screening import screen
from btlib.detection.verdict import Verdict

__all__ = [
    "DETECTORS", "FAITHFUL", "FAST", "FOCUSED", "MMBD", "PUBLIC", "QUICK", "Detection", "Detector", "Estimate",
    "Inversion", "MaskRedA", "MaskRedP", "NeuralCleanse", "RedA", "RedP", "RedU", "Search", "Verdict",
    "additive_estimation", "anomaly", "configured", "find", "mask_red_a", "neural_cleanse", "red_a", "red_p", "red_u",
    "register", "screen", "settings_of",
]  # fmt: skip
