"""Triggers for two sources, with covers: estimates by pairs of classes beside clean networks of the same task.

    BTLIB_DATA=... python benchmarks/pairs.py              # train and search what is missing
    python benchmarks/pairs.py --summary                   # the table of what has been measured

The networks are those of `plain_networks.py`. Clean ones, from other seeds, are references for each other and for the
attacked of their architecture and data. Masks (mask RED-P) and additive patterns (RED-P, eight images a class) are
searched. Results and the norms of all pairs go into results/pairs.json.
Hardware: one core, one to three minutes a network.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from plain_networks import GREY, chosen, stamped, trained

from btlib import datasets, metrics
from btlib.detection import MaskRedP, RedP, few_sources
from btlib.results import environment, load, save

PATH = "results/pairs.json"
LEVEL = 0.05
METHODS = {"mask-red-p": MaskRedP, "red-p": RedP}
#: Architecture, data, kind, seed; by red-p those of seeds 0 to 2.
PLAN = [
    *itertools.product(("lenet",), GREY, ("patch", "clean"), range(4)),
    *itertools.product(("lenet",), GREY, ("chessboard",), range(2)),
    *itertools.product(("resnet", "mixer"), GREY, ("clean",), range(3)),
    *itertools.product(("resnet", "mixer"), GREY, ("patch", "chessboard"), range(2)),
]


def row(architecture: str, data: datasets.ImageDataset, kind: str, seed: int, method: str) -> dict[str, Any]:
    """What the network does, and its norms."""
    net, (target, sources) = trained(architecture, data, kind, seed), chosen(seed, data.name)
    x, y = datasets.to_float(data.x_test), data.y_test
    found = METHODS[method]()(net, x[:2000], y[:2000])
    told: dict[str, Any] = {
        "accuracy": float((metrics.predict(net, x).argmax(1) == y).float().mean()), "seconds": found.seconds,
        "norms": [[None if s == t else round(float(n), 4) for t, n in enumerate(line)]
                  for s, line in enumerate(found.pair_norms)],
    }  # fmt: skip
    if kind == "clean":
        return told | {"target": None, "sources": []}
    moved = metrics.predict(net, stamped(x, kind, seed)).argmax(1) == target
    by_class = [float(moved[y == label].float().mean()) for label in range(10)]
    others = [by_class[label] for label in range(10) if label not in (target, *sources)]
    return told | {"target": target, "sources": sources, "spread": float(np.mean(others)),
                   "success": float(np.mean([by_class[s] for s in sources]))}  # fmt: skip


def verdicts(rows: dict[str, dict[str, Any]], count: int) -> Iterator[tuple[str, str, int, float]]:
    """Name, what it is a case of, suspect and p of every network beside every choice of so many clean ones."""
    norms = {name: np.array(row["norms"], dtype=float) for name, row in rows.items()}
    for name in rows:
        architecture, data, kind, _, *method = name.split(" | ")
        wanted = [architecture, data, "clean", *method]
        clean = [norms[other] for other in rows
                 if other != name and other.split(" | ")[:3] + other.split(" | ")[4:] == wanted]  # fmt: skip
        for references in itertools.combinations(clean, count):
            left = few_sources.residuals(norms[name], np.array(references))
            about = ", ".join([architecture, kind, *method])
            yield name, about, int(few_sources.sizes(left).argmin()), few_sources.calibrated_p(left)


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By kind of network and number of references: how often the target comes first, is named, is another named.

    Last, of networks in plain numbers: with two references, most looks decide.
    """
    table: dict[str, dict[str, Any]] = {}
    for count in (1, 2, 3):
        for name, kind, suspect, p in verdicts(rows, count):
            line = table.setdefault(
                f"{kind}, references {count}", dict.fromkeys(("looks", "first", "named", "wrong"), 0)
            )
            right = suspect == rows[name]["target"]
            line["looks"] += 1
            line["first"] += right
            line["named"] += right and p < LEVEL
            line["wrong"] += not right and p < LEVEL
    return table | {"networks": most(rows)}


def most(rows: dict[str, dict[str, Any]], count: int = 2) -> dict[str, dict[str, int]]:
    """By kind and method, of seeds 0 and 1: how often the target is first, or named, in most of a network's looks.

    Of clean ones, how often any class is.
    """
    looks: dict[str, list[tuple[bool, bool]]] = {}
    for name, _, suspect, p in verdicts(rows, count):
        right = suspect == rows[name]["target"]
        looks.setdefault(name, []).append((right or rows[name]["target"] is None, p < LEVEL))
    table: dict[str, dict[str, int]] = {}
    for name, each in looks.items():
        _, _, kind, seed, *method = name.split(" | ")
        if int(seed) < 2:
            line = table.setdefault(", ".join([kind, *method]), dict.fromkeys(("networks", "first", "named"), 0))
            line["networks"] += 1
            line["first"] += 2 * sum(right for right, _ in each) > len(each)
            line["named"] += 2 * sum(right and sure for right, sure in each) > len(each)
    return table


def main() -> None:
    """Measure what is missing, and save after every network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--summary", action="store_true", help="print the table only")
    parser.add_argument("--note", help="written beside the seconds, such as what else the machine did")
    told = parser.parse_args()
    measured = load(PATH)
    rows: dict[str, dict[str, Any]] = measured.get("rows", {})
    plan = [(*each, method) for method in METHODS for each in PLAN if method == "mask-red-p" or each[3] < 3]
    for architecture, data, kind, seed, method in [] if told.summary else plan:
        name = " | ".join([architecture, data, kind, str(seed), *([method] if method != "mask-red-p" else [])])
        if name not in rows:
            rows[name] = row(architecture, datasets.load(data), kind, seed, method)
            save(PATH, {"environment": environment(), "note": told.note, "summary": summary(rows), "rows": rows})
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
