"""What a washed copy of a backdoored network still does: shipped LeNet-5, and networks that other people backdoored.

    python benchmarks/washing.py                 # shipped ones, two draws of fresh weights each
    python benchmarks/washing.py --external      # and I-BAU's five below $BTLIB_EXTERNAL

A scan washes a copy to compare with where it doubts (`btlib.cli.washing`): with 100 clean images of each class, a fifth
of them held out. Success is that of the attacker's own trigger, on images that the copy did not see; rows in
results/washing.json are not measured again.
Hardware: one core, ten seconds a LeNet-5, one to two minutes an external one.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import torch
from repair import Case, another, external, lenet5, strangers
from tqdm import tqdm

from btlib.cli.scan_images import CleanImages
from btlib.cli.washing import washed_copy
from btlib.datasets import to_uint8
from btlib.results import environment, load, save

PATH = "results/washing.json"
SHIPPED = ("box", "chessboard", "one-source", "box-one-source", "three-sources", "stealthy-plain", "stealthy",
           "invisible", "input-aware")  # fmt: skip
DRAWS = 2


def cases(with_external: bool) -> Iterator[tuple[str, Any]]:
    """Name of each case, and how to make it."""
    for name in SHIPPED:
        yield name, (lambda name=name: lenet5(name) if name == "box" else another(name))
    for name in strangers() if with_external else ():
        yield f"external {name}", (lambda name=name: external(name))


def row(case: Case, seed: int) -> dict[str, Any]:
    """Rates before and after, with 100 of the defender's images of each class."""
    few = torch.cat([(case.labels == label).nonzero().flatten()[:100] for label in case.labels.unique()])
    washed = washed_copy(case.network, CleanImages(to_uint8(case.images[few]), case.labels[few], ""), seed)
    return {"before": case.rates(case.network), "after": case.rates(washed.network), "seconds": washed.seconds}


def main() -> None:
    """Measure what is missing and save after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--external", action="store_true", help="the CIFAR-10 networks below $BTLIB_EXTERNAL, too")
    parser.add_argument("--note", help="written beside the seconds, such as what else the machine did")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = load(PATH).get("rows", {})
    for name, make in tqdm(list(cases(args.external))):
        for seed in range(1 if name.startswith("external") else DRAWS):
            if (key := f"{name} | {seed}") not in rows:
                rows[key] = row(make(), seed) | ({"note": args.note} if args.note else {})
                save(PATH, {"environment": environment(), "rows": rows})
    for key, told in rows.items():
        moved = ", ".join(f"{what} {told['before'][what]:.3f} -> {told['after'][what]:.3f}" for what in told["before"])
        sys.stdout.write(f"{key:26} {moved}\n")


if __name__ == "__main__":
    main()
