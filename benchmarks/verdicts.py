"""Who finds what: every detector on every network of `zoo.py`, attacked and clean.

    python benchmarks/verdicts.py lenet5 s0         # networks whose name has these words
    python benchmarks/verdicts.py --summary         # the table of what has been measured

One row per network and detector, kept in results/detection-verdicts.json; rows that are there are not run again, so
a killed run goes on, unless the network is now made otherwise. Networks that `zoo.py` has not trained yet are left
out. Each row has the norms of all classes: any rule can be applied later without a new run. Hardware: two cores, 10 to
30 s a row.
"""

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch
import zoo
from tqdm import tqdm

from btlib import checkpoints, datasets, detection
from btlib.checkpoints import Spec
from btlib.detection import Estimate
from btlib.results import environment, load, save

PATH = "results/detection-verdicts.json"
#: Name in the rows → name in `detection.DETECTORS`.
DETECTORS = {
    "neural cleanse": "neural-cleanse", "mask RED-A": "mask-red-a", "RED-A": "red-a", "RED-A'": "red-a-2",
    "RED-U": "red-u", "RED-P": "red-p", "focused RED-A": "red-a-focused",
}  # fmt: skip
PATCHES = ("neural cleanse", "mask RED-A")
PERTURBATIONS = ("RED-A", "focused RED-A", "RED-U")
ONE_IMAGE = {"gtsrb": 1}  # L-RED 4.4: one clean image per class


def detectors(name: str, spec: Spec) -> tuple[str, ...]:
    """Which detectors meet this network: those for its kind of trigger; all of them if it is clean."""
    if spec.data == "gtsrb":
        return PERTURBATIONS
    if "vgg9" in name:
        return (*PERTURBATIONS, "RED-P")
    if spec.trigger is None:
        return (*PATCHES, *PERTURBATIONS, "RED-A'", "RED-P")
    if name.startswith(("fashion-mnist lenet5 box 1 ", "fashion-mnist lenet5 chessboard 1 ")):
        both = (*PATCHES, "RED-A", "RED-U")  # lesson 08 asks who catches an attack with one source
        return both if spec.trigger == "box" else (*both, "focused RED-A", "RED-A'", "RED-P")
    if spec.trigger in ("box", "single_pixel"):
        return PATCHES
    return (*PERTURBATIONS, "RED-A'", "RED-P")


def row(spec: Spec, detector: str) -> dict[str, Any]:
    """Run one detector on one network."""
    network = checkpoints.load_or_train(spec, progress=False)
    data = datasets.load(spec.data)
    settings = {"seed": spec.seed} | ({"per_class": ONE_IMAGE[spec.data]} if spec.data in ONE_IMAGE else {})
    registered = replace(detection.DETECTORS[DETECTORS[detector]], **settings)
    began = time.perf_counter()
    found = registered(network, data.x_test, data.y_test)
    suspect = found.estimates[found.suspect]
    truth = poisoned_sources(spec, data.num_classes)
    return {
        "network": spec.file_name, "accuracy": network.card.accuracy, "success": network.card.success,
        "target": None if spec.trigger is None else spec.target, "sources": truth,
        "norms": found.norms.tolist(), "suspect": found.suspect, "suspect_sources": list(suspect.sources()),
        "weights": suspect.weights.tolist(), "rates": suspect.by_class.nan_to_num(-1).tolist(),
        "log_p": found.log_p_value, "calibrated_p": found.calibrated_p_value,
        "anomaly_index": float(found.anomaly_index[found.suspect]),
        "gradients": sum(e.gradients for e in found.estimates.values()),
        "seconds": time.perf_counter() - began, "warnings": list(found.warnings), "settings": found.settings,
        **(walk(found.estimates[spec.target]) if spec.network == "vgg9" and spec.trigger else {}),
    }  # fmt: skip


def walk(estimate: Estimate) -> dict[str, Any]:
    """Q against the length of the perturbation on the way to one class, for lesson 11."""
    told = {name: [round(float(number), 4) for number in estimate.history[name]] for name in ("norm", "Q")}
    return {"walk": told} if estimate.source is None else {}


def missing(measured: dict[str, Any] | None, spec: Spec) -> bool:
    """Whether a row is yet to be measured, or was measured on a network that is made otherwise now."""
    return measured is None or measured.get("network", spec.file_name) != spec.file_name


def poisoned_sources(spec: Spec, classes: int) -> list[int] | None:
    """The true source classes; None for a clean network."""
    if spec.trigger is None:
        return None
    return [c for c in range(classes) if c != spec.target] if spec.sources == "all" else list(spec.sources)  # type: ignore[arg-type]


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per group of networks and detector: how many were found by each rule, with the right target."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for key, measured in rows.items():
        name, detector = key.split(" | ")
        groups[f"{' '.join(name.split()[:-1])} | {detector}"].append(measured)
    table = {}
    for group, members in groups.items():
        right = [m["target"] is None or m["suspect"] == m["target"] for m in members]
        flags = {
            "mad > 2": [m["anomaly_index"] > 2 for m in members],
            "published < .05": [m["log_p"] < -2.9957 for m in members],
            "calibrated < .05": [m["calibrated_p"] < 0.05 for m in members],
        }
        attacked = members[0]["target"] is not None
        table[group] = {
            "networks": len(members), "suspect is the target": sum(right) if attacked else None,
            **{rule: sum(f and r for f, r in zip(flagged, right, strict=True)) for rule, flagged in flags.items()},
            "seconds": sum(m["seconds"] for m in members) / len(members),
        }  # fmt: skip
    return table


def main() -> None:
    """Measure what is missing and save after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="networks whose name has all of these words")
    parser.add_argument("--detectors", nargs="*", default=list(DETECTORS), help="only these")
    parser.add_argument("--threads", type=int, help="torch threads")
    parser.add_argument("--summary", action="store_true", help="print the table only")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = load(PATH).get("rows", {})
    if not args.summary:
        jobs = [
            (f"{name} | {detector}", spec, detector)
            for name, spec in zoo.specs().items() if all(word in name.split() for word in args.words)
            for detector in detectors(name, spec) if detector in args.detectors
        ]  # fmt: skip
        jobs = [job for job in jobs if missing(rows.get(job[0]), job[1]) and checkpoints.find(job[1]) is not None]
        for key, spec, detector in tqdm(jobs, unit="row"):
            measured = row(spec, detector)
            rows = load(PATH).get("rows", {}) | {key: measured}  # what another run has saved meanwhile stays
            save(PATH, {"environment": environment(), "summary": summary(rows), "rows": rows})
    for group, line in summary(rows).items():
        sys.stdout.write(f"{group}: {line}\n")


if __name__ == "__main__":
    main()
