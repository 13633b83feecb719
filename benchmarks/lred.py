"""RED-A in few steps against Algorithm 1 as printed: norms, verdicts, gradients, seconds; and the REDs side by side.

    python benchmarks/lred.py --networks 3 --reference 1e-3     # all classes at a fine δ
    python benchmarks/lred.py --exact 2                          # δ = 1e-4 itself, on that many classes
    python benchmarks/lred.py --table                            # time of RED-P, RED-A, RED-A' and RED-U (Table 3)

Everything goes into results/benchmark-lred.json, each part when it is finished. Gradient evaluations are counted
per image. Hardware: two cores; δ = 1e-4 takes minutes per class.
"""

import argparse
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import zoo

from btlib import checkpoints, datasets, detection
from btlib.detection import FAITHFUL, FAST, Detection, Search
from btlib.results import environment, load, save

RULES = ("published", "calibrated")
PATH = "results/benchmark-lred.json"
NETWORKS = (
    "fashion-mnist lenet5 chessboard 1 s0", "mnist lenet5 local_chessboard 3 s0", "fashion-mnist lenet5 clean 0 s0",
    "mnist lenet5 chessboard 9 s0", "mnist lenet5 clean 0 s0", "fashion-mnist lenet5 local_square 3 s0",
)  # fmt: skip


def detect(name: str, search: Search, targets: list[int] | None = None, per_class: int = 8) -> tuple[Detection, float]:
    """RED-A on one network, and its wall time."""
    spec = zoo.specs()[name]
    network, data = checkpoints.load_or_train(spec, progress=False), datasets.load(spec.data)
    began = time.perf_counter()
    found = detection.red_a(
        network, data.x_test, data.y_test, per_class=per_class, search=search, targets=targets, seed=spec.seed
    )
    return found, time.perf_counter() - began


def against(name: str, reference: Search, targets: list[int] | None) -> dict[str, Any]:
    """The fast form against a reference on the same network and images."""
    fast, fast_seconds = detect(name, FAST, targets)
    slow, slow_seconds = detect(name, reference, targets)
    norms = [np.array([e.norm for e in found.estimates.values()]) for found in (fast, slow)]
    ratio = norms[0] / norms[1]
    count = [sum(e.gradients for e in found.estimates.values()) for found in (fast, slow)]
    row = {
        "delta": {"fast": FAST.delta, "reference": reference.delta}, "targets": targets,
        "norms": {"fast": norms[0].tolist(), "reference": norms[1].tolist()},
        "norm error (median)": float(np.median(np.abs(ratio - 1))),
        "norm error (worst)": float(np.abs(ratio - 1).max()),
        "gradients": {"fast": count[0], "reference": count[1]}, "gradient ratio": count[1] / count[0],
        "seconds": {"fast": fast_seconds, "reference": slow_seconds}, "time ratio": slow_seconds / fast_seconds,
    }  # fmt: skip
    if targets is None:
        row |= {
            "suspects": [fast.suspect, slow.suspect],
            "calibrated p": [fast.calibrated_p_value, slow.calibrated_p_value],
            "log p": [fast.log_p_value, slow.log_p_value],
            "same verdict": all(fast.verdict(rule=r).target == slow.verdict(rule=r).target for r in RULES),
        }  # fmt: skip
    return row


def table(name: str) -> dict[str, float]:
    """Seconds of the four detectors with the same settings, as in Table 3."""
    spec = zoo.specs()[name]
    network, data = checkpoints.load_or_train(spec, progress=False), datasets.load(spec.data)
    runs = [replace(detection.DETECTORS[name], seed=spec.seed) for name in ("red-p", "red-a", "red-a-2", "red-u")]
    return {run.title: run(network, data.x_test, data.y_test).seconds for run in runs}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=0, help="how many networks to compare at a fine δ")
    parser.add_argument("--reference", type=float, default=1e-3, help="that δ")
    parser.add_argument("--exact", type=int, default=0, help="classes to compare at δ = 1e-4: the target, then others")
    parser.add_argument("--table", action="store_true", help="time the REDs on every network")
    parser.add_argument("--threads", type=int, help="torch threads")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    results = load(PATH) or {"fine": {}, "exact": {}, "table": {}}

    def done(part: str, key: str, value: dict[str, Any]) -> None:
        results[part][key] = value
        results["environment"] = environment()
        save(PATH, results)
        sys.stdout.write(f"{part}, {key}: {value}\n")
        sys.stdout.flush()

    for name in NETWORKS[: args.networks]:
        done("fine", name, against(name, Search(delta=args.reference), None))
    for target in [9, 0, 5, 3][: args.exact]:
        done("exact", f"{NETWORKS[0]}, class {target}", against(NETWORKS[0], FAITHFUL, [target]))
    for name in NETWORKS if args.table else ():
        done("table", name, table(name))


if __name__ == "__main__":
    main()
