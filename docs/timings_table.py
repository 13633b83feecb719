"""Write docs/timings.md from results/: python docs/timings_table.py"""

import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from btlib.files import written_whole
from btlib.paths import CHECKOUT

PAGE = CHECKOUT / "docs" / "timings.md"
Rows = Iterator[tuple[str, str, str, str]]

HEAD = """# What it costs

Ratios of two times taken in one run, medians: how many times faster than what a user would pick otherwise, or how much
above the bare passes through the network that nothing can spare. Seconds depend on the machine, ratios much less.
`make bench` measures all of it again (hours) and writes this page; each table says which benchmark and machine it is
from, and what the goal is, also where it was not reached.
"""
WHERE = "`{command}`, [{file}](../results/{file}); {device}, {threads}, commit {commit}{note}."


def _times(value: float) -> str:
    return f"{value:.2f} times"


def _share(row: dict[str, Any]) -> str:
    """How much of the time are bare passes, and what nothing but these would reach."""
    share = row["share_of_bare_passes"]
    return f"{share:.0%}: these alone would be {_times(row['median_ratio'] / share)}"


def neural_cleanse(found: dict[str, Any]) -> Rows:
    """Against a loop over classes with the public defaults."""
    nets = list(found["networks"].values())
    speed, size = ([n[key] for n in nets] for key in ("speed ratio", "norm ratio (median)"))
    same = sum(n["suspect"]["btlib"] == n["suspect"]["straightforward"] for n in nets)
    verdicts = sum((n["anomaly index"]["btlib"] > 2) == (n["anomaly index"]["straightforward"] > 2) for n in nets)
    again = [(n["another seed"], {what: n[what]["straightforward"] for what in ("norms", "suspect", "anomaly index")})
             for n in nets]  # fmt: skip
    itself = sum(other["suspect"] == one["suspect"] for other, one in again)
    agrees = sum((other["anomaly index"] > 2) == (one["anomaly index"] > 2) for other, one in again)
    moved = [statistics.median(abs(b / a - 1) for a, b in zip(one["norms"], other["norms"], strict=True))
             for other, one in again]  # fmt: skip
    gap = max(abs(n["held-out success"]["btlib"] - n["held-out success"]["straightforward"]) for n in nets)
    yield "ten classes, LeNet-5", "the public defaults, in a loop", _times(statistics.median(speed)), "25 times"
    yield "size of the masks", "the same", f"{statistics.median(size) - 1:+.1%}", "within +5 %"
    yield "held-out success, largest difference", "the same", f"{gap:.3f}", "within .01"
    yield "same suspect; same verdict", "the same", f"{same} and {verdicts} of {len(nets)} networks", "all"
    yield "the public defaults, another seed", "themselves", f"{itself} and {agrees} of {len(again)} networks", ""
    yield "a class's mask, another seed", "the same", f"{statistics.median(moved):.1%} more or less", ""


def lred(found: dict[str, Any]) -> Rows:
    """Against Algorithm 1 as printed."""
    for part, title in (("fine", "δ = 1e-3"), ("exact", "δ = 1e-4, as printed")):
        ratios = [row["time ratio"] for row in found[part].values()]
        yield "RED-A in few steps", f"Algorithm 1 with {title}", _times(statistics.median(ratios)), ""
    for method in ("RED-A", "RED-A'", "RED-U", "RED-P"):
        seconds = statistics.median(row[method] for row in found["table"].values())
        yield f"{method}, ten classes, LeNet-5", "", f"{seconds:.1f} s", ""


def inflight(found: dict[str, Any]) -> Rows:
    """The guard beside the network alone, STRIP beside ART's."""
    for name, goal in (("shared covariance", "+3 %"), ("one covariance per class", "+10 %")):
        for traffic in ("clean", "attack", "clean of torch's layers", "attack of torch's layers"):
            ratio = found["guard"][name][traffic]["median_ratio"]
            yield f"guard, {name}, {traffic}", "the network alone", f"{ratio - 1:+.1%}", goal
    strip = found["strip"]
    yield "STRIP, 100 overlays", f"ART {strip['art_version']}", _times(strip["median_ratio"]), "20 times"
    share = strip["median_ratio"] / strip["median_ratio_of_the_rest_alone"]
    yield "STRIP: share of its bare passes", "its blends through the network alone", f"{share:.0%}", "80 %"


def stealthy(found: dict[str, Any]) -> Rows:
    """The joint step."""
    yield "joint step of the stealthy attack", "a straightforward one", _times(found["median_ratio"]), "2.5 times"
    if found.get("bf16"):
        ratio = _times(found["median_ratio_in_float32"])
        yield "joint step in float32, as without AMX and AVX-512 BF16", "a straightforward one", ratio, ""
    yield "joint step: share of its bare passes", "a straightforward one", _share(found), ""


def training(found: dict[str, Any]) -> Rows:
    """Against the loop of most tutorials."""
    goals = {"lenet5": "3.5 times", "littlenet": "3 times", "littlenet, bf16": "3 times"}
    for name, row in found["rows"].items():
        yield f"training, recipe `{name}`", "a tutorial's loop", _times(row["median_ratio"]), goals.get(name, "")
        yield f"recipe `{name}`: share of its bare passes", "a tutorial's loop", _share(row), ""


def startup(found: dict[str, Any]) -> Rows:
    """How long it takes to open."""
    yield "`btlib --help`", "", f"{found['median seconds']['btlib --help']:.2f} s", ".5 s"
    for name, ratio in found["over import torch"].items():
        yield f"`{name}`", "`import torch`", f"{ratio - 1:+.1%}", "+10 %"


def sweep(found: dict[str, Any]) -> Rows:
    """What a sweep adds to its jobs."""
    yield "a sweep with one worker", "its jobs in a loop", f"{found['overhead']:+.1%}", ""
    yield "a second worker", "one", _times(found["speed-up"]), ""


def passes(found: dict[str, Any]) -> Rows:
    """One pass of a stranger's VGG."""
    rows = found["rows"]
    for kind in ("gradient [ms]", "look [ms]"):
        ratio = rows["as it came"][kind] / rows["both"][kind]
        yield f"{kind.split()[0]} of a stranger's VGG, as a scan does it", "the network as it came", _times(ratio), ""


def repair(found: dict[str, Any]) -> Rows:
    """Repairs of LeNet-5."""
    methods: dict[str, list[dict[str, float]]] = {}
    for name, row in found["rows"].items():
        network, _, method = name.partition(" | ")
        if "CPU seconds" in row and not network.startswith(("external", "gtsrb")):
            methods.setdefault(method, []).append(row)
    for method, rows in sorted(methods.items()):
        seconds, count = (statistics.median(row[key] for row in rows) for key in ("CPU seconds", "passes"))
        yield f"{method}, LeNet-5, {count:.0f} passes of its images", "", f"{seconds:.1f} CPU s", "30 s"


def growth(found: dict[str, Any]) -> Rows:
    """With images, classes and size."""
    ways = [(*name.split(" | "), row) for name, row in found["rows"].items()]
    for kind, varied, value, row in sorted(ways, key=lambda way: (*way[:2], int(way[2]))):
        share = row.get("bare passes, share")
        said = "" if share is None else f"{share:.0%} of it bare passes, "
        each = f"{1e3 * row['seconds a class']:.0f} CPU ms a class; {said}{row['MiB']:.0f} MiB more"
        again = found.get("again", {}).get(kind)
        beside = f"measured at commit {again['environment']['commit']}" if again else ""
        yield f"{kind}: {varied} {value}", beside, each, "less a class than of fewer" if kind == "scan" else ""


def load(found: dict[str, Any]) -> Rows:
    """Hours of service in minutes."""
    guard, service = found["guard"], found["service"]
    for name, part in (
        (f"guard, {guard['images']:,} images", guard),
        (f"service, {service['callers']} callers", service),
    ):
        for what, goal in (("MB", "within 5 %"), ("rate", "within 10 %")):
            yield f"{name}: {what} at the end", "at the start", _times(part[f"last {what} over first"]), goal


def newcomer(found: dict[str, Any]) -> Rows:
    """From `make lab` in a fresh clone on."""
    for what, seconds in sorted(found["seconds since make lab"].items(), key=lambda row: row[1]):
        yield what, "", f"{seconds:.0f} s", "300 s" if "slider" in what else ""


def external(found: dict[str, Any]) -> Rows:
    """Strangers' networks, from file to verdict."""
    for name, row in found["rows"].items():
        washed = any(method.get("washed_p") is not None for method in row["methods"].values())
        what = "default methods" + (", and once more beside a washed copy" if washed else "")
        yield f"scan of {name}, {what}", "", f"{row['seconds']:.0f} s", "90 s"


def on_gpu(found: dict[str, Any]) -> Rows:
    """A visit of `btlib gpu`: lessons, then a ResNet-18 on images of 32×32 in colour."""
    goals = {"RedA, fast": "5 s", "Neural Cleanse, 10 classes": "10 s", "STRIP, 1000 images": "3 s"}
    lessons = found["stages"].get("lessons", {})
    if lessons:
        yield f"{lessons['passed']} lessons by papermill, side by side", "", f"{lessons['seconds']:.0f} s", "all pass"
    for name, seconds in found["stages"].get("timing", {}).get("timings", {}).items():
        said = f"{seconds:.2f} s" if seconds > 0.1 else f"{1e3 * seconds:.1f} ms"
        yield name, "", said, goals.get(name, "")


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], Rows]]] = {
    "neural_cleanse": ("Neural Cleanse", neural_cleanse), "lred": ("L-RED", lred), "inflight": ("In flight", inflight),
    "stealthy": ("The stealthy attack", stealthy), "training": ("Training", training), "repair": ("Repair", repair),
    "passes": ("One pass", passes), "growth": ("How a search grows", growth), "startup": ("Start", startup),
    "sweep": ("Sweeps", sweep), "load": ("Load", load),
    "newcomer": ("A newcomer: seconds since `make lab` in a fresh clone", newcomer),
}  # fmt: skip


def page() -> str:
    """The page, from the JSON files alone."""
    parts, results = [HEAD], CHECKOUT / "results"
    for name, (title, rows) in SECTIONS.items():
        path = results / f"benchmark-{name.replace('_', '-')}.json"
        if path.exists():
            parts += _section(title, f"python benchmarks/{name}.py", path, rows)
    parts += _section(
        "Scans of strangers' networks", "python benchmarks/external.py", results / "external.json", external
    )
    for path in sorted((results / "gpu").glob("[!r]*.json")):  # no rehearsals
        parts += _section("On a GPU", "make gpu", path, on_gpu)
    return "".join(parts)


def _section(title: str, command: str, path: Path, rows: Callable[[dict[str, Any]], Rows]) -> Iterator[str]:
    """A heading, where the numbers are from, and the table."""
    found = json.loads(path.read_text(encoding="utf-8"))
    where = found.get("environment", found)
    threads = "one thread" if where["threads"] == 1 else f"{where['threads']} threads"
    note = f"; {found['note']}" if found.get("note") else ""
    yield f"\n## {title}\n" + WHERE.format(
        command=command, file=path.relative_to(CHECKOUT / "results"), device=where["device"], threads=threads,
        commit=where["commit"], note=note,
    ) + "\n\n| what | beside | measured | goal |\n|---|---|---|---|\n"  # fmt: skip
    yield from (f"| {' | '.join(row)} |\n" for row in rows(found))


def main() -> None:
    """Rewrite the page."""
    with written_whole(PAGE) as part:
        part.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
