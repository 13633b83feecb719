"""pyproject.toml, constraints.txt, environment.yml and Makefile say the same."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import btlib
from btlib.cli.course import ProfileOption
from btlib.profiles import PROFILES

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
NOT_ON_CONDA_FORGE = {"playwright", "axe-playwright-python"}


def required() -> dict[str, str]:
    """Each direct dependency, those of all extras included, with its version bound."""
    project = PROJECT["project"]
    lines = [Requirement(line) for lines in (project["dependencies"], *EXTRAS.values()) for line in lines]
    return {canonicalize_name(line.name): str(line.specifier) for line in lines if line.name != "btlib"}


def pinned() -> dict[str, str]:
    """Each line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs)
    return {canonicalize_name(name): version for name, version in pairs}


def conda() -> dict[str, str]:
    """Each conda package of environment.yml with its version bound."""
    packages = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    named = [package.split(" ", 1) for package in packages if isinstance(package, str)]
    return {name: (bound[0] if bound else "") for name, *bound in named}


def test_contributors_get_every_extra():
    assert set(EXTRAS) == {"course", "dask", "dev", "huggingface", "keras", "onnx", "service", "site", "timm"}
    assert Requirement(EXTRAS["dev"][0]).extras == set(EXTRAS) - {"dev"}


def test_the_core_wants_no_jupyter():
    """Neither the library nor a command but `course` and `lab`."""
    names = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert names & {"jupyterlab", "ipykernel", "ipywidgets", "nbformat", "nbclient", "nbconvert", "papermill"} == set()


def test_what_is_pinned_takes_the_oldest_python_that_we_promise():
    """Debian 12 has 3.11.2, and a package that wants 3.11.5 would leave its users without an environment."""
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
    wants = {each.name: each.metadata.get("Requires-Python") for each in distributions()
             if canonicalize_name(each.name) in pinned()}  # fmt: skip
    assert "soupsieve" in wants
    assert {name: bound for name, bound in wants.items() if bound and oldest not in SpecifierSet(bound)} == {}


@pytest.mark.parametrize(("name", "bound"), required().items())
def test_the_pin_of_each_dependency_satisfies_its_bound(name, bound):
    assert Version(pinned()[name]) in SpecifierSet(bound)


def test_no_pin_is_for_one_platform_only():
    assert [name for name in pinned() if re.match("nvidia|cuda|triton|pywin|appnope", name)] == []


def test_conda_users_get_the_same_bounds():
    names = {CONDA_NAMES.get(name, name): bound for name, bound in required().items()}
    expected = {name: bound for name, bound in names.items() if name not in NOT_ON_CONDA_FORGE}
    python = PROJECT["project"]["requires-python"]
    bounds = {name: SpecifierSet(bound) for name, bound in conda().items()}  # two bounds have no order
    assert bounds == {name: SpecifierSet(bound) for name, bound in (expected | {"python": python, "pip": ""}).items()}


def test_each_conda_package_says_who_needs_it():
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    packages = [
        line
        for line in lines
        if line.startswith("  - ") and line.split()[1].strip(":") not in ("conda-forge", "nodefaults")
    ]
    silent = [line for line in packages if "#" not in line and line != "  - pip:"]
    assert silent == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "environment.yml", "Makefile", ".ci/run"])
def test_no_file_names_where_packages_come_from(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r"\w+://\S*|index-url|find-links|trusted-host", text) == []


def test_the_version_is_the_librarys():
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "btlib.__version__"}
    assert Version(btlib.__version__)
    assert f"## {btlib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_target_of_the_makefile_is_explained():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split())
    explained = set(re.findall(r"^([a-z.-]+):.*  ## \w", text, re.MULTILINE))
    assert explained == phony
    assert {
        "help",
        ".venv",
        "course",
        "site",
        "slides",
        "test",
        "lab",
        "clean",
        "checkpoints",
        "browser-test",
        "gpu",
        "lint",
        "format",
    } <= phony


def test_the_command_line_knows_every_profile():
    assert f"{', '.join(PROFILES)}, or" in ProfileOption.__metadata__[0].help


def test_ci_runs_make_test():
    last = (ROOT / ".ci/run").read_text(encoding="utf-8").rstrip().splitlines()[-1]
    assert last == "make test"
