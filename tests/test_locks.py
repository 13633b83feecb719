"""One process at a time, and none that outlives its parent."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from btlib.locks import alone, end_with, lock


def test_one_at_a_time_makes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def second() -> None:
        with alone(tmp_path / "a"):
            seen.append("second")

    waiting = threading.Thread(target=second)
    with alone(tmp_path / "a"):
        waiting.start()
        with alone(tmp_path / "b"):  # another file does not wait
            pass
        waiting.join(1.5)
        seen.append("first")
    waiting.join(5)
    assert seen == ["first", "second"]
    assert "waiting: another process makes a" in capsys.readouterr().err


def test_a_user_without_a_name_has_locks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", nobody)
    with lock("x", tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [f"btlib-{os.getuid()}-x.lock"]


def test_a_process_whose_parent_has_ended_already_ends_at_once() -> None:
    orphan = f"import sys, time; from {end_with.__module__} import end_with; end_with({os.getppid()}); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", orphan], timeout=30, check=False).returncode == 1


def test_watching_a_parent_does_not_wait_for_torch() -> None:
    heavy = f"import sys, {end_with.__module__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", heavy], timeout=30, check=False).returncode == 0
