"""SIGKILL at seeded, random moments: what a second run makes of it, and what is left behind."""

import hashlib
import json
import math
import random
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from btlib import sealed
from reliability.jobs import FASHION, JOBS, MIRROR, OUT
from reliability.processes import Started, apart, forked, killed, served, surroundings

#: Keys whose values may differ between two runs.
_TIMES = {
    "checksum",
    "sha256",
    "repaired from",
    "seconds",
    "made",
    "when",
    "environment",
    "peak_memory_mb",
    "peak_mb",
    "date",
    "finished",
    "cost",
    "duration",
}
_PATIENCE = 400.0
#: What a home may hold afterwards that has another name each time, or is the system's own.
_PASSING = re.compile(
    r"said|cache/.*|matplotlib/.*|ipython/.*|.*__pycache__/.*|\.local/.*|\.ipython/.*|tmp/btlib-.*\.lock"
)


def timeless(value: Any) -> Any:
    """JSON without what another run may say otherwise: times, memory, versions."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in _TIMES and "papermill" not in key}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def content(path: Path) -> Any:
    """What a finished file says, without times; raises where it is torn."""
    if path.suffix == ".safetensors":
        found = sealed.read(path)
        bits = {k: hashlib.sha256(v.contiguous().numpy().tobytes()).hexdigest() for k, v in found.tensors.items()}
        return found.kind, timeless(dict(found.card)), bits
    if path.suffix in (".json", ".ipynb"):
        told = timeless(json.loads(path.read_text(encoding="utf-8")))
        if path.suffix == ".ipynb":
            for cell in told["cells"]:
                cell["metadata"].pop("execution", None)
                cell.pop("id")  # papermill draws that of its own cell
        return told
    if path.suffix == ".html":
        text = path.read_text(encoding="utf-8")
        if not text.rstrip().endswith("</html>"):
            raise ValueError("a page without an end")
        return re.sub(r"cell-id=\w+|[0-9][0-9,.:-]*", "0", text)
    if path.suffix == ".unfinished":
        with zipfile.ZipFile(path) as whole:
            return whole.testzip()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(home: Path) -> dict[str, Path]:
    """All files of a home that count, by name."""
    found = {str(path.relative_to(home)): path for path in sorted(home.rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if not _PASSING.fullmatch(name)}


def told(home: Path) -> str:
    """A digest of the result of a job."""
    said = {name: content(path) for name, path in files(home / OUT).items()}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest() if said else "nothing"


def torn(home: Path) -> list[str]:
    """Files under their own name that can not be read to the end."""
    bad = []
    for name, path in files(home).items():
        if not path.name.startswith(".") and not name.startswith("tmp/"):
            try:
                content(path)
            except Exception as error:
                bad.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
    return bad


@contextmanager
def benches(folder: Path) -> Iterator[Callable[[str], "Bench"]]:
    """What makes a job's bench the first time that it is asked for."""
    torch.set_num_threads(1)
    with served(FASHION) as address:
        yield lru_cache(maxsize=None)(lambda name: Bench(name, folder / slug(name), address))


class Bench:
    """One job, its undisturbed run, and homes to kill it in."""

    def __init__(self, name: str, folder: Path, mirror: str) -> None:
        self.mirror = mirror
        self.name, self.job, self.home, self.ready = name, JOBS[name], folder / "home", folder / "ready"
        for place in (self.home, self.ready):
            shutil.rmtree(place, ignore_errors=True)
        self.ready.mkdir(parents=True)
        self._finish(forked(self.job.prepare, self.ready, surroundings(self.ready)), self.ready)
        self.seconds, self.cpu, self.truth = 0.0, 0.0, ""
        for _ in range(2):  # the first fills the system's caches
            self.fresh()
            began, process = time.monotonic(), self.start()
            self._finish(process, self.home)
            self.seconds, self.cpu, before = time.monotonic() - began, process.cpu, self.truth
            self.truth = told(self.home)
            if before and before != self.truth:
                raise RuntimeError(f"{name}: two undisturbed runs differ: the comparison would say nothing")
        self.usual = set(files(self.home))

    def fresh(self) -> None:
        """The home as it was before the job."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.ready, self.home)

    def start(self) -> Started:
        """The job, begun in its home."""
        if self.job.apart:
            return apart(["-m", "reliability.jobs", self.name], self.home, self.environment())
        return forked(self.job.run, self.home, self.environment())

    def environment(self, **more: str) -> dict[str, str]:
        """What a process in its home is told."""
        return surroundings(self.home, **{MIRROR: self.mirror}, **more)

    def afterwards(self) -> list[str]:
        """What goes wrong when the job is done now, undisturbed, in a home where it was disturbed before."""
        try:
            self._finish(self.start(), self.home)
        except RuntimeError as error:
            return [f"afterwards: {error}"]
        return [] if told(self.home) == self.truth else ["afterwards: another result"]

    def kill(self, share: float, pause: float) -> dict[str, Any]:
        """Begin, kill when this share of its time is over, look, begin again, compare.

        Its time is a processor's, so that a busy machine changes nothing; that of jobs which wait for others is the
        clock's. The pause afterwards is for what waits for the disk.
        """
        self.fresh()
        process = self.start()
        if self.job.waits:
            ended = process.wait(share * self.seconds)
        else:
            process.wait_its_time(share * self.cpu)
            ended = process.wait(pause)
        if ended is None:
            killed(process)
        outlived, broken = process.outlived(), torn(self.home)
        after = set(files(self.home))
        wrong = self.afterwards()
        left = sorted(set(files(self.home)) - self.usual)
        return {
            "share": round(share, 3), "ended_before": ended is not None, "torn": broken, "outlived": outlived,
            "wrong": wrong, "same": not wrong, "left": left,
            "at_kill": sorted(after - self.usual),
        }  # fmt: skip

    def _finish(self, process: Started, home: Path) -> None:
        status = process.wait(_PATIENCE)
        if status is None:
            killed(process)
        left = process.outlived()
        if status != 0 or left:
            said = " | ".join((home / "said").read_text(errors="replace").split("\n")[-6:])
            raise RuntimeError(f"{self.name}: status {status}, {left} left, said: {said}")


def slug(name: str) -> str:
    """A job's name as a folder's."""
    return re.sub(r"[^a-z]+", "-", name)


def shares(count: int) -> dict[str, int]:
    """How many of so many kills each job gets, one at least."""
    whole = sum(job.share for job in JOBS.values())
    return {name: max(1, math.ceil(count * job.share / whole)) for name, job in JOBS.items()}


def run(bench: Callable[[str], Bench], kept: Path, count: int, seed: int = 0, minutes: float = math.inf) -> dict:
    """Kill all jobs, at least `count` times in all.

    Args:
        bench: makes or finds a job's bench.
        kept: file of the kills so far, which are not done again.
        count: kills of all jobs together; each gets its share.
        seed: of the moments.
        minutes: after which no other kill is begun.

    Returns:
        a summary for each job, see `summary`.
    """
    ends = time.monotonic() + 60 * minutes
    known: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name, wanted in sorted(shares(count).items(), key=lambda one: JOBS[one[0]].apart):  # what takes long comes last
        draw = random.Random(f"{seed} {name}")
        moments = [(draw.random(), draw.uniform(0, 0.02)) for _ in range(wanted)]
        done = known.setdefault(name, {"kills": []})["kills"]
        for share, pause in moments[len(done) :]:
            if time.monotonic() > ends:
                break
            one = bench(name)
            known[name] |= {"seconds": round(one.seconds, 2), "cpu": round(one.cpu, 2), "apart": one.job.apart}
            done.append(one.kill(share, pause))
            kept.write_text(json.dumps(known, indent=1))
    return {name: summary(told) for name, told in known.items() if told["kills"]}


def summary(told: dict[str, Any]) -> dict[str, Any]:
    """Numbers of one job's kills, and all that went wrong."""
    kills = told["kills"]
    wrong = [kill for kill in kills if not kill["same"] or kill["torn"] or kill["outlived"] or kill["left"]]
    numbers = {
        "kills": len(kills), "same": sum(kill["same"] for kill in kills), "torn": sum(map(bool, column(kills, "torn"))),
        "outlived": sum(map(bool, column(kills, "outlived"))), "left": sum(map(bool, column(kills, "left"))),
        "ended_before": sum(kill["ended_before"] for kill in kills),
    }  # fmt: skip
    return {key: told[key] for key in ("seconds", "cpu", "apart")} | numbers | {"wrong": wrong}


def column(kills: list[dict[str, Any]], name: str) -> list[Any]:
    """One thing of each kill."""
    return [kill[name] for kill in kills]


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    with benches(place) as made:
        print(json.dumps(run(made, place / "kills.json", int(sys.argv[2])), indent=1))
