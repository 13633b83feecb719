"""Which mistakes the tests notice: each is tried in a copy of a warm process, and no file is changed."""

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from reliability.mutants import Mutant, sample
from reliability.reached import reached
from reliability.warm import ROOT, pytest_in_a_copy, warm

_FIRST, _MOST_SECONDS = 20, 60.0


def made(mutant: Mutant) -> Callable[[], None]:
    """What puts the mistake in, before the library is imported: files stay as they are."""
    path = str(ROOT / "btlib" / mutant.module)
    code = compile(mutant.tree(), path, "exec", dont_inherit=True)

    def put() -> None:
        usual = SourceFileLoader.get_code
        SourceFileLoader.get_code = lambda self, name: code if self.path == path else usual(self, name)  # type: ignore[method-assign]

    return put


def tests_of(mutant: Mutant, every: dict[str, dict[str, Any]]) -> list[str]:
    """The tests that run its line, else those that run its module; near ones and quick ones first."""
    of_module = {test: told for test, told in every.items() if mutant.module in told["lines"]}
    of_line = {test: told for test, told in of_module.items() if mutant.line in told["lines"][mutant.module]}
    folder = mutant.module.split("/")[0].removesuffix(".py")

    def order(test: str) -> tuple[bool, float]:
        return folder not in test.split("::")[0], every[test]["seconds"]

    chosen, seconds = [], 0.0
    for test in sorted(of_line or of_module, key=order):
        seconds += every[test]["seconds"]
        if seconds > _MOST_SECONDS:
            break
        chosen.append(test)
    return chosen


def tried(mutant: Mutant, every: dict[str, dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Whether some test fails: the nearest twenty are asked first."""
    tests, began = tests_of(mutant, every), time.monotonic()
    verdict = "not reached" if not tests else "survived"
    for part in (tests[:_FIRST], tests[_FIRST:]):
        if part and verdict == "survived":
            limit = 20 + 5 * round(sum(every[test]["seconds"] for test in part))
            doctests = ["--doctest-modules"] if any(test.startswith("btlib") for test in part) else []
            # pytest would compile modules whose doctests it is asked for from their files: without the mistake
            how = ["-x", "--assert=plain", *doctests, *part]
            status, _ = pytest_in_a_copy(how, folder, before=made(mutant), seconds=limit)
            # 0: all passed; below 0: the system ended it, for time or memory; else a test failed, or the import did
            verdict = "survived" if status == 0 else "killed"
    seconds = round(time.monotonic() - began, 1)
    return {"mutant": mutant.name, "text": mutant.text, "verdict": verdict, "tests": len(tests), "seconds": seconds}


def run(folder: Path, count: int, seed: int = 0, minutes: float = math.inf) -> dict[str, Any]:
    """Try the first `count` mistakes of a seed's draw.

    Args:
        folder: of what was tried before, which is not tried again.
        count: how many.
        seed: of the draw.
        minutes: after which none is begun.
    """
    ends = time.monotonic() + 60 * minutes
    folder.mkdir(parents=True, exist_ok=True)
    kept, every = folder / "mutation.json", lru_cache(lambda part: reached(part, folder / "reached"))
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    chosen = sample(count, seed)
    for mutant in chosen:
        if mutant.name not in known and time.monotonic() < ends:
            known[mutant.name] = tried(mutant, every(mutant.module.split("/")[0]), folder / "try")
            kept.write_text(json.dumps(known, indent=1, ensure_ascii=False), encoding="utf-8")
    tried_now = [known[mutant.name] for mutant in chosen if mutant.name in known]
    verdicts = Counter(one["verdict"] for one in tried_now)
    left = [one for one in tried_now if one["verdict"] != "killed"]
    return {"seed": seed, "wanted": count, "tried": len(tried_now), "killed": verdicts["killed"], "left": left}


if __name__ == "__main__":
    warm()
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2])), indent=1, ensure_ascii=False))
