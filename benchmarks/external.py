"""Strangers' networks through the front door: each in benchmarks/external.toml that lies below $BTLIB_EXTERNAL.

    BTLIB_EXTERNAL=... BTLIB_DATA=... python benchmarks/external.py [words of names] [--methods a,b] [--again]

Each is scanned as `btlib scan` does it, from its file as published; then a guard is fitted with the scan's own
estimate. One row per network in results/external.json: verdict, target, p-values, seconds, how like the true trigger
the estimate is (cosine of what the two do to images), and the guard's rates. Rows that are there are not run again.
Hardware: two cores, one to three minutes a row.
"""

import argparse
import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from btlib import datasets, detection, inflight, metrics
from btlib.cli import scanning
from btlib.cli.preprocessing import Convention
from btlib.cli.probing import Told
from btlib.results import environment, load, save

HERE = Path(__file__).parent
PATH = "results/external.json"
METHODS = "neural-cleanse,red-a"
PER_CLASS, OTHERS = 100, 300  # images of each class: the defender's, and those a guard is judged by
Trigger = Callable[[Tensor], Tensor]


def picture(path: Path) -> Tensor:
    """A picture file as float (3, H, W) in [0, 1]."""
    with Image.open(path) as file:
        return torch.from_numpy(np.asarray(file.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


def true_trigger(root: Path, told: dict[str, Any]) -> Trigger:
    """The attacker's own pattern, as the publisher describes it."""
    if told["kind"] == "square":

        def square(x: Tensor) -> Tensor:
            x = x.clone()
            x[:, :, slice(*told["rows"]), slice(*told["columns"])] = told["value"]
            return x

        return square
    drawn = picture(root / told["picture"])
    if told["kind"] == "added":
        return lambda x: (x + drawn).clamp(0, 1)
    if told["kind"] == "masked":
        mask = torch.from_numpy(np.load(root / told["mask"])).float()
        return lambda x: (x * (1 - mask) + drawn).clamp(0, 1)

    def corner(x: Tensor) -> Tensor:  # kind "corner": the picture, in one colour, at the bottom right
        x, size = x.clone(), told["size"]
        x[:, :, -size:, -size:] = drawn.mean()
        return x

    return corner


def likeness(one: Trigger, other: Trigger, images: Tensor) -> float:
    """Cosine of what two triggers do to images, the mean over images."""
    moved = [(trigger(images) - images).flatten(1) for trigger in (one, other)]
    return float(torch.cosine_similarity(*moved, dim=1).mean())


def judged(network: torch.nn.Module, target: int, estimate: Trigger, true: Trigger, data: Any) -> dict[str, Any]:
    """A guard with the scan's own estimate, by the attacker's trigger on images that it has not seen."""
    try:
        guard = inflight.LikelihoodDetector().fit(network, data.images, data.labels, target=target, trigger=estimate)
    except (TypeError, ValueError) as error:
        return {"error": str(error)}
    rates = inflight.measure_rates(guard, data.other_images, data.other_labels, trigger=true)
    return {"tpr": rates.tpr, "fpr": rates.fpr, "sia": rates.sia, "warnings": list(guard.warnings_)}


def row(root: Path, group: dict[str, Any], told: dict[str, Any], methods: str) -> dict[str, Any]:
    """One network, from its file to its guard."""
    began = time.perf_counter()
    where = datasets.available(f"folder:{group['images']}")
    images = str(datasets.roots()[0] / group["images"]) if where else group["images"]
    convention = Convention(mean=tuple(group.get("mean", ())), std=tuple(group.get("std", ())))
    detectors = {name: detection.find(name) for name in methods.split(",")}
    found = scanning.run_scan(root / told["file"], images, Told(group["network"], convention=convention), detectors)
    seconds = time.perf_counter() - began
    data = datasets.load(f"folder:{group['images']}" if where else group["images"])
    split, true, target = (
        data.defender_split(PER_CLASS, others=OTHERS, seed=0),
        true_trigger(root, told["trigger"]),
        told["target"],
    )
    network, copy = found.network.module, found.washing and found.washing.copy
    washed = None if copy is None else metrics.attack_success_rate(copy.network, true, data.x_test, data.y_test, target)
    best = found.judgements[0].method
    estimate = found.detections[best].estimates[target].trigger
    return {
        "accuracy": metrics.accuracy(network, data.x_test, data.y_test),
        "success": metrics.attack_success_rate(network, true, data.x_test, data.y_test, target),
        "target": target, "targets": list(found.targets), "suspects": list(found.suspects),
        "right": found.targets == (target,), "seconds": seconds, "washed success": washed,
        "methods": {each.method: {"suspect": each.suspect, "calibrated_p": each.calibrated_p, "washed_p": each.washed_p,
                                  "level": each.level,
                                  "anomaly_index": each.anomaly_index, "found": each.found,
                                  "seconds": found.detections[each.method].seconds,
                                  "likeness": likeness(found.detections[each.method].estimates[target].trigger, true,
                                                       split.other_images[:500])}
                    for each in found.judgements},
        "guard": judged(network, target, estimate, true, split), "notes": list(found.network.notes),
        "threads": torch.get_num_threads(), "from": group["from"], "caveat": group["caveat"],
    }  # fmt: skip


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("words", nargs="*")
    told.add_argument("--methods", default=METHODS)
    told.add_argument("--again", action="store_true", help="run rows that are there once more")
    options = told.parse_args()
    root = Path(os.environ.get("BTLIB_EXTERNAL", "no folder in $BTLIB_EXTERNAL"))
    groups = tomllib.loads((HERE / "external.toml").read_text(encoding="utf-8"))
    results = load(PATH) or {"rows": {}}
    for group in groups.values():
        for name, network in group["networks"].items():
            if (name in results["rows"] and not options.again) or not all(word in name for word in options.words):
                continue
            if not (root / network["file"]).exists():
                print(f"{name}: not below {root}")
                continue
            results["rows"][name] = made = row(root, group, network, options.methods)
            results["environment"] = environment()
            save(PATH, results)
            print(name, made["targets"], {k: round(m["calibrated_p"], 4) for k, m in made["methods"].items()},
                  f"{made['seconds']:.0f} s", made["guard"])  # fmt: skip


if __name__ == "__main__":
    main()
