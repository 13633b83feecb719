"""`btlib check`: is this machine ready? Lesson 00 shows the same list. Runs on a Python without any package."""

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from btlib import paths

DISK_GIB = 2.0
MEMORY_GIB = 2.0
#: What a plain installation lacks, and what it is for.
EXTRAS = {"course": "the lessons", "site": "pages of them", "dask": "sweeps on a cluster"}
_LINE = re.compile(r"""([\w.-]+)\s*([^;\[]*?)\s*(?:;\s*extra == ["'](\w+)["'])?""")


@dataclass(frozen=True)
class CheckResult:
    """What one requirement came to.

    Attributes:
        name: the requirement.
        ok: whether it is met.
        detail: what was found.
        fix: what to do when it is not met; empty when it is.
        needed: whether btlib works without; False for what only some of it wants.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    needed: bool = True

    @property
    def failed(self) -> bool:
        """Whether it is needed and not met."""
        return self.needed and not self.ok

    def __str__(self) -> str:
        remedy = "" if self.ok else f" -> {self.fix}"
        return f"[{'OK' if self.ok else 'FAIL' if self.needed else '-'}] {self.name}: {self.detail}{remedy}"


def command() -> None:
    """Say what this machine has and lacks.

    Exit status: 0 ready, 1 something that is needed is missing.
    """
    results = run_checks()
    print(*results, sep="\n")
    missing = [result.name for result in results if result.failed]
    without = "" if all(result.ok for result in results) else ", but for what is marked [-]"
    print(f"missing: {', '.join(missing)}" if missing else f"ready{without}")
    sys.exit(int(bool(missing)))  # not typer's: typer may be what is missing


def run_checks() -> list[CheckResult]:
    """All requirements, in the order to fix them. Never raises: a check that breaks has failed."""
    checks: dict[str, Callable[[], CheckResult]] = {
        "device": check_device,
        "threads": check_threads,
        "memory": check_memory,
        "disk": check_disk,
        "data": check_data,
        "kernel": check_kernel,
    }
    installed = [package for extra in ("", *EXTRAS) for package in packages(extra)]
    return [check_python(), *installed, *(_guarded(name, check) for name, check in checks.items())]


def _guarded(name: str, check: Callable[[], CheckResult]) -> CheckResult:
    try:
        return check()
    except ModuleNotFoundError as error:
        return CheckResult(name, False, f"not known without {error.name}", install())
    except Exception as error:
        return CheckResult(name, False, f"{type(error).__name__}: {error}", install())


def install(extra: str = "") -> str:
    """How to install btlib's packages, or those of an extra."""
    if paths.CHECKOUT:
        return 'make .venv, or: python -m pip install -c constraints.txt -e ".[dev]"'
    return f'python -m pip install "btlib[{extra}]"' if extra else "python -m pip install btlib"


def requirements() -> list[tuple[str, str, str]]:
    """Name, version bound and extra, such as ("torch", ">=2.6", ""), of each package btlib asks for."""
    if paths.CHECKOUT:  # what is installed may be older than the file
        project = tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lines = project["dependencies"]
        for extra, wanted in project["optional-dependencies"].items():
            lines += [f"{line}; extra == '{extra}'" for line in wanted]
    else:
        lines = metadata.requires("btlib") or []
    found = [_LINE.fullmatch(line) for line in lines]  # None for an extra that is made of others
    return [(match[1], match[2], match[3] or "") for match in found if match]


def packages(extra: str = "") -> list[CheckResult]:
    """Whether each package is installed that btlib itself, or one of its extras, asks for."""
    return [check_package(name, bound, extra) for name, bound, group in requirements() if group == extra]


def check_python() -> CheckResult:
    """Python 3.11 or newer."""
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return CheckResult("Python", ok, f"{found} ({sys.executable})", "install Python 3.11 or newer")


def check_package(name: str, bound: str, extra: str = "") -> CheckResult:
    """The package is installed in a version within `bound`."""
    fix = f"only for {EXTRAS.get(extra, extra)}: {install(extra)}" if extra else install()
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return CheckResult(name, False, f"expected {bound}, not installed", fix, not extra)
    try:
        from packaging.specifiers import SpecifierSet
    except ModuleNotFoundError:  # it has a line of its own
        return CheckResult(name, True, f"{found}, not compared with {bound}")
    ok = SpecifierSet(bound).contains(found, prereleases=True)
    return CheckResult(name, ok, found if ok else f"expected {bound}, got {found}", fix, not extra)


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


def check_memory(wanted: float = MEMORY_GIB) -> CheckResult:
    """Enough free memory, in GiB, for any lesson at the fast profile."""
    import psutil

    free = psutil.virtual_memory().available / 2**30
    found = f"{free:.1f} GiB free, a lesson needs up to {wanted:g}"
    return CheckResult("memory", free >= wanted, found, "close other programs")


def check_disk(wanted: float = DISK_GIB) -> CheckResult:
    """Enough free disk, in GiB, for pages and trained networks."""
    folder = paths.cache()
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free / 2**30
    found = f"{free:.1f} GiB free, the course needs up to {wanted:g}"
    return CheckResult("disk", free >= wanted, found, f"make room on the disk of {folder}")


def check_data() -> CheckResult:
    """Fashion-MNIST is there and whole; an installed btlib downloads it at its first use."""
    from btlib import datasets

    if not paths.CHECKOUT and not datasets.available("fashion-mnist"):
        where = paths.data_folders()[0]
        return CheckResult("data", False, "fashion-mnist is not here yet",
                           f"its first use downloads 30 MB to {where}", needed=False)  # fmt: skip
    try:
        datasets.verify("fashion-mnist")
    except datasets.DataError as error:
        fix = "take data/FashionMNIST from the repository again" if paths.CHECKOUT else "delete it"
        return CheckResult("data", False, str(error), fix)
    return CheckResult("data", True, "fashion-mnist present and intact")


def check_kernel() -> CheckResult:
    """The kernel that notebooks ask for, `python3`, is this very Python."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ModuleNotFoundError:
        return CheckResult("kernel", False, "no Jupyter", f"only for the lessons: {install('course')}", needed=False)
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
