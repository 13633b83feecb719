"""What a sweep costs beyond its jobs, and what a second worker brings.

    python benchmarks/sweep.py                        # 14 rounds of two jobs of four epochs; writes results/
    python benchmarks/sweep.py --rounds 2 --images 2560 --epochs 1 --out /tmp/sweep.json    # does it work?

A job is a training of LeNet-5 on the embedded images, one thread, no checkpoint. In every round two jobs are done
three times: bare, called one after the other in this process; through `papers.run` with one worker; and with two, each
time into a fresh folder. Every second round goes the other way round, so that a machine that slows down or speeds up
(this one drifts by 15 % within minutes) does so for all three alike. Overhead: one worker's time over the bare jobs',
less one; speed-up: one worker's time over two workers', with their start and imports, which are in the first round, and
without that round. Needs two cores with nothing else to do, for half an hour.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from btlib import datasets, networks, papers, training
from btlib.papers import jobs
from btlib.results import environment, save


def train(measurement: papers.Measurement, device: torch.device) -> dict[str, Any]:
    """The job: some epochs on some images."""
    data = datasets.load("fashion-mnist").subset(train=measurement.settings["images"], seed=measurement.seed)
    network = networks.build("lenet5", data, seed=measurement.seed)
    how = training.Recipe(epochs=measurement.settings["epochs"])
    run = training.fit(network, data, how, seed=measurement.seed, progress=False, device="cpu")
    return {"loss": run.history[-1]["loss"]}


def timed(do: Callable[[], object]) -> float:
    """Wall seconds."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def sweep(measurements: list[papers.Measurement], workers: int) -> float:
    """Seconds of a sweep into a fresh folder; every job must end well."""
    tasks = [papers.Task("benchmark/training", measurement) for measurement in measurements]
    with tempfile.TemporaryDirectory() as folder:
        outcomes: list[papers.Outcome] = []
        seconds = timed(lambda: outcomes.extend(papers.run(tasks, folder, workers=workers, progress=False)))
    if errors := [outcome.error for outcome in outcomes if outcome.error]:
        raise RuntimeError(errors[0])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", default="results/benchmark-sweep.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kind = "sweep:train"  # workers find this file by their inherited search path
    settings = {"images": args.images, "epochs": args.epochs}
    measurements = [papers.Measurement(kind, settings, seed) for seed in range(2)]
    jobs.run(papers.Measurement(kind, {"images": 256, "epochs": 1}))  # the data set is read, the libraries are loaded
    ways: dict[str, Callable[[], float]] = {
        "bare": lambda: timed(lambda: [jobs.run(measurement) for measurement in measurements]),
        "one worker": lambda: sweep(measurements, 1), "two workers": lambda: sweep(measurements, 2),
    }  # fmt: skip
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(args.rounds):
        for way in reversed(ways) if number % 2 else ways:
            seconds[way].append(ways[way]())
    bare, one, two = map(sum, seconds.values())
    started = sum(seconds["one worker"][1:]) / sum(seconds["two workers"][1:])
    result = {
        "rounds": args.rounds, "jobs a round": len(measurements), **settings, "seconds": seconds,
        "overhead": one / bare - 1, "speed-up": one / two, "speed-up, once started": started,
        "environment": environment(),
    }  # fmt: skip
    save(args.out, result)
    sys.stdout.write(f"bare {bare:.1f} s, one worker {one:.1f} s, two workers {two:.1f} s: "
                     f"overhead {100 * (one / bare - 1):.1f} %, speed-up {one / two:.2f}, "
                     f"once started {started:.2f}\n")  # fmt: skip


if __name__ == "__main__":
    main()
