"""`btlib check`."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from btlib.cli import check
from btlib.cli.app import app
from btlib.cli.check import CheckResult
from btlib.paths import CHECKOUT


def test_every_requirement_has_a_line_and_this_machine_is_ready():
    results = check.run_checks()
    names = [result.name for result in results]
    assert names[0] == "Python"
    assert {"torch", "papermill", "distributed", "device", "threads", "memory", "disk", "data", "kernel"} <= set(names)
    assert [str(result) for result in results if not result.ok] == []


def test_lines_read_well():
    assert str(CheckResult("disk", True, "9 GiB free", "make room")) == "[OK] disk: 9 GiB free"
    assert str(CheckResult("disk", False, "0 GiB free", "make room")) == "[FAIL] disk: 0 GiB free -> make room"
    assert str(CheckResult("dask", False, "not here", "get it", needed=False)) == "[-] dask: not here -> get it"


def test_requirements_are_those_of_the_project():
    found = check.requirements()
    assert ("torch", ">=2.6", "") in found
    assert ("ipykernel", ">=6.29,<7", "course") in found
    assert ("distributed", ">=2024.8", "dask") in found
    assert "btlib" not in {name for name, _, _ in found}


@pytest.mark.parametrize(
    ("name", "bound", "ok", "detail"),
    [
        ("pytest", ">=1", True, pytest.__version__),
        ("pytest", ">=999", False, f"expected >=999, got {pytest.__version__}"),
        ("no-such-package", ">=1", False, "expected >=1, not installed"),
    ],
)
def test_packages(name, bound, ok, detail):
    result = check.check_package(name, bound)
    assert (result.ok, result.detail, result.failed) == (ok, detail, not ok)
    optional = check.check_package(name, bound, "course")
    assert (optional.ok, optional.failed) == (ok, False)
    assert ok or optional.fix.startswith("only for the lessons: ")


def test_a_python_without_any_package_hears_what_is_missing():
    """-S: no site-packages, so not even typer is there."""
    variables = {"PATH": os.defpath, "PYTHONPATH": str(CHECKOUT)}
    for words in (["check"], ["course", "--lesson", "00"]):
        done = subprocess.run(
            [sys.executable, "-S", "-m", "btlib", *words], env=variables, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (1, "")
        assert "[FAIL] typer: expected >=0.19, not installed -> make .venv, or: python -m pip install" in done.stdout
        assert "[-] jupyterlab: expected >=4.2, not installed -> only for the lessons: " in done.stdout
        assert done.stdout.splitlines()[-1].startswith("missing: torch, ")


def test_damaged_data_is_reported(monkeypatch, tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"half")
    monkeypatch.setenv("BTLIB_DATA", str(tmp_path))
    assert str(check.check_data()).startswith(f"[FAIL] data: {raw / 'train-images-idx3-ubyte'}: its MD5 sum is ")


def test_a_full_disk_and_a_full_memory_are_reported():
    assert check.check_disk().ok
    assert not check.check_disk(1e9).ok
    assert not check.check_memory(1e9).ok


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    """A function that makes the kernel called python3 be something else."""

    def write(text):
        place = tmp_path / "kernels" / "python3" / "kernel.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    return write


@pytest.mark.parametrize(
    ("program", "ok"),
    [("python", True), ("python3", True), (sys.executable, True), ("/opt/other/bin/python", False)],
)
def test_the_kernel_must_be_this_python(kernel, program, ok):
    kernel(json.dumps({"argv": [program], "display_name": "Python 3", "language": "python"}))
    assert check.check_kernel().ok is ok


def test_a_check_that_breaks_has_failed_and_the_command_says_so(kernel):
    assert CliRunner().invoke(app, ["check"]).output.splitlines()[-1] == "ready"
    kernel("{")
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 1
    assert "[FAIL] kernel: JSONDecodeError: " in result.output
    assert "[OK] Python" in result.output
    assert result.output.splitlines()[-1] == "missing: kernel"
