"""`btlib gpu`: all that wants a GPU, once, within a time limit: lessons, tests, timings, the papers' rows."""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import psutil
import typer

from btlib.cli import needs
from btlib.cli.children import many, one
from btlib.peak_memory import PeakGpuMemory

#: Rows in order of value: the in-flight paper's Tables 1 to 3, then L-RED's Tables 1 to 3, then A.7.
ROWS = (
    "inflight-2/wb-multi", "inflight-2/cb-multi", "inflight-1/clean", "inflight-2/sp-multi", "inflight-2/cb-single",
    "inflight-2/wb-single", "inflight-2/sp-single", "lred-2/g-3", "lred-2/l-1", "lred-2/c-0", "lred-2/g-1",
    "lred-2/l-3", "lred-2/g-9", "lred-2/l-9", "lred-5/a",
)  # fmt: skip
REHEARSED = ("inflight-1/clean",)
_CORES = os.cpu_count() or 1


@dataclass
class Visit:
    """One visit to a GPU, or its rehearsal on the CPU.

    Attributes:
        root: the repository.
        notebooks: folder of the lessons.
        folder: of the results.
        ends: when the time is up, by `time.monotonic`.
        rehearse: tiny settings on the CPU.
        scratch: what need not stay.
        jobs: processes at a time.
        rows: rows at a time; None: as many as the GPU holds.
    """

    root: Path
    notebooks: Path
    folder: Path
    ends: float
    rehearse: bool
    scratch: Path
    jobs: int
    rows: int | None = None

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.ends - time.monotonic())


def command(
    *,
    limit: Annotated[float, typer.Option(envvar="LIMIT", min=1, help="Seconds for all of it.")] = 600,
    stages: Annotated[str, typer.Option(help="Some of lessons, nbval, tests, timing, rows; separated by commas.")] = "",
    rehearse: Annotated[bool, typer.Option(
        "--rehearse", help="On the CPU, with tiny settings: is the way clear?")] = False,
    notebooks: Annotated[Path | None, typer.Option(help="Folder of the lessons; default: the repository's.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of the results; default: the repository's.")] = None,
    jobs: Annotated[int | None, typer.Option(
        min=1, help="Lessons, tests or rows at a time; default: half as many as cores, at most 6; rows as the GPU "
                    "holds.")] = None,
) -> None:  # fmt: skip
    """Run all that wants a GPU. Exit status: 0 all passed, 1 something failed, 2 no GPU or no checkout: nothing ran.

    Stages may be run by several commands, also at the same time: what the others found stays in the page.
    """
    import torch

    root = needs.repository()
    if not rehearse and not torch.cuda.is_available():
        typer.echo(f"gpu: expected an NVIDIA GPU, got none that torch {torch.__version__} can use; nothing was run "
                   "(--rehearse tries the way on the CPU)", err=True)  # fmt: skip
        raise typer.Exit(2)
    wanted = [name.strip() for name in stages.split(",") if name.strip()] or list(STAGES)
    if unknown := set(wanted) - set(STAGES):
        raise typer.BadParameter(f"stages: expected some of {', '.join(STAGES)}, got {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as scratch:
        visit = Visit(root, notebooks or root / "notebooks", results or root / "results", time.monotonic() + limit,
                      rehearse, Path(scratch), jobs or max(1, min(6, _CORES // 2)), jobs)  # fmt: skip
        failed = run(visit, wanted)
    raise typer.Exit(bool(failed))


def run(visit: Visit, stages: list[str]) -> list[str]:
    """The stages one after the other; after each, all that is known is on disk.

    Returns:
        names of the stages in which something failed.
    """
    page = _page(visit)
    path = visit.folder / "gpu" / f"{re.sub('[^A-Za-z0-9]+', '-', page['device']).strip('-').lower()}.json"
    for name in stages:
        typer.echo(f"--- {name}: {visit.left:.0f} s left")
        began, report = time.monotonic(), dict[str, Any]()
        with PeakGpuMemory(interval=0.5) as memory:
            try:
                report = STAGES[name](visit) if visit.left else {"skipped": "no time left"}
            except Exception as error:  # one stage's trouble must not hide what the others found
                report = {"failed": [f"{type(error).__name__}: {error}"]}
        report |= {
            "seconds": round(time.monotonic() - began, 1), "gpu_peak_mb": round(memory.mb) or None,
            "commit": page["commit"], "limit": page["limit"], "busy_cores": round(psutil.getloadavg()[0], 1),
        }  # fmt: skip
        page["stages"][name] = report
        _write(path, page, name)
        typer.echo(f"{name}: {_line(report)}")
    typer.echo(f"written: {path}")
    return [name for name in stages if page["stages"][name].get("failed")]


def _page(visit: Visit) -> dict[str, Any]:
    import torch

    from btlib.results import environment

    page: dict[str, Any] = {"rehearsal": visit.rehearse, "limit": round(visit.left), **environment(), "stages": {}}
    if visit.rehearse:
        page["device"] = f"rehearsal on {page['device']}"
    else:
        card = torch.cuda.get_device_properties(0)
        page["gpu"] = {"memory_mb": card.total_memory // 2**20, "capability": f"{card.major}.{card.minor}",
                       "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # fmt: skip
        sums = torch.ones(2048, 2048, device="cuda") @ torch.ones(2048, 2048, device="cuda")
        if not bool((sums == 2048).all()):  # before anything is believed
            raise RuntimeError("gpu: expected a product of ones to be right, got another; the device is broken")
    return page


def _write(path: Path, page: dict[str, Any], stage: str) -> None:
    """Put a stage into the page on disk; other stages stay there as the last command left them."""
    from btlib.files import write_text
    from btlib.locks import alone

    with alone(path):
        found = json.loads(path.read_text(encoding="utf-8"))["stages"] if path.exists() else {}
        whole = page | {"stages": found | {stage: page["stages"][stage]}}
        write_text(path, json.dumps(whole, indent=2, sort_keys=True) + "\n")


def _line(report: dict[str, Any]) -> str:
    if "skipped" in report:
        return f"skipped, {report['skipped']}"
    failed = report.get("failed", [])
    counted = f"{report['passed']} passed, " if "passed" in report else ""
    return f"{counted}{len(failed)} failed, {report['seconds']:.0f} s" + "".join(f"\n  FAIL {each}" for each in failed)


# ---------------------------------------------------------------------------------------------- the stages


def _lessons(visit: Visit) -> dict[str, Any]:
    """Every lesson by papermill, some at a time."""
    if lacking := _lacking("papermill", "ipykernel", "nbconvert"):
        return lacking
    numbers = sorted(path.name[:2] for path in visit.notebooks.glob("[0-9][0-9]_*.ipynb"))
    outs = {number: visit.scratch / number for number in numbers}
    commands = [["-m", "btlib", "course", "--lesson", number, "--out", str(out), "--notebooks", str(visit.notebooks),
                 "--no-pages"] for number, out in outs.items()]  # fmt: skip
    many(commands, folder=visit.root, seconds=visit.left, jobs=visit.jobs)
    found, failed = {}, []
    for number, out in outs.items():
        path = out / "report.json"
        lessons = json.loads(path.read_text(encoding="utf-8"))["lessons"] if path.exists() else []
        entry = lessons[0] if lessons else {"lesson": number, "status": "failed", "error": "no report: time was up"}
        found[entry["lesson"]] = {key: entry.get(key) for key in ("status", "seconds", "peak_mb", "error")}
        if entry["status"] != "passed":
            failed.append(f"{entry['lesson']}: {entry['error']}")
    return {"passed": len(found) - len(failed), "failed": failed, "lessons": found}


def _nbval(visit: Visit) -> dict[str, Any]:
    """Every lesson again, by nbval."""
    return _lacking("nbval", "ipykernel") or _tested(visit, "--nbval-lax", "--nbval-current-env", str(visit.notebooks))


def _tests(visit: Visit) -> dict[str, Any]:
    """The library's tests, with the GPU in sight."""
    chosen = ["tests/test_profiles.py"] if visit.rehearse else ["--ignore=tests/browser", "tests"]
    return _lacking("pytest") or _tested(visit, "-m", "not slow and not browser", *chosen)


def _tested(visit: Visit, *arguments: str) -> dict[str, Any]:
    """What pytest says, test by test."""
    page = visit.scratch / "tests.xml"
    page.unlink(missing_ok=True)
    shared = ["-n", str(visit.jobs), "--dist", "loadfile"] if find_spec("xdist") and not visit.rehearse else []
    ended = one(["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={page}", *shared, *arguments],
                folder=visit.root, seconds=visit.left, threads=max(1, _CORES // visit.jobs), asked=10)  # fmt: skip
    if not page.exists():
        return {"failed": [f"pytest: {ended.why}"], "passed": 0}
    cases = ElementTree.parse(page).getroot().iter("testcase")
    failed, passed = [f"pytest: {ended.why}"] if ended.timed_out else [], 0
    for case in cases:
        trouble = [each for each in case if each.tag in ("failure", "error")]
        passed += not list(case)
        if trouble:
            cause = (trouble[0].get("message") or "").splitlines()
            failed.append(f"{case.get('classname')}::{case.get('name')}: {cause[0][:200] if cause else ''}")
    return {"passed": passed, "failed": failed}


def _timing(visit: Visit) -> dict[str, Any]:
    """How long a training step and each detector take."""
    page = visit.scratch / "timing.json"
    tiny = ["--tiny"] if visit.rehearse else []
    ended = one(["benchmarks/on_gpu.py", "--out", str(page), *tiny], folder=visit.root, seconds=visit.left)
    found = json.loads(page.read_text(encoding="utf-8")) if page.exists() else {}
    return {"failed": [f"timing: {ended.why}"] if ended.status else [], "passed": len(found), "timings": found}


def _rows(visit: Visit) -> dict[str, Any]:
    """Rows of the papers until the time is up; what is finished stays, what is not goes on next time."""
    from btlib import papers

    profile, keys = ("fast", REHEARSED) if visit.rehearse else ("minutes", ROWS)
    task = "import sys; from btlib.cli.gpu import run_rows; run_rows(*sys.argv[1:])"
    told = [str(visit.folder), profile, str(visit.rows or ""), *keys]
    ended = one(["-c", task, *told], folder=visit.root, seconds=visit.left)
    known, found, failed = papers.every(visit.folder), {}, []
    for key in keys:
        planned = papers.plan(key, profile)
        result = None if isinstance(planned, str) else known.get(planned.measurement.digest)
        stands = papers.standing(papers.row(key), profile, known, gpu=True)
        found[key] = {"state": stands.state, "seconds": result and round(result.seconds, 1), "differs": stands.note}
    if ended.status and not ended.timed_out:
        failed = [f"rows: {ended.why}"]
    return {"passed": sum(each["state"] == "done" for each in found.values()), "failed": failed, "rows": found}


def run_rows(folder: str, profile: str, workers: str, *keys: str) -> None:
    """Run these rows; those whose images are missing are left out.

    Args:
        folder: of the results.
        profile: of the papers.
        workers: rows at a time; "": as many as the GPU holds.
        keys: rows, the most wanted first.
    """
    from btlib import papers

    known, tasks = papers.every(folder), []
    for key in keys:
        planned = papers.plan(key, profile)
        stands = papers.standing(papers.row(key), profile, known, gpu=True)
        if isinstance(planned, papers.Plan) and stands.state in ("not run", "done"):
            tasks.append(papers.Task(planned.home, planned.measurement))
        else:
            typer.echo(f"left out: {key}: {stands.state} ({stands.note})")
    done = papers.run(tasks, folder, workers=int(workers or 0) or None)
    sys.exit("; ".join(outcome.error for outcome in done if outcome.error) or None)


def _lacking(*packages: str) -> dict[str, Any] | None:
    missing = [name for name in packages if find_spec(name) is None]
    return {"skipped": f"{', '.join(missing)} not installed"} if missing else None


STAGES: dict[str, Callable[[Visit], dict[str, Any]]] = {
    "lessons": _lessons, "nbval": _nbval, "tests": _tests, "timing": _timing, "rows": _rows,
}  # fmt: skip
