"""Milliseconds of a training step, seconds of each detector, where this machine computes. About a minute on a GPU.

    python benchmarks/on_gpu.py --out timing.json           # `python -m btlib gpu` does
    python benchmarks/on_gpu.py --out timing.json --tiny    # seconds on a CPU: only whether it runs

Images are noise: time does not depend on what they show. Every region ends where the device has finished, and each is
run once before it is timed.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from btlib import datasets, detection, inflight, networks, training, triggers
from btlib.datasets import ImageDataset
from btlib.detection import Inversion, Search
from btlib.networks import Network


def noise(images: int, classes: int) -> ImageDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (images, 3, 32, 32), generator=generator, dtype=torch.uint8)
    y, tests = torch.arange(images) % classes, min(images, 10_000)
    return ImageDataset("noise", x, y, x[:tests].clone(), y[:tests], tuple("abcdefghij"[:classes]))


class Timings:
    """What was timed, by name, on disk after each."""

    def __init__(self, out: Path) -> None:
        self.out, self.seconds = out, {}

    def keep(self, name: str, seconds: float) -> None:
        self.seconds[name] = seconds
        self.out.write_text(json.dumps(self.seconds, indent=1), encoding="utf-8")
        print(f"{name}: {1e3 * seconds:.2f} ms", flush=True)

    def time(self, name: str, call: Callable[[], object]) -> None:
        call()
        wait()
        began = time.perf_counter()
        call()
        wait()
        self.keep(name, time.perf_counter() - began)


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_training(timings: Timings, data: ImageDataset, network: str, tiny: bool) -> Network:
    """The second epoch of two: the first one warms up."""
    cases = [(32, "auto", 8_000), (32, "float32", 8_000), (512, "float32", 20_000), (512, "auto", 50_000)]
    for batch, precision, images in [(8, "auto", 16)] if tiny else cases:
        built, part = networks.build(network, data), data.subset(train=images)
        recipe = training.Recipe(epochs=2, batch_size=batch, lr=1e-3, optimizer="sgd", augment="crop+flip",
                                 precision=precision)  # fmt: skip
        run = training.fit(built, part, recipe)
        timings.keep(f"a step of {network}, batch {batch}, {precision}", run.curve("seconds")[-1] / (images / batch))
    if not tiny and torch.cuda.is_available():  # does letting cuDNN try its algorithms pay?
        torch.backends.cudnn.benchmark = True
        again = training.fit(built, data, recipe)
        torch.backends.cudnn.benchmark = False
        timings.keep(f"a step of {network}, batch 512, auto, cuDNN's choice by trial",
                     again.curve("seconds")[-1] / (len(data.y_train) / 512))  # fmt: skip
    return built


def time_detectors(timings: Timings, data: ImageDataset, network: Network, tiny: bool) -> None:
    """Post-training detectors on all classes; the guard and STRIP on 1,000 images."""
    few, per_class = (datasets.to_float(data.x_test[:1000]), data.y_test[:1000]), 1 if tiny else 8
    searches = {"fast": detection.FAST, "faithful, 50 steps": Search(delta=1e-4, max_norm=50e-4)}
    short = Inversion(2, 1, 8, 0.1)
    if tiny:
        searches = {"fast": Search(delta=1.0, max_norm=2.0, settle=True)}
    kinds = (detection.RedA, detection.RedU, detection.RedP)

    def reds(name: str) -> None:
        for kind in kinds:
            detector = kind(per_class=per_class, search=searches[name])
            timings.time(f"{kind.__name__}, {name}", lambda: detector(network, data.x_test, data.y_test))  # noqa: B023

    reds("fast")
    cleanse = detection.NeuralCleanse(per_class=per_class, inversion=short if tiny else detection.QUICK)
    timings.time(f"Neural Cleanse, {data.num_classes} classes", lambda: cleanse(network, data.x_test, data.y_test))
    guard, box = inflight.LikelihoodDetector(), triggers.box(data.image_shape)
    timings.time("guard, fit", lambda: guard.fit(network, *few, target=data.num_classes - 1, trigger=box))
    timings.time(f"guard, {len(few[0])} images", lambda: guard.inspect(few[0]))
    overlays = few[0][: 4 if tiny else 100]
    timings.time(f"STRIP, {len(few[0])} images", lambda: inflight.blend_entropy(network, few[0], overlays))
    for slow in searches.keys() - {"fast"}:  # last: what is timed before the time is up stays
        reds(slow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    told = parser.parse_args()
    timings, data = Timings(told.out), noise(*(40, 4) if told.tiny else (50_000, 10))
    network = time_training(timings, data, "lenet5" if told.tiny else "resnet18", told.tiny)
    time_detectors(timings, data, network, told.tiny)


if __name__ == "__main__":
    main()
