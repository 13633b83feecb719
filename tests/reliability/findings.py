"""What Bandit finds in btlib's code, and pip-audit in the pinned packages; each finding has its reason.

Both tools come into an environment of their own, which is gone afterwards. Where no registry offers them, or nobody
answers about the packages, that is what is said.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path
from typing import Any

from reliability.page import ROOT, findings_reason


def bandit(python: Path) -> dict[str, Any]:
    """Its version, and how often it finds what where."""
    command = [python, "-m", "bandit", "--quiet", "--recursive", "btlib", "--format", "json"]
    said = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout)
    version = subprocess.run([python, "-m", "bandit", "--version"], capture_output=True, text=True).stdout.split()[1]
    names = {one["test_id"]: one["test_name"] for one in said["results"]}
    counts = Counter((one["test_id"], one["filename"].removeprefix("btlib/")) for one in said["results"])
    found = [{"test": test, "name": names[test], "file": file, "count": count}
             for (test, file), count in sorted(counts.items())]  # fmt: skip
    return {"version": version, "found": found}


def audit() -> dict[str, Any]:
    """How many pinned packages somebody knew, and what is known against them."""
    said = subprocess.run([ROOT / ".ci" / "audit"], cwd=ROOT, capture_output=True, text=True).stdout
    asked = re.search(r"(\d+) of (\d+) pinned packages were not known", said)
    unknown, pinned = (int(asked[1]), int(asked[2])) if asked else (0, 0)
    answered = asked is not None and "nothing was checked" not in said
    holes = [line for line in said.splitlines() if re.search(r"\b(CVE|GHSA|PYSEC)-", line)]
    return {"pinned": pinned, "known": pinned - unknown if answered else 0, "holes": holes}


def run() -> dict[str, Any]:
    """Ask both tools."""
    found: dict[str, Any] = {"audit": audit(), "bandit": {"version": "", "found": []}}
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        python = Path(place, "bin", "python")
        got = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "bandit"])
        if got.returncode == 0:
            found["bandit"] = bandit(python)
    unlooked = [f"{one['test']} {one['file']}" for one in found["bandit"]["found"]
                if not findings_reason(one["test"], one["file"])]  # fmt: skip
    return found | {"wrong": unlooked + found["audit"]["holes"]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
