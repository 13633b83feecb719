"""The stealthy attack's baselines on Fashion-MNIST by the six indicators: evidence for docs/choices.md.

Each row backdoors the shipped clean LeNet-5 (about one to four minutes on one core).
Finished rows are kept: a second run goes on where the first stopped.

    python benchmarks/attack_baselines.py                # all rows
    python benchmarks/attack_baselines.py input-aware    # some
"""

import argparse
import time
from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

from btlib import attacks, checkpoints, datasets
from btlib.attacks import input_aware, invisible
from btlib.attacks.input_aware import InputAwareRecipe
from btlib.attacks.invisible import InvisibleRecipe
from btlib.results import environment, load, save

PATH = "results/choice-attack-baselines.json"
INVISIBLE = InvisibleRecipe()
ROWS: dict[str, tuple[ModuleType, Any]] = {
    "input-aware": (input_aware, InputAwareRecipe()),
    "invisible": (invisible, INVISIBLE),
    "invisible, one neuron": (invisible, replace(INVISIBLE, anchors=1)),
    "invisible, all neurons": (invisible, replace(INVISIBLE, anchors=84)),
    "invisible, noise not optimised": (invisible, replace(INVISIBLE, steps=1)),
}
TITLES = {
    "BMA": "bma", "baseline": "baseline", "ASR": "asr", "PSNR": "psnr", "SSIM": "ssim", "CBMA": "cbma",
    "NC's index": "anomaly_index", "entropy ratio": "entropy_ratio",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=1)
    settings = parser.parse_args()
    data = datasets.load("fashion-mnist")
    clean = checkpoints.load_or_train(checkpoints.shipped()["clean"])
    known = load(PATH)
    rows, recipes = known.get("rows", {}), known.get("recipes", {})
    for name in settings.rows:
        attack, recipe = ROWS[name]
        for seed in range(settings.seeds):
            key = f"{name}, seed {seed}"
            if key not in rows:
                began = time.process_time()
                result = attack.run(data, recipe, seed, network=clean)
                seconds = time.process_time() - began
                found = attacks.indicators(
                    result.network, result.trigger, data, result.target, baseline=result.baseline, seed=seed
                )
                rows[key] = {title: getattr(found, field) for title, field in TITLES.items()} | {"CPU seconds": seconds}
                recipes[name] = asdict(recipe)
                page = {"choice": "attack-baselines", "network": "lenet5", "data": data.name, "recipes": recipes}
                save(PATH, page | {"rows": rows} | environment())
            print(f"{key:<40}", "  ".join(f"{title} {value:.4g}" for title, value in rows[key].items()))


if __name__ == "__main__":
    main()
