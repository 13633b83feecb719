"""The in-flight detectors by name: what tables, benchmarks and lessons choose from."""

import re
from collections.abc import Callable
from functools import partial

from btlib.inflight.b3d import B3DDetector
from btlib.inflight.base import InFlightDetector
from btlib.inflight.likelihood import LikelihoodDetector
from btlib.inflight.neurons import NeuronDetector
from btlib.inflight.strip import StripDetector

#: Name → what makes an unfitted detector: a class, so that nobody fits one that others hold. Settings may be passed.
DETECTORS: dict[str, Callable[..., InFlightDetector]] = {
    "likelihood": LikelihoodDetector,
    "neurons": NeuronDetector,
    "b3d": B3DDetector,
    "strip": StripDetector,
    "strip-added": partial(StripDetector, weight=None),  # as STRIP's public code blends
}


def register(name: str, make: Callable[..., InFlightDetector]) -> None:
    """Add a detector of your own to `DETECTORS`.

    Args:
        name: free, or taken by the very same thing.
        make: a class below `InFlightDetector`, or another thing that makes an unfitted detector when called.

    Raises:
        TypeError: what it makes has no `fit`, `inspect` and `scores`.
        ValueError: the name is taken, or of other characters.

    Example:
        >>> register("neurons-10", partial(NeuronDetector, share=0.1))
        >>> DETECTORS.pop("neurons-10")()
        NeuronDetector(share=0.1, layer='penultimate', fpr=0.05)
    """
    made = make() if callable(make) else make
    if not callable(make) or not all(callable(getattr(made, method, None)) for method in ("fit", "inspect", "scores")):
        raise TypeError(f"make: expected what makes a detector with fit, inspect and scores when it is called, got "
                        f"{made!r}; pass the class")  # fmt: skip
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name: expected small letters, digits and dashes, got {name!r}; choose another")
    if DETECTORS.setdefault(name, make) is not make:
        raise ValueError(f"name: expected a free one, got {name!r}, which is taken; "
                         f"taken are {', '.join(DETECTORS)}")  # fmt: skip
