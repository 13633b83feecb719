"""Evidence for docs/choices.md: what Section 4.2 of the in-flight paper leaves open, measured side by side.

Each row is a setting of the likelihood detector, fitted to 100 images per class with the pattern that post-training
detection ESTIMATED (Neural Cleanse for the box, additive estimation for the chessboard), and judged on the test
images kept apart; a mean over the shipped networks. Two cores: about two minutes.

    python benchmarks/inflight_choices.py
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from btlib import checkpoints, datasets, detection, inflight, triggers
from btlib.checkpoints import Spec
from btlib.datasets import sample_per_class
from btlib.networks import Network
from btlib.results import environment, save

TARGET = 9
CHOICES = {
    "inflight-covariance": {
        f"{form}, {k} component{'s' * (k > 1)}": {"covariance": form, "components": k}
        for form in ("shared", "full", "tied", "diag", "spherical")
        for k in (1, 2, 3)
        if (form, k) != ("tied", 1)  # the same as full
    },
    "inflight-regularization": {f"{r:g}": {"regularization": r} for r in (1e-6, 1e-3, 1e-2, 1e-1, 1.0)},
    "inflight-min-std": {f"{s:g}": {"min_std": s} for s in (1e-6, 1e-2, 5e-2, 2e-1)},
    "inflight-layer": {layer: {"layer": layer} for layer in ("penultimate", "fc1", "conv2", "conv1")},
    "inflight-images-per-class": {f"{n}": {"per_class": n} for n in (5, 10, 20, 50, 100)},
}


@dataclass(frozen=True, eq=False)
class Case:
    """A network, what was estimated of its trigger, and images to fit to and to judge."""

    spec: Spec
    net: Network
    estimate: triggers.Trigger
    x: Tensor
    y: Tensor
    other_x: Tensor
    other_y: Tensor


def cases(names: list[str], seed: int) -> Iterator[Case]:
    """The networks, each inspected by the detector that the paper pairs with its pattern (5.1)."""
    split = datasets.load("fashion-mnist").defender_split(100, seed=seed)
    x, y = split.images, split.labels
    for name in names:
        spec = checkpoints.shipped()[name]
        net = checkpoints.load_or_train(spec)
        if spec.trigger == "box":
            found = detection.neural_cleanse(net, x, y, targets=[TARGET], seed=seed).estimates[TARGET]
        else:
            found = detection.additive_estimation(net, x, y, TARGET)
        yield Case(spec, net, found.trigger, x, y, split.other_images, split.other_labels)


def measure(case: Case, settings: dict, seed: int) -> dict[str, float]:
    """TPR, FPR and SIA of one setting on one network."""
    settings = dict(settings)
    per_class = settings.pop("per_class", 100)
    few = sample_per_class(case.y, per_class, range(10), seed=seed)
    guard = inflight.LikelihoodDetector(**settings, seed=seed)
    guard.fit(case.net, case.x[few], case.y[few], target=TARGET, trigger=case.estimate)
    trigger = case.spec.make_trigger()
    rates = inflight.measure_rates(guard, case.other_x, case.other_y, trigger=trigger, sources=case.spec.sources)
    return {"tpr": rates.tpr, "fpr": rates.fpr, "sia": rates.sia}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choices", nargs="*", default=list(CHOICES))
    parser.add_argument("--networks", nargs="+", default=["box", "box-1", "box-2", "chessboard", "one-source"])
    parser.add_argument("--seed", type=int, default=0, help="of the defender's images")
    args = parser.parse_args()
    found = list(cases(args.networks, args.seed))
    for choice in args.choices:
        rows, each = {}, {}
        print(f"\n{choice}")
        for name, settings in CHOICES[choice].items():
            each[name] = {n: measure(case, settings, args.seed) for n, case in zip(args.networks, found, strict=True)}
            rows[name] = {
                "TPR": statistics.mean(r["tpr"] for r in each[name].values()),
                "FPR": statistics.mean(r["fpr"] for r in each[name].values()),
                "worst FPR": max(r["fpr"] for r in each[name].values()),
                "SIA": statistics.mean(r["sia"] for r in each[name].values()),
            }
            print(f"  {name:<24}" + "   ".join(f"{key} {value:.4f}" for key, value in rows[name].items()))
        what = {"choice": choice, "network": "lenet5", "data": "fashion-mnist", "seed": args.seed}
        save(f"results/choice-{choice}.json", what | {"rows": rows, "networks": each} | environment())


if __name__ == "__main__":
    main()
