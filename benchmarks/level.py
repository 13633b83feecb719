"""How often a scan accuses clean networks that are not ours: four architectures, three data sets, several seeds.

    BTLIB_DATA=... python benchmarks/level.py               # train and scan what is missing
    python benchmarks/level.py --summary                    # the table of what has been measured, made anew

The networks are those of `plain_networks.py`; each goes through the front door as a file that a stranger gave
(`scanning.run_scan`, default methods, as many images as it takes by default). A row in results/level.json has the norms
of both methods, so that the summary can judge each network also beside another clean one of the same kind.
Hardware: one core, one to five minutes a network; goes on where it stopped.
"""

import argparse
import itertools
import json
import sys
from typing import Any

import numpy as np
from plain_networks import ARCHITECTURES, GREY, file_of, loaded, trained

from btlib import datasets, detection
from btlib.cli import scanning
from btlib.cli.probing import Told
from btlib.cli.scan_levels import LEVEL, METHODS, made_of
from btlib.detection import anomaly
from btlib.results import environment, load, save

PATH = "results/level.json"
KINDS = {name: made_of(make()) for name, make in ARCHITECTURES.items()}
COLOUR = "cifar10-jpg"
PLAN = [(architecture, data, seed) for part in (GREY, (COLOUR,))
        for seed in range(3) for data in part for architecture in ARCHITECTURES]  # fmt: skip


def row(architecture: str, data: str, seed: int) -> dict[str, Any]:
    """One clean network, from its file to its verdict."""
    trained(architecture, loaded(data), "clean", seed)
    images = data if data in GREY else str(datasets.roots()[0] / data)
    detectors = {name: detection.find(name) for name in METHODS}
    told = Told(f"plain_networks:{ARCHITECTURES[architecture].__name__}")
    found = scanning.run_scan(file_of(architecture, data, "clean", seed), images, told, detectors, seed=seed)
    return {
        "accuracy": found.accuracy, "targets": list(found.targets), "seconds": found.seconds,
        "methods": {name: {"norms": each.norms.tolist(), "suspect": each.suspect, "p": each.calibrated_p_value}
                    for name, each in found.detections.items()},
    }  # fmt: skip


def accused(methods: dict[str, dict[str, Any]], beside: list[dict[str, dict[str, Any]]]) -> dict[str, bool]:
    """By method, whether it accuses at its share of the level; beside clean networks, if there are some."""
    said = {}
    for name, told in methods.items():
        norms = np.array(told["norms"])
        if beside:
            norms = anomaly.relative(norms, np.array([other[name]["norms"] for other in beside]))
        said[name] = bool(anomaly.calibrated_p(1 / norms, references=len(beside)) < LEVEL / len(methods))
    return said


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By architecture, data, what they are made of and all, and by number of references: looks, and accusations."""
    table: dict[str, dict[str, Any]] = {}
    for name, told in rows.items():
        architecture, data, _ = name.split(" | ")
        twins = [other["methods"] for key, other in rows.items()
                 if key != name and key.split(" | ")[:2] == [architecture, data]]  # fmt: skip
        for count, kind in itertools.product((0, 1), (architecture, data, KINDS[architecture], "all")):
            for beside in itertools.combinations(twins, count):
                said = accused(told["methods"], list(beside))
                line = table.setdefault(f"{kind}, references {count}", dict.fromkeys(("looks", "accused", *METHODS), 0))
                line["looks"] += 1
                line["accused"] += any(said.values())
                for method, it in said.items():
                    line[method] += it
    return table


def main() -> None:
    """Measure what is missing, and save after every network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--summary", action="store_true", help="make the table only")
    parser.add_argument("--grey", action="store_true", help="leave the slow ones in colour out")
    parser.add_argument("--note", help="written beside the seconds, such as what else the machine did")
    told = parser.parse_args()
    rows: dict[str, dict[str, Any]] = load(PATH).get("rows", {})
    for plan in [] if told.summary else PLAN:
        name = " | ".join(map(str, plan))
        if name in rows or (told.grey and COLOUR in plan):
            continue
        measured = row(*plan) | ({"note": told.note} if told.note else {})
        rows = load(PATH).get("rows", {}) | {name: measured}  # what another run has saved meanwhile stays
        save(PATH, {"environment": environment(), "level": LEVEL, "summary": summary(rows), "rows": rows})
    save(PATH, load(PATH) | {"summary": summary(rows)})
    sys.stdout.write(json.dumps(summary(rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
