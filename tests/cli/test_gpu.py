"""`btlib gpu`: the whole way on the CPU with tiny settings, and what it says without a GPU."""

import json
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from typer.testing import CliRunner

from btlib import papers
from btlib.cli import gpu
from btlib.cli.app import app
from btlib.cli.children import one
from btlib.training import RECIPES

ROOT = Path(__file__).parents[2]


def rehearse(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    ran = CliRunner().invoke(app, ["gpu", "--rehearse", "--results", str(folder), *arguments])
    (page,) = (folder / "gpu").glob("*.json")
    return ran.exit_code, json.loads(page.read_text(encoding="utf-8")), ran.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["gpu", "--results", str(tmp_path)])
    assert ran.exit_code == 2
    assert len(ran.output.splitlines()) == 1
    assert "expected an NVIDIA GPU, got none" in ran.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_rehearsal_goes_all_the_way(tmp_path: Path, write_lesson: Any) -> None:
    lessons = tmp_path / "lessons"
    lessons.mkdir()
    write_lesson(lessons / "00_good.ipynb", "assert SEED == 0")
    status, page, said = rehearse(tmp_path, "--notebooks", str(lessons))
    assert {name: stage["failed"] for name, stage in page["stages"].items()} == dict.fromkeys(gpu.STAGES, [])
    assert status == 0
    assert page["rehearsal"] is True
    assert page["versions"]["torch"] == version("torch")
    assert page["stages"]["lessons"]["lessons"]["00_good"]["status"] == "passed"
    assert page["stages"]["nbval"]["passed"] == 2
    assert page["stages"]["tests"]["passed"] == 4  # tests/test_profiles.py
    assert min(page["stages"]["timing"]["timings"].values()) > 0
    assert page["stages"]["rows"]["rows"]["inflight-1/clean"]["state"] == "done"
    assert list((tmp_path / "inflight-1").glob("clean-s0-*.json"))
    assert all(stage["seconds"] > 0 for stage in page["stages"].values())
    assert "0 failed" in said


@pytest.mark.slow
def test_what_fails_is_named_and_the_rest_is_kept(tmp_path: Path, write_lesson: Any) -> None:
    lessons = tmp_path / "lessons"
    lessons.mkdir()
    write_lesson(lessons / "00_bad.ipynb", "raise KeyError('poison')")
    status, page, said = rehearse(tmp_path, "--notebooks", str(lessons), "--stages", "lessons")
    assert status == 1
    assert re.search("00_bad: .*KeyError", page["stages"]["lessons"]["failed"][0])
    assert "FAIL 00_bad" in said


def test_a_stage_that_does_not_exist_is_named(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["gpu", "--rehearse", "--stages", "lesons", "--results", str(tmp_path)])
    assert ran.exit_code == 2
    assert "lesons" in ran.output


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("apart", [False, True], ids=["its session", "a session of its own, as a kernel has"])
def test_when_the_time_is_up_everything_that_was_started_ends(tmp_path: Path, apart: bool) -> None:
    sleeping = f"[{sys.executable!r}, '-c', 'import time; time.sleep(60)'], start_new_session={apart}"
    inner = f"child = subprocess.Popen({sleeping}); print('begun', child.pid, flush=True); child.wait()"
    ended = one(["-c", f"import subprocess; {inner}"], folder=tmp_path, seconds=3)
    assert ended.timed_out
    child = int(re.search(r"begun (\d+)", ended.why)[1])  # type: ignore[index]
    ends = time.monotonic() + 5
    while not gone(child):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_every_row_has_a_plan_in_minutes() -> None:
    for key in gpu.ROWS:
        planned = papers.plan(key, "minutes")
        assert planned.measurement.wants_gpu
        assert planned.measurement.spec.recipe == RECIPES["minutes"]
        assert "20 epochs" in planned.differs
    assert set(gpu.REHEARSED) <= {row.key for table in papers.tables().values() for row in table.rows.values()}


def test_minutes_leaves_alone_what_takes_minutes_anyway() -> None:
    planned = papers.plan("inflight-4/mnist-wb", "minutes")
    assert planned.measurement == papers.plan("inflight-4/mnist-wb", "paper").measurement
    assert planned.differs == ""
