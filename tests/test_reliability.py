"""What `make nightly` measures with: its page says what its JSON says, and it sees what it is to see."""

import ast
import dataclasses
import json
import math
from pathlib import Path

import pytest
from reliability import hostile, kills, mutants, page, same_numbers
from reliability.warm import ROOT

from btlib import sealed


@pytest.mark.skipif(not page.RESULT.exists(), reason="measured by make nightly")
def test_the_page_says_what_was_measured() -> None:
    whole = json.loads(page.RESULT.read_text(encoding="utf-8"))
    assert page.PAGE.read_text(encoding="utf-8") == page.page(whole)


def test_a_mistake_changes_one_place() -> None:
    chosen = mutants.sample(6)
    assert len({mutant.name for mutant in chosen}) == 6
    for mutant in chosen:
        text = (ROOT / "btlib" / mutant.module).read_text(encoding="utf-8")
        before, after = (ast.unparse(tree).splitlines() for tree in (ast.parse(text), mutant.tree()))
        changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        assert len(changed) == 1, mutant.name


def test_a_new_line_changes_no_other_lot() -> None:
    old = [mutants.Mutant("a.py", line, 0, (line, 0), "`1` → `2`", text) for line, text in enumerate("pqqrst")]
    new = [dataclasses.replace(old[0], text="new"), *(dataclasses.replace(one, line=one.line + 1) for one in old)]
    orders = [[(one.text, one.line - (each is new)) for one in sorted(each, key=mutants.lots(0)) if one.text != "new"]
              for each in (old, new)]  # fmt: skip
    assert orders[0] == orders[1] != [(one.text, one.line) for one in old]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("a < b", {"`a < b` → `a <= b`"}),
        ("x = a - b", {"`a - b` → `a + b`"}),
        ("x = f'{a}' + 'b'", set()),
        ("x: list[1] = 2", {"`2` → `3`"}),
        ("x = -a and not b", {"`-a and (not b)` → `-a or not b`", "`-a` → `+a`", "`not b` → `not not b`"}),
        ("raise ValueError(1 + 1)", set()),
        ("f(x)", {"`f(x)` → `None`"}),
        ("x = True if c else 0.0",
         {"`True if c else 0.0` → `True if False else 0.0`", "`True` → `False`", "`0.0` → `1.0`"}),
    ],
)  # fmt: skip
def test_what_can_go_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, changes: set[str]) -> None:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    file = tmp_path / "btlib" / "a.py"
    file.parent.mkdir()
    file.write_text(f'"""Docstring with 1 + 1."""\n{text}\n')
    assert {mutant.what for mutant in mutants.mutants(file)} == changes


def test_a_torn_file_is_seen_and_a_time_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    digests = set()
    for seconds in (1.0, 2.0):
        sealed.write(out / "a.safetensors", "toy", {"history": [{"loss": 0.5, "seconds": seconds}]}, {})
        (out / "a.json").write_text(json.dumps({"seconds": seconds, "x": 1}))
        (out / "a.html").write_text(f"<html>{seconds} s</html>")
        (tmp_path / ".a.json.part").write_text("{")  # under no name that somebody would read
        assert kills.torn(tmp_path) == []
        digests.add(kills.told(tmp_path))
    assert len(digests) == 1
    (out / "a.json").write_text(json.dumps({"seconds": 1.0, "x": 2}))
    assert kills.told(tmp_path) not in digests
    for name in ("a.safetensors", "a.json", "a.html"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[: len(whole) - 3])
        assert [line.split(":")[0] for line in kills.torn(tmp_path)] == [f"out/{name}"]
        (out / name).write_bytes(whole)


def test_every_call_whose_numbers_are_compared_gives_some() -> None:
    for name in ("training", "in-flight likelihoods", "in-flight STRIP", "RED-U"):
        tensors, shares = same_numbers.CALLS[name]()
        assert all(tensor.isfinite().all() for tensor in tensors), name
        assert shares, name
        assert all(math.isfinite(value) for value in shares.values()), name


def test_every_job_gets_its_share_of_the_kills() -> None:
    shares = kills.shares(200)
    assert set(shares) == set(kills.JOBS)
    assert min(shares.values()) >= 3
    assert 200 <= sum(shares.values()) < 220


def test_every_hostile_file_and_finding_is_told(tmp_path: Path) -> None:
    kinds = hostile.HOSTILE
    assert sum(len(files) for files in kinds.values()) > 70
    told = {"made": "today", "commit": "c", "torch": "t", "device": "d"}
    wrong = ["a | b: its code ran", "a | b: 900 MiB"]
    text = page.page({
        "hostile": {**told, "found": [{"kind": "a picture", "files": 3, "wrong": wrong,
                                       "most_mb": 900, "by": "a | b"}]},
        "findings": {**told, "found": {"audit": {"pinned": 9, "known": 8, "holes": []}, "bandit": {
            "version": "2", "found": [{"test": "B102", "name": "exec", "file": "exercises/confined.py", "count": 1},
                                      {"test": "B102", "name": "exec", "file": "new.py", "count": 2}]}}},
    })  # fmt: skip
    assert "| a picture | 3 | 2 | 900 | a \\| b | a \\| b: its code ran; a \\| b: 900 MiB |" in text
    assert "an answer for 8 of 9 pinned packages, and knows of no holes" in " ".join(text.split())
    assert "Bandit 2 finds 3 things" in " ".join(text.split())
    assert "| B102 exec | exercises/confined.py | 1 | a student's answer, in a process with limits |" in text
    assert "| B102 exec | new.py | 2 | not looked at yet |" in text


def test_a_hostile_file_that_is_read_is_told(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.mkdir()
    (ready / "ran").touch()
    harmless = hostile.Hostile(lambda path: path.write_text("{}"), ("check", "--help"), "nothing of the kind")
    found = hostile.tried(harmless, tmp_path / "home", ready)["wrong"]
    assert [one.split(":")[0] for one in found] == ["status 0", "it says", "its code ran"]
