"""Attacks against defences on Fashion-MNIST, LeNet-5, several seeds: the measurements behind lesson 08.

    python benchmarks/arms_race.py --seeds 3                # everything
    python benchmarks/arms_race.py --attacks box stealthy   # some
    python benchmarks/arms_race.py --summary                # the table of what has been measured

Rows are kept in results/arms-race.json, one per network and defence; what is there is not run again, so a killed run
goes on, unless the network is now made otherwise. The defender has 100 clean test images of each class; rates are
measured on other test images.

Post-training rows hold the norms of all classes, so any rule can be applied later. An in-flight row assumes that the
target has been named, and holds the three guards that need a pattern once for every place it may come from: Neural
Cleanse, mask RED-A, RED-A, additive estimation from 25 images of each class (the in-flight paper's detector, 5.1),
and the attacker's own trigger, an upper bound. STRIP, which needs none, is measured with images blended half and half
(in-flight 5.2); so are, in rows of their own, STRIP added as in its public code, SCALE-UP, and the difference that
activation caps make. On a clean network the accused class is Neural Cleanse's suspect, and only the FPR counts.

A row "repairs" assumes the target's name, too, which only unlearning uses: with Neural Cleanse's estimate for it. On a
clean network that is the accused class, and only the accuracy counts.

Networks with fixed patterns are those of `zoo.py`; what `verdicts.py` has measured on them is not measured again. The
other attacks are the shipped ones (target 9), each also started from the clean networks of other seeds.
Hardware: one core, about two minutes a network, and what it takes to train or attack it (one to five minutes).
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import zoo
from arms_race_summary import FEATURES, GUARD_NAMES, IN_FLIGHT, METHODS, PATTERN_FREE, REPAIRS, summary
from torch import Tensor
from tqdm import tqdm

from btlib import attacks, checkpoints, datasets, detection, inflight, metrics, repair
from btlib.datasets import sample_per_class
from btlib.networks import Network
from btlib.results import environment, load, save
from btlib.training import RECIPES

PATH, VERDICTS = "results/arms-race.json", "results/detection-verdicts.json"
PER_CLASS, PER_CLASS_RED, PER_CLASS_ADDITIVE, JUDGED = 100, 8, 25, 100
FIXED = {"box": "box", "single pixel": "single_pixel", "chessboard": "chessboard", "blend": "blend",
         "WaNet": "wanet", "SIG": "sig",
         "adaptive blend": "adaptive_blend", "adaptive patch": "adaptive_patch"}  # fmt: skip
COVERED = checkpoints.Spec(trigger="box", recipe=RECIPES["lenet5-quick"], target=3, sources=(0, 7), per_class=450,
                           covers=300)  # fmt: skip
SHIPPED = ("input-aware", "invisible", "stealthy-plain", "stealthy")  # plain: without adversarial training
NAMES = ("clean", *FIXED, "box with covers", *SHIPPED)
#: Name in the rows → name in `detection.DETECTORS`.
DETECTORS = {"neural cleanse": "neural-cleanse", "mask RED-A": "mask-red-a", "RED-A": "red-a", "RED-U": "red-u"}
PATTERNS = ("neural cleanse", "mask RED-A", "RED-A")
GUARDS = {name: inflight.DETECTORS[name.lower()] for name in GUARD_NAMES}


@dataclass(frozen=True, eq=False)
class Case:
    """One network, what the defender has, and what only we know."""

    network: Network
    trigger: Callable[[Tensor], Tensor] | None
    target: int | None
    seed: int
    x: Tensor
    y: Tensor
    judged_x: Tensor
    judged_y: Tensor
    sources: str | tuple[int, ...] = "all"

    def shown(self, trigger: Callable[[Tensor], Tensor], target: int, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Images without those that the trigger is not for, their labels, and triggers made once: some are slow."""
        if self.sources != "all":
            kept = torch.isin(y, torch.tensor([target, *self.sources]))
            x, y = x[kept], y[kept]
        return x, y, trigger(x[y != target])


def spec_of(name: str, seed: int) -> checkpoints.Spec | attacks.AttackSpec:
    """What makes the network of an attack."""
    if name in SHIPPED:
        shipped = attacks.shipped()[name]
        return replace(shipped, start=replace(shipped.start, seed=seed))
    if name == "box with covers":
        return replace(COVERED, seed=seed)
    return zoo.lenet5("fashion-mnist", FIXED.get(name), seed)


def case(spec: checkpoints.Spec | attacks.AttackSpec, seed: int) -> Case:
    """Load or make a network, and draw the images."""
    trigger: Callable[[Tensor], Tensor] | None
    sources: str | tuple[int, ...] = "all"
    if isinstance(spec, attacks.AttackSpec):
        made = attacks.load_or_run(spec, progress=False)
        network, trigger, target = made.network, made.trigger, made.target
    else:
        network, trigger, target = checkpoints.load_or_train(spec, progress=False), spec.make_trigger(), spec.target
        sources = spec.sources if isinstance(spec.sources, str) else tuple(spec.sources)
    split = datasets.load("fashion-mnist").defender_split(PER_CLASS, seed=seed)
    return Case(network, trigger, None if trigger is None else target, seed, split.images, split.labels,
                split.other_images, split.other_labels, sources)  # fmt: skip


def run(it: Case, detector: str, targets: list[int] | None = None) -> detection.Detection:
    """A detector by its name in the rows, with all the defender's images, or 8 of each class (L-RED 4.3)."""
    per_class = PER_CLASS_RED if detector in ("RED-A", "RED-U") else None
    registered = replace(detection.DETECTORS[DETECTORS[detector]], per_class=per_class, seed=it.seed)
    return registered(it.network, it.x, it.y, targets=targets)


def described(it: Case) -> dict[str, Any]:
    """What every row says of its network."""
    accuracy, success = metrics.accuracy(it.network, it.judged_x, it.judged_y), None
    if it.trigger is not None and it.target is not None:
        success = metrics.attack_success_rate(it.network, it.trigger, it.judged_x, it.judged_y, it.target, it.sources)
    return {"accuracy": accuracy, "success": success, "target": it.target}


def post_training(it: Case, detector: str) -> dict[str, Any]:
    """One detector on one network."""
    began = time.process_time()
    found = run(it, detector)
    return {
        "norms": found.norms.tolist(), "suspect": found.suspect, "log_p": found.log_p_value,
        "calibrated_p": found.calibrated_p_value, "anomaly_index": float(found.anomaly_index[found.suspect]),
        "CPU seconds": time.process_time() - began, "warnings": list(found.warnings),
    }  # fmt: skip


def measured_before(name: str, seed: int, detector: str) -> dict[str, Any] | None:
    """The same row of `verdicts.py`, where it has measured this network."""
    trigger, sources = ("clean", 0) if name == "clean" else (FIXED.get(name, name), 9)
    row = load(VERDICTS)["rows"].get(f"fashion-mnist lenet5 {trigger} {sources} s{seed} | {detector}")
    if row is None:
        return None
    kept = ("norms", "suspect", "log_p", "calibrated_p", "anomaly_index", "warnings")
    return {key: row[key] for key in kept} | {"from": VERDICTS}


def judged(it: Case, target: int) -> tuple[Tensor, Tensor]:
    """The images that filters are judged on: some of every class, and all of the target's."""
    few = sample_per_class(it.judged_y, JUDGED, range(10), seed=it.seed)
    chosen = torch.cat([few[it.judged_y[few] != target], (it.judged_y == target).nonzero().flatten()])
    return it.judged_x[chosen], it.judged_y[chosen]


def rates(it: Case, detector: inflight.InFlightDetector, x: Tensor, y: Tensor, shown: Tensor) -> dict[str, Any]:
    """How a filter fares on these images and on triggers made of them; on a clean network only the FPR counts."""
    measured = inflight.measure_rates(detector, x, y, trigger=lambda _: shown)
    kept: dict[str, Any] = {"fpr": measured.fpr, "fpr_misread": measured.fpr_misread, "clean": measured.clean}
    if it.trigger is not None:
        kept |= {"tpr": measured.tpr, "sia": None if np.isnan(measured.sia) else measured.sia,
                 "tpr at 5 %": measured.roc.best_tpr(0.05), "auc": measured.roc.auc,
                 "triggers": measured.triggers}  # fmt: skip
    return kept | {"warnings": list(detector.warnings_)}


def in_flight(it: Case) -> dict[str, Any]:
    """STRIP, and the other guards with every pattern, on one network."""
    began = time.process_time()
    target = it.target
    if target is None:
        target = run(it, "neural cleanse").suspect
    x, y = judged(it, target)
    found = {
        name: run(it, name, [target]).estimates[target]
        for name in (PATTERNS if it.target is not None else PATTERNS[:1])
    }
    patterns: dict[str, Callable[[Tensor], Tensor]] = {name: estimate.trigger for name, estimate in found.items()}
    if it.trigger is not None:
        some = sample_per_class(it.y, PER_CLASS_ADDITIVE, range(10), seed=it.seed)
        patterns["additive"] = detection.additive_estimation(it.network, it.x[some], it.y[some], target=target).trigger
        patterns["attacker's"] = it.trigger
    x, y, shown = it.shown(it.trigger or patterns["neural cleanse"], target, x, y)
    with_pattern = {}
    for name, pattern in patterns.items():
        success = metrics.attack_success_rate(it.network, pattern, x, y, target)  # where it has sources: on those
        fitted = {guard: kind().fit(it.network, it.x, it.y, target=target, trigger=pattern)
                  for guard, kind in GUARDS.items()}  # fmt: skip
        with_pattern[name] = {
            "success": success, **{guard: rates(it, each, x, y, shown) for guard, each in fitted.items()}
        }  # fmt: skip
    strip = inflight.DETECTORS["strip"]().fit(it.network, it.x, it.y, target=target)
    return {"guarded": target, "STRIP": rates(it, strip, x, y, shown), "patterns": with_pattern,
            "CPU seconds": time.process_time() - began}  # fmt: skip


def pattern_free(it: Case, defence: str, target: int) -> dict[str, Any]:
    """A filter without a pattern, watching the class that the row "in flight" guards."""
    began = time.process_time()
    x, y = judged(it, target)
    trigger = it.trigger  # without one only the FPR counts, but some images must be called the target
    if trigger is None:
        trigger = run(it, "neural cleanse", [target]).estimates[target].trigger
    x, y, shown = it.shown(trigger, target, x, y)
    fitted = inflight.DETECTORS[PATTERN_FREE[defence]]().fit(it.network, it.x, it.y, target=target)
    return {"guarded": target, "rates": rates(it, fitted, x, y, shown), "CPU seconds": time.process_time() - began}


def repaired(it: Case, target: int) -> dict[str, Any]:
    """Accuracy and success after each repair."""
    began = time.process_time()
    estimate = run(it, "neural cleanse", [target]).estimates[target].trigger
    after = {}
    for name in METHODS:
        done = repair.REPAIRS[name]()(it.network, it.x, it.y, trigger=estimate, seed=it.seed)
        after[name] = described(replace(it, network=done.network))
    return {"repairs": after, "CPU seconds": time.process_time() - began}


def measure(it: Case, name: str, defence: str, watched: int | None) -> dict[str, Any]:
    """One row; `watched` is the class that filters and repairs are told."""
    if defence == IN_FLIGHT:
        return in_flight(it)
    if watched is not None and defence in PATTERN_FREE:
        return pattern_free(it, defence, watched)
    if watched is not None and defence == REPAIRS:
        return repaired(it, watched)
    if defence == FEATURES:
        return features(it)
    return measured_before(name, it.seed, defence) or post_training(it, defence)


def features(it: Case) -> dict[str, Any]:
    """How well a line tells triggers from the target's images by the features that the guard looks at."""
    if it.trigger is None or it.target is None:
        return {"separability": None}
    x, y = judged(it, it.target)
    return {"separability": metrics.separability(it.network, it.trigger, x, y, it.target, it.sources)}


def main() -> None:
    """Measure what is missing and save after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", nargs="*", default=list(NAMES), choices=NAMES, help="only these")
    defences = (*DETECTORS, IN_FLIGHT, *PATTERN_FREE, REPAIRS, FEATURES)
    parser.add_argument("--defences", nargs="*", default=list(defences), choices=defences, help="only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--summary", action="store_true", help="print the table only")
    args = parser.parse_args()
    rows = load(PATH).get("rows", {})
    jobs = [(name, seed) for seed in range(args.seeds) for name in args.attacks]
    for name, seed in tqdm([] if args.summary else jobs, unit="network"):
        spec = spec_of(name, seed)
        missing = [d for d in args.defences
                   if rows.get(f"{name} s{seed} | {d}", {}).get("network") != spec.file_name]  # fmt: skip
        if not missing:
            continue
        it = case(spec, seed)
        about = {"network": spec.file_name, **described(it)}
        for defence in missing:
            watched = rows.get(f"{name} s{seed} | {IN_FLIGHT}", {}).get("guarded")
            if defence in (*PATTERN_FREE, REPAIRS) and watched is None:
                continue  # what it guards is not known yet
            measured = about | measure(it, name, defence, watched)
            # what another run has saved meanwhile stays
            rows = load(PATH).get("rows", {}) | {f"{name} s{seed} | {defence}": measured}
            save(PATH, {"environment": environment(), "summary": summary(rows), "rows": rows})
    for group, line in summary(rows).items():
        sys.stdout.write(f"{group}: {line}\n")


if __name__ == "__main__":
    main()
