"""How often a scan accuses clean networks that are not ours: four architectures, three data sets, several seeds.

    BTLIB_DATA=... python benchmarks/level.py               # train and scan what is missing
    python benchmarks/level.py --attacked                   # and networks with a backdoor, for all classes, likewise
    python benchmarks/level.py --summary                    # the table of what has been measured, made anew

The networks are those of `plain_networks.py`; each goes through the front door as a file that a stranger gave
(`scanning.run_scan`, default methods, as many images as it takes by default). A row in results/level.json has the norms
of both methods, so that the summary can judge each network also beside another clean one of the same kind.
Hardware: one core, one to five minutes a network; goes on where it stopped.
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from plain_networks import ARCHITECTURES, GREY, chosen, file_of, loaded, stamped, trained
from torch import nn

from btlib import datasets, detection, metrics
from btlib.cli import scanning
from btlib.cli.probing import Told
from btlib.cli.scan_levels import LEVEL, METHODS, made_of
from btlib.detection import anomaly
from btlib.results import environment, load, save

PATH, ATTACKED = "results/level.json", "results/level-attacked.json"
KINDS = {name: made_of(make()) for name, make in ARCHITECTURES.items()}
COLOUR = "cifar10-jpg"
PLAN = [(architecture, data, seed) for part, seeds in ((GREY, (0, 1, 2)), ((COLOUR,), (0, 1, 2)), (GREY, (3,)))
        for seed in seeds for data in part for architecture in ARCHITECTURES]  # fmt: skip
Rows = dict[str, dict[str, Any]]
ATTACKS = ("patch for all", "chessboard for all")


def row(architecture: str, data: str, seed: int, kind: str = "clean") -> dict[str, Any]:
    """One network, from its file to its verdict."""
    net = trained(architecture, loaded(data), kind, seed)
    images = data if data in GREY else str(datasets.roots()[0] / data)
    detectors = {name: detection.find(name) for name in METHODS}
    factory = ARCHITECTURES[architecture].__name__ if data in GREY else f"{architecture}_in_colour"
    told = Told(f"plain_networks:{factory}")
    found = scanning.run_scan(file_of(architecture, loaded(data).name, kind, seed), images, told, detectors, seed=seed)
    copy = None if found.washing is None else found.washing.copy
    return obeys(architecture, data, seed, kind, {"": net} | ({"washed ": copy.network} if copy else {})) | {
        "accuracy": found.accuracy, "kind": found.kind, "targets": list(found.targets), "seconds": found.seconds,
        "washed": copy is not None,
        "methods": {each.method: {"norms": found.detections[each.method].norms.tolist(), "suspect": each.suspect,
                                  "p": each.calibrated_p, "washed_p": each.washed_p} for each in found.judgements},
    }  # fmt: skip


def obeys(architecture: str, data: str, seed: int, kind: str, networks: dict[str, nn.Module]) -> dict[str, Any]:
    """Target, and by network how often the trigger succeeds on test images; nothing for a clean one."""
    if kind == "clean":
        return {}
    target, whole = chosen(seed, data, kind)[0], loaded(data)
    x = stamped(datasets.to_float(whole.x_test[whole.y_test != target]), kind, seed)
    return {"target": target} | {f"{name}success": float((metrics.predict(net, x).argmax(1) == target).float().mean())
                                 for name, net in networks.items()}  # fmt: skip


def accused(methods: dict[str, dict[str, Any]], beside: list[dict[str, dict[str, Any]]]) -> dict[str, bool]:
    """By method, whether it accuses at its share of the level; beside clean networks, if there are some."""
    said = {}
    for name, told in methods.items():
        p = told["p"]
        if beside:
            norms = anomaly.relative(np.array(told["norms"]), np.array([other[name]["norms"] for other in beside]))
            p = anomaly.calibrated_p(1 / norms, references=len(beside))
        said[name] = bool(p < LEVEL / len(methods))
    return said


def washed(methods: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """By method, whether it accuses by default: beside a washed copy, where it found or suspected something."""
    decisive = {name: told["p"] if told["washed_p"] is None else told["washed_p"] for name, told in methods.items()}
    return {name: p < LEVEL / len(methods) for name, p in decisive.items()}


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By architecture, data, what they are made of and all, and by what they are judged beside: looks, accusations."""
    table: dict[str, dict[str, Any]] = {}
    for name, told in rows.items():
        architecture, data, _ = name.split(" | ")
        twins = [other["methods"] for key, other in rows.items()
                 if key != name and key.split(" | ")[:2] == [architecture, data]]  # fmt: skip
        looks = [("by default", washed(told["methods"])), ("alone", accused(told["methods"], []))]
        looks += [("beside a clean one", accused(told["methods"], [twin])) for twin in twins]
        for how, said in looks:
            for kind in (architecture, data, KINDS[architecture], "all"):
                line = table.setdefault(f"{kind}, {how}", dict.fromkeys(("looks", "accused", *METHODS), 0))
                line["looks"] += 1
                line["accused"] += any(said.values())
                for method, it in said.items():
                    line[method] += it
    return table


def named(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Of attacked networks, by architecture, attack and all: how often the target is named, and another class."""
    table: dict[str, dict[str, int]] = {}
    for name, told in rows.items():
        architecture, _, _, attack = name.split(" | ")
        methods = told["methods"]
        by_default, alone = washed(methods), accused(methods, [])
        for how, suspects in (
            ("by default", [methods[name]["suspect"] for name, it in by_default.items() if it]),
            ("alone", [int(np.argmin(methods[name]["norms"])) for name, it in alone.items() if it]),
        ):
            for kind in (architecture, attack, "all"):
                line = table.setdefault(f"{kind}, {how}", dict.fromkeys(("networks", "named", "another named"), 0))
                line["networks"] += 1
                line["named"] += told["target"] in suspects
                line["another named"] += any(each != told["target"] for each in suspects)
    return table


def measure(
    path: str, plans: list[tuple[Any, ...]], counted: Callable[[Rows], dict[str, Any]], note: str | None
) -> None:
    """Measure what is missing, and save after every network."""
    for plan in plans:
        name = " | ".join(map(str, plan))
        if name not in load(path).get("rows", {}):
            measured = row(*plan) | ({"note": note} if note else {})
            rows = load(path).get("rows", {}) | {name: measured}  # what another run has saved meanwhile stays
            save(path, {"environment": environment(), "level": LEVEL, "summary": counted(rows), "rows": rows})
    page = load(path)
    save(path, page | {"summary": counted(page.get("rows", {}))})
    sys.stdout.write(json.dumps(load(path)["summary"], indent=1) + "\n")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--summary", action="store_true", help="make the tables only")
    parser.add_argument("--grey", action="store_true", help="leave the slow ones in colour out")
    parser.add_argument("--attacked", action="store_true", help="networks with a backdoor instead of clean ones")
    parser.add_argument("--note", help="written beside the seconds, such as what else the machine did")
    told = parser.parse_args()
    plans = [] if told.summary else [plan for plan in PLAN if not (told.grey and COLOUR in plan)]
    if told.attacked:
        measure(ATTACKED, [(*plan, attack) for plan in plans for attack in ATTACKS], named, told.note)
    else:
        measure(PATH, plans, summary, told.note)


if __name__ == "__main__":
    main()
