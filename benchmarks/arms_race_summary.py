"""What the rows of `arms_race.py` are called, and the table that is made of them."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

IN_FLIGHT, REPAIRS, FEATURES = "in flight", "repairs", "features"
GUARD_NAMES = ("likelihood", "B3D", "neurons")
#: Filters that need no pattern, by name in the rows → name in `inflight.DETECTORS`.
PATTERN_FREE = {"STRIP added": "strip-added", "SCALE-UP": "scale-up", "caps": "caps"}
METHODS = ("fine-tuning", "fine-pruning", "implicit unlearning", "activation caps", "unlearning")
RATES = ("tpr", "fpr", "tpr at 5 %", "auc", "sia", "accuracy", "success", "separability")
RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "mad > 2": lambda row: row["anomaly_index"] > 2,
    "published < .05": lambda row: row["log_p"] < math.log(0.05),
    "calibrated < .05": lambda row: row["calibrated_p"] < 0.05,
}


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By attack and defence: networks flagged with the right target by each rule, or rates over seeds."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for key, measured in rows.items():
        network, defence = key.split(" | ")
        groups[f"{network.rpartition(' ')[0]} | {defence}"].append(measured)
    table: dict[str, dict[str, Any]] = {}
    for group, members in sorted(groups.items()):
        defence = group.rpartition(" | ")[2]
        if defence in PATTERN_FREE:
            table[group] = spread([m["rates"] for m in members])
            continue
        if defence == FEATURES:
            table[group] = spread(members)
            continue
        if defence == REPAIRS:
            for name in METHODS:
                table[f"{group} | {name}"] = spread([m["repairs"][name] for m in members])
            continue
        if not group.endswith(IN_FLIGHT):
            right = [m["target"] is None or m["suspect"] == m["target"] for m in members]
            table[group] = {
                "networks": len(members),
                **{rule: sum(flag(m) and r for m, r in zip(members, right, strict=True))
                   for rule, flag in RULES.items()},
            }  # fmt: skip
            continue
        for pattern in members[0]["patterns"]:
            for guard in GUARD_NAMES:
                table[f"{group} | {guard}, {pattern}"] = spread([m["patterns"][pattern][guard] for m in members])
        table[f"{group} | STRIP"] = spread([m["STRIP"] for m in members])
    return table


def spread(members: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, least and greatest of each rate."""
    values = {key: [m[key] for m in members if m[key] is not None] for key in RATES if key in members[0]}
    return {key: [float(np.mean(v)), min(v), max(v)] for key, v in values.items() if v}
