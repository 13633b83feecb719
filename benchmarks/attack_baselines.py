"""The stealthy attack and its baselines on Fashion-MNIST by the six indicators: evidence for docs/choices.md.

Each row backdoors a clean LeNet-5 (about one to eight minutes on one core; the four shipped attacks take no time).
Finished rows are kept: a second run goes on where the first stopped.

    python benchmarks/attack_baselines.py                # all rows
    python benchmarks/attack_baselines.py input-aware    # some
"""

import argparse
from dataclasses import asdict, replace
from typing import Any

from btlib import attacks, checkpoints, datasets
from btlib.results import environment, load, save

PATH = "results/choice-attack-baselines.json"
SHIPPED = {name: spec.recipe for name, spec in attacks.shipped().items()}
INVISIBLE: Any = SHIPPED["invisible"]
STEALTHY: Any = SHIPPED["stealthy"]
ROWS: dict[str, Any] = SHIPPED | {
    "stealthy, one kept mask": replace(STEALTHY, restart=0, inversion_lr=0.1),
    "stealthy, one kept mask, L_a from the first epoch": replace(STEALTHY, restart=0, inversion_lr=0.1, hide_from=1),
    "invisible, one neuron": replace(INVISIBLE, anchors=1),
    "invisible, all neurons": replace(INVISIBLE, anchors=84),
    "invisible, noise not optimised": replace(INVISIBLE, steps=1),
}
TITLES = {
    "BMA": "bma", "baseline": "baseline", "ASR": "asr", "PSNR": "psnr", "SSIM": "ssim", "CBMA": "cbma",
    "NC's index": "anomaly_index", "mask": "mask_norm", "others' masks": "other_mask_norm",
    "entropy ratio": "entropy_ratio", "halved": "entropy_ratio_halved",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=1)
    settings = parser.parse_args()
    data = datasets.load("fashion-mnist")
    clean = checkpoints.shipped()["clean"]
    known = load(PATH)
    rows, recipes = known.get("rows", {}), known.get("recipes", {})
    for name in settings.rows:
        for seed in range(settings.seeds):
            key = f"{name}, seed {seed}"
            if key not in rows:
                start = replace(clean, seed=seed)
                result = attacks.load_or_run(attacks.AttackSpec(ROWS[name], start))
                baseline = checkpoints.load_or_train(start).card.accuracy  # of all test images
                found = attacks.indicators(
                    result.network, result.trigger, data, result.target, baseline=baseline, seed=seed
                )
                seconds = sum(epoch["seconds"] for epoch in result.history)
                rows[key] = {title: getattr(found, field) for title, field in TITLES.items()} | {"seconds": seconds}
                recipes[name] = asdict(ROWS[name])
                page = {"choice": "attack-baselines", "network": "lenet5", "data": data.name, "recipes": recipes}
                save(PATH, page | {"rows": rows} | environment())
            print(f"{key:<40}", "  ".join(f"{title} {value:.4g}" for title, value in rows[key].items()))


if __name__ == "__main__":
    main()
