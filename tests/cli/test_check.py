"""`python -m btlib check`."""

import sys

import pytest
from typer.testing import CliRunner

from btlib import datasets
from btlib.cli import check
from btlib.cli.app import app
from btlib.cli.check import CheckResult


def test_every_requirement_has_a_line_and_this_machine_is_ready():
    results = check.run_checks()
    names = [result.name for result in results]
    assert names[0] == "Python"
    assert {"torch", "papermill", "device", "threads", "memory", "disk", "data", "kernel"} <= set(names)
    assert [str(result) for result in results if not result.ok] == []


def test_lines_read_well():
    assert str(CheckResult("disk", True, "9 GiB free", "make room")) == "[OK] disk: 9 GiB free"
    assert str(CheckResult("disk", False, "0 GiB free", "make room")) == "[FAIL] disk: 0 GiB free -> make room"


def test_requirements_are_those_of_the_project():
    assert ("torch", ">=2.6") in check.requirements()


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
    assert (result.ok, result.detail) == (ok, detail)


def test_damaged_data_is_reported(monkeypatch):
    def damaged(name="fashion-mnist"):
        raise datasets.DataError("train-images: wrong checksum")

    monkeypatch.setattr(datasets, "verify", damaged)
    assert "[FAIL] data: train-images: wrong checksum -> " in str(check.check_data())


def test_a_full_disk_and_a_full_memory_are_reported(monkeypatch):
    monkeypatch.setattr(check, "DISK_GIB", 1e9)
    monkeypatch.setattr(check, "MEMORY_GIB", 1e9)
    assert not check.check_disk().ok
    assert not check.check_memory().ok


@pytest.mark.parametrize(
    ("program", "ok"),
    [("python", True), ("python3", True), (sys.executable, True), ("/opt/other/bin/python", False)],
)
def test_the_kernel_must_be_this_python(monkeypatch, program, ok):
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: KernelSpec(argv=[program]))
    assert check.check_kernel().ok is ok


def test_a_check_that_breaks_has_failed_and_the_command_says_so(monkeypatch):
    def broken():
        raise OSError("no device")

    monkeypatch.setattr(check, "requirements", lambda: [])
    monkeypatch.setattr(check, "check_device", broken)
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 1
    assert "[FAIL] device: OSError: no device" in result.output
    assert "[OK] Python" in result.output
    assert result.output.splitlines()[-1] == "missing: device"
    monkeypatch.undo()
    assert CliRunner().invoke(app, ["check"]).output.splitlines()[-1] == "ready"
