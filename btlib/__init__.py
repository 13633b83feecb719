"""btlib: the small library under the backdoor course.

Images are uint8 or float in [0, 1] at every public door and uint8 at rest; normalisation lives inside the
networks; every random thing takes a seed. Data flows up through seven floors (docs/architecture.md);
a module imports only from the floors below its own.
"""

import os
from importlib import import_module
from typing import Any

# Threads that wait for each other by spinning lose a core each to any other program: measured, an epoch took
# five times as long beside one busy process, and as long as ever with this. torch must not be loaded yet.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

_MODULES = (
    "datasets", "triggers", "networks", "poisoning", "training", "metrics", "detection",
    "checkpoints", "inflight", "exercises", "attacks", "repair", "papers", "plots", "widgets", "profiles", "results",
    "testing",
)  # fmt: skip
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """Import a module of the library when it is first used, so that `import btlib` stays quick."""
    if name in _MODULES:
        return import_module(f"btlib.{name}")
    raise AttributeError(f"module 'btlib' has no attribute {name!r}; its modules are {', '.join(_MODULES)}")
