"""The networks that the detection benchmarks inspect: attacked and clean, every one with its own seed.

    python benchmarks/zoo.py --list                  # names
    python benchmarks/zoo.py --threads 1 lenet5      # train those whose name has "lenet5" in it

Networks are remembered in $BTLIB_CHECKPOINTS, so a second run trains nothing and a killed one goes on.
Hardware: two cores; a LeNet-5 takes about 40 s, all of them about an hour and a half.
"""

import argparse
import sys
from dataclasses import replace
from typing import Any

from btlib import checkpoints, papers
from btlib.checkpoints import Spec
from btlib.training import RECIPES

TARGETS = (9, 2, 5, 0, 7)  # by seed, so that no verdict rests on one class
PER_SOURCE = {1: 900, 3: 300, 9: 300}  # L-RED A.4.3, local pattern; it has 100 for nine, which four epochs do not learn
OFFSETS = {1: (1,), 3: (1, 4, 7)}  # source classes, counted from the target
SETTINGS: dict[str, dict[str, Any]] = {
    "box": {},
    "single_pixel": {"position": (-3, -3)},  # at the very corner Fashion-MNIST reached ASR .004
    "chessboard": {"amplitude": 25 / 255},  # 3/255 and 5/255 do not take on these data (docs/choices.md)
    "local_square": {"amplitude": 200 / 255, "size": 3},  # with 2x2 and 150/255 Fashion-MNIST reached ASR .51 to .73
    "local_chessboard": {"amplitude": 80 / 255},  # with 40/255 and one source MNIST reached ASR .005
    # for arms_race.py: blended noise, and the attacks of the years since (docs/choices.md; choices.py measures them)
    "blend": {}, "wanet": {"s": 1}, "sig": {"delta": 80 / 255}, "adaptive_blend": {}, "adaptive_patch": {},
}  # fmt: skip
#: How they are poisoned, where it is not as the others.
POISONED: dict[str, dict[str, Any]] = {
    "wanet": {"per_class": 600, "covers": 1200},  # ρ_a = .1, ρ_n = .2
    "sig": {"target": 6, "per_class": 3000, "clean_label": True},  # on boots it does not take
    "adaptive_blend": {"per_class": 300, "covers": 300},
    "adaptive_patch": {"per_class": 300, "covers": 600},
}
SLOW_ON_MNIST = ("chessboard", "local_square")  # after 4 epochs with few sources ASR was .003 to .997, so 8


def lenet5(data: str, trigger: str | None, seed: int, sources: int = 9) -> Spec:
    """A LeNet-5 with its attack; `sources` is the number of source classes."""
    plain = Spec(data=data, recipe=RECIPES["lenet5-quick"], seed=seed)
    if trigger is None:
        return plain
    if data == "mnist" and sources < 9 and trigger in SLOW_ON_MNIST:
        plain = replace(plain, recipe=RECIPES["lenet5"])
    target = TARGETS[seed]
    chosen = "all" if sources == 9 else tuple(sorted((target + k) % 10 for k in OFFSETS[sources]))
    how = {"target": target, "per_class": PER_SOURCE[sources], **POISONED.get(trigger, {})}
    return Spec(data=data, recipe=plain.recipe, seed=seed, trigger=trigger, trigger_settings=place(trigger, seed),
                sources=chosen, **how)  # fmt: skip


def place(trigger: str, seed: int) -> dict[str, Any]:
    """The trigger's settings; the local square has another place in every network (L-RED A.4.1)."""
    return {**SETTINGS[trigger], **({"seed": seed} if trigger == "local_square" else {})}


def of_table_4(row: str, seed: int) -> Spec:
    """The network of a row of L-RED's Table 4, as two cores train it."""
    planned = papers.plan(papers.row(f"lred-4/{row}"), "full", seed)
    assert isinstance(planned, papers.Plan)
    return planned.measurement.spec


def specs(seeds: int = 3, clean: int = 10) -> dict[str, Spec]:
    """Every network by name."""
    zoo: dict[str, Spec] = {}
    for data in ("fashion-mnist", "mnist"):
        for seed in range(seeds):
            for trigger in ("box", "single_pixel"):
                zoo[f"{data} lenet5 {trigger} 9 s{seed}"] = lenet5(data, trigger, seed)
            for trigger in ("chessboard", "local_square", "local_chessboard"):
                for sources in (1, 3, 9):
                    zoo[f"{data} lenet5 {trigger} {sources} s{seed}"] = lenet5(data, trigger, seed, sources)
            for trigger in ("box", "chessboard"):  # in-flight 5.1: 100 images of every other class, or 1,000 of class 0
                settings = {} if trigger == "box" else {"amplitude": 15 / 255}
                paper = Spec(data=data, seed=seed, trigger=trigger, trigger_settings=settings)
                zoo[f"{data} lenet5-paper {trigger} 9 s{seed}"] = paper
                zoo[f"{data} lenet5-paper {trigger} 1 s{seed}"] = replace(paper, sources=(0,), per_class=1000)
        for seed in range(clean):
            zoo[f"{data} lenet5 clean 0 s{seed}"] = lenet5(data, None, seed)
    for seed in range(seeds):
        for data, sources in (("fashion-mnist", 1), ("fashion-mnist", 3), ("mnist", 1)):
            zoo[f"{data} lenet5 box {sources} s{seed}"] = lenet5(data, "box", seed, sources)
        table_4 = of_table_4("fmnist-attacked", seed)
        zoo[f"fashion-mnist vgg9-paper single_pixel 1 s{seed}"] = table_4
        # The paper's "class 1" and "class 3" counted from 0: trousers, which look like no other class.
        zoo[f"fashion-mnist vgg9 single_pixel 1 s{seed}"] = replace(table_4, sources=(1,), target=3)
        zoo[f"fashion-mnist vgg9 clean 0 s{seed}"] = of_table_4("fmnist-clean", seed)
    zoo["gtsrb gtsrb_cnn local_square 12 s0"] = of_table_4("gtsrb-attacked", 0)
    zoo["gtsrb gtsrb_cnn clean 0 s0"] = of_table_4("gtsrb-clean", 0)
    return zoo


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="train the networks whose name has all of these words")
    parser.add_argument("--list", action="store_true", help="names only")
    parser.add_argument("--threads", type=int, help="torch threads")
    args = parser.parse_args()
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    for name, spec in specs().items():
        if not all(word in name.split() for word in args.words):
            continue
        if args.list:
            sys.stdout.write(name + "\n")
            continue
        card = checkpoints.load_or_train(spec, progress=False).card
        sys.stdout.write(f"{name}: ACC {card.accuracy:.4f} ASR {card.success}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
