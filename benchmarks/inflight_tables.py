"""In-flight Tables 2 and 4 on MNIST and Fashion-MNIST: the likelihood guard and its rivals, beside the paper.

    python benchmarks/inflight_tables.py            # every network that zoo.py has trained
    python benchmarks/inflight_tables.py --summary  # means over seeds, beside Table 4

Boxes (WB) and chessboards (CB): "lenet5-paper" is the paper's (5.1: target 9; 100 images of every other class, or
1,000 of class 0); "lenet5" has other targets, more images and also attacks with one source class. 100 clean images per
class; the pattern is estimated from them, never the attacker's: as the paper pairs them (5.1: Neural Cleanse for boxes,
additive estimation for chessboards), and again by mask RED-A, which needs not know the kind and weighs the source
classes. STRIP needs none, and is in the first kind of row only.
Judged on the test images kept apart; STRIP, a hundred forward passes an image, on 200 of each class. One row per
network in results/inflight-tables.json; rows that are there are not run again. Two cores: half a minute a row.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from typing import Any

import numpy as np
import torch
import zoo
from tqdm import tqdm

from btlib import checkpoints, datasets, detection, inflight, metrics
from btlib.checkpoints import Spec
from btlib.datasets import sample_per_class
from btlib.results import environment, load, save
from btlib.triggers import Trigger

PATH = "results/inflight-tables.json"
#: In-flight v2, Table 4 (multi-class attacks): TPR, FPR, SIA.
PUBLISHED = {
    ("mnist", "chessboard", "9"): (1.0, 0.0033, 0.9413), ("mnist", "box", "9"): (1.0, 0.0022, 0.9764),
    ("fashion-mnist", "chessboard", "9"): (1.0, 0.0023, 0.6948),
    ("fashion-mnist", "box", "9"): (0.9951, 0.0127, 0.8039),
}  # fmt: skip
SETTINGS = [(t, n) for t in ("chessboard", "box") for n in ("9", "1")]
PAIRED, MASK_RED_A = "", " | mask RED-A"  # where the pattern comes from, as the rows' names end


def estimate(network: checkpoints.Network, spec: Spec, x: torch.Tensor, y: torch.Tensor, source: str) -> Trigger:
    """The pattern for the target alone, of mask RED-A or of the detector that the paper pairs with this kind (5.1)."""
    if source == MASK_RED_A:
        found = detection.mask_red_a(network, x, y, per_class=None, targets=[spec.target], seed=spec.seed)
        return found.estimates[spec.target].trigger
    if spec.trigger == "box":
        found = detection.neural_cleanse(network, x, y, per_class=None, targets=[spec.target], seed=spec.seed)
        return found.estimates[spec.target].trigger
    return detection.additive_estimation(network, x, y, target=spec.target).trigger


def row(spec: Spec, source: str) -> dict[str, Any]:
    """Every detector on one network, with the pattern from one source."""
    began = time.perf_counter()
    network, data = checkpoints.load_or_train(spec, progress=False), datasets.load(spec.data)
    true = spec.make_trigger()
    assert true is not None
    split = data.defender_split(100, seed=spec.seed)
    x, y, other_x, other_y = split.images, split.labels, split.other_images, split.other_labels
    found = estimate(network, spec, x, y, source)
    few = sample_per_class(other_y, 200, range(10), seed=spec.seed)
    detectors = {
        "likelihood": inflight.LikelihoodDetector(), "neurons": inflight.NeuronDetector(),
        "B3D": inflight.B3DDetector(),
        **({"STRIP": inflight.StripDetector()} if source == PAIRED else {}),
    }  # fmt: skip
    rates = {}
    for name, detector in detectors.items():
        detector.fit(network, x, y, target=spec.target, trigger=found)
        judged = (other_x[few], other_y[few]) if name == "STRIP" else (other_x, other_y)
        measured = inflight.measure_rates(detector, *judged, trigger=true, sources=spec.sources)
        rates[name] = {
            "tpr": measured.tpr, "fpr": measured.fpr, "sia": measured.sia, "auc": measured.roc.auc,
            "tpr at 5 %": measured.roc.best_tpr(0.05), "clean": measured.clean, "triggers": measured.triggers,
        }  # fmt: skip
        guard = rates["likelihood"]["fpr"]
        rates[name]["tpr at the guard's fpr"] = measured.tpr if name == "likelihood" else measured.roc.best_tpr(guard)
    return {
        "accuracy": network.card.accuracy, "success": network.card.success,
        "estimate's success": metrics.attack_success_rate(network, found, other_x, other_y, spec.target, spec.sources),
        "detectors": rates, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def summary(rows: dict[str, Any]) -> dict[str, Any]:
    """Means over seeds by data set and attack, with the paper's numbers where it has them."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for name, measured in rows.items():
        network, _, pattern = name.partition(" | ")
        groups[*network.split()[:4], pattern].append(measured)
    table = {}
    for (data, network, trigger, sources, pattern), members in groups.items():
        line: dict[str, Any] = {"networks": len(members)}
        for detector in members[0]["detectors"]:
            keys = ("tpr", "fpr", "sia", "auc", "tpr at 5 %", "tpr at the guard's fpr")
            values = {key: [m["detectors"][detector][key] for m in members] for key in keys}
            line[detector] = {k: {"mean": float(np.mean(v)), "sd": float(np.std(v))} for k, v in values.items()}
        line["paper (tpr, fpr, sia)"] = PUBLISHED.get((data, trigger, sources)) if network == "lenet5-paper" else None
        table[f"{data} {network} {trigger} {sources}" + f" | {pattern}" * bool(pattern)] = line
    return table


def main() -> None:
    """Measure what is missing and save after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="torch threads")
    parser.add_argument("--summary", action="store_true", help="print the table only")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = load(PATH).get("rows", {})
    wanted = {
        name: spec for name, spec in zoo.specs().items()
        if tuple(name.split()[2:4]) in SETTINGS and name.split()[1].startswith("lenet5")
    }  # fmt: skip
    todo = [
        (name, source) for name, spec in wanted.items() if checkpoints.find(spec) is not None
        for source in (PAIRED, MASK_RED_A) if name + source not in rows
    ]  # fmt: skip
    for name, source in tqdm([] if args.summary else todo, unit="row"):
        rows[name + source] = row(wanted[name], source)
        save(PATH, {"environment": environment(), "summary": summary(rows), "rows": rows})
    sys.stdout.write(json.dumps(summary(rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
