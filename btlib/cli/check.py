"""`python -m btlib check`: is this machine ready for the course? Lesson 00 shows the same list."""

import os
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import typer

from btlib.cli.paths import ROOT

DISK_GIB = 2.0
MEMORY_GIB = 2.0
INSTALL = "make .venv, or: python -m pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class CheckResult:
    """What one requirement came to.

    Attributes:
        name: the requirement.
        ok: whether it is met.
        detail: what was found.
        fix: what to do when it is not met; empty when it is.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""

    def __str__(self) -> str:
        remedy = "" if self.ok else f" -> {self.fix}"
        return f"[{'OK' if self.ok else 'FAIL'}] {self.name}: {self.detail}{remedy}"


def command() -> None:
    """Say what this machine has and lacks; exit with 1 if anything is missing."""
    results = run_checks()
    for result in results:
        typer.echo(result)
    missing = [result.name for result in results if not result.ok]
    typer.echo("ready" if not missing else f"missing: {', '.join(missing)}")
    raise typer.Exit(not all(result.ok for result in results))


def run_checks() -> list[CheckResult]:
    """All requirements, in the order to fix them. Never raises: a check that breaks has failed."""
    checks: dict[str, Callable[[], CheckResult]] = {
        "Python": check_python,
        **{name: partial(check_package, name, bound) for name, bound in requirements()},
        "device": check_device,
        "threads": check_threads,
        "memory": check_memory,
        "disk": check_disk,
        "data": check_data,
        "kernel": check_kernel,
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], CheckResult]) -> CheckResult:
    try:
        return check()
    except Exception as error:
        return CheckResult(name, False, f"{type(error).__name__}: {error}", INSTALL)


def requirements() -> list[tuple[str, str]]:
    """Name and version bound, such as ("torch", ">=2.6"), of each package pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pairs = (line.split(">=") for line in project["dependencies"])
    return [(name, f">={bound}") for name, bound in pairs]


def check_python() -> CheckResult:
    """Python 3.11 or newer."""
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return CheckResult("Python", ok, f"{found} ({sys.executable})", "install Python 3.11 or newer")


def check_package(name: str, bound: str) -> CheckResult:
    """The package is installed in a version within `bound`."""
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return CheckResult(name, False, f"expected {bound}, not installed", INSTALL)
    from packaging.specifiers import SpecifierSet

    ok = SpecifierSet(bound).contains(found, prereleases=True)
    return CheckResult(name, ok, found if ok else f"expected {bound}, got {found}", INSTALL)


def check_device() -> CheckResult:
    """torch and torchvision work together, and on what they compute."""
    import torch
    import torchvision  # its import fails beside a torch of another origin

    if torch.cuda.is_available():
        found = f"cuda, {torch.cuda.get_device_name()}"
    elif torch.backends.mps.is_available():
        found = "mps"
    else:
        found = "cpu, which is enough for the fast profile"
    return CheckResult("device", bool(torchvision.__version__), found)


def check_threads() -> CheckResult:
    """How many threads torch uses."""
    import torch

    return CheckResult("threads", True, f"torch uses {torch.get_num_threads()} of {os.cpu_count()} cores")


def check_memory() -> CheckResult:
    """Enough free memory for any lesson at the fast profile."""
    import psutil

    free = psutil.virtual_memory().available / 2**30
    found = f"{free:.1f} GiB free, a lesson needs up to {MEMORY_GIB:g}"
    return CheckResult("memory", free >= MEMORY_GIB, found, "close other programs")


def check_disk() -> CheckResult:
    """Enough free disk for pages and trained networks."""
    free = shutil.disk_usage(ROOT).free / 2**30
    found = f"{free:.1f} GiB free, the course needs up to {DISK_GIB:g}"
    return CheckResult("disk", free >= DISK_GIB, found, f"make room on the disk of {ROOT}")


def check_data() -> CheckResult:
    """Fashion-MNIST is there and whole."""
    from btlib import datasets

    try:
        datasets.verify("fashion-mnist")
    except datasets.DataError as error:
        return CheckResult("data", False, str(error), "take data/FashionMNIST from the repository again")
    return CheckResult("data", True, "fashion-mnist present and intact")


def check_kernel() -> CheckResult:
    """The kernel that notebooks ask for, `python3`, is this very Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    fix = f"{sys.executable} -m ipykernel install --sys-prefix --name python3"
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return CheckResult("kernel", False, "no kernel is named python3", fix)
    # Jupyter itself replaces a bare "python" by the Python that it runs in.
    ours = program in _bare_names() or _same_environment(program)
    found = f"python3 is {sys.executable}" if ours else f"expected {sys.executable}, got {program}"
    return CheckResult("kernel", ours, found, fix)


def _bare_names() -> set[str]:
    major, minor = sys.version_info[:2]
    return {"python", f"python{major}", f"python{major}.{minor}"}


def _same_environment(program: str) -> bool:
    """Whether both are one environment's Python; links are kept, since each venv's Python is one."""
    return Path(program).parent.absolute() == Path(sys.executable).parent.absolute()
