"""How long btlib takes to open: `btlib --help`, and `from btlib import datasets` beside `import torch` alone.

    python benchmarks/startup.py              # 9 rounds, about two minutes; writes results/

Each is a Python process of its own; the three take turns, so that a change of the machine's speed meets all. Medians;
what is claimed of `datasets` is its ratio to torch's own import in the same round.
"""

import argparse
import statistics
import subprocess
import sys
import time

from btlib.results import environment, save

WAYS = {
    "btlib --help": ["-m", "btlib", "--help"],
    "import torch": ["-c", "import torch"],
    "from btlib import datasets": ["-c", "from btlib import datasets"],
    "from btlib import detection": ["-c", "from btlib import detection"],
}


def seconds(arguments: list[str]) -> float:
    """Wall seconds of one process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", default="results/benchmark-startup.json")
    args = parser.parse_args()
    for arguments in WAYS.values():  # files into the disk cache
        seconds(arguments)
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(args.rounds):
        for name in reversed(WAYS) if number % 2 else WAYS:
            found[name].append(seconds(WAYS[name]))
    ratios = {
        name: statistics.median(a / b for a, b in zip(found[name], found["import torch"], strict=True))
        for name in WAYS if name.startswith("from btlib")
    }  # fmt: skip
    medians = {name: statistics.median(values) for name, values in found.items()}
    save(args.out, {"rounds": args.rounds, "seconds": found, "median seconds": medians, "over import torch": ratios,
                    "environment": environment()})  # fmt: skip
    for name, value in medians.items():
        beside = f", {ratios[name]:.2f} of torch's" if name in ratios else ""
        sys.stdout.write(f"{name:28} {value:6.2f} s{beside}\n")


if __name__ == "__main__":
    main()
