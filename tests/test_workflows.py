"""The workflow files of a public repository: they parse, and what they call is there."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from btlib.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
TARGETS = set(re.findall(r"^([a-z.-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z]+) \?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
COMMANDS = set(get_command(app).commands)  # type: ignore[attr-defined]


def read(name: str) -> dict:
    content = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))
    content["on"] = content.pop(True)  # YAML 1.1 takes the key `on` for yes
    return content


def steps(name: str) -> list[dict]:
    return [step for job in read(name)["jobs"].values() for step in job["steps"]]


def lines(name: str) -> str:
    return "\n".join(step.get("run", "") for step in steps(name))


def test_there_is_one_for_each_job() -> None:
    assert set(WORKFLOWS) == {"ci", "nightly", "gpu", "site"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_says_what_it_may_and_how_long_and_calls_what_there_is(name: str) -> None:
    content = read(name)
    assert content["permissions"] == {"contents": "read"}, "jobs that may write say so themselves"
    for job in content["jobs"].values():
        assert job["runs-on"]
        assert "timeout-minutes" in job or all("deploy" in step.get("uses", "") for step in job["steps"])
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
    called = re.findall(r"\bmake ([a-z-]+)((?: [A-Z]+=\S+)*)", lines(name))
    assert {target for target, _ in called} <= TARGETS
    assert set(re.findall(r"([A-Z]+)=", " ".join(given for _, given in called))) <= VARIABLES
    assert set(re.findall(r"-m btlib ([a-z-]+)", lines(name))) <= COMMANDS
    assert called or "-m btlib" in lines(name)


def test_the_matrix_covers_what_pyproject_promises() -> None:
    matrix = read("ci")["jobs"]["cpu"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert "btlib test" in lines("ci")
    assert ".ci/audit" in lines("ci")
    assert "make nightly" in lines("nightly")


def test_strangers_code_never_meets_our_own_machine() -> None:
    gpu = read("gpu")
    assert "self-hosted" in gpu["jobs"]["gpu"]["runs-on"]
    assert not {"pull_request", "pull_request_target", "push"} & set(gpu["on"])
    assert "make gpu" in lines("gpu")


def test_the_site_is_what_make_site_leaves_and_copies_go_where_the_links_lead() -> None:
    from btlib.cli.anywhere import BRANCH

    uploaded = [step["with"]["path"] for step in steps("site") if "upload-pages-artifact" in step.get("uses", "")]
    assert uploaded == ["build/site"]
    assert f"git push -qf origin {BRANCH}" in lines("site")


def test_binder_installs_the_lessons_with_a_small_torch() -> None:
    build = (ROOT / "binder" / "postBuild").read_text(encoding="utf-8")
    assert "--torch-backend cpu" in build
    assert "'.[course]'" in build
    assert (ROOT / "binder" / "runtime.txt").read_text().startswith("python-3.")
