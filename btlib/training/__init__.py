"""One loop for all training: clean, poisoned, and an attack's (floor 2)."""

from btlib.training.device import Precision, device_for, in_precision, placed, seeded
from btlib.training.fitting import Fitting, TrainingRun, fit, optimizer_for
from btlib.training.images import augmented
from btlib.training.loop import Stage, curve, shuffled, train
from btlib.training.recipe import RECIPES, VERSION, Recipe, learning_rate

__all__ = [
    "RECIPES", "VERSION", "Fitting", "Precision", "Recipe", "Stage", "TrainingRun", "augmented", "curve", "device_for",
    "fit", "in_precision", "learning_rate", "optimizer_for", "placed", "seeded", "shuffled", "train",
]  # fmt: skip
