"""Which test runs which lines of the library, and how long it takes: so that a mutation meets the right tests first."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from reliability.warm import ROOT, pytest_in_a_copy, warm

#: What is mutated, and the tests that belong to it. Doctests are tests too.
MUTATED = ("detection", "inflight", "attacks", "metrics", "repair", "poisoning.py")
TESTS = (
    "tests/test_poisoning.py", "tests/test_metrics.py", "tests/detection", "tests/inflight", "tests/repair",
    "tests/attacks", "tests/testing", "tests/test_any_input.py",
    *(f"btlib/{part}" for part in MUTATED),
)  # fmt: skip


class Watch:
    """A plugin of pytest: lines of the mutated modules by test, and seconds of a processor."""

    def __init__(self) -> None:
        self.lines: dict[str, set[int]] = {}
        self.found: dict[str, dict[str, Any]] = {}
        self.wanted: dict[CodeType, str] = {}

    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> None:
        """A new test begins: with its fixtures, which may be others' too."""
        self.lines = {}
        self.began = time.process_time()

    def pytest_runtest_setup(self, item: Any) -> None:
        sys.settrace(self._called)

    def pytest_runtest_teardown(self, item: Any) -> None:
        sys.settrace(None)
        self.found[item.nodeid] = {
            "seconds": round(time.process_time() - self.began, 3),
            "lines": {name: sorted(lines) for name, lines in self.lines.items()},
        }

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and report.nodeid in self.found:
            del self.found[report.nodeid]  # what fails by itself can judge nobody

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        name = self.wanted.get(code)
        if name is None:
            name = self.wanted[code] = _name(code.co_filename)
        if not name:
            return None
        lines = self.lines.setdefault(name, set())
        lines.add(frame.f_lineno)

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return line

        return line


def _name(path: str) -> str:
    """A module as seen from the library, "" for what is not mutated."""
    prefix = f"{ROOT}/btlib/"
    name = path.removeprefix(prefix)
    return name if path.startswith(prefix) and name.split("/")[0] in MUTATED else ""


def files() -> Iterator[str]:
    """Files with tests, as seen from the repository."""
    for place in TESTS:
        whole = ROOT / place
        pattern = "test_*.py" if place.startswith("tests") else "*.py"
        for path in [whole] if whole.is_file() else sorted(whole.rglob(pattern)):
            yield str(path.relative_to(ROOT))


def reached(folder: Path) -> dict[str, dict[str, Any]]:
    """Test → seconds and lines by module; what was watched before is read from the folder."""
    every: dict[str, dict[str, Any]] = {}
    for file in files():
        kept = folder / f"{file.replace('/', '-')}.json"
        folder.mkdir(parents=True, exist_ok=True)
        if not kept.exists() or kept.stat().st_mtime < (ROOT / file).stat().st_mtime:
            watch = Watch()
            doctests = ["--doctest-modules"] if file.startswith("btlib") else []
            status, found = pytest_in_a_copy(
                [*doctests, file], folder, plugins=[watch], after=lambda watch=watch: watch.found
            )
            if found is None:
                raise RuntimeError(f"{file}: pytest ended with {status}: {(folder / 'said').read_text()[-500:]}")
            kept.write_text(json.dumps(found))
        every |= json.loads(kept.read_text())
    return every


if __name__ == "__main__":
    warm()
    print(len(reached(Path(sys.argv[1]))))
