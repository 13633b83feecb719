"""True few-source attacks: two sources, covers on all other classes. Who names the target, who is sure, who cries wolf?

    python benchmarks/few_sources.py                 # train and scan what is missing
    python benchmarks/few_sources.py mnist lenet5    # networks whose name has these words
    python benchmarks/few_sources.py --summary       # the table of what has been measured

Without covers a trigger of two sources works on other classes too (choices.py, "covers"), and a detector may find it
by those. Every attacked network has a clean twin. One row per network and detector in results/few-sources.json, as in
verdicts.py, with the weights of the classes, so that sources can be looked at; rows that are there are not run again,
and what verdicts.py has measured on a clean twin is not measured again.
Hardware: one core, half a minute for a LeNet-5 and two for a LittleNet, 10 to 60 s a row.
"""

import argparse
import sys
from dataclasses import replace

from choices import FAINT, PATCH
from tqdm import tqdm
from verdicts import PATH as VERDICTS
from verdicts import missing, row, summary

from btlib.checkpoints import Spec
from btlib.results import environment, load, save
from btlib.training import RECIPES

PATH, COVERS = "results/few-sources.json", 300
RECIPE = {"lenet5": RECIPES["lenet5-quick"], "littlenet": RECIPES["littlenet"]}
DIGITS = {"data": "mnist", "target": 2, "sources": (4, 6)}
DETECTORS = ("RED-P", "RED-U", "mask RED-A", "neural cleanse")


def specs(seeds: int = 1) -> dict[str, Spec]:
    """Every network by name."""
    found: dict[str, Spec] = {}
    for network, recipe in RECIPE.items():
        for data, where in (("fashion-mnist", {}), ("mnist", DIGITS)):
            for seed in range(seeds):
                made = {"network": network, "recipe": recipe, "seed": seed, **where}
                for trigger, spec in (("box", PATCH), ("chessboard", FAINT)):
                    found[f"{data} {network} {trigger} 2 s{seed}"] = replace(spec, **made, covers=COVERS)
                found[f"{data} {network} clean 0 s{seed}"] = replace(PATCH, **made).clean_twin()
    return found


def main() -> None:
    """Measure what is missing and save after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="networks whose name has all of these words")
    parser.add_argument("--detectors", nargs="*", default=list(DETECTORS), help="only these")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--summary", action="store_true", help="print the table only")
    args = parser.parse_args()
    rows = load(PATH).get("rows", {})
    jobs = [
        (f"{name} | {detector}", spec, detector)
        for name, spec in specs(args.seeds).items() if all(word in name.split() for word in args.words)
        for detector in args.detectors
    ]  # fmt: skip
    for key, spec, detector in tqdm([] if args.summary else jobs, unit="row"):
        if missing(rows.get(key), spec):
            known = load(VERDICTS)["rows"].get(key)
            measured = row(spec, detector) if missing(known, spec) else known | {"from": VERDICTS}
            rows = load(PATH).get("rows", {}) | {key: measured}
            save(PATH, {"environment": environment(), "summary": summary(rows), "rows": rows})
    for group, line in summary(rows).items():
        sys.stdout.write(f"{group}: {line}\n")


if __name__ == "__main__":
    main()
