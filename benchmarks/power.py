"""Does a scan know what it could have found? Clean networks, and a box that `scan --power` plants in copies of them.

    BTLIB_EXTERNAL=... BTLIB_DATA=... python benchmarks/power.py [words of names]

The shipped clean LeNet-5 with three seeds of the scan each, with one seed the other kinds that can be planted; where
it is below $BTLIB_EXTERNAL one of the strangers' networks of external.toml, with a method that misses its own backdoor.
One row each in results/power.json: what the scan found, what was planted and how it took, and whether the same scan of
the copy named it. Rows that are there are not run again. Hardware: two cores, under a minute a row of LeNet-5.
"""

import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from btlib import __version__, checkpoints, datasets, detection
from btlib.checkpoints.remembering import find
from btlib.cli import scan_json, scanning
from btlib.cli.planting import KINDS
from btlib.cli.probing import Told
from btlib.results import environment, load, save

PATH = "results/power.json"
SEEDS = (0, 1, 2)


def found(spec: checkpoints.Spec) -> Path:
    """The shipped file."""
    path = find(spec)
    assert path is not None
    return path


def rows() -> Iterator[tuple[str, Path, str, Told, str, int, str]]:
    """Name, file, images, how to load it, methods, seed, and what is planted."""
    for name, spec in checkpoints.shipped().items():
        if name.startswith("clean"):
            for seed in SEEDS:
                yield f"{name}, seed {seed}", found(spec), "fashion-mnist", Told(), "neural-cleanse,red-a", seed, "box"
            for kind in sorted(KINDS.keys() - {"box"}):
                yield f"{name}, {kind}", found(spec), "fashion-mnist", Told(), "neural-cleanse,red-a", 0, kind
    group = tomllib.loads((Path(__file__).parent / "external.toml").read_text(encoding="utf-8"))["i-bau"]
    file = Path(os.environ.get("BTLIB_EXTERNAL", "nowhere")) / group["networks"]["badnets_8_02"]["file"]
    if file.exists():
        images = str(datasets.roots()[0] / group["images"])
        yield "badnets_8_02, red-a alone", file, images, Told(group["network"]), "red-a", 0, "box"


def main() -> None:
    results: dict[str, Any] = load(PATH) or {"rows": {}}
    for name, file, images, told, methods, seed, kind in rows():
        if name in results["rows"] or not all(word in name for word in sys.argv[1:]):
            continue
        detectors = {each: detection.find(each) for each in methods.split(",")}
        scan = scanning.run_scan(file, images, told, detectors, seed=seed, power=True, planted=kind)
        made = scan_json.as_json(scan, __version__)
        results["rows"][name] = {
            "methods": methods.split(","), "accuracy": scan.accuracy, "targets": list(scan.targets),
            "suspects": list(scan.suspects), "power": made["power"], "seconds": scan.seconds,
        }  # fmt: skip
        results["environment"] = environment()
        save(PATH, results)
        print(name, scan.verdict, scan.power_sentence, sep="\n  ")


if __name__ == "__main__":
    main()
