"""`make bench`: every timing anew, one after the other, then docs/timings.md from what came out.

    python benchmarks/all.py                    # hours, with the machine to itself
    python benchmarks/all.py growth startup     # only these

What a benchmark had measured before is moved aside, since most go on where they stopped; it comes back if the benchmark
fails. Ratios are taken within one benchmark's own run, so an interruption between two of them does no harm.
"""

import subprocess
import sys
from pathlib import Path

from btlib.paths import CHECKOUT

HERE = Path(__file__).parent
#: Script → its arguments, in order of what a reader looks for first.
RUNS: dict[str, list[str]] = {
    "growth": [], "startup": [], "passes": [], "neural_cleanse": [],
    "lred": ["--networks", "3", "--exact", "1", "--table"], "inflight": [],
    "training": ["--epochs", "2", "--images", "20000"], "stealthy": ["--images", "10000", "--rounds", "7"],
    "repair": [], "sweep": [], "load": [], "newcomer": [],
}  # fmt: skip


def anew(name: str) -> bool:
    """Run one benchmark from nothing; whether it worked."""
    path = CHECKOUT / "results" / f"benchmark-{name.replace('_', '-')}.json"
    before = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    print(f"--- {name}", flush=True)
    works = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *RUNS[name]], cwd=CHECKOUT).returncode == 0
    if before is not None and not (works and path.exists()):
        path.write_bytes(before)
    return works


def main() -> None:
    """All, or those that are named."""
    names = sys.argv[1:] or list(RUNS)
    if unknown := set(names) - set(RUNS):
        sys.exit(f"benchmark: expected some of {', '.join(RUNS)}, got {', '.join(sorted(unknown))}")
    failed = [name for name in names if not anew(name)]
    subprocess.run([sys.executable, str(CHECKOUT / "docs" / "timings_table.py")], check=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
