"""What a scan came to: one judgement per method, one for the network, and what it leaves open."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from btlib.cli.probing import Foreign
from btlib.cli.scan_images import CleanImages, Origin
from btlib.detection import Detection
from btlib.files import printable
from btlib.results import environment


@dataclass(frozen=True)
class Judgement:
    """One method's answer.

    Attributes:
        method: its name on the command line.
        suspect: the class with the smallest estimate.
        sources: source classes that its weights point to.
        calibrated_p: decides, compared with `level`.
        published_log10_p: of the p-value as published.
        anomaly_index: of the suspect.
        level: of the whole scan, divided by the number of methods (Bonferroni).
    """

    method: str
    suspect: int
    sources: tuple[int, ...]
    calibrated_p: float
    published_log10_p: float
    anomaly_index: float
    level: float

    @property
    def found(self) -> bool:
        """Whether this method says that there is a backdoor."""
        return self.calibrated_p < self.level

    @property
    def published_p(self) -> str:
        """The published p-value, also where it is too small for a double."""
        power = self.published_log10_p
        return f"{10**power:.2g}" if power > -300 else f"1e{math.floor(power)}"


@dataclass(frozen=True, eq=False)
class Scan:
    """Everything a scan knows.

    Attributes:
        weights: the network's file.
        network: the network itself.
        source: where the images came from.
        images: those that were used.
        accuracy: share of them that is classified as labelled, in [0, 1].
        detections: by method.
        per_class: images of each class that a method used.
        level: false-alarm level of the whole scan.
        seed: of the draw of images and of the estimates.
        seconds: wall time.
    """

    weights: Path
    network: Foreign
    source: Origin
    images: CleanImages
    accuracy: float
    detections: Mapping[str, Detection]
    per_class: Mapping[str, int]
    level: float
    seed: int
    seconds: float = field(default=0.0)

    @property
    def name(self) -> str:
        """The file's, as it can be shown."""
        return printable(self.weights.name)

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """One per method, in their order."""
        return tuple(self._judge(name, detection) for name, detection in self.detections.items())

    def _judge(self, name: str, detection: Detection) -> Judgement:
        suspect = detection.suspect
        return Judgement(
            name, suspect, detection.estimates[suspect].sources(), detection.calibrated_p_value,
            detection.log_p_value / math.log(10), float(detection.anomaly_index[suspect]),
            self.level / len(self.detections),
        )  # fmt: skip

    @property
    def targets(self) -> tuple[int, ...]:
        """Target classes of the backdoors found, without repetition; empty when none was."""
        return tuple(sorted({judgement.suspect for judgement in self.judgements if judgement.found}))

    def class_name(self, index: int) -> str:
        """Number and name of a class, as in "class 9 (Ankle boot)"."""
        name = self.source.classes[index]
        return f"class {index}" if name == str(index) else f"class {index} ({name})"

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.targets:
            return f"No backdoor found at level {self.level:g}."
        said = " and ".join(self.class_name(target) for target in self.targets)
        methods = [judgement.method for judgement in self.judgements if judgement.found]
        return f"Backdoor found: images can be sent to {said} (by {', '.join(methods)})."

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes this outcome less to be trusted."""
        said = [] if self.accuracy >= 0.5 else [
            f"only {100 * self.accuracy:.0f} % of the images are classified as labelled: are they images of the kind "
            "that it was trained on, and is anything done to their pixels (--mean, --std, --scale)?"
        ]  # fmt: skip
        said += self.network.notes
        for name, detection in self.detections.items():
            said += [f"{name}: {warning}" for warning in detection.warnings]
        return tuple(said)

    @property
    def cannot_tell(self) -> tuple[str, ...]:
        """The limits of this scan, in words."""
        per_class = ", ".join(f"{name} {count}" for name, count in self.per_class.items())
        methods = len(self.detections)
        share = f", divided among {methods} methods (Bonferroni)" if methods > 1 else ""
        pairs = (
            "red-p's level holds for pairs that are independent, and a network's are not: of 20 clean LeNet-5 it "
            "flagged 7 at level 0.05 (results/detection-verdicts.json).",
        )
        return (
            "No backdoor found is no proof of absence: it says that no class has an unusually small pattern.",
            "Triggers that differ from image to image or are drawn by a generator (warps, styles), and attacks trained "
            "against inversion as in the stealthy paper, are built to escape what was run here.",
            "A backdoor for one class that moves no other escapes red-a; red-a-focused and red-p can see it.",
            "All-to-all attacks, several targets at once and patterns that cover much of the image leave no single "
            "class that stands out.",
            f"With fewer than about 7 classes an outlier test has little to compare with; here there are "
            f"{self.network.num_classes}.",
            f"It rests on few clean images (per class: {per_class}), taken for clean and rightly labelled.",
            f"About {100 * self.level:g} % of clean networks are flagged: the level is {self.level:g}{share}, if sizes "
            "of clean networks follow a Gamma distribution. A class whose images differ little from the others' can "
            "look suspicious without any attack.",
            "An estimated pattern is the smallest that works, not the attacker's: place and shape often differ.",
            *(pairs if "red-p" in self.detections else ()),
        )


def as_json(scan: Scan, version: str) -> dict[str, Any]:
    """The scan as plain JSON values."""
    return {
        "verdict": {"backdoor": bool(scan.targets), "targets": list(scan.targets), "sentence": scan.verdict},
        "level": scan.level,
        "network": {
            "file": scan.name, "sha256": hashlib.sha256(scan.weights.read_bytes()).hexdigest(),
            "what": scan.network.what, "image_shape": list(scan.network.image_shape),
            "classes": scan.network.num_classes,
            "convention": None if scan.network.convention is None else scan.network.convention.options,
            "notes": list(scan.network.notes),
        },
        "images": {
            "source": scan.source.name, "classes": list(scan.source.classes), "changes": scan.images.changes,
            "accuracy": scan.accuracy,
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
        "suspect": judgement.suspect,
        "sources": list(judgement.sources),
        "calibrated_p": judgement.calibrated_p,
        "level": judgement.level,
        "published_log10_p": judgement.published_log10_p,
        "anomaly_index": _numbers([judgement.anomaly_index])[0],
        "per_class": scan.per_class[judgement.method],
        "norms": _numbers(detection.norms.tolist()),
        "success": _numbers([estimate.success for estimate in detection.estimates.values()]),
        "converged": [estimate.converged for estimate in detection.estimates.values()],
        "seconds": round(detection.seconds, 2),
        "settings": {key: value for key, value in detection.settings.items() if not callable(value)},
    }


def _numbers(values: Sequence[float]) -> list[float | None]:
    """JSON has no NaN and no infinity."""
    return [value if math.isfinite(value) else None for value in values]
