"""Where things lie in a checkout; tests/test_wheel.py looks at the same from an installed btlib."""

import sys
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
    assert (paths.TEMPLATES / "scan" / "page.css").exists()


def test_a_named_data_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTLIB_DATA", str(tmp_path / "sub" / ".."))
    assert paths.data_folders() == (tmp_path, ROOT / "data")


def test_modules_of_the_current_folder_can_be_imported_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with pytest.raises(ModuleNotFoundError), paths.from_here():
        __import__("not_in_this_folder")
    assert sys.path == before
    (tmp_path / "in_this_folder.py").write_text("said = 3")
    with paths.from_here():
        assert __import__("in_this_folder").said == 3
    assert sys.path == before


def test_what_came_with_btlib_comes_back_from_where_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.restored_by("data") == "`git checkout -- data`"
    monkeypatch.setattr(paths, "CHECKOUT", None)  # as where it is installed
    assert "pip install" in paths.restored_by("data")
