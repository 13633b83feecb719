"""What one pass costs: the network as it came, in the faster order of memory, with batch norm folded, and with both.

    python benchmarks/passes.py
    python benchmarks/passes.py --filters   # in passes: fitting each in-flight detector, and judging one image

A gradient is a pass there and back for the gradient of an image, a look a pass there: a scan is hardly anything else.
The network is the VGG of 0.3 M parameters of benchmarks/external.py, which flattens with `view`; its weights do not
matter here. The filters are fitted to the shipped LeNet-5 with the box, with its own trigger and 100 images of each
class; a pass is one over as many images, and every judged image carries the trigger, so that all are scored. CPU
seconds of this process, medians, in results/benchmark-passes.json. Hardware: one core, a minute each.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from external_networks import EluVgg

from btlib import checkpoints, datasets, inflight, metrics
from btlib.detection.images import pass_size
from btlib.networks.folding import folded
from btlib.networks.layout import in_layout
from btlib.results import environment, load, save

PATH = "results/benchmark-passes.json"
BATCH, TIMES = 128, 3  # images, and how often


def measured(network: torch.nn.Module, images: torch.Tensor) -> tuple[float, float]:
    """CPU milliseconds of a gradient and of a look, for one image."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMES + 1):
        began = time.process_time()
        batch = images.detach().requires_grad_()
        torch.autograd.grad(network(batch).square().sum(), batch)
        between = time.process_time()
        with torch.no_grad():
            network(images)
        for seconds, what in zip((between - began, time.process_time() - between), taken, strict=True):
            seconds = 1e3 * seconds / len(images)
            what.append(seconds)
    gradients, looks = taken
    return statistics.median(gradients[1:]), statistics.median(looks[1:])


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds, the least of three."""
    taken = []
    for _ in range(TIMES):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return min(taken)


def filters() -> dict[str, dict[str, float]]:
    """Passes that fitting takes, and passes for each judged image, of every in-flight detector."""
    spec = checkpoints.shipped()["box"]
    network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
    assert trigger is not None
    split = datasets.load(spec.data).defender_split(100)
    x, y = split.images, split.labels
    shown = trigger(split.other_images[split.other_labels != spec.target][:500])
    rows = {}
    for name, make in inflight.DETECTORS.items():
        detector, told = make(), {"target": spec.target, "trigger": trigger}
        began = time.process_time()
        detector.fit(network, x, y, **told)
        fit = time.process_time() - began
        one = seconds(lambda: metrics.predict(network, shown))  # beside each: the machine's speed changes
        rows[name] = {"fit [passes]": fit * len(shown) / len(x) / one,
                      "image [passes]": seconds(lambda detector=detector: detector.inspect(shown)) / one,
                      "pass [ms/image]": 1e3 * one / len(shown)}  # fmt: skip
        print(name, rows[name], flush=True)
    return rows


def main() -> None:
    """Each way in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", action="store_true", help="only the in-flight detectors")
    torch.set_num_threads(1)
    if parser.parse_args().filters:
        save(PATH, load(PATH) | {"filters": filters(), "filters' environment": environment()})
        return
    torch.manual_seed(0)
    network, images = EluVgg(), torch.rand(BATCH, 3, 32, 32)
    rows = {}
    for name, fast, fold in (
        ("as it came", False, False), ("channels last", True, False), ("folded", False, True), ("both", True, True),
    ):  # fmt: skip
        with ExitStack() as inside:
            inside.enter_context(metrics.frozen(network))
            if fold:
                inside.enter_context(folded(network, images[:2]))
            if fast:
                inside.enter_context(in_layout(network, torch.channels_last))
            gradient, look = measured(network, images)
            at_once = pass_size(network, images[:1])
        rows[name] = {"gradient [ms]": gradient, "look [ms]": look, "images at once": at_once}
        print(name, rows[name], flush=True)
        save(PATH, load(PATH) | {"environment": environment(), "batch": BATCH, "times": TIMES, "rows": rows,
                    "note": "taken while other work ran: ratios are better than milliseconds"})  # fmt: skip


if __name__ == "__main__":
    main()
