"""Post-training detectors by name, for `scan`, `paper`, lessons and benchmarks (floor 2)."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from btlib.detection.margin import MMBD
from btlib.detection.neural_cleanse import MaskRedA, MaskRedP, NeuralCleanse
from btlib.detection.outcome import Detection
from btlib.detection.perturbation import FOCUSED
from btlib.detection.red import RedA, RedP, RedU
from btlib.registry import Registry


def _ready(detector: Any) -> Callable[..., Detection]:
    """A detector; of a class, one with its defaults."""
    made: Callable[..., Detection] = detector() if isinstance(detector, type) else detector
    if not callable(made):
        raise TypeError(f"detector: expected an object to call, got {made!r}; see btlib.detection.Detector")
    return made


#: Name → detector, a `Detector` or anything else that `btlib.testing.check_detector` passes.
DETECTORS: Registry[Callable[..., Detection]] = Registry(
    {"neural-cleanse": NeuralCleanse(), "mask-red-a": MaskRedA(), "mask-red-p": MaskRedP(),
     "red-a": RedA(), "red-a-2": RedA(per_class=2),
     "red-a-focused": RedA(search=FOCUSED), "red-u": RedU(), "red-p": RedP(), "mm-bd": MMBD()}, _ready,
)  # fmt: skip
register, find = DETECTORS.register, DETECTORS.find


def configured(detector: Callable[..., Detection], **settings: Any) -> Callable[..., Detection]:
    """A detector like this one with those of the settings that it has; it has its own way with the others.

    Example:
        >>> configured(RedU(), seed=3, inversion=None).seed
        3
    """
    have = settings_of(detector)
    told = {name: value for name, value in settings.items() if name in have}
    made: Any = type(detector)
    like_it: Callable[..., Detection] = made(**(have | told)) if told else detector
    return like_it


def settings_of(detector: Callable[..., Detection]) -> dict[str, Any]:
    """Settings by name: of `get_params` (as in scikit-learn), else the fields of a dataclass, else none.

    Example:
        >>> settings_of(RedU(per_class=1))["per_class"], settings_of(print)
        (1, {})
    """
    if hasattr(detector, "get_params"):
        return dict(detector.get_params(deep=False))
    if is_dataclass(detector):
        return {setting.name: getattr(detector, setting.name) for setting in fields(detector)}
    return {}
