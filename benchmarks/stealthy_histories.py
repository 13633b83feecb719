"""The stealthy attack by epoch on Fashion-MNIST: the runs behind Figures 4 and 5 of lesson 03.

Each run backdoors the shipped clean LeNet-5 (four to eight minutes on one core). Two of them are shipped, so they take
no time. Finished runs are kept: a second call goes on where the first stopped.

    python benchmarks/stealthy_histories.py                    # all runs
    python benchmarks/stealthy_histories.py "epsilon 0.01"     # some
"""

import argparse
import math
from dataclasses import asdict, replace
from typing import Any

from btlib import attacks
from btlib.results import environment, load, save

PATH = "results/stealthy-histories.json"
HIDDEN, PLAIN = (attacks.shipped()[name] for name in ("stealthy", "stealthy-plain"))


def _with(**changes: Any) -> attacks.AttackSpec:
    return replace(HIDDEN, recipe=replace(HIDDEN.recipe, **changes))


RUNS = {
    "epsilon 0.02": HIDDEN,
    "plain": PLAIN,
    **{f"epsilon {value}": _with(epsilon=value) for value in (0.005, 0.01)},
    **{pattern: _with(pattern=pattern) for pattern in ("patch", "patch+generated")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", default=list(RUNS), help=", ".join(RUNS))
    for name in parser.parse_args().runs:
        result = attacks.load_or_run(RUNS[name])
        # what a run does not have is left out: JSON knows no NaN
        history = [{key: value for key, value in epoch.items() if math.isfinite(value)} for epoch in result.history]
        runs = load(PATH).get("runs", {})  # read again: two calls may work at once
        runs[name] = {"recipe": asdict(result.recipe), "seed": result.seed, "history": history} | environment()
        save(PATH, {"runs": runs, "network": HIDDEN.start.network, "data": HIDDEN.start.data})
        print(f"{name:<18}", "  ".join(f"{key} {value:.4g}" for key, value in history[-1].items()))


if __name__ == "__main__":
    main()
