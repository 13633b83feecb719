"""Other troubles than kills: each leaves one true sentence, or the right result; and nothing is lost."""

import ctypes
import json
import math
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from reliability.kills import Bench, benches, told, torn
from reliability.processes import forked, killed

_NEW_MOUNTS, _NEW_NETWORK, _READ_ONLY = 0x20000, 0x40000000, 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def _system(status: int) -> None:
    """Complain of a call to the system that failed."""
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mounted(place: Path, options: str, flags: int = 0) -> None:
    """A small disk in memory over a folder, with what was in it; this process alone sees it."""
    _system(_LIBC.unshare(_NEW_MOUNTS))
    _system(_LIBC.mount(b"none", b"/", None, 0x4000 | 0x40000, None))  # MS_REC | MS_PRIVATE: others see nothing of it
    kept = place.with_name("kept")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(place, kept)
    _system(_LIBC.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, options.encode()))
    shutil.copytree(kept, place, dirs_exist_ok=True)
    if flags:
        _system(_LIBC.mount(b"none", os.fsencode(place), None, 0x20 | flags, None))  # MS_REMOUNT
    os.chdir(place)


# --------------------------------------------------------------------------------------- what disturbs, in the process


def disk(spare_kb: int) -> Callable[[Path], None]:
    """A home on a disk that has room for so much more."""

    def disturb(home: Path) -> None:
        used = sum(4 * math.ceil(path.stat().st_size / 4096) for path in home.rglob("*") if path.is_file())
        mounted(home, f"size={used + spare_kb}k")

    return disturb


def read_only(home: Path) -> None:
    """A home that can be read, with a folder for temporary files elsewhere."""
    mounted(home, "size=1g", _READ_ONLY)
    elsewhere = home.with_name("elsewhere")
    shutil.rmtree(elsewhere, ignore_errors=True)
    elsewhere.mkdir()
    os.environ["TMPDIR"] = str(elsewhere)


def no_home(home: Path) -> None:
    """Neither a home nor a name for the caches."""
    for name in ("HOME", "XDG_CACHE_HOME", "BTLIB_CHECKPOINTS", "MPLCONFIGDIR", "USER", "LOGNAME"):
        os.environ.pop(name, None)


def no_network(home: Path) -> None:
    """A network of its own, which has not even a loopback."""
    _system(_LIBC.unshare(_NEW_NETWORK))


def limit(what: int, most: int) -> Callable[[Path], None]:
    """A limit of the system's."""
    return lambda home: resource.setrlimit(what, (most, most))


def clock_back(home: Path) -> None:
    """A clock that goes backwards, ten minutes a look, and file times of the year 2100."""
    started, looks = time.time(), iter(range(10**9))
    time.time = lambda: started - 600 * next(looks)
    for path in home.rglob("*"):
        os.utime(path, (4102444800, 4102444800))


@dataclass(frozen=True)
class Fault:
    """One trouble.

    Attributes:
        what: in words.
        job: whose, by its name in `JOBS`.
        disturb: what is done in the process before its job.
        says: what its one sentence must say; "": it must do its job.
    """

    what: str
    job: str
    disturb: Callable[[Path], None]
    says: str = ""

    @property
    def on_a_disk(self) -> bool:
        """Whether its home lies on a disk of its own meanwhile."""
        return "disk" in self.what or "read-only" in self.what


FULL, AS_3_GB = "No space left|NoRoom: disk", limit(resource.RLIMIT_AS, 3 << 30)
FAULTS = [
    Fault("a full disk", "train, clean", disk(120), FULL),
    Fault("a full disk", "attack, stealthy", disk(300), FULL),
    Fault("a full disk", "sweep, one process", disk(60), FULL),
    Fault("a full disk", "data, unpacked", disk(20_000), FULL),
    Fault("a full disk", "data, downloaded", disk(20_000), FULL),
    Fault("a full disk", "scan", disk(8), f"the verdict above stands|{FULL}"),
    Fault("a full disk", "guards written", disk(200), FULL),
    Fault("a full disk", "repair", disk(8), FULL),
    Fault("a full disk", "course", disk(16), FULL),
    Fault("no file above 50 kB", "train, clean", limit(resource.RLIMIT_FSIZE, 50_000), "File too large"),
    Fault("a read-only home", "train, clean", read_only, "Read-only file system"),
    Fault("a read-only home", "sweep, one process", read_only, "expected a folder to write to"),
    Fault("a read-only home", "data, unpacked", read_only, "not writable|Read-only file system"),
    Fault("a read-only home", "scan", read_only, "the verdict above stands"),
    Fault("no home", "train, clean", no_home),
    Fault("no home", "scan", no_home),
    Fault("no home", "course", no_home),
    Fault("no network", "data, downloaded", no_network, "is missing: .*the download failed"),
    Fault("no network", "scan", no_network),
    Fault("a clock that goes backwards, files of the future", "train, clean", clock_back),
    Fault("a clock that goes backwards, files of the future", "data, pictures", clock_back),
    Fault("a clock that goes backwards, files of the future", "sweep, one process", clock_back),
    Fault("40 file handles", "train, clean", limit(resource.RLIMIT_NOFILE, 40)),
    Fault("40 file handles", "scan", limit(resource.RLIMIT_NOFILE, 40)),
    Fault("40 file handles", "data, pictures", limit(resource.RLIMIT_NOFILE, 40)),
    Fault("3 GB of address space, all of it taken", "scan", AS_3_GB, "memory: expected enough for"),
    Fault("3 GB of address space, all of it taken", "train, clean", AS_3_GB, "memory: expected enough for"),
]


def in_one_sentence(run: Callable[[], object]) -> None:
    """Do a job; a library's error is its type and one line, as a caller would catch it."""
    try:
        run()
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        raise SystemExit(2) from None


def disturbed(fault: Fault, bench: Bench) -> dict[str, Any]:
    """Run a job in trouble, then without it."""
    if (fault.on_a_disk or "network" in fault.what) and os.geteuid() != 0:
        return {"what": fault.what, "job": fault.job, "said": "not tried: needs root", "wrong": []}
    bench.fresh()

    after = bench.home.with_name("after")
    shutil.rmtree(after, ignore_errors=True)

    def run() -> None:
        fault.disturb(bench.home)
        try:
            in_one_sentence(bench.job.run)
        finally:
            if fault.on_a_disk:  # which nobody else sees
                shutil.copytree(bench.home, after)

    process = forked(run, bench.home, bench.environment())
    status = process.wait(400)
    killed(process)
    outlived = process.outlived()
    text = (bench.home / "said").read_text(errors="replace")
    if after.exists():
        shutil.rmtree(bench.home)
        after.rename(bench.home)
    said = next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
    wrong = []
    if "Traceback" in text:
        wrong.append("a traceback")
    if fault.says and not re.search(fault.says, text):
        wrong.append("another sentence")
    if not fault.says and (status != 0 or told(bench.home) != bench.truth):
        wrong.append(f"status {status} or another result")
    if fault.says and status == 0 and "verdict" not in fault.says:
        wrong.append("it says that all is well")
    wrong += [f"torn: {each}" for each in torn(bench.home)] + [f"outlived: {each}" for each in outlived]
    wrong += bench.afterwards()
    return {
        "what": fault.what,
        "job": fault.job,
        "said": said.replace(f"{bench.home}/", "").replace(f"{sys.prefix}/", "")[-400:] if fault.says else "",
        "wrong": wrong,
    }


# ------------------------------------------------------------------------------------ several processes, and a kernel


def together(bench: Bench, count: int) -> dict[str, Any]:
    """So many processes at one job: all end well, with one result."""
    bench.fresh()
    each = [bench.start() for _ in range(count)]
    statuses = [process.wait(600) for process in each]
    wrong = [f"statuses {statuses}"] if any(statuses) else []
    wrong += [f"outlived: {name}" for process in each for name in process.outlived()]
    if told(bench.home) != bench.truth:
        wrong.append("another result")
    return {"what": f"{count} processes at once", "job": bench.name, "said": "", "wrong": wrong + bench.afterwards()}


def stopped(bench: Bench) -> dict[str, Any]:
    """A process that holds the lock is stopped: another waits, and goes on when the first is gone."""
    bench.fresh()
    first = bench.start()
    first.wait_its_time(bench.cpu / 2)
    first.signal(signal.SIGSTOP)
    second = forked(bench.job.run, bench.home, bench.environment(TQDM_DISABLE="0"))
    wrong = ["the second did not wait"] if second.wait(3 + bench.seconds) is not None else []
    killed(first)
    if second.wait(600) != 0 or told(bench.home) != bench.truth:
        wrong.append("the second did not end well")
    text = (bench.home / "said").read_text(errors="replace")
    said = next((line for line in text.replace("\r", "\n").splitlines() if "waiting" in line), "")
    if not said:
        wrong.append("the second did not say that it waits")
    return {"what": "a stopped process that holds a lock", "job": bench.name, "said": " ".join(said.split()),
            "wrong": wrong + bench.afterwards()}  # fmt: skip


def dying_kernel(bench: Bench) -> dict[str, Any]:
    """The kernel of a lesson is killed: the course says which cell, and the next run is well."""
    bench.fresh()
    process = bench.start()
    ends, wrong = time.monotonic() + 300, []
    while not (kernels := [each for each in process.left() if "ipykernel_launcher" in " ".join(each.cmdline())]):
        if time.monotonic() > ends or not psutil.pid_exists(process.pid):
            wrong.append("no kernel began")
            break
        time.sleep(0.1)
    time.sleep(1)
    for kernel in kernels:
        kernel.kill()
    if process.wait(300) != 1:
        wrong.append("the course did not fail")
    text = (bench.home / "said").read_text(errors="replace")
    said = next((line for line in text.splitlines() if line.startswith("FAIL")), "")
    if "Kernel died" not in said:
        wrong.append("another sentence")
    return {"what": "a kernel that dies", "job": bench.name, "said": said, "wrong": wrong + bench.afterwards()}


def checks() -> dict[str, tuple[str, Callable[[Bench], dict[str, Any]]]]:
    """Each trouble by its name: whose it is, and how it is tried."""
    found = {f"{fault.what}: {fault.job}": (fault.job, partial(disturbed, fault)) for fault in FAULTS}
    for job in ("train, clean", "data, unpacked", "data, downloaded", "sweep, one process"):
        found |= {f"{count} at once: {job}": (job, partial(together, count=count)) for count in (2, 4)}
    found |= {f"stopped: {job}": (job, stopped) for job in ("train, clean", "sweep, one process")}
    return {**found, "a kernel that dies": ("course", dying_kernel)}


def run(bench: Callable[[str], Bench], kept: Path, minutes: float = math.inf) -> list[dict[str, Any]]:
    """All troubles; what was tried before, says the file, is not tried again."""
    ends = time.monotonic() + 60 * minutes
    known = json.loads(kept.read_text()) if kept.exists() else {}
    for name, (job, tried) in checks().items():
        if name not in known and time.monotonic() < ends:
            known[name] = tried(bench(job))
            kept.write_text(json.dumps(known, indent=1))
    return [known[name] for name in checks() if name in known]


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    with benches(place) as made:
        print(json.dumps(run(made, place / "faults.json"), indent=1))
