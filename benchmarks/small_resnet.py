"""What the small residual network reaches on CIFAR-10, and in what time: accuracy, success, seconds of each epoch.

Trains a row's network, or reads the card of one that is remembered, and RED-A judges it. Needs `folder:cifar10-jpg`.

    python benchmarks/small_resnet.py inflight-2/cb-multi inflight-1/clean
"""

import argparse

from btlib import checkpoints, datasets, detection
from btlib.papers.measurements import plan
from btlib.results import environment, load, save

PATH = "results/small-resnet.json"


def row(key: str) -> dict[str, object]:
    """One network: its card, and RED-A's verdict."""
    planned = plan(key)
    if isinstance(planned, str):
        raise SystemExit(f"{key}: {planned}")
    spec = planned.measurement.spec
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


def main() -> None:
    """Measure the rows that are named, and save after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="table/row")
    for key in parser.parse_args().rows:
        rows = {**load(PATH).get("rows", {}), key: row(key)}
        save(PATH, {"rows": rows, "environment": environment()})
        print(key, {name: rows[key][name] for name in ("accuracy", "success", "red_a")})


if __name__ == "__main__":
    main()
