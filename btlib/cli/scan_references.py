"""Clean networks of the same task, beside which a scanned one is judged: their files, or the JSON of earlier scans."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from btlib.cli.adapting import ForeignError
from btlib.detection import Detection

Measure = Callable[[Path], Mapping[str, Detection]]


def judged_beside(found: Mapping[str, Detection], references: Sequence[Path], measure: Measure) -> dict[str, Detection]:
    """What was found, with sizes relative to those of clean networks.

    Args:
        found: by method.
        references: networks as the scanned one, or what ``scan --json`` wrote of one.
        measure: runs the same methods on a network's file.

    Raises:
        ForeignError: a reference of other classes, methods or settings, or one that was found to be backdoored.
    """
    if not references:
        return dict(found)
    sizes = [_of_json(path, found) if path.suffix == ".json" else _of_network(path, measure) for path in references]
    together = {}
    for name, detection in found.items():
        try:
            together[name] = detection.against(np.array([each[name] for each in sizes]))
        except ValueError as error:
            raise ForeignError(f"--reference: {error}, here for {name}") from None
    return together


def _of_network(path: Path, measure: Measure) -> dict[str, Any]:
    return {name: d.pair_norms if d.pairs else d.norms for name, d in measure(path).items()}


def _of_json(path: Path, found: Mapping[str, Detection]) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        bad, methods = told["verdict"]["backdoor"], told["methods"]
        sizes = {name: methods[name]["pair_norms" if d.pairs else "norms"] for name, d in found.items()}
        settings = {name: told["methods"][name]["settings"] for name in found}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ForeignError(
            f"--reference: expected the JSON of a scan by {', '.join(found)}, got {path} ({type(error).__name__}: "
            f"{error}); scan the clean network with the same --methods and --json"
        ) from None
    if bad:
        raise ForeignError(f"--reference: expected a clean network, got {path}, whose scan found a backdoor; "
                           "leave it out")  # fmt: skip
    for name, detection in found.items():
        mine = json.loads(json.dumps(detection.settings, default=str))
        differ = [key for key in mine if key != "seed" and settings[name].get(key, mine[key]) != mine[key]]
        if differ:
            raise ForeignError(
                f"--reference: expected {name} with {differ[0]} = {mine[differ[0]]}, got "
                f"{settings[name][differ[0]]} in {path}; scan it again with the same options"
            )
    return sizes
