"""`make nightly`: kills, faults, hostile files, 5,000 odd inputs, same numbers, load, what tools find, mutations.

It writes a JSON in results/, and its page. Mutations are tried beside the others, on the second core.

Parts can be named (`python -m reliability.nightly kills faults`); the others stay as they were measured before. What
was stopped goes on: kills and mutations of this commit are kept in build/reliability/.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reliability.page import PAGE, RESULT, page
from reliability.warm import ROOT

KILLS, MUTANTS, EXAMPLES = 200, 300, 5000
#: Minutes of each part, at most. Those before the last come one after the other, that beside them: less than an hour.
MINUTES = {
    "kills": 22, "faults": 10, "hostile": 4, "inputs": 8, "numbers": 4, "load": 8, "findings": 3, "mutation": 54,
}  # fmt: skip
BESIDE = "mutation"


def inputs(folder: Path) -> dict[str, Any]:
    """Hypothesis with many examples over every public door."""
    file = "tests/test_any_input.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=nightly",
               "-k", "several or any_size", file]  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    tests = int(found[1]) if (found := re.search(r"(\d+) passed", last)) else 0
    wrong = [] if done.returncode == 0 else done.stdout.splitlines()[-30:]
    return {"examples": EXAMPLES, "tests": tests, "seconds": round(time.monotonic() - began), "wrong": wrong}


def load(folder: Path) -> dict[str, Any]:
    """Five million images through a guard, and two minutes of 200 callers at the example service."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "load.json"
    subprocess.run([sys.executable, "benchmarks/load.py", "--out", out], cwd=ROOT, check=True)
    told = json.loads(out.read_text(encoding="utf-8"))
    wrong = [f"{name}: {what} {part[what]:.2f}" for name, part in told.items() if name in ("guard", "service")
             for what, well in (("last rate over first", part["last rate over first"] >= 0.9),
                                ("last MB over first", part["last MB over first"] <= 1.05)) if not well]  # fmt: skip
    wrong += [f"service: {kind} {told['service']['answers'][kind]}" for kind in ("lost", "wrong")
              if told["service"]["answers"].get(kind)]  # fmt: skip
    return {"guard": told["guard"], "service": told["service"], "wrong": wrong}


def disturbances(parts: list[str], folder: Path) -> dict[str, Any]:
    """Kills and faults, which share their benches."""
    from reliability import faults, kills

    told: dict[str, Any] = {}
    with kills.benches(folder) as bench:
        if "kills" in parts:
            told["kills"] = kills.run(bench, folder / "kills.json", KILLS, minutes=MINUTES["kills"])
        if "faults" in parts:
            told["faults"] = faults.run(bench, folder / "faults.json", MINUTES["faults"])
    return told


def apart(*arguments: str) -> None:
    """Another part in a Python of its own, as each wants another world."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}
    environment.pop("TQDM_DISABLE", None)  # who waits for a lock is to say so
    done = subprocess.run([sys.executable, "-m", "reliability.nightly", *arguments], cwd=ROOT, env=environment)
    if done.returncode not in (0, 1):
        print(f"{arguments[0]}: ended with {done.returncode}", file=sys.stderr)


def one_part(name: str, folder: Path) -> dict[str, Any]:
    """What a part found."""
    if name == "inputs":
        return {name: inputs(folder)}
    if name == "numbers":
        from reliability import same_numbers

        return {name: same_numbers.run()}
    if name == "hostile":
        from reliability import hostile

        return {name: hostile.run(folder / "hostile")}
    if name == "load":
        return {name: load(folder)}
    if name == "findings":
        from reliability import findings

        return {name: findings.run()}
    if name == "mutation":
        from reliability import mutation, warm

        warm.warm()
        return {name: mutation.run(folder / "mutation", MUTANTS, minutes=MINUTES["mutation"])}
    return disturbances([name], folder)


def commit() -> str:
    """Of the checkout, asked in another Python: mutation wants to import btlib itself."""
    asked = [sys.executable, "-c", "from pathlib import Path; from btlib import results; print(results.commit(Path()))"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def keep(found: dict[str, Any], **more: str) -> None:
    """Put the results of parts, with their surroundings, beside the others', and write the page anew."""
    from btlib import locks, results

    here = results.environment()
    when = {"commit": here["commit"], "device": here["device"], "torch": here["versions"]["torch"],
            "made": datetime.now(UTC).date().isoformat()}  # fmt: skip
    with locks.alone(RESULT):  # two parts may end at once
        whole = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        whole |= {part: {"found": told, **when, **more} for part, told in found.items()}
        RESULT.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        PAGE.write_text(page(whole), encoding="utf-8")


def wrong(name: str, found: Any) -> list[Any]:
    """What a part complains of."""
    if name == "kills":
        return [kill for job in found.values() for kill in job["wrong"]]
    if name in ("faults", "hostile"):
        return [one for one in found if one["wrong"]]
    if name == "mutation":
        return [] if found["killed"] >= 0.9 * found["tried"] else [f"{found['killed']} of {found['tried']} killed"]
    return list(found["wrong"])


def main() -> int:
    """Run the parts that are named, or all; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *MINUTES], metavar="PART", help=", ".join(MINUTES))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "reliability")
    told = parser.parse_args()
    parts = told.parts or list(MINUTES)
    if len(parts) > 1:
        with ThreadPoolExecutor(1) as aside:
            for name in parts:
                if name == BESIDE:
                    aside.submit(apart, name, "--folder", str(told.folder))
            for name in parts:
                if name != BESIDE:
                    apart(name, "--folder", str(told.folder))
        found = {name: part["found"] for name, part in json.loads(RESULT.read_text(encoding="utf-8")).items()}
    else:
        (name,) = parts
        found = one_part(name, told.folder / commit())
        keep(found)
    complaints = {name: wrong(name, found[name]) for name in parts if name in found}
    for name in parts:
        print(f"{name:9} {'FAIL' if complaints.get(name, ['not run']) else 'ok'}")
        for one in complaints.get(name, []):
            print("   ", one)
    return int(any(complaints.get(name, ["not run"]) for name in parts))


if __name__ == "__main__":
    sys.exit(main())
