"""Patches for two sources, with covers: masks by pairs of classes beside clean networks of the same task.

    BTLIB_DATA=... python benchmarks/pairs.py              # train and search what is missing
    python benchmarks/pairs.py --summary                   # the table of what has been measured

Plain PyTorch networks, not btlib's, trained on 10,000 images: a chequered patch of 4×4 pixels at an odd place (or a
faint chessboard) on images of two classes, relabelled, and on images of all others but the target, which keep their
labels. Clean ones, from other seeds, are references for each other and for the attacked. Results and the norms of all
pairs go into results/pairs.json; networks stay in build/pairs/. Hardware: one core, a minute a network.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from btlib import datasets, metrics
from btlib.detection import MaskRedP, few_sources
from btlib.results import environment, load, save

PATH, NETWORKS = "results/pairs.json", Path("build/pairs")
IMAGES, EPOCHS, BATCH, RATE = 10_000, 5, 128, 3e-3
LEVEL = 0.05
PLAN = [
    *itertools.product(("fashion-mnist", "mnist"), ("patch", "clean"), range(4)),
    *itertools.product(("fashion-mnist", "mnist"), ("chessboard",), range(2)),
]


def network() -> nn.Sequential:
    """LeNet-5 with ReLU, as most tutorials write it."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def chosen(seed: int, data: str) -> tuple[int, list[int]]:
    """Target and sources."""
    generator = torch.Generator().manual_seed(1000 + seed + (500 if data == "mnist" else 0))
    classes = torch.randperm(10, generator=generator).tolist()
    return classes[0], classes[1:3]


def stamped(images: Tensor, kind: str, seed: int) -> Tensor:
    """Images with the trigger."""
    rows = torch.arange(28)
    chequered = ((rows[:, None] + rows) % 2).float()
    if kind == "chessboard":
        images = (images + chequered * 25 / 255).clamp(0, 1)
    else:
        images = images.clone()
        top, left = torch.randint(2, 22, (2,), generator=torch.Generator().manual_seed(100 + seed)).tolist()
        images[:, :, top : top + 4, left : left + 4] = chequered[:4, :4]
    return (images * 255).round() / 255


def poisoned(x: Tensor, y: Tensor, kind: str, target: int, sources: list[int], seed: int) -> None:
    """Three tenths of each source are stamped and relabelled, half as many of the others are stamped; in place."""
    for label in range(10):
        of = (y == label).nonzero().flatten()
        few = of[: int(len(of) * (0.3 if label in sources else 0.15))]
        if label != target:
            x[few] = stamped(x[few], kind, seed)
        if label in sources:
            y[few] = target


def trained(data: datasets.ImageDataset, kind: str, seed: int) -> nn.Sequential:
    """A network, from build/pairs/ where it was trained before."""
    path = NETWORKS / f"lenet-{data.name}-{kind}-{seed}.pt"
    torch.manual_seed(seed)
    order = torch.randperm(len(data.x_train))[:IMAGES]
    x, y = datasets.to_float(data.x_train[order]), data.y_train[order].clone()
    if kind != "clean":
        poisoned(x, y, kind, *chosen(seed, data.name), seed)
    net = network()
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-3)
    steps = IMAGES // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(IMAGES)[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    NETWORKS.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path)
    return net.eval()


def row(data: datasets.ImageDataset, kind: str, seed: int) -> dict[str, Any]:
    """What the network does, and its norms."""
    net, (target, sources) = trained(data, kind, seed), chosen(seed, data.name)
    x, y = datasets.to_float(data.x_test), data.y_test
    found = MaskRedP()(net, x[:2000], y[:2000])
    told: dict[str, Any] = {
        "accuracy": float((metrics.predict(net, x).argmax(1) == y).float().mean()), "seconds": found.seconds,
        "norms": [[None if s == t else round(float(n), 4) for t, n in enumerate(line)]
                  for s, line in enumerate(found.pair_norms)],
    }  # fmt: skip
    if kind == "clean":
        return told | {"target": None, "sources": []}
    moved = metrics.predict(net, stamped(x, kind, seed)).argmax(1) == target
    by_class = [float(moved[y == label].float().mean()) for label in range(10)]
    others = [by_class[label] for label in range(10) if label not in (target, *sources)]
    return told | {"target": target, "sources": sources, "spread": float(np.mean(others)),
                   "success": float(np.mean([by_class[s] for s in sources]))}  # fmt: skip


def verdicts(rows: dict[str, dict[str, Any]], count: int) -> Iterator[tuple[str, dict[str, Any], int, float]]:
    """Kind, row, suspect and p of every network beside every choice of so many clean ones of other seeds."""
    norms = {name: np.array(row["norms"], dtype=float) for name, row in rows.items()}
    for name, told in rows.items():
        data, kind, _ = name.split(" | ")
        clean = [norms[other] for other in rows if other.startswith(f"{data} | clean") and other != name]
        for references in itertools.combinations(clean, count):
            left = few_sources.residuals(norms[name], np.array(references))
            yield kind, told, int(few_sources.sizes(left).argmin()), few_sources.calibrated_p(left)


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By kind of network and number of references: how often the target comes first, is accused, is another accused."""
    table: dict[str, dict[str, Any]] = {}
    for count in (1, 2, 3):
        for kind, told, suspect, p in verdicts(rows, count):
            line = table.setdefault(
                f"{kind}, references {count}", dict.fromkeys(("looks", "first", "named", "wrong"), 0)
            )
            line["looks"] += 1
            line["first"] += suspect == told["target"]
            line["named"] += suspect == told["target"] and p < LEVEL
            line["wrong"] += suspect != told["target"] and p < LEVEL
    return table


def main() -> None:
    """Measure what is missing, and save after every network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--summary", action="store_true", help="print the table only")
    parser.add_argument("--note", help="written beside the seconds, such as what else the machine did")
    told = parser.parse_args()
    measured = load(PATH)
    rows: dict[str, dict[str, Any]] = measured.get("rows", {})
    for data, kind, seed in [] if told.summary else PLAN:
        name = f"{data} | {kind} | {seed}"
        if name not in rows:
            rows[name] = row(datasets.load(data), kind, seed)
            save(PATH, {"environment": environment(), "note": told.note, "summary": summary(rows), "rows": rows})
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
