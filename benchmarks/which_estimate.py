"""A guard is as good as its estimate: Neural Cleanse begun with several seeds on one network, and a guard with each.

    BTLIB_DATA=... python benchmarks/which_estimate.py            # the network of inflight-2/wb-multi, profile full

Every estimate moves nearly all images to the target, and every guard's own held-out rates are nearly perfect; what
differs is how many of the attacker's triggers the guard sees. A row of results/which-estimate.json has the estimate's
size, success, likeness to the true trigger (cosine of what both do to images) and strongest pixel, the guard's rates,
and those of a guard with the mirrored estimate: training mirrors its images, and the trigger on them. Hardware: two
cores, five minutes; the network is trained first where it is not remembered (half an hour).
"""

import argparse
from typing import Any

from external import likeness
from small_resnet import spec_of

from btlib import checkpoints, datasets, detection, metrics
from btlib.inflight import LikelihoodDetector, measure_rates
from btlib.networks import Network
from btlib.results import environment, load, save
from btlib.triggers import Trigger

PATH, KEY, JUDGED = "results/which-estimate.json", "inflight-2/wb-multi", 1000
PER_CLASS = (None, 20)  # all 100 of a class, as that row has it, and few


def measured(network: Network, spec: checkpoints.Spec, per_class: int | None, seed: int) -> dict[str, Any]:
    """One estimate and its guard, judged by the true trigger on images that neither has seen."""
    true, data = spec.make_trigger(), datasets.load(spec.data)
    split = data.defender_split(100, seed=spec.seed)
    few = datasets.sample_per_class(split.other_labels, JUDGED // data.num_classes, range(data.num_classes), seed=seed)
    x, y = split.other_images[few], split.other_labels[few]
    found = detection.neural_cleanse(network, split.images, split.labels, per_class=per_class, targets=[spec.target],
                                     seed=seed).estimates[spec.target]  # fmt: skip
    mask, pattern = found.trigger.mask, found.trigger.pattern
    told: dict[str, Any] = {}
    for name, estimate in (
        ("guard", found.trigger),
        ("mirrored", Trigger(found.trigger.kind, pattern.flip(-1), mask.flip(-1), bits=None)),
    ):
        guard = LikelihoodDetector().fit(network, split.images, split.labels, target=spec.target, trigger=estimate)
        rates, held_out = measure_rates(guard, x, y, trigger=true), guard.held_out_
        told[name] = {
            "success": metrics.attack_success_rate(network, estimate, x, y, spec.target), "tpr": rates.tpr,
            "fpr": rates.fpr, "sia": rates.sia, "held-out tpr": held_out.tpr if held_out else None,
            "warnings": list(guard.warnings_),
        }  # fmt: skip
    return {
        "size": found.norm, "strongest pixel": [int(place) for place in divmod(int(mask.argmax()), mask.shape[-1])],
        "likeness": likeness(found.trigger, true, x), **told,
    }  # fmt: skip


def main() -> None:
    """Measure what is missing, and save after every estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    told = parser.parse_args()
    spec = spec_of(KEY)
    network = checkpoints.load_or_train(spec)
    for per_class in PER_CLASS:
        for seed in range(told.seeds):
            name = f"{per_class or 'all'} images of a class, seed {seed}"
            rows = load(PATH).get("rows", {})
            if name not in rows:
                rows[name] = measured(network, spec, per_class, seed)
                save(PATH, {"environment": environment(), "network": spec.file_name, "rows": rows})
                print(name, rows[name], flush=True)


if __name__ == "__main__":
    main()
