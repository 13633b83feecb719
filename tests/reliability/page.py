"""docs/reliability.md, made from results/reliability.json."""

import json
import textwrap
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULT, PAGE = ROOT / "results" / "reliability.json", ROOT / "docs" / "reliability.md"
REASONS, LOOKED_AT = (Path(__file__).with_name(name) for name in ("survivors.toml", "findings.toml"))

HEAD = """# Reliability
What was done to btlib to break it, and what came of it. `make nightly` (an hour on two cores, at most) measures all of
this and writes `results/reliability.json` and this page; a number that is not here was not measured.
"""


def page(whole: dict[str, Any]) -> str:
    """The page, from what the parts found."""
    parts = {"kills": _kills, "faults": _faults, "hostile": _hostile, "inputs": _inputs, "numbers": _numbers,
             "load": _load, "mutation": _mutation, "findings": _findings}  # fmt: skip
    return "\n".join([HEAD, *(make(whole[name]) for name, make in parts.items() if name in whole)])


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    first = list(head)
    lines = [first, ["---"] * len(first), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _measured(part: dict[str, Any]) -> str:
    note = f"{part['note']} " if "note" in part else ""
    return _say(f"{note}Measured {part['made']} at commit {part['commit']}, PyTorch {part['torch']}, {part['device']}.")


def _say(*words: str) -> str:
    return textwrap.fill(" ".join(words), 120, break_on_hyphens=False) + "\n"


def _kills(part: dict[str, Any]) -> str:
    jobs: dict[str, Any] = part["found"]
    numbers = ("kills", "same", "torn", "outlived", "left", "ended_before")
    whole = {name: sum(job[name] for job in jobs.values()) for name in numbers}
    rows = [[name, f"{job['seconds']:.1f}", *(job[each] for each in numbers)] for name, job in jobs.items()]
    return "\n".join([
        "## SIGKILL at random moments",
        _say(
            "Each job is a tiny version of the real one in a home of its own. It is killed at a seeded, uniformly",
            "drawn share of its time, and begun again. *Same*: the second run ends well, and its files say bit for bit",
            "what those of an undisturbed run say (times apart). *Torn*: a file under its own name can't be read to",
            "the end. *Outlived*: a process lives ten seconds after its parent. *Left*: after the second run something",
            "lies about that an undisturbed run does not leave. *Too late*: the job had ended.",
        ),
        _measured(part),
        _table(["job", "seconds", "kills", "same", "torn", "outlived", "left", "too late"],
               [*rows, ["**all**", "", *(f"**{whole[each]}**" for each in numbers)]]),
        *(_kill(name, kill) for name, job in jobs.items() for kill in job["wrong"]),
    ])  # fmt: skip


def _kill(job: str, kill: dict[str, Any]) -> str:
    """What one of them left behind."""
    found = {what: kill[what] for what in ("torn", "outlived", "wrong", "left") if kill[what]}
    told = "; ".join(f"{what} {', '.join(f'`{each}`' for each in files)}" for what, files in found.items())
    return f"* {job}, killed at {kill['share']:.0%} of its time: {told}"


def _faults(part: dict[str, Any]) -> str:
    rows = [[one["what"], one["job"], f"`{one['said'].replace('`', chr(39))}`" if one["said"] else "does its job",
             "; ".join(one["wrong"]) or "well"] for one in part["found"]]  # fmt: skip
    return "\n".join([
        "## Disks, limits, locks, clocks, kernels",
        _say("The same jobs in trouble: what they say, in one line, and whether they end with the undisturbed result",
             "when they are run again without it."),
        _measured(part), _table(["trouble", "job", "says", "afterwards"], rows),
    ])  # fmt: skip


def _hostile(part: dict[str, Any]) -> str:
    rows = [[one["kind"], one["files"], one["files"] - len({wrong.split(": ")[0] for wrong in one["wrong"]}),
             one["most_mb"], one["by"], "; ".join(one["wrong"]) or "nothing"] for one in part["found"]]  # fmt: skip
    return "\n".join([
        "## Hostile files",
        _say(
            "Pickles with a payload, bombs of every kind, torn and nested headers, pictures of a gigapixel, answers",
            "that write, start programs, or never end: each is given to its command. *Well*: one true sentence, the",
            "status of bad input (a student's notebook is marked, and the others' too), no code run, no process left.",
            "*MiB*: the most that any of them took above what the same command takes for a harmless or empty file.",
        ),
        _measured(part), _table(["what", "files", "well", "MiB", "by", "wrong"], rows),
    ])  # fmt: skip


def _load(part: dict[str, Any]) -> str:
    guard, service = part["found"]["guard"], part["found"]["service"]
    answers = {kind: f"{service['answers'].get(kind, 0):,}" for kind in ("200", "503", "lost", "wrong")}
    rows = [[name, f"{sum(told['per second']) / len(told['per second']):,.0f}", f"{told['last rate over first']:.2f}",
             f"{told['last MB over first']:.3f}"] for name, told in (
                 (f"a guard, {guard['images']:,} images", guard),
                 (f"the service, {service['callers']} callers, {service['seconds']} seconds", service))]  # fmt: skip
    return "\n".join([
        "## Load",
        _say(
            "`benchmarks/load.py`: the last and the first tenth of the run compared. The service answered",
            f"{answers['200']} requests, refused {answers['503']} as too many (503), lost {answers['lost']}, and said",
            f"something else than its guard {answers['wrong']} times.",
        ),
        _measured(part),
        _table(["what", "images per second", "rate, last over first", "memory, last over first"], rows),
    ])  # fmt: skip


def _findings(part: dict[str, Any]) -> str:
    audit, bandit = part["found"]["audit"], part["found"]["bandit"]
    rows = [[f"{one['test']} {one['name']}", one["file"], one["count"],
             findings_reason(one["test"], one["file"]) or "not looked at yet"] for one in bandit["found"]]  # fmt: skip
    return "\n".join([
        "## Code and packages",
        _say(
            f"pip-audit (`.ci/audit`) got an answer for {audit['known']} of {audit['pinned']} pinned packages, and",
            f"knows of {len(audit['holes']) or 'no'} holes in them. Bandit {bandit['version']} finds",
            f"{sum(one['count'] for one in bandit['found'])} things in `btlib/`:",
        ),
        _measured(part), _table(["what", "where", "how often", "why it is no hole"], rows),
    ])  # fmt: skip


def _inputs(part: dict[str, Any]) -> str:
    found = part["found"]
    return "\n".join([
        "## Odd input",
        _say(
            f"`tests/test_any_input.py` with {found['examples']:,} examples for each of its {found['tests']} property",
            "tests (150 in `make test`): the result of the same thing said properly, or one error with expected and",
            "got; network, modes, inputs and random state as they were.",
            f"{'Something' if found['wrong'] else 'Nothing'} went wrong in {found['seconds']} seconds.",
        ),
        _measured(part), *found["wrong"],
    ])  # fmt: skip


def _numbers(part: dict[str, Any]) -> str:
    found, allowed = part["found"], part["found"]["tolerance"]
    columns = [("two threads", found["two threads"])]
    if "other" in found:
        columns.append((f"torch {'.'.join(found['another torch'].split('.')[:2])}", found["other"]))
    alone = "" if "other" in found else "No other PyTorch was at hand: name its Python in BTLIB_OTHER_PYTHON."
    rows = [[name, *(f"{told[name][kind]:.4f}" for _, told in columns for kind in ("share", "size"))]
            for name in found["two threads"]]  # fmt: skip
    return "\n".join([
        "## Same numbers",
        _say(
            "One thread, one seed: bit for bit the same in any order of calls (other bits:",
            f"{', '.join(found['other bits in another order']) or 'none'}). With another number of threads or another",
            "PyTorch sums are made in another order. The largest differences from one thread here, of shares (allowed:",
            f"{allowed['share']}) and of sizes of estimates (relative, allowed: {allowed['size']}) are below. Two",
            f"threads gave other bits in {', '.join(found['other bits with two threads']) or 'none'} only: the toy",
            "images of the others are too few to be divided, so that their rows say little of larger networks.", alone,
        ),
        _measured(part),
        _table(["call", *(f"{kind}, {name}" for name, _ in columns for kind in ("share", "size"))], rows),
    ])  # fmt: skip


def _mutation(part: dict[str, Any]) -> str:
    found = part["found"]
    share = f"{found['killed'] / found['tried']:.0%}" if found["tried"] else "none"
    rows = [[one["mutant"].split(" ")[0], f"`{one['text']}`", one["mutant"].partition(" ")[2], one["tests"],
             reason(one["text"], one["mutant"].partition(" ")[2])] for one in found["left"]]  # fmt: skip
    untried = found["wanted"] - found["tried"]
    return "\n".join([
        "## Mutations",
        _say(
            "Small mistakes (a comparison, a sign, a constant, and/or, a call left out) drawn by seed",
            f"{found['seed']} from all that can be made in `detection`, `inflight`, `attacks`, `metrics`, `repair` and",
            "`poisoning`,",
            f"each tried with the tests that run its line. **{found['killed']} of {found['tried']} ({share}) were",
            f"noticed**; {untried or 'none'} of the {found['wanted']} wanted are still to be tried.",
        ),
        _measured(part), _table(["where", "line", "mistake that no test noticed", "tests", "why"], rows),
    ])  # fmt: skip


def reason(line: str, what: str) -> str:
    """Why a mistake is not noticed, by the line's text, as numbers of lines move."""
    with REASONS.open("rb") as file:
        return tomllib.load(file).get(line, {}).get(what, "not looked at yet")


def findings_reason(test: str, file: str) -> str:
    """Why what Bandit finds is no hole, by its number of the test and the file; "": nobody has looked yet."""
    with LOOKED_AT.open("rb") as told:
        by_file = tomllib.load(told).get(test, {})
    return by_file.get(file, by_file.get("everywhere", ""))


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULT.read_text(encoding="utf-8"))), encoding="utf-8")
