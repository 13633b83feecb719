"""How often the library's own investigation is right about the capstone's mysteries (lesson 12, fast profile).

    python benchmarks/capstone.py --seeds 0 12      # from, up to but not including
    python benchmarks/capstone.py --summary

One row per seed, kept in results/capstone.json; rows that are there are not run again, so a killed run goes on.
The rows also hold the sizes of all patterns: other rules and limits can be applied later without a new run.
`by p-values` is the paper's way: each network judged by itself, at level 0.05.
Hardware: two cores, about a minute a seed.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from tqdm import tqdm

from btlib import metrics
from btlib.exercises import capstone, mystery
from btlib.profiles import profile
from btlib.results import environment, load, save

PATH = "results/capstone.json"


def row(seed: int) -> dict[str, Any]:
    """One mystery: what is true, what was found, the marks."""
    began = time.process_time()
    case = mystery.make(profile("fast"), seed, progress=False)
    made = time.process_time() - began
    every = {name: capstone.examine(net, case.x, case.y, seed=seed) for name, net in case.networks.items()}
    scores = capstone.compare(every)
    reports = capstone.investigate(case.networks, case.x, case.y, every)
    truths = case.open_the_envelope()
    networks: dict[str, dict[str, Any]] = {}
    for name, net in case.networks.items():
        truth, found, report = truths[name], every[name], reports[name]
        networks[name] = {
            "attacked": truth.attacked, "target": truth.target, "sources": list(truth.sources),
            "trigger": truth.trigger.name if truth.trigger else None,
            "success": _success(case, net, truth), "accuracy": metrics.accuracy(net, case.x, case.y),
            "p_value": found.calibrated_p_value, "suspect": found.suspect, "score": float(_pairs(scores[name]).max()),
            "norms": _pairs(torch.from_numpy(found.pair_norms)).tolist(),
            "said": {"attacked": report.attacked, "target": report.target, "sources": list(report.sources),
                     "guarded": report.guard is not None},
        }  # fmt: skip
    for mark in case.grade(reports):
        networks[mark.network].setdefault("marks", {})[mark.item] = [mark.points, mark.out_of]
    return {"networks": networks, "cpu_seconds": {"making": made, "all": time.process_time() - began}}


def _success(case: mystery.Mystery, net: Any, truth: Any) -> float | None:
    if truth.trigger is None:
        return None
    return metrics.attack_success_rate(net, truth.trigger, case.x, case.y, truth.target, truth.sources)


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Counts over all networks of all seeds."""
    networks = [n for r in rows.values() for n in r["networks"].values()]
    attacked, clean = [n for n in networks if n["attacked"]], [n for n in networks if not n["attacked"]]
    found = [n for n in attacked if n["said"]["attacked"]]
    cases = [list(r["networks"].values()) for r in rows.values()]
    marks: dict[str, list[float]] = {}
    for n in networks:
        for item, (points, out_of) in n["marks"].items():
            marks.setdefault(item, []).append(points / out_of)
    return {
        "mysteries": len(cases), "attacked": len(attacked), "found": len(found),
        "target right": sum(n["said"]["target"] == n["target"] for n in found),
        "clean": len(clean), "acquitted": sum(not n["said"]["attacked"] for n in clean),
        "all three states and targets right":
            sum(all((n["said"]["attacked"], n["said"]["target"]) == (n["attacked"], n["target"]) for n in case)
                for case in cases),
        "by p-values": {
            "found": sum(_by_p(n) is not None for n in attacked),
            "target right": sum(_by_p(n) == n["target"] for n in attacked),
            "acquitted": sum(_by_p(n) is None for n in clean),
        },
        "mean share of the points": {item: sum(m) / len(m) for item, m in marks.items()},
        "cpu seconds": sum(r["cpu_seconds"]["all"] for r in rows.values()) / len(cases),
    }  # fmt: skip


def _pairs(table: torch.Tensor) -> torch.Tensor:
    """A table by source and target without its diagonal, row by row."""
    return table[~torch.eye(len(table), dtype=torch.bool)]


def _by_p(network: Mapping[str, Any], level: float = 0.05) -> int | None:
    """The class that RED-P's calibrated p-value accuses; None: nobody."""
    return network["suspect"] if network["p_value"] < level else None


def main() -> None:
    """Measure the seeds that are missing and save after every one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 12), metavar=("FROM", "TO"))
    parser.add_argument("--threads", type=int, help="torch threads")
    parser.add_argument("--summary", action="store_true", help="print the summary only")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = load(PATH).get("rows", {})
    for seed in tqdm([] if args.summary else range(*args.seeds), unit="mystery"):
        if str(seed) in rows:
            continue
        measured = row(seed)
        rows = load(PATH).get("rows", {}) | {str(seed): measured}  # what another run has saved meanwhile stays
        save(PATH, {"environment": environment(), "summary": summary(rows), "rows": rows})
    for key, value in summary(rows).items():
        sys.stdout.write(f"{key}: {value}\n")


if __name__ == "__main__":
    main()
