"""What clean networks of the same task are worth to a verdict: level and power, simulated and on networks.

    python benchmarks/references.py --samples 1000

Simulated: clean networks whose classes differ by nature, judged beside 1, 2 or 3 others, with the null of ratios and
with the plain one. Networks: the LeNet-5 rows of results/detection-verdicts.json. A clean network s is judged beside
the clean ones of seeds s + 1, s + 2, …; an attacked one beside those of seeds s, s + 1, …; every method by itself.
Nothing was tuned on these rows. Ten minutes on one core, nearly all of it for the simulation.
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from typing import Any

import numpy as np

from btlib.detection import anomaly
from btlib.results import environment, load, save

LEVEL, COUNTS = 0.05, (0, 1, 2, 3)
PATH = "results/references.json"


def simulated(samples: int) -> dict[str, dict[str, float]]:
    """Share of clean networks that are accused."""
    rng, rates = np.random.default_rng(6), {}
    for classes, shape in ((10, 5.0), (10, 20.0), (43, 20.0)):
        for count in COUNTS[1:]:
            r = rng.gamma(shape, size=(samples, 1 + count, classes)) * rng.gamma(1, size=(samples, 1, classes))
            ratios = [anomaly.relative(1 / each[0], 1 / each[1:]) for each in r]
            flags = {
                name: np.mean([anomaly.calibrated_p(1 / q, 999, references=told) < LEVEL for q in ratios])
                for name, told in (("null of ratios", count), ("plain null", 0))
            }
            rates[f"K = {classes}, shape {shape:g}, references {count}"] = {
                **{name: float(rate) for name, rate in flags.items()},
                "standard error": math.sqrt(LEVEL * (1 - LEVEL) / samples),
            }
    return rates


def judged(norms: np.ndarray, beside: list[np.ndarray]) -> tuple[int, bool]:
    """The suspect beside some clean networks, and whether it is accused."""
    ratio = anomaly.relative(norms, np.array(beside)) if beside else norms
    return int(ratio.argmin()), anomaly.calibrated_p(1 / ratio, references=len(beside)) < LEVEL


def on_networks(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By data set and method: accused clean networks, and attacked ones found with the right target."""
    groups: dict[tuple[str, str], dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for key, row in rows.items():
        name, method = key.split(" | ")
        data, architecture, trigger, *_, seed = name.split()
        if architecture == "lenet5" and method != "RED-P":
            groups[data, method]["clean" if trigger == "clean" else name][int(seed[1:])] = row
    table = {}
    for (data, method), networks in groups.items():
        clean = {seed: np.array(row["norms"]) for seed, row in networks.pop("clean", {}).items()}
        if len(clean) < 4:
            continue
        seeds = sorted(clean)
        line: dict[str, Any] = {"clean": len(clean), "attacked": sum(map(len, networks.values()))}
        for count in COUNTS:
            beside = {s: [clean[seeds[(s + k) % len(seeds)]] for k in range(count)] for s in seeds}
            accused = sum(judged(norms, beside[seeds[(seeds.index(s) + 1) % len(seeds)]])[1]
                          for s, norms in clean.items())  # fmt: skip
            found = sum(
                judged(np.array(row["norms"]), beside[s]) == (row["target"], True)
                for of in networks.values() for s, row in of.items()
            )  # fmt: skip
            line[f"references {count}"] = {"accused": accused, "found": found}
        table[f"{data} | {method}"] = line
    return table


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000, help="simulated networks per row; 0: keep those there are")
    args = parser.parse_args()
    table = on_networks(load("results/detection-verdicts.json")["rows"])
    totals = {
        f"references {count}": {
            what: sum(line[f"references {count}"][what] for line in table.values()) for what in ("accused", "found")
        }
        for count in COUNTS
    }  # fmt: skip
    totals |= {what: sum(line[what] for line in table.values()) for what in ("clean", "attacked")}
    result = load(PATH) | {"level": LEVEL, "networks": table, "together": totals, "environment": environment()}
    if args.samples:
        result |= {"simulated": simulated(args.samples), "samples": args.samples}
    save(PATH, result)
    sys.stdout.write(json.dumps(result["together"], indent=1) + "\n")


if __name__ == "__main__":
    main()
