"""What the small residual network reaches on CIFAR-10, and what attacks it takes. Needs `folder:cifar10-jpg`.

    python benchmarks/small_resnet.py rows inflight-2/cb-multi inflight-1/clean   # trained, and judged by RED-A
    python benchmarks/small_resnet.py recipes                                     # accuracy by epochs, rate and decay
    python benchmarks/small_resnet.py amplitudes lred-2/g-1 lred-2/l-9            # the smallest that takes

A network that is remembered is not trained again. `--out` names another file than results/small-resnet.json.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from btlib import checkpoints, datasets, detection
from btlib.checkpoints import Spec
from btlib.papers.measurements import plan
from btlib.results import environment, load, save
from btlib.training import RECIPES, Recipe

PATH = "results/small-resnet.json"
BASE = RECIPES["small-resnet"]
VARIANTS = (
    *(replace(BASE, epochs=epochs) for epochs in (12, 16, 20, 24)),
    *(replace(BASE, epochs=16, lr=lr) for lr in (0.2, 0.8, 1.2)),
    *(replace(BASE, epochs=16, weight_decay=decay) for decay in (5e-4, 2e-3)),
    replace(BASE, epochs=16, batch_size=256, lr=0.2),
    replace(BASE, epochs=16, augment="crop+flip"),
)
#: In 1/255: as printed, then larger until the attack takes.
LADDERS = {2: (2, 3, 4, 6, 8, 12), 50: (50, 75, 100, 150, 200), 60: (60, 90, 120, 180), 65: (65, 100, 130, 200)}
TAKES = 0.9


def spec_of(key: str, profile: str = "full") -> Spec:
    """The network of a row."""
    planned = plan(key, profile)
    if isinstance(planned, str):
        raise SystemExit(f"{key}: {planned}")
    return planned.measurement.spec


def row(key: str) -> dict[str, Any]:
    """One network: its card, and RED-A's verdict."""
    spec = spec_of(key)
    network, data = checkpoints.load_or_train(spec, progress=True), datasets.load(spec.data)
    found = detection.red_a(network, data.x_test, data.y_test)
    verdict, card = found.verdict(), network.card
    return {
        "spec": spec.as_json(), "accuracy": card.accuracy, "success": card.success, "history": card.history,
        "trained": card.environment, "red_a": {
            "attacked": verdict.attacked, "target": verdict.target, "p_value": found.p_value,
            "calibrated_p_value": found.calibrated_p_value, "norms": [float(norm) for norm in found.norms],
            "seconds": found.seconds,
        },
    }  # fmt: skip


def recipe(told: Recipe) -> dict[str, Any]:
    """Accuracy of a clean network by a recipe."""
    card = checkpoints.load_or_train(replace(spec_of("inflight-1/clean"), recipe=told)).card
    return {"accuracy": card.accuracy, "recipe": vars(told), "trained": card.environment}


def amplitude(key: str) -> dict[str, Any]:
    """Larger and larger amplitudes of a row's attack, from the printed one on, until it takes."""
    spec, tried = replace(spec_of(key, "minutes"), network="small_resnet", recipe=replace(BASE, epochs=16)), {}
    printed = round(255 * spec.trigger_settings["amplitude"])
    for level in LADDERS[printed]:
        told = replace(spec, trigger_settings={**spec.trigger_settings, "amplitude": level / 255})
        card = checkpoints.load_or_train(told).card
        tried[f"{level}/255"] = {"accuracy": card.accuracy, "success": card.success}
        if card.success >= TAKES:
            break
    return {**tried, "trained": card.environment}


def measure(kind: str, each: Iterable[Any], one: Callable[[Any], dict[str, Any]], out: str) -> None:
    """Measure each and save after it."""
    for thing in each:
        name = thing if isinstance(thing, str) else _differs(thing)
        found = load(out)
        save(out, {**found, kind: {**found.get(kind, {}), name: one(thing)}, "environment": environment()})
        print(kind, name, load(out)[kind][name] if kind != "rows" else "", flush=True)


def _differs(told: Recipe) -> str:
    parts = [f"{name} {value}" for name, value in vars(told).items() if value != getattr(BASE, name)]
    return ", ".join(parts) or f"epochs {BASE.epochs}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rows", "recipes", "amplitudes"])
    parser.add_argument("keys", nargs="*", metavar="table/row")
    parser.add_argument("--out", default=PATH, type=lambda path: str(Path(path)))
    told = parser.parse_args()
    if told.what == "recipes":
        measure("recipes", VARIANTS, recipe, told.out)
    else:
        measure(told.what, told.keys, row if told.what == "rows" else amplitude, told.out)


if __name__ == "__main__":
    main()
