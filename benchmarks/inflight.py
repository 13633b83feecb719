"""What in-flight detection costs: the guard beside the plain network, STRIP beside ART's, and the offline fit.

Calls alternate between the two sides, so that a change of the machine's speed meets both, and are timed in processor
seconds, which a busy neighbour hardly changes; give it one thread (OMP_NUM_THREADS=1). The guard is timed on clean
traffic (a tenth of it is the target's class) and under attack (every image is a trigger, so every image is scored),
over the course's LeNet-5 and over the same network of torch's own layers, which takes twice as long
(`btlib.networks.layers`): the guard's part is the same, its share is not.

STRIP is compared with adversarial-robustness-toolbox's at the same number of overlays, with the network in torch's
own layers. ART takes the entropy over the blends instead of over the classes (1.20), so its AUC is also given with that
corrected. ART is no dependency:

    pip install --target /tmp/art --no-deps adversarial-robustness-toolbox
    PYTHONPATH=/tmp/art python benchmarks/inflight.py

Without it the benchmark says so and goes on.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import entropy
from torch import Tensor
from training import of_torchs_layers, textbook

from btlib import checkpoints, datasets, metrics
from btlib.inflight import Guard, LikelihoodDetector, StripDetector, blend_entropy, roc
from btlib.inflight.strip import _blender as blender
from btlib.metrics import evaluating
from btlib.networks import Network
from btlib.results import environment, save

TARGET = 9
SETTINGS: dict[str, dict[str, Any]] = {
    "shared covariance": {},
    "one covariance per class": {"covariance": "full"},
    "shared, 3 components": {"components": 3},
    "per class, 3 components": {"components": 3, "covariance": "full"},
    "diagonal": {"covariance": "diag"},
}


def seconds(run: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    started = time.process_time()
    run()
    return time.process_time() - started


def overhead(net: torch.nn.Module, guard: Guard, images: Tensor, calls: int) -> dict[str, Any]:
    """Median seconds of both per batch, call by call in turns, and the median of their ratios."""
    with torch.no_grad():
        net(images), guard(images)
        pairs = [(seconds(lambda: net(images)), seconds(lambda: guard(images))) for _ in range(calls)]
    plain, guarded = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {"plain_seconds": plain, "guard_seconds": guarded, "ratio_of_medians": guarded / plain,
            "median_ratio": statistics.median(g / p for p, g in pairs)}  # fmt: skip


def guards(net: Network, x: Tensor, y: Tensor, trigger: Any, settings: argparse.Namespace) -> dict[str, Any]:
    """Fit and time every kind of guard."""
    traffic = {"clean": x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: settings.batch]]}
    traffic["attack"] = trigger(x[y != TARGET][: settings.batch])
    rows: dict[str, Any] = {}
    print(f"{'guard':<26}{'fit':>8}{'clean traffic':>16}{'all triggers':>15}   (over the plain forward pass)"
          f"{'clean':>8}{'triggers':>10}   (of torch's own layers)")  # fmt: skip
    for name, choice in SETTINGS.items():
        rows[name], over = {}, []
        for layers, network in (("", net), (" of torch's layers", of_torchs_layers(net))):
            started = time.process_time()
            detector = LikelihoodDetector(**choice).fit(network, x, y, target=TARGET, trigger=trigger)
            rows[name]["fit_seconds" + layers] = time.process_time() - started
            guard = Guard(network, detector)
            for kind, images in traffic.items():
                rows[name][kind + layers] = measured = overhead(network, guard, images, settings.calls)
                over.append(measured["median_ratio"] - 1)
        print(
            f"{name:<26}{rows[name]['fit_seconds']:>7.2f}s{over[0]:>15.1%}{over[1]:>15.1%}{over[2]:>38.1%}{over[3]:>10.1%}"
        )
    return rows


def art_strip(net: Network, overlays: Tensor) -> tuple[Callable[[Tensor], object], str] | None:
    """ART's STRIP over the same network and overlays, and its version; None where ART is not installed."""
    try:
        import art
        from art.defences.transformer.poisoning import STRIP
        from art.estimators.classification import PyTorchClassifier
    except ImportError:
        return None

    classifier = PyTorchClassifier(textbook(net), torch.nn.CrossEntropyLoss(), net.image_shape, net.num_classes,
                                   device_type="cpu", clip_values=(0.0, 1.0))  # fmt: skip
    strip = STRIP(classifier)(num_samples=len(overlays))
    strip.validation_data, strip.entropy_threshold = overlays.numpy(), 0.0  # no `mitigate`: only speed is measured
    return (lambda images: strip.predict(images.numpy())), art.__version__


def art_scores(net: Network, images: Tensor, overlays: Tensor, axis: int) -> Tensor:
    """ART's score written out, its random overlays too: minus the sum of entropies over `axis`, divided by N."""
    draw = np.random.default_rng(0)
    scores = []
    for image in images:
        chosen = torch.from_numpy(draw.choice(len(overlays), len(overlays)))
        # ART hands on what the classifier returns, and PyTorchClassifier returns logits; as in its examples,
        # the network ends in a softmax here.
        p = metrics.predict(net, 0.5 * image + 0.5 * overlays[chosen]).softmax(1).numpy()
        scores.append(-float(np.sum(entropy(p, base=2, axis=axis))) / len(overlays))
    return torch.tensor(scores)


def ready_blends(net: Network, images: Tensor, overlays: Tensor) -> tuple[Tensor, torch.nn.Module]:
    """Blends behind the first layer, and the rest of the network: what no way of blending can spare STRIP."""
    with evaluating(net):
        blend, rest = blender(net, overlays, 0.5, len(images))
        return blend(images).flatten(0, 1), rest


def strip(net: Network, x: Tensor, y: Tensor, trigger: Any, settings: argparse.Namespace) -> dict[str, Any]:
    """Images per second and AUC, ours and ART's."""
    overlays = StripDetector(settings.overlays).fit(net, x, y, target=TARGET).overlays_
    stamped, own = trigger(x[y != TARGET]), x[y == TARGET]
    triggers = stamped[metrics.predict(net, stamped).argmax(1) == TARGET][:: settings.every]
    clean = own[metrics.predict(net, own).argmax(1) == TARGET]
    ours = roc(-blend_entropy(net, clean, overlays), -blend_entropy(net, triggers, overlays)).auc
    row: dict[str, Any] = {"overlays": settings.overlays, "clean": len(clean), "triggers": len(triggers), "auc": ours}
    for name, axis in (("art_auc_as_published", 0), ("art_auc_class_axis", 1)):
        row[name] = roc(*(art_scores(net, images, overlays, axis) for images in (clean, triggers))).auc
    print(f"\nSTRIP, N = {settings.overlays}: AUC {ours:.4f}; ART's rule {row['art_auc_as_published']:.4f}, "
          f"over the classes {row['art_auc_class_axis']:.4f}")  # fmt: skip
    batch, few = triggers[:64], triggers[:16]
    # In flight only images predicted as the target are judged: even traffic of ten classes, a tenth of it triggers.
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    traffic = torch.cat([x[order[:576]], triggers[:64]])
    fitted = StripDetector(settings.overlays).fit(net, x, y, target=TARGET)
    row["traffic_images_per_second"] = [len(traffic) / seconds(lambda: fitted.inspect(traffic))
                                        for _ in range(settings.rounds)]  # fmt: skip
    art = art_strip(net, overlays)
    if art is None:
        print("adversarial-robustness-toolbox is not installed, so its speed is not measured; see the head of this "
              "file for how to get it without touching the project's environment")  # fmt: skip
        row["images_per_second"] = len(batch) / seconds(lambda: blend_entropy(net, batch, overlays))
        return row
    run, row["art_version"] = art
    block = batch[:8]
    blends, rest = ready_blends(net, block, overlays)
    rounds = []
    with evaluating(net):
        for _ in range(settings.rounds):
            rounds.append((len(few) / seconds(lambda: run(few)),
                           len(batch) / seconds(lambda: blend_entropy(net, batch, overlays)),
                           len(block) / seconds(lambda: rest(blends))))  # fmt: skip
    theirs, mine, bound = zip(*rounds, strict=True)
    row |= {"art_images_per_second": theirs, "images_per_second": mine,
            "median_ratio": statistics.median(b / a for a, b, _ in rounds),
            "images_per_second_of_the_rest_of_the_network_alone": bound,
            "median_ratio_of_the_rest_alone": statistics.median(c / a for a, _, c in rounds)}  # fmt: skip
    print(f"images per processor second: {statistics.median(mine):.0f}, ART {row['art_version']} "
          f"{statistics.median(theirs):.1f}: {row['median_ratio']:.1f} times; on traffic, "
          f"{statistics.median(row['traffic_images_per_second']):.0f}. The layers behind the first one alone, given "
          f"ready blends: {row['median_ratio_of_the_rest_alone']:.1f} times ART")  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="box", help="a shipped network")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7, help="of STRIP")
    parser.add_argument("--calls", type=int, default=150, help="forward passes of each guard")
    parser.add_argument("--overlays", type=int, default=100)
    parser.add_argument("--every", type=int, default=4, help="take every n-th trigger for STRIP's AUC")
    parser.add_argument("--out", default="results/benchmark-inflight.json")
    settings = parser.parse_args()

    data = datasets.load("fashion-mnist")
    spec = checkpoints.shipped()[settings.network]
    net, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
    x, y = data.clean_images(100)
    rows = {"guard": guards(net, x, y, trigger, settings), "strip": strip(net, x, y, trigger, settings)}
    save(settings.out, {"benchmark": "inflight", "settings": vars(settings), **rows, **environment()})


if __name__ == "__main__":
    main()
