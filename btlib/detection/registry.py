"""Post-training detectors by name, for `scan`, `paper`, lessons and benchmarks (floor 2)."""

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from btlib.detection.neural_cleanse import MaskRedA, NeuralCleanse
from btlib.detection.outcome import Detection
from btlib.detection.perturbation import FOCUSED
from btlib.detection.red import RedA, RedP, RedU

#: Name → detector, a `Detector` or anything else that `btlib.testing.check_detector` passes.
DETECTORS: dict[str, Callable[..., Detection]] = {
    "neural-cleanse": NeuralCleanse(), "mask-red-a": MaskRedA(), "red-a": RedA(), "red-a-2": RedA(per_class=2),
    "red-a-focused": RedA(search=FOCUSED), "red-u": RedU(), "red-p": RedP(),
}  # fmt: skip


def register(name: str, detector: Callable[..., Detection]) -> None:
    """Make a detector known by a name, until Python ends.

    Args:
        name: small letters, digits and dashes; free, or taken by an equal detector.
        detector: as `btlib.testing.check_detector` wants it.

    Raises:
        TypeError: what can't be called.
        ValueError: a name that is taken, or of other characters.

    Example:
        >>> register("red-u-1", RedU(per_class=1))
        >>> DETECTORS.pop("red-u-1").per_class
        1
    """
    if not callable(detector) or isinstance(detector, type):
        raise TypeError(f"detector: expected an object to call, got {detector!r}; see btlib.detection.Detector")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or DETECTORS.setdefault(name, detector) != detector:
        raise ValueError(f"name: expected small letters, digits and dashes, none of {', '.join(DETECTORS)}, got "
                         f"{name!r}; choose another")  # fmt: skip


def find(name: str, *, argument: str = "name") -> Callable[..., Detection]:
    """The detector of a name, or what ``module:object`` is (of a class: with its defaults), which runs that module.

    Args:
        name: in `DETECTORS`, or ``module:object``.
        argument: what the name is called where it comes from, for the message.

    Raises:
        ValueError: an unknown name, or an object that can't be imported or called.

    Example:
        >>> find("red-a-2").per_class
        2
        >>> find("btlib.detection:RedA") == find("red-a")
        True
    """
    if name in DETECTORS:
        return DETECTORS[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"{argument}: expected one of {', '.join(DETECTORS)} or module:object, got {name!r}; "
                         "check the spelling")  # fmt: skip
    try:
        found = getattr(import_module(module), attribute)
        detector: Callable[..., Detection] = found() if isinstance(found, type) else found
    except Exception as error:  # whatever a stranger's module raises
        raise ValueError(f"{argument}: expected a detector that can be imported, got {name!r}, which raised "
                         f"{type(error).__name__}: {error}; check its folder and its defaults") from error  # fmt: skip
    if not callable(detector) or isinstance(detector, type):
        raise ValueError(f"{argument}: expected a detector, got {name!r}, which is {type(detector).__name__}; "
                         "see btlib.detection.Detector")  # fmt: skip
    return detector


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
