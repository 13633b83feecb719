"""Evidence for docs/choices.md: settings the papers leave open, measured side by side.

Each row trains LeNet-5 on Fashion-MNIST and reports test accuracy and attack success rate per seed; with few sources
also how often the trigger works on the other classes, where it should not. Finished rows are kept: a second run goes on
where the first stopped.

    python benchmarks/choices.py            # all rows
    python benchmarks/choices.py box-margin # one
"""

import argparse
from dataclasses import replace

from btlib import checkpoints, metrics
from btlib.checkpoints import Spec
from btlib.results import environment, load, save
from btlib.training import RECIPES

QUICK = RECIPES["lenet5-quick"]
BOX = Spec(trigger="box", recipe=QUICK)
CHESS = Spec(trigger="chessboard", recipe=QUICK)
PATCH = Spec(trigger="box", recipe=QUICK, target=3, sources=(0, 7), per_class=450)
FAINT = replace(PATCH, trigger="chessboard", trigger_settings={"amplitude": 25 / 255})
WANET = Spec(trigger="wanet", recipe=QUICK, per_class=600, covers=1200)  # ρ_a = .1, ρ_n = .2
SIG = Spec(trigger="sig", recipe=QUICK, clean_label=True)
ADAPTIVE = Spec(trigger="adaptive_blend", recipe=QUICK, per_class=300, covers=300)

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
    "covers": {f"{name}, {n} covers": replace(spec, covers=n)
               for name, spec in (("patch", PATCH), ("chessboard", FAINT)) for n in (0, 300)},
    "wanet": {f"s = {s}": replace(WANET, trigger_settings={"s": s}) for s in (0.5, 1)},
    "sig": {f"target {t}, {n} of its images, delta = {d}/255": replace(
                SIG, target=t, per_class=n, trigger_settings={"delta": d / 255}
            ) for t, n, d in ((6, 3000, 80), (6, 3000, 40), (9, 3000, 80), (9, 1800, 40))},
    "adaptive": {"blend": ADAPTIVE, "patch": replace(ADAPTIVE, trigger="adaptive_patch", covers=600)},
}  # fmt: skip


def measured(spec: Spec) -> dict[str, float]:
    """A row."""
    network = checkpoints.load_or_train(spec)
    row = {"accuracy": network.card.accuracy, "success": network.card.success}
    if not isinstance(spec.sources, str):
        data, trigger = spec.clean_data(), spec.make_trigger()
        others = set(range(data.num_classes)) - {spec.target, *spec.sources}
        row["on other classes"] = metrics.attack_success_rate(
            network, trigger, data.x_test, data.y_test, spec.target, sorted(others)
        )
    return row


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
                rows[key] = measured(replace(spec, seed=seed))
                data = spec.source.as_json()
                save(path, {"choice": choice, "network": spec.network, "data": data, "rows": rows} | environment())
        print(f"\n{choice}")
        for key, row in rows.items():
            print(f"  {key:<40}", "   ".join(f"{name} {value:.4f}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
