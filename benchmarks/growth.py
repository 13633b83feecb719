"""How a search grows: with images, classes and the size of a picture, beside the bare passes that it is made of.

    python benchmarks/growth.py                                   # writes results/benchmark-growth.json
    python benchmarks/growth.py --rounds 1 --out /tmp/growth.json     # does it work?

One thing varies at a time; the rest is ten classes, 28×28 pixels, ten images of each class (a screening has one).
The network is a small untrained convolutional one, so that a search of few steps does what a long one does, step by
step. Each search runs in a process of its own: CPU seconds, peak memory above that of the process before the search,
and its share of bare passes: the same number of gradients and looks by the same network, measured in the same process.
The screening is the short search that a scan makes of many classes. Its masks are searched for all classes, with as
many images of each; a whole `scan` takes of many classes fewer images and some of the classes, so that row is what a
user waits for: its default methods on a network that knows its classes, without the second look that doubt asks for.
Hardware: one core, minutes; rounds take turns.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from btlib import detection
from btlib.cli import scanning
from btlib.cli.probing import Foreign, Told
from btlib.cli.scan import METHODS
from btlib.cli.scan_budget import per_class as fewer
from btlib.cli.scan_images import CleanImages, Origin
from btlib.detection import costs
from btlib.detection.descent import Inversion
from btlib.detection.screening import screen
from btlib.peak_memory import PeakMemory
from btlib.results import environment, load, save

OUT = "results/benchmark-growth.json"
USUAL = {"classes": 10, "size": 28, "images of a class": 10}
VARIED = {"classes": (10, 43, 100, 1000), "size": (28, 32, 64, 224), "images of a class": (10, 30, 100)}
STEPS = 6  # of a mask; a search of a usual length has 150
GRADIENTS = 400  # of bare passes that are timed


def network(classes: int) -> nn.Sequential:
    """A small network for pictures of any size."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, classes),
    ).eval()  # fmt: skip


def bare(net: nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """CPU seconds of a gradient and of a look, for one image, at the batch size of the search."""
    batch = images[: detection.images.pass_size(net, images[:1])]
    batch = batch.repeat(-(-GRADIENTS // len(batch)), 1, 1, 1)[:GRADIENTS].requires_grad_()
    with torch.no_grad():
        net(batch)
    began = time.process_time()
    torch.autograd.grad(net(batch).square().sum(), batch)
    between = time.process_time()
    with torch.no_grad():
        net(batch)
    return (between - began) / len(batch), (time.process_time() - between) / len(batch)


def knows(net: nn.Sequential, classes: int, size: int) -> CleanImages:
    """As many images of each class as a scan takes, which the network's last layer is fitted to in closed form."""
    each = fewer(scanning.PER_CLASS, classes)
    coarse = torch.rand(classes, 1, 7, 7).repeat_interleave(each, 0)
    images = nn.functional.interpolate(coarse, size, mode="bilinear") + 0.05 * torch.randn(len(coarse), 1, size, size)
    images, labels = images.clamp(0, 1).mul(255).to(torch.uint8), torch.arange(classes).repeat_interleave(each)
    with torch.no_grad():
        features = net[:-1](images / 255).double()
        features = torch.cat([features, torch.ones(len(features), 1)], 1)
        gram = features.T @ features + 1e-4 * torch.eye(features.shape[1])
        fit = torch.linalg.solve(gram, features.T @ nn.functional.one_hot(labels).double())
        net[-1].weight.copy_(10 * fit[:-1].T)
        net[-1].bias.copy_(10 * fit[-1])
    return CleanImages(images, labels, "")


def scan(net: nn.Sequential, clean: CleanImages, classes: int) -> None:
    """What `btlib scan` does by default, up to a second look."""
    shape = tuple(clean.x.shape[1:])
    detectors = {name: detection.find(name) for name in METHODS.split(",")}
    scanning.examined(
        Path("net"), Foreign(net, net, None, "made", shape, classes), Origin("made", tuple(map(str, range(classes))),
        shape, None), clean, detectors, wanted=scanning.images_wanted(detectors, classes=classes), level=0.05, seed=0,
        told=Told(), closer=False, wash=False,
    )  # fmt: skip


def one(kind: str, setting: dict[str, int]) -> dict[str, float]:
    """One search, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    classes, per_class = setting["classes"], setting["images of a class"]
    net, count = network(classes), classes * per_class
    images, labels = torch.rand(count, 1, setting["size"], setting["size"]), torch.arange(count) % classes
    clean = knows(net, classes, setting["size"]) if kind == "scan" else None
    each = bare(net, images)
    inversion = Inversion(rounds=STEPS, steps=1, batch_size=32, lr=0.2, decay=True, stop_after=1000, check=False)
    masks = detection.NeuralCleanse(per_class=None, inversion=inversion)
    with PeakMemory(own=True, interval=0.02) as before:
        pass
    began = time.process_time()
    with PeakMemory(own=True, interval=0.02) as peak:
        if clean is not None:
            passes = None
            scan(net, clean, classes)
        elif kind == "screening":
            screen(net, images, labels, per_class=per_class)
            passes = costs.Passes(classes * 30 * min(16, count), classes * count)
        else:
            masks(net, images, labels)
            passes = masks.passes(count, classes, classes)
    seconds = time.process_time() - began
    found = {"seconds": seconds, "seconds a class": seconds / classes, "MiB": peak.mb - before.mb}
    return found | ({"bare passes, share": passes.seconds(each) / seconds} if passes else {})


def settings() -> list[tuple[str, str, int, dict[str, int]]]:
    """What is varied, to which value, and the whole setting."""
    found = []
    for kind, (name, values) in itertools.product(("masks", "screening", "scan"), VARIED.items()):
        usual = USUAL | ({"images of a class": 1} if kind == "screening" else {})
        found += [(kind, name, value, usual | {name: value}) for value in values]
    # All images are looked at with each mask: of 1,000 classes only some are searched in full (`selection`).
    left_out = {("screening", "images of a class", value) for value in VARIED["images of a class"]}
    left_out.add(("masks", "classes", 1000))
    left_out |= {("scan", name, value) for name in ("size", "images of a class") for value in VARIED[name]}
    return [row for row in found if row[:3] not in left_out]


def apart(kind: str, setting: dict[str, int]) -> dict[str, float]:
    """The same in a process of its own."""
    told = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps([kind, setting])], check=True, capture_output=True, text=True
    )
    measured: dict[str, float] = json.loads(told.stdout)
    return measured


def main() -> None:
    """Every setting, once a round."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--kind", choices=["masks", "screening", "scan"], help="only this, beside what was measured before"
    )
    parser.add_argument("--note", help="written beside the figures, such as what else the machine did")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", default=OUT)
    told = parser.parse_args()
    if told.one:
        kind, setting = json.loads(told.one)
        print(json.dumps(one(kind, setting)))
        return
    runs: dict[str, list[dict[str, float]]] = {}
    wanted = [each for each in settings() if told.kind in (None, each[0])]
    for _ in range(told.rounds):
        for kind, name, value, setting in wanted:
            runs.setdefault(f"{kind} | {name} | {value}", []).append(apart(kind, setting))
            print(f"{kind} | {name} | {value}", runs[f"{kind} | {name} | {value}"][-1], flush=True)
    rows: dict[str, Any] = {
        name: {key: statistics.median(run[key] for run in made) for key in made[0]} for name, made in runs.items()
    }
    if told.kind is None:
        save(told.out, {"environment": environment(), "rounds": told.rounds, "rows": rows, "note": told.note})
        return
    kept = load(told.out)  # of the other kinds, with the environment that they were measured in
    again = {told.kind: {"environment": environment(), "rounds": told.rounds, "note": told.note}}
    save(told.out, kept | {"rows": kept.get("rows", {}) | rows, "again": kept.get("again", {}) | again})


if __name__ == "__main__":
    main()
