"""MM-BD on LeNet-5: false alarms on clean networks, finds on attacked ones, beside RED-A where that was measured.

    python benchmarks/margins.py

The networks that btlib ships, and the LeNet-5 of `zoo.py` that are remembered in $BTLIB_CHECKPOINTS. One
row per network in results/margins.json; rows that are there are not run again. RED-A's numbers are those of the same
network in results/detection-verdicts.json. Hardware: two cores, seven seconds a row.
"""

import sys
import time
from typing import Any

import numpy as np
import zoo

from btlib import checkpoints
from btlib.checkpoints import Spec
from btlib.detection import MMBD, anomaly
from btlib.results import environment, load, save

PATH = "results/margins.json"
LEVEL = 0.05


def row(spec: Spec, beside: dict[str, Any] | None) -> dict[str, Any]:
    """One network."""
    began = time.perf_counter()
    found = MMBD()(checkpoints.load_or_train(spec, progress=False))
    red_a = None if beside is None else {key: beside[key] for key in ("suspect", "log_p", "calibrated_p")}
    return {
        "target": None if spec.trigger is None else spec.target, "trigger": spec.trigger, "suspect": found.suspect,
        "margins": [round(float(m), 3) for m in 1 / found.norms], "log_p": found.log_p_value,
        "calibrated_p": found.calibrated_p_value, "seconds": time.perf_counter() - began, "RED-A": red_a,
    }  # fmt: skip


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Accused clean networks and attacked ones found, by both forms of the p-value."""
    told: dict[str, Any] = {}
    for kind, members in (
        ("clean", [m for m in rows.values() if m["target"] is None]),
        ("attacked", [m for m in rows.values() if m["target"] is not None]),
    ):
        right = [m["target"] in (None, m["suspect"]) for m in members]
        told[kind] = {
            "networks": len(members),
            "published < .05": sum(r and m["log_p"] < -2.9957 for r, m in zip(right, members, strict=True)),
            "calibrated < .05": sum(r and m["calibrated_p"] < LEVEL for r, m in zip(right, members, strict=True)),
        }
        both = [m for m in members if m["RED-A"] is not None]
        told[kind]["also by RED-A"] = {
            "networks": len(both),
            "RED-A, calibrated < .05": sum(flagged(m["RED-A"], m["target"]) for m in both),
            "MM-BD, calibrated < .05": sum(flagged(m, m["target"]) for m in both),
        }
    clean = {name: m["margins"] for name, m in rows.items() if m["target"] is None}
    for kind, members in (("clean", clean), ("attacked", {n: m for n, m in rows.items() if m["target"] is not None})):
        told[kind]["beside all other clean ones"] = sum(beside(rows[name], name, clean) for name in members)
    return told


def flagged(row: dict[str, Any], target: int | None) -> bool:
    """Whether it is accused, of the target if there is one."""
    return row["calibrated_p"] < LEVEL and target in (None, row["suspect"])


def beside(row: dict[str, Any], name: str, clean: dict[str, list[float]]) -> bool:
    """Whether it is accused (of the target, if it has one) beside the clean networks of its data, itself left out."""
    digits = name.startswith("mnist")
    sizes = np.array([[1 / m for m in margins] for other, margins in clean.items()
                      if other != name and other.startswith("mnist") == digits])  # fmt: skip
    if len(sizes) == 0:
        return False
    ratio = anomaly.relative(1 / np.array(row["margins"]), sizes)
    p = anomaly.calibrated_p(1 / ratio, references=len(sizes))
    return bool(p < LEVEL and row["target"] in (None, int(ratio.argmin())))


def keep(rows: dict[str, dict[str, Any]]) -> None:
    """Save."""
    note = "one thread, beside other work: seconds are upper bounds"
    save(PATH, {"summary": summary(rows), "rows": rows, "note": note, "environment": environment()})


def main() -> None:
    """Measure what is missing and save after every row."""
    measured = load("results/detection-verdicts.json")["rows"]
    rows = load(PATH).get("rows", {})
    specs = {f"shipped {name}": spec for name, spec in checkpoints.shipped().items()}
    specs |= {name: spec for name, spec in zoo.specs().items() if " lenet5 " in f" {name}"}
    for name, spec in specs.items():
        if name in rows or spec.network != "lenet5" or checkpoints.find(spec) is None:
            continue
        rows[name] = row(spec, measured.get(f"{name} | RED-A"))
        keep(rows)
        sys.stdout.write(f"{name}: suspect {rows[name]['suspect']}, calibrated p {rows[name]['calibrated_p']:.4f}\n")
        sys.stdout.flush()
    keep(rows)
    sys.stdout.write(f"{summary(rows)}\n")


if __name__ == "__main__":
    main()
