"""Where should RED-A's temperature look? The choice behind `FOCUSED`, on Fashion-MNIST's networks of `zoo.py`.

    python benchmarks/focused_weights.py             # all forms; LeNet-5 once, VGG-9 with three draws of the images

Eq. 7 has T = -log Σ w q. Here w makes room for u ∝ q, q², q³ or all on the best class. Networks that `zoo.py` has not
trained are left out; finished rows are kept. About half an hour on one core. MNIST's networks are not looked at: they
are the check of what was chosen here (`verdicts.py`, "focused RED-A"). A network counts as sure where the calibrated
p-value is below .05 and the suspect is the target; as accused where it is clean and the p-value is below .05.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import zoo
from torch import Tensor
from tqdm import tqdm

from btlib import checkpoints, datasets, detection
from btlib.checkpoints import Spec
from btlib.detection import perturbation
from btlib.detection.weights import anneal, focus
from btlib.results import environment, load, save

PATH = "results/choice-focused-weights.json"
KINDS = {"lenet5": ("chessboard", "local_square", "local_chessboard", "clean"), "vgg9": ("single_pixel",)}
Update = Callable[[Tensor, Tensor, Tensor], Tensor]


def powers(rates: Tensor, weights: Tensor, allowed: Tensor, exponent: int) -> Tensor:
    """Eq. 8 with T = -log Σ u q, u ∝ q^exponent."""
    shares = (rates * allowed) ** exponent
    return anneal(rates, shares / shares.sum(1, keepdim=True).clamp_min(1e-12), allowed)


def best(rates: Tensor, weights: Tensor, allowed: Tensor) -> Tensor:
    """Eq. 8 with T = -log max q."""
    of = rates.masked_fill(~allowed, -1).argmax(1)
    return anneal(rates, torch.nn.functional.one_hot(of, rates.shape[1]).float(), allowed)


FORMS: dict[str, Update] = {
    "as printed, w": anneal, "u ∝ q": partial(powers, exponent=1), "u ∝ q²": focus,
    "u ∝ q³": partial(powers, exponent=3), "the best class alone": best,
}  # fmt: skip


def networks() -> dict[str, tuple[Spec, int]]:
    """Name → spec and number of draws."""
    found = {}
    for name, spec in zoo.specs().items():
        data, network, kind, _, _ = name.split()
        if data == "fashion-mnist" and kind in KINDS.get(network, ()):
            found[name] = (spec, 3 if network == "vgg9" else 1)
    return {name: found[name] for name in found if checkpoints.find(found[name][0]) is not None}


def row(spec: Spec, form: str, draw: int) -> dict[str, Any]:
    """RED-A's verdict with one form of the temperature."""
    network, data = checkpoints.load_or_train(spec, progress=False), datasets.load(spec.data)
    with patch.object(perturbation, "focus", FORMS[form]):
        found = detection.red_a(
            network, data.x_test, data.y_test, search=detection.FOCUSED, seed=spec.seed + 100 * draw
        )
    return {
        "target": None if spec.trigger is None else spec.target, "suspect": found.suspect,
        "calibrated_p": found.calibrated_p_value, "log_p": found.log_p_value, "norms": found.norms.tolist(),
    }  # fmt: skip


def summary(verdicts: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Shares by form: sure of the target with one source and with more, accused though clean."""
    groups: dict[str, dict[str, list[bool]]] = {form: {} for form in FORMS}
    for key, verdict in verdicts.items():
        name, form, _ = key.split(" | ")
        _, network, _, sources, _ = name.split()
        clean = verdict["target"] is None
        kind = "accused though clean" if clean else f"sure, {'one source' if sources == '1' else 'more sources'}"
        right = (clean or verdict["suspect"] == verdict["target"]) and verdict["calibrated_p"] < 0.05
        groups[form].setdefault(f"{network}: {kind}", []).append(right)
    return {
        form: {kind: sum(v) / len(v) for kind, v in sorted(found.items())} for form, found in groups.items() if found
    }


def main() -> None:
    """Measure what is missing and save after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="torch threads")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    verdicts = load(PATH).get("verdicts", {})
    jobs = [(f"{name} | {form} | {draw}", spec, form, draw)
            for name, (spec, draws) in networks().items() for draw in range(draws) for form in FORMS]  # fmt: skip
    for key, spec, form, draw in tqdm([job for job in jobs if job[0] not in verdicts], unit="row"):
        verdicts[key] = row(spec, form, draw)
        told = {"choice": "focused-weights", "network": "lenet5 and vgg9", "data": "fashion-mnist"}
        save(PATH, {**told, "rows": summary(verdicts), "verdicts": verdicts, "environment": environment()})
    for form, shares in summary(verdicts).items():
        print(form, {kind: round(share, 3) for kind, share in shares.items()})


if __name__ == "__main__":
    main()
