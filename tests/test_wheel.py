"""btlib as a wheel, beside its declared dependencies and nothing else, run from an empty folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from btlib import datasets
from btlib.cli.check import requirements
from btlib.cli.scan import FOUND
from btlib.paths import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")]
NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there: no network


def closure(names: set[str]) -> Iterator[metadata.Distribution]:
    """The distributions of this environment that these need, themselves included."""
    seen: set[str] = set()
    while names:
        found = metadata.distribution(names.pop())
        seen.add(found.name)
        yield found
        for line in found.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                names |= {wanted.name} - seen


def link(distribution: metadata.Distribution, place: Path) -> None:
    """Put a distribution's packages into a site-packages, as links."""
    for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        if not (place / top).exists():
            (place / top).symlink_to(distribution.locate_file(top))


class Installed:
    """An environment of its own with the wheel in it, and an empty folder to run in."""

    def __init__(self, base: Path) -> None:
        self.folder, self.home, source = base / "empty", base / "home", base / "source"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", base / "env"], check=True)
        for folder in (self.folder, self.home, source):
            folder.mkdir()
        self.bin = base / "env" / "bin"
        (site,) = (base / "env").glob("lib/python*/site-packages")
        for distribution in closure({name for name, _, extra in requirements() if not extra}):
            link(distribution, site)
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):  # a build leaves files in its source
            shutil.copy(CHECKOUT / name, source)
        for name in ("btlib", "data/checkpoints"):
            shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", base, source], check=True)
        (wheel,) = base.glob("btlib-*.whl")
        subprocess.run(
            [*pip, "--python", self.bin / "python", "install", "-q", "--no-deps", "--no-index", wheel], check=True
        )
        self.package = site / "btlib"

    def run(self, *words: object, folder: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment with no variables but these."""
        variables = {"PATH": os.defpath, "HOME": str(self.home), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
                     "http_proxy": NOWHERE, "https_proxy": NOWHERE, **extra}  # fmt: skip
        program, *rest = map(str, words)
        return subprocess.run([self.bin / program, *rest], cwd=folder or self.folder, env=variables,
                              capture_output=True, text=True)  # fmt: skip

    def files(self) -> set[str]:
        """What lies in the installed package."""
        return {str(path.relative_to(self.package)) for path in self.package.rglob("*")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    environment = Installed(tmp_path_factory.mktemp("wheel"))
    before = environment.files()
    yield environment
    assert environment.files() == before, "something was written into the installation"
    assert list(environment.folder.iterdir()) == []


def test_the_command_answers(installed: Installed) -> None:
    done = installed.run("btlib", "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: btlib" in done.stdout


def test_check_is_content_without_the_lessons_packages_and_says_what_they_are_for(installed: Installed) -> None:
    done = installed.run("btlib", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "ready, but for what is marked [-]"
    (jupyter,) = (line for line in lines if "jupyterlab" in line)
    assert jupyter.startswith("[-] jupyterlab: expected >=4.2, not installed -> only for the lessons")
    assert 'pip install "btlib[course]"' in jupyter
    assert any(line.startswith("[-] data: ") and f"downloads 30 MB to {installed.home}" in line for line in lines)


def test_a_shipped_network_is_scanned(installed: Installed, tmp_path: Path) -> None:
    images, labels = datasets.load("fashion-mnist").clean_images(3)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        file = tmp_path / "images" / str(label) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * image[0]).byte().numpy()).save(file)
    weights = next((installed.package / "shipped").glob("*box-s0-*"))
    report = tmp_path / "report.html"
    done = installed.run("btlib", "scan", weights, "--images", tmp_path / "images", "--methods", "red-a",
                         "--per-class", 2, "--out", report)  # fmt: skip
    assert done.returncode in (0, FOUND), done.stderr
    assert "red-a" in done.stdout
    assert "<img" in report.read_text(encoding="utf-8")


def test_the_library_reads_what_is_shipped_and_writes_below_the_users_folders(installed: Installed) -> None:
    code = """
import btlib
for name in set(btlib.__all__) - {"widgets"}:  # sliders are for lessons
    getattr(btlib, name)
from btlib import checkpoints, detection, paths, results
from btlib.checkpoints import load_or_train, shipped
network = load_or_train(shipped()["box"])
print(len(detection.__all__) > 0, round(network.card.success, 1))
print(checkpoints.cache_folder(), paths.data_folders()[0], results.environment()["commit"], sep="\\n")
"""
    done = installed.run("python", "-c", code, BTLIB_DATA=str(CHECKOUT / "data"))
    assert done.returncode == 0, done.stderr
    said, cache, data, commit = done.stdout.splitlines()
    assert said == "True 1.0"
    assert Path(cache).is_relative_to(installed.home)
    assert Path(data) == CHECKOUT / "data"
    assert commit == "unknown"
    assert not Path(cache).exists(), "it was trained"


def test_missing_images_without_a_network_are_one_sentence(installed: Installed) -> None:
    code = "from btlib import datasets\ntry: datasets.load('fashion-mnist')\nexcept datasets.DataError as e: print(e)"
    done = installed.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    (sentence,) = (line for line in done.stdout.splitlines() if "fashion-mnist" in line)
    assert all(part in sentence for part in (str(installed.home), "download failed", "BTLIB_DATA", "A checkout"))
    assert "embedded" not in sentence


def test_tables_are_listed_and_where_results_are_is_said(installed: Installed) -> None:
    done = installed.run("btlib", "paper")
    assert done.returncode == 0, done.stderr
    assert "lred-2" in done.stdout
    assert f"sought in {installed.home}" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["course"], "notebooks: expected lessons"),
        (["lab"], "notebooks: expected lessons"),
        (["test"], "folder: expected one inside a checkout"),
        (["clean"], "folder: expected one inside a checkout"),
        (["checkpoints"], "code: expected that of a checkout"),
    ],
)
def test_what_needs_a_checkout_says_so(installed: Installed, words: list[str], sentence: str) -> None:
    done = installed.run("btlib", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("command", "extra"), [("course", "course"), ("lab", "course"), ("test", "dev")])
def test_what_needs_more_packages_says_which(installed: Installed, command: str, extra: str) -> None:
    done = installed.run("btlib", command, folder=CHECKOUT / "notebooks")  # inside a checkout
    assert done.returncode == 2
    assert done.stderr.startswith(f"packages: expected those of btlib[{extra}], got no ")
    assert f'pip install "btlib[{extra}]"' in done.stderr


def test_without_a_home_the_cache_is_temporary(installed: Installed, tmp_path: Path) -> None:
    code = "from btlib import paths; print(paths.cache())"
    (tmp_path / "file").touch()
    done = installed.run("python", "-c", code, HOME=str(tmp_path / "file"), TMPDIR=str(tmp_path))
    assert Path(done.stdout.strip()).parent == tmp_path, done.stderr
