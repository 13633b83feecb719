"""The in-flight detectors by name: what tables, benchmarks and lessons choose from."""

from collections.abc import Callable
from functools import partial
from typing import Any

from btlib.inflight.b3d import B3DDetector
from btlib.inflight.base import InFlightDetector
from btlib.inflight.caps import CapsDetector
from btlib.inflight.likelihood import LikelihoodDetector
from btlib.inflight.neurons import NeuronDetector
from btlib.inflight.scale_up import ScaleUpDetector
from btlib.inflight.strip import StripDetector
from btlib.registry import Registry


def _ready(make: Any) -> Callable[..., InFlightDetector]:
    """What makes an unfitted detector."""
    made = make() if callable(make) else make
    if not callable(make) or not all(callable(getattr(made, method, None)) for method in ("fit", "inspect", "scores")):
        raise TypeError(f"make: expected what makes a detector with fit, inspect and scores when it is called, got "
                        f"{made!r}; pass the class")  # fmt: skip
    return make


#: Name → what makes an unfitted detector: a class, so that nobody fits one that others hold. Settings may be passed.
DETECTORS: Registry[Callable[..., InFlightDetector]] = Registry(
    {"likelihood": LikelihoodDetector, "neurons": NeuronDetector, "b3d": B3DDetector, "strip": StripDetector,
     "strip-added": partial(StripDetector, weight=None),  # as STRIP's public code blends
     "scale-up": ScaleUpDetector, "scale-up-free": partial(ScaleUpDetector, threshold=0.5),  # the last: without images
     "caps": CapsDetector}, _ready,
)  # fmt: skip
register = DETECTORS.register
