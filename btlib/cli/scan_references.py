"""Clean networks of the same task, beside which a scanned one is judged: their files, or the JSON of earlier scans."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from btlib.cli.adapting import ForeignError
from btlib.cli.probing import Foreign
from btlib.detection import Detection
from btlib.files import read_json


@dataclass(frozen=True)
class Reference:
    """A clean network: itself, or what an earlier scan said of it."""

    path: Path
    network: Foreign | None
    scan: Mapping[str, Any]


def opened(references: Sequence[Path], methods: Collection[str], load: Callable[[Path], Foreign]) -> list[Reference]:
    """All references, read before anything is searched for minutes.

    Args:
        references: networks as the scanned one, or what ``scan --json`` wrote of one.
        methods: that the scan runs.
        load: opens a network's file and sees whether it does the task.

    Raises:
        ForeignError: none of both, a scan by other methods, or one that found a backdoor.
    """
    return [
        Reference(path, None, _earlier(path, methods)) if path.suffix == ".json" else Reference(path, load(path), {})
        for path in references
    ]


def judged_beside(
    found: Mapping[str, Detection], references: Sequence[Reference],
    measure: Callable[[Foreign, Path], Mapping[str, Detection]],
) -> dict[str, Detection]:  # fmt: skip
    """What was found, with sizes relative to those of clean networks.

    Args:
        found: by method.
        references: clean networks.
        measure: runs the same methods on one.

    Raises:
        ForeignError: a reference of other classes or settings.
    """
    if not references:
        return dict(found)
    sizes = [_of_scan(each, found) if each.network is None else _of_network(measure(each.network, each.path))
             for each in references]  # fmt: skip
    together = {}
    for name, detection in found.items():
        try:
            together[name] = detection.against(np.array([each[name] for each in sizes]))
        except (ValueError, TypeError) as error:  # the latter: a JSON with lists or names for sizes
            raise ForeignError(f"--reference: {error}, here for {name}") from None
    return together


def _earlier(path: Path, methods: Collection[str]) -> dict[str, Any]:
    """What an earlier scan said, once it is seen to have what is asked for."""
    try:
        told = read_json(path)
        bad = told["verdict"]["backdoor"]
        for name in methods:
            _ = told["methods"][name]["settings"].get, told["methods"][name]["norms"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ForeignError(
            f"--reference: expected the JSON of a scan by {', '.join(methods)}, got {path} ({type(error).__name__}: "
            f"{error}); scan the clean network with the same --methods and --json"
        ) from None
    if bad:
        raise ForeignError(f"--reference: expected a clean network, got {path}, whose scan found a backdoor; "
                           "leave it out")  # fmt: skip
    return told


def _of_network(measured: Mapping[str, Detection]) -> dict[str, Any]:
    return {name: d.pair_norms if d.pairs else d.norms for name, d in measured.items()}


def _of_scan(reference: Reference, found: Mapping[str, Detection]) -> dict[str, Any]:
    """Its sizes, if it was made with the same settings."""
    sizes = {}
    for name, detection in found.items():
        told = reference.scan["methods"][name]
        mine, theirs = json.loads(json.dumps(detection.settings, default=str)), told["settings"]
        differ = [key for key in mine if key != "seed" and theirs.get(key, mine[key]) != mine[key]]
        if differ:
            raise ForeignError(
                f"--reference: expected {name} with {differ[0]} = {mine[differ[0]]}, got {theirs[differ[0]]} in "
                f"{reference.path}; scan it again with the same options"
            )
        sizes[name] = told.get("pair_norms") if detection.pairs else told["norms"]
    return sizes
