"""Evidence for docs/choices.md: settings the papers leave open, measured side by side.

Each row trains LeNet-5 on Fashion-MNIST and reports test accuracy and
attack success rate per seed. Finished rows are kept: a second run goes on where the first stopped.

    python benchmarks/choices.py            # all rows
    python benchmarks/choices.py box-margin # one
"""

import argparse
from dataclasses import replace

from btlib import checkpoints
from btlib.checkpoints import Spec
from btlib.results import environment, load, save
from btlib.training import RECIPES

QUICK = RECIPES["lenet5-quick"]
BOX = Spec(trigger="box", recipe=QUICK)
CHESS = Spec(trigger="chessboard", recipe=QUICK)

# choice → alternative → spec; seeds are varied below
CHOICES = {
    "box-margin": {f"margin {m}": replace(BOX, trigger_settings={"margin": m}) for m in (0, 1)},
    "chessboard-amplitude": {
        f"{a}/255": replace(CHESS, trigger_settings={"amplitude": a / 255}) for a in (3, 5, 10, 15)
    },
    "originals": {how: replace(BOX, originals=how) for how in ("replace", "add", "remove")},
    "optimizer-lr-0.01": {
        "SGD with momentum 0.9": replace(BOX, recipe=replace(RECIPES["l-red-mnist"], epochs=4)),
        "Adam": replace(BOX, recipe=replace(RECIPES["l-red-mnist"], epochs=4, optimizer="adam")),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choices", nargs="*", default=list(CHOICES))
    parser.add_argument("--seeds", type=int, default=2)
    settings = parser.parse_args()
    for choice in settings.choices:
        path = f"results/choice-{choice}.json"
        rows = load(path).get("rows", {})
        for name, spec in CHOICES[choice].items():
            for seed in range(settings.seeds):
                key = f"{name}, seed {seed}"
                if key in rows:
                    continue
                card = checkpoints.load_or_train(replace(spec, seed=seed)).card
                rows[key] = {"accuracy": card.accuracy, "success": card.success}
                save(path, {"choice": choice, "network": spec.network, "data": spec.data, "rows": rows} | environment())
        print(f"\n{choice}")
        for key, row in rows.items():
            print(f"  {key:<32} accuracy {row['accuracy']:.4f}   success {row['success']:.4f}")


if __name__ == "__main__":
    main()
