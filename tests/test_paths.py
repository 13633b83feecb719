"""Where things lie in a checkout; tests/test_wheel.py looks at the same from an installed btlib."""

from pathlib import Path

import pytest

from btlib import paths

ROOT = Path(__file__).resolve().parents[1]


def test_a_checkout_keeps_everything_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BTLIB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)  # wherever it is called from
    assert paths.CHECKOUT == paths.repository() == paths.root() == ROOT
    assert ROOT / "data" / "checkpoints" == paths.SHIPPED
    assert paths.notebooks() == ROOT / "notebooks"
    assert paths.results() == ROOT / "results"
    assert paths.cache() == ROOT / "data" / "cache"
    assert paths.data_folders() == (ROOT / "data",)
    assert (paths.TEMPLATES / "lesson" / "page.css").exists()


def test_a_named_data_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTLIB_DATA", str(tmp_path / "sub" / ".."))
    assert paths.data_folders() == (tmp_path, ROOT / "data")
