"""How often the published and the calibrated p-value reject a true null, on simulated norms and on clean networks.

    python benchmarks/false_alarms.py --samples 2000

The networks' part reads the rows of clean networks in results/detection-verdicts.json. A minute on one core.
"""

import argparse
import json
import math
import sys
from collections import defaultdict

from btlib.detection import anomaly
from btlib.results import environment, load, save

LEVEL = 0.05


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="simulated networks per row")
    args = parser.parse_args()
    simulated = {}
    for classes in (10, 43, 100):
        for shape in (2.0, 10.0, 50.0):
            rates = anomaly.false_alarm_rate(classes, shape, LEVEL, args.samples)
            simulated[f"K = {classes}, shape {shape:g}"] = {
                k: {"rate": r, "standard error": math.sqrt(r * (1 - r) / args.samples)} for k, r in rates.items()
            }
    flags: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    rows = load("results/detection-verdicts.json")["rows"]
    for key, row in rows.items():
        if row["target"] is None:
            flags[key.split(" | ")[1]].append(
                (row["log_p"] < math.log(LEVEL), row["calibrated_p"] < LEVEL, row["anomaly_index"] > 2)
            )
    networks = {
        detector: {
            "networks": len(said), "published": sum(p for p, _, _ in said), "calibrated": sum(c for _, c, _ in said),
            "anomaly index > 2": sum(m for _, _, m in said),
        }
        for detector, said in flags.items()
    }  # fmt: skip
    result = {"level": LEVEL, "simulated": simulated, "clean networks": networks, "environment": environment()}
    save("results/false-alarms.json", result)
    sys.stdout.write(json.dumps({k: result[k] for k in ("simulated", "clean networks")}, indent=1) + "\n")


if __name__ == "__main__":
    main()
