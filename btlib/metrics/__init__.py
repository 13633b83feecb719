"""What is reported about an attack: accuracy, success, and how visible it is (floor 2)."""

from btlib.metrics.modes import evaluating, frozen
from btlib.metrics.prediction import predict, probabilities
from btlib.metrics.separability import separability
from btlib.metrics.success import accuracy, attack_success_rate, success_by_class
from btlib.metrics.visibility import perturbation_norms, psnr, ssim

__all__ = [
    "accuracy", "attack_success_rate", "evaluating", "frozen", "perturbation_norms", "predict", "probabilities", "psnr",
    "separability", "ssim", "success_by_class",
]  # fmt: skip
