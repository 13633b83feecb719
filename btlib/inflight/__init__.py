"""Is this image, right now, a trigger, and what is it really? (floor 3)

Every detector is fitted to a network found to be attacked, on clean images and the pattern that a post-training
detector estimated, and then judges images one by one. A score is higher when more suspicious.
"""

from btlib.inflight.b3d import B3DDetector, output_change
from btlib.inflight.base import InFlightDetector, InspectionReport
from btlib.inflight.caps import CapsDetector, logit_change
from btlib.inflight.densities import COVARIANCES
from btlib.inflight.export import export_guard
from btlib.inflight.guard import Guard, GuardedPrediction
from btlib.inflight.likelihood import HeldOutRates, LikelihoodDetector
from btlib.inflight.neurons import NeuronDetector, relevant_neurons
from btlib.inflight.rates import InFlightRates, Roc, measure_rates, roc
from btlib.inflight.registry import DETECTORS, register
from btlib.inflight.scale_up import ScaleUpDetector, scaled_consistency
from btlib.inflight.source import LEARNING_RATES, FineTuning, source_by_fine_tuning
from btlib.inflight.strip import StripDetector, blend_entropy

__all__ = [
    "COVARIANCES", "DETECTORS", "LEARNING_RATES", "B3DDetector", "CapsDetector", "FineTuning", "Guard",
    "GuardedPrediction", "HeldOutRates", "InFlightDetector", "InFlightRates", "InspectionReport",
    "LikelihoodDetector", "NeuronDetector", "Roc", "ScaleUpDetector", "StripDetector", "blend_entropy", "export_guard",
    "logit_change", "measure_rates", "output_change", "register", "relevant_neurons", "roc", "scaled_consistency",
    "source_by_fine_tuning",
]  # fmt: skip
