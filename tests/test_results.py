"""Results on disk, and where they come from."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from btlib import paths, results


def test_save_writes_readable_json_whole(tmp_path: Path) -> None:
    path = results.save(tmp_path / "deep" / "a.json", {"b": [1, 2.5], "a": None})
    assert path == tmp_path / "deep" / "a.json"
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"a": None, "b": [1, 2.5]}
    assert text.index('"a"') < text.index('"b"'), "sorted, so that two runs can be compared line by line"
    with pytest.raises(TypeError, match="Tensor"):
        results.save(path, {"a": torch.zeros(1)})
    assert path.read_text(encoding="utf-8") == text, "a result that is not JSON destroyed the old one"
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_load_gives_what_was_saved_and_nothing_where_nothing_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "results" / "a.json"
    assert results.load(path) == {}
    results.save(path, {"rows": {"é": 1.5}})
    assert results.load(path) == {"rows": {"é": 1.5}}
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="Expecting"):  # never taken for a benchmark that has not begun
        results.load(path)


def test_relative_paths_are_below_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert results.load("results/benchmark-training.json")["commit"]
    below = os.path.relpath(tmp_path / "a.json", paths.CHECKOUT)
    assert results.save(below, {"x": 1}).samefile(tmp_path / "a.json")


def test_environment_says_what_it_takes_to_believe() -> None:
    found = results.environment()
    assert (
        found["versions"]["torch"] == torch.__version__.split("+")[0] or found["versions"]["torch"] == torch.__version__
    )
    assert found["threads"] == torch.get_num_threads()
    assert found["device"]
    json.dumps(found)


def test_commit_marks_changes_and_survives_without_git(tmp_path: Path) -> None:
    assert results.commit(None) == results.commit(tmp_path) == "unknown"

    def git(*words: str) -> str:
        settings = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *settings, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    assert results.commit(tmp_path) == "unknown"  # no commit yet
    (tmp_path / "results").mkdir()
    for file in (tmp_path / "a", tmp_path / "results" / "a.json"):
        file.write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    assert git("rev-parse", "HEAD").startswith(results.commit(tmp_path))
    (tmp_path / "results" / "a.json").write_text("2", encoding="utf-8")
    assert git("rev-parse", "HEAD").startswith(results.commit(tmp_path))  # measured again, by the same code
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert results.commit(tmp_path).endswith("+changes")
