"""One process at a time."""

import os
import threading
from pathlib import Path

import pytest

from btlib.locks import alone, lock


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
