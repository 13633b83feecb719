"""Results on disk: what was written is read; what is torn, changed or foreign never is."""

import dataclasses
import json

import pytest

from btlib import papers, paths
from btlib.papers import store
from btlib.papers.measurements import Measurement
from btlib.papers.store import Result, ResultError

MEASURED = Measurement("k", {"a": [1, 2.5]}, 7)
RESULT = Result(
    "lred-2/g-1", MEASURED, {"x": {"y": 0.1}, "z": None}, 1.5, 300.0, "cpu", {"commit": "abc"}, "2026-11-21"
)


def test_what_was_written_is_read(tmp_path):
    path = store.write(tmp_path, RESULT)
    assert path == tmp_path / "lred-2" / f"g-1-s7-{MEASURED.digest}.json"
    assert store.read(path) == RESULT
    assert store.find(tmp_path, MEASURED) == RESULT
    assert store.every(tmp_path) == {MEASURED.digest: RESULT}


def test_it_is_found_in_whatever_rows_name_it_was_kept(tmp_path):
    store.write(tmp_path, dataclasses.replace(RESULT, row="other/name"))
    assert store.find(tmp_path, MEASURED).row == "other/name"
    assert store.find(tmp_path, Measurement("k", {"a": [1, 2.5]}, 8)) is None


def test_numbers_by_dotted_name():
    assert RESULT.number("x.y") == 0.1
    assert RESULT.number("x.q") is RESULT.number("q.y") is RESULT.number("x.y.z") is RESULT.number("z") is None


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_a_torn_file_is_never_read(tmp_path, share):
    path = store.write(tmp_path, RESULT)
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(ResultError, match=r"is not read"):
        store.read(path)
    assert store.find(tmp_path, MEASURED) is None
    assert store.every(tmp_path) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["numbers"]["x"].update(y=0.9),  # typed by hand
        lambda c: c["recipe"].update(seed=8),
        lambda c: c.update(schema="btlib paper result 2"),
        lambda c: c.pop("checksum"),
        lambda c: c.pop("seconds"),
    ],
)
def test_a_changed_file_is_never_read(tmp_path, change):
    path = store.write(tmp_path, RESULT)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=str(path)):
        store.read(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("row", 1), ("numbers", [1]), ("seconds", "1"), ("peak_memory_mb", None), ("device", 0), ("environment", "cpu"),
     ("finished", None), ("recipe", []), ("recipe", {"kind": "k", "settings": [1]})],
)  # fmt: skip
def test_a_value_of_another_type_is_never_read(tmp_path, name, value):
    """Sealed by someone who knows how: it used to end every command that lists results."""
    path = store.write(tmp_path, RESULT)
    content = json.loads(path.read_text()) | {name: value}
    del content["checksum"]
    path.write_text(json.dumps({**content, "checksum": store._checksum(content)}))
    assert store.every(tmp_path) == {}
    with pytest.raises(ResultError, match=str(path)):
        store.read(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"rows": {}}', "null", "\x00\x01", "[" * 100_000])
def test_a_foreign_file_is_never_read(tmp_path, text):
    path = store.path_of(tmp_path, "lred-2/g-1", MEASURED)
    path.parent.mkdir()
    path.write_text(text)
    assert store.find(tmp_path, MEASURED) is None
    store.write(tmp_path, RESULT)  # and it does not stand in the way
    assert store.find(tmp_path, MEASURED) == RESULT


def test_a_result_of_another_recipe_or_version_than_its_name_says_is_unknown(tmp_path):
    path = store.write(tmp_path, RESULT)
    other = store.path_of(tmp_path, "lred-2/g-1", Measurement("k", {}, 7))
    path.rename(other)
    assert store.find(tmp_path, MEASURED) is None
    assert store.refused(tmp_path) == []
    with pytest.raises(ResultError, match="another measurement or version"):
        store.read(other)


def test_the_folder_of_results_is_where_it_is_now(tmp_path, monkeypatch):
    """The current folder may have changed since the import."""
    monkeypatch.setattr(paths, "CHECKOUT", None)
    for name in ("btlib", "data/checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert str(papers.RESULTS) == str(tmp_path / "results")
    assert {each.ours for each in papers.compare("lred-2")} == {None}
    with pytest.raises(AttributeError, match="'btlib.papers' has no attribute 'RESULT'"):
        _ = papers.RESULT
