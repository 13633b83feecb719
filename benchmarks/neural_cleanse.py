"""Neural Cleanse by btlib against a straightforward implementation with the public defaults, in one run.

The straightforward one is what a user would write from the paper: a loop over classes, batches of 64 from 1,000
images, 30 epochs per class, Adam at 0.1, the network in evaluation mode but its weights not frozen, the layers in
textbook order. btlib inverts all classes together (`QUICK`). Networks are those of `zoo.py` (with all classes as
sources) and clean ones; both get the same 1,000 images, success is measured on 3,000 others.

    python benchmarks/neural_cleanse.py --networks 3 --classes 10

Ratios and norms are what is claimed. Networks that have been measured are not measured again. With `--itself` the
straightforward one is compared with itself, begun with another seed: as much as it disagrees with itself, nobody can
agree with it.
Hardware: two cores; a minute or two per network for the straightforward one.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
import torch
import zoo
from torch import Tensor, nn
from training import textbook

from btlib import checkpoints, datasets, detection, metrics
from btlib.detection import anomaly
from btlib.results import environment, load, save
from btlib.triggers import Trigger

PATH = "results/benchmark-neural-cleanse.json"
NETWORKS = (
    "fashion-mnist lenet5 box 9 s0", "fashion-mnist lenet5 clean 0 s0", "fashion-mnist lenet5 single_pixel 9 s0",
    "fashion-mnist lenet5 box 9 s1", "fashion-mnist lenet5 clean 0 s1", "fashion-mnist lenet5 box 9 s2",
    "fashion-mnist lenet5 clean 0 s2", "mnist lenet5 box 9 s0", "mnist lenet5 clean 0 s0",
    *(f"fashion-mnist lenet5 clean 0 s{seed}" for seed in range(3, 10)),  # how often each accuses a clean network
)  # fmt: skip


def straightforward(network: nn.Module, images: Tensor, target: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """One class: pattern, mask and its size, the way the public code goes about it."""
    torch.manual_seed(seed)
    raw_mask, raw_pattern = torch.rand(1, 1, 28, 28), torch.rand(1, 1, 28, 28)
    raw_mask = torch.atanh((raw_mask - 0.5) * 1.999).requires_grad_()
    raw_pattern = torch.atanh((raw_pattern - 0.5) * 1.999).requires_grad_()
    optimizer = torch.optim.Adam([raw_mask, raw_pattern], lr=0.1, betas=(0.5, 0.9))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=64, shuffle=True)
    cost, up, down, best, kept = 0.0, 0, 0, float("inf"), None
    for _ in range(30):
        hits = 0
        for (batch,) in loader:
            mask, pattern = (raw_mask.tanh() + 1) / 2, (raw_pattern.tanh() + 1) / 2
            logits = network((1 - mask) * batch + mask * pattern)
            hits += int((logits.argmax(1) == target).sum())
            labels = torch.full((len(batch),), target)
            loss = nn.functional.cross_entropy(logits, labels) + cost * mask.abs().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        works, size = hits / len(images) >= 0.99, float(((raw_mask.tanh() + 1) / 2).sum())
        if works and size < best:
            best, kept = size, (pattern.detach(), mask.detach())
        if cost == 0 and works:
            cost = 1e-3
        up, down = (up + 1, 0) if works else (0, down + 1)
        if up >= 5:
            cost, up = cost * 2, 0
        elif down >= 5:
            cost, down = cost / 2**1.5, 0
    pattern, mask = kept if kept is not None else (pattern.detach(), mask.detach())
    return pattern[0], mask[0], float(mask.sum())


def compare(name: str, classes: int) -> dict[str, Any]:
    """Both ways on one network."""
    spec = zoo.specs()[name]
    network = checkpoints.load_or_train(spec, progress=False)
    data = datasets.load(spec.data)
    chosen = datasets.sample_per_class(data.y_test, 100, range(10), seed=spec.seed)
    held = datasets.sample_per_class(data.y_test, 300, range(10), seed=spec.seed + 100)
    held = held[~torch.isin(held, chosen)]
    images, labels = data.clean_images(100, seed=spec.seed)

    def success(trigger: Trigger, target: int) -> float:
        return metrics.attack_success_rate(network, trigger, data.x_test[held], data.y_test[held], target)

    began = time.perf_counter()
    ours = detection.neural_cleanse(network, images, labels, per_class=None, seed=spec.seed)
    quick = time.perf_counter() - began
    plain = textbook(network)
    began = time.perf_counter()
    theirs = [straightforward(plain, images, target, spec.seed) for target in range(classes)]
    slow = (time.perf_counter() - began) * 10 / classes
    triggers = [Trigger("blend", p, m, bits=None) for p, m, _ in theirs]
    norms = np.array([norm for *_, norm in theirs])
    return {
        "target": None if spec.trigger is None else spec.target, "seconds": {"btlib": quick, "straightforward": slow},
        "speed ratio": slow / quick, "classes timed": classes,
        "norms": {"btlib": ours.norms.tolist(), "straightforward": norms.tolist()},
        "norm ratio (median)": float(np.median(ours.norms[:classes] / norms)),
        "held-out success": {
            "btlib": float(np.mean([success(ours.estimates[t].trigger, t) for t in range(classes)])),
            "straightforward": float(np.mean([success(t, i) for i, t in enumerate(triggers)])),
        },
        "anomaly index": {
            "btlib": float(ours.anomaly_index.max()),
            "straightforward": float(anomaly.mad_index(norms).max()) if classes == 10 else None,
        },
        "suspect": {"btlib": ours.suspect, "straightforward": int(norms.argmin())},
    }  # fmt: skip


def with_another_seed(name: str) -> dict[str, Any]:
    """What the straightforward one finds on the same images when it begins and shuffles otherwise."""
    spec = zoo.specs()[name]
    plain = textbook(checkpoints.load_or_train(spec, progress=False))
    images, _ = datasets.load(spec.data).clean_images(100, seed=spec.seed)
    norms = np.array([straightforward(plain, images, target, spec.seed + 1000)[2] for target in range(10)])
    return {"norms": norms.tolist(), "anomaly index": float(anomaly.mad_index(norms).max()),
            "suspect": int(norms.argmin())}  # fmt: skip


def compare_with_itself(networks: int) -> None:
    """Measure what is missing, and save after every network."""
    for name in NETWORKS[:networks]:
        if "another seed" not in load(PATH)["networks"][name]:
            found = with_another_seed(name)
            page = load(PATH)
            page["networks"][name]["another seed"] = found | environment()
            save(PATH, page)
            sys.stdout.write(f"{name}: {found}\n")
            sys.stdout.flush()


def main() -> None:
    """Measure and save after every network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=len(NETWORKS), help="how many of the list")
    parser.add_argument(
        "--classes", type=int, default=10, help="classes of the straightforward one; its time is scaled"
    )
    parser.add_argument("--threads", type=int, help="torch threads")
    parser.add_argument("--itself", action="store_true", help="compare the straightforward one with itself")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.itself:
        compare_with_itself(args.networks)
        return
    rows: dict[str, Any] = load(PATH).get("networks", {})
    for name in NETWORKS[: args.networks]:
        if name in rows:
            continue
        rows[name] = compare(name, args.classes)
        overview: dict[str, Any] = {
            key: float(np.median([row[key] for row in rows.values()])) for key in ("speed ratio", "norm ratio (median)")
        }
        clean = [row["anomaly index"] for row in rows.values() if row["target"] is None]
        flagged = {who: sum((index[who] or 0) > 2 for index in clean) for who in ("btlib", "straightforward")}
        overview["clean networks with an index above 2"] = {**flagged, "of": len(clean)}
        save(PATH, {"environment": environment(), "overview": overview, "networks": rows})
        sys.stdout.write(f"{name}: {rows[name]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
