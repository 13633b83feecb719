"""A scan as plain JSON values, for programs and for `guard`, `repair` and later scans."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from btlib.cli.scan_outcome import Judgement, Scan
from btlib.files import printable
from btlib.results import environment


def fingerprint(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the names and contents of what lies in it."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else ():
        if file.is_file():
            digest.update(f"{file.name} {fingerprint(file)}\n".encode())
    return digest.hexdigest() if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def as_json(scan: Scan, version: str) -> dict[str, Any]:
    """The scan as plain JSON values."""
    return {
        "verdict": {"backdoor": bool(scan.targets), "targets": list(scan.targets), "sentence": scan.verdict,
                    "kind": scan.kind, "suspects": [_suspect(scan, target) for target in scan.suspects]},
        "level": scan.level,
        "power": _power(scan),
        "washed_copy": _washing(scan),
        "references": [printable(str(path)) for path in scan.references],
        "network": {
            "file": scan.name, "sha256": fingerprint(scan.weights),
            "what": scan.network.what, "image_shape": list(scan.network.image_shape),
            "classes": scan.network.num_classes,
            "convention": None if scan.network.convention is None else scan.network.convention.options,
            "notes": list(scan.network.notes),
            "told": asdict(scan.told) | {"trust": None},
        },
        "images": {
            "source": scan.source.name, "classes": list(scan.source.classes), "changes": scan.images.changes,
            "accuracy": _numbers([scan.accuracy])[0],
        },
        "methods": {judgement.method: _method(scan, judgement) for judgement in scan.judgements},
        "warnings": list(scan.warnings),
        "cannot_tell": list(scan.cannot_tell),
        "seed": scan.seed,
        "seconds": round(scan.seconds, 1),
        "btlib": version,
        "environment": environment(),
    }  # fmt: skip


def _method(scan: Scan, judgement: Judgement) -> dict[str, Any]:
    detection = scan.detections[judgement.method]
    return {
        "found": judgement.found,
        "says": judgement.says,
        "suspect": judgement.suspect,
        "sources": list(judgement.sources),
        "calibrated_p": judgement.calibrated_p,
        "washed_p": judgement.washed_p,
        "level": judgement.level,
        "published_log10_p": judgement.published_log10_p,
        "anomaly_index": _numbers([judgement.anomaly_index])[0],
        "per_class": scan.per_class[judgement.method],
        "norms": _numbers(detection.norms.tolist()),
        "pair_norms": [_numbers(row) for row in detection.pair_norms.tolist()] if detection.pairs else None,
        "norms_are": detection.size_name,
        "relative_norms": None if detection.references is None else _numbers(detection.relative_norms.tolist()),
        "success": _numbers([estimate.success for estimate in detection.estimates.values()]),
        "converged": [estimate.converged for estimate in detection.estimates.values()],
        "seconds": round(detection.seconds, 2),
        "settings": {key: value for key, value in detection.settings.items() if not callable(value)},
    }


def _washing(scan: Scan) -> dict[str, Any] | None:
    """The washed copy, and the sizes in it by method; None where it was not asked."""
    if scan.washing is None:
        return None
    copy, beside = scan.washing.copy, scan.washing.beside
    told = {} if copy is None else {key: getattr(copy, key) for key in ("before", "after", "seconds")}
    norms = {
        name: _numbers(each.references[0].tolist()) for name, each in beside.items() if each.references is not None
    }
    return {"made": copy is not None, "sentence": scan.washed_sentence} | told | {"norms": norms}


def _power(scan: Scan) -> dict[str, Any] | None:
    """What was planted, and whether it was found."""
    if scan.power is None:
        return None
    made, said = scan.power.planted, {"measured": scan.power.planted is not None, "sentence": scan.power_sentence}
    if made is None:
        return said
    kept = {key: getattr(made, key) for key in ("kind", "target", "success", "before", "after", "seconds")}
    if made.sources is not None:
        kept |= {"sources": list(made.sources), "spread": made.spread}
    return said | kept | {"found": scan.power.found, "suspected": scan.power.suspected,
                          "p_values": scan.power.p_values, "named": list(scan.power.named)}  # fmt: skip


def _suspect(scan: Scan, target: int) -> dict[str, Any]:
    """Who is suspected by which method, and what the closer look showed, where there was one."""
    told: dict[str, Any] = {"target": target, "by": scan.suspects[target]}
    look = next((look for look in scan.looks if look.target == target), None)
    if look is None:
        return told
    told |= {"sources": list(look.sources), "sources_by": look.by}
    if look.outcome is None:
        return told
    return told | {"method": look.outcome.method, "norms": _numbers(look.outcome.norms.tolist()),
                   "agrees": look.agrees, "p_after_looking": look.outcome.calibrated_p_value}  # fmt: skip


def _numbers(values: Sequence[float]) -> list[float | None]:
    """JSON has no NaN and no infinity."""
    return [value if math.isfinite(value) else None for value in values]
