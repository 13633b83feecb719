"""Which test runs which lines of the library, and how long it takes: so that a mutation meets the right tests first."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from reliability.warm import ROOT, pytest_in_a_copy

#: What is mutated, and the tests that belong to it; its doctests do too.
TESTS = {
    "detection": ["tests/detection", "tests/testing/test_detectors.py"],
    "inflight": ["tests/inflight", "tests/testing/test_in_flight_contract.py"],
    "attacks": ["tests/attacks"],
    "metrics": ["tests/test_metrics.py"],
    "repair": ["tests/repair"],
    "poisoning.py": ["tests/test_poisoning.py"],
}
MUTATED, EVERYWHERE = tuple(TESTS), ("tests/test_any_input.py",)


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


def files(part: str) -> Iterator[str]:
    """Files with tests of a part of the library, as seen from the repository."""
    for place in (*TESTS[part], f"btlib/{part}", *EVERYWHERE):
        whole = ROOT / place
        pattern = "test_*.py" if place.startswith("tests") else "*.py"
        for path in [whole] if whole.is_file() else sorted(whole.rglob(pattern)):
            yield str(path.relative_to(ROOT))


def reached(part: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Test of a part → seconds and lines by module; what was watched before is read from the folder."""
    every: dict[str, dict[str, Any]] = {}
    for file in files(part):
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
