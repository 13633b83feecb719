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

PATH = "results/attack-baselines.json"
INVISIBLE = InvisibleRecipe()
ROWS: dict[str, tuple[ModuleType, Any]] = {
    "input-aware": (input_aware, InputAwareRecipe()),
    "invisible": (invisible, INVISIBLE),
    "invisible, one neuron": (invisible, replace(INVISIBLE, anchors=1)),
    "invisible, all neurons": (invisible, replace(INVISIBLE, anchors=84)),
    "invisible, noise not optimised": (invisible, replace(INVISIBLE, steps=1)),
}
SHOWN = ("bma", "asr", "psnr", "ssim", "cbma", "anomaly_index", "entropy_ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=1)
    settings = parser.parse_args()
    data = datasets.load("fashion-mnist")
    clean = checkpoints.load_or_train(checkpoints.shipped()["clean"])
    rows = load(PATH).get("rows", {})
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
                rows[key] = asdict(found) | {"recipe": asdict(recipe), "cpu_seconds": seconds}
                save(PATH, {"network": "lenet5", "data": data.name, "rows": rows} | environment())
            numbers = "  ".join(f"{column} {rows[key][column]:.4g}" for column in SHOWN)
            print(f"{key:<40} {numbers}  {rows[key]['cpu_seconds']:.0f} s")


if __name__ == "__main__":
    main()
