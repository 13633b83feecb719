"""A guard is as good as its estimate: one network searched several times, and a guard from each search and from all.

    BTLIB_DATA=... BTLIB_EXTERNAL=... python benchmarks/which_estimate.py [words of rows]

A search is begun with another seed on another draw of images. Every estimate moves nearly all images to the target, and
every guard's own held-out rates are nearly perfect; what differs is how many of the attacker's triggers it sees. A row
of results/which-estimate.json is one network, method and number of images a class: each estimate (size, success,
likeness to the true trigger as in benchmarks/external.py, strongest pixel) with the rates of a guard that knows it
alone, those of guards from the first three and from all six, also at a rate of false alarms of .02, and what they
expect of an estimate that they don't know ("left out"). Strangers' networks that are not there are left out; a row's
network is trained where it is not remembered (half an hour). Hardware: two cores, three minutes a row.
"""

import argparse
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from external import HERE, PER_CLASS, likeness, true_trigger
from external import Trigger as Pattern
from small_resnet import spec_of
from torch import Tensor, nn

from btlib import checkpoints, datasets, detection, metrics
from btlib.cli import foreign
from btlib.cli.preprocessing import Convention
from btlib.cli.probing import Told
from btlib.inflight import LikelihoodDetector, measure_rates
from btlib.results import environment, load, save

PATH, SEARCHES, JUDGED = "results/which-estimate.json", 6, 200
ROWS = {
    "inflight-2/wb-multi": "full", "inflight-2/wb-single": "full",
    "inflight-2/cb-multi": "full", "inflight-2/cb-single": "full", "inflight-2/sp-multi": "full",
    "inflight-2/sp-single": "full", "inflight-2/wb-multi, fast": "fast",
}  # fmt: skip
SEARCHED = (("neural-cleanse", 20), ("red-a", 20), ("neural-cleanse", None))  # the last is how a row has it


@dataclass(frozen=True)
class Subject:
    """A network with a backdoor that is known: the defender's images, and others that judge his guard."""

    network: nn.Module
    target: int
    true: Pattern
    images: Tensor
    labels: Tensor
    others: Tensor
    other_labels: Tensor


def subjects() -> Iterator[tuple[str, Callable[[], Subject]]]:
    """Names and what loads them."""
    for name, profile in ROWS.items():
        yield name, partial(of_row, name.partition(",")[0], profile)
    root = Path(os.environ.get("BTLIB_EXTERNAL", "no folder in $BTLIB_EXTERNAL"))
    for group in tomllib.loads((HERE / "external.toml").read_text(encoding="utf-8")).values():
        for name, told in group["networks"].items():
            if (root / told["file"]).exists():
                yield name, partial(of_stranger, root, group, told)


def of_row(key: str, profile: str) -> Subject:
    """The network of one of the papers' rows."""
    spec = spec_of(key, profile)
    network, data = checkpoints.load_or_train(spec), datasets.load(spec.data)
    sources = range(data.num_classes) if isinstance(spec.sources, str) else [*spec.sources, spec.target]
    return _subject(network, spec.target, spec.make_trigger(), data, sources)


def of_stranger(root: Path, group: dict[str, Any], told: dict[str, Any]) -> Subject:
    """One of the networks in external.toml."""
    where = datasets.available(f"folder:{group['images']}")
    data = datasets.load(f"folder:{group['images']}" if where else group["images"])
    convention = Convention(mean=tuple(group.get("mean", ())), std=tuple(group.get("std", ())))
    loaded = foreign.load(root / told["file"], data.image_shape, Told(group["network"], convention=convention))
    return _subject(loaded.module, told["target"], true_trigger(root, told["trigger"]), data, range(data.num_classes))


def _subject(network: nn.Module, target: int, true: Pattern, data: Any, classes: Sequence[int]) -> Subject:
    split = data.defender_split(PER_CLASS, seed=0)
    few = datasets.sample_per_class(split.other_labels, JUDGED, classes, seed=0)
    return Subject(network, target, true, split.images, split.labels, split.other_images[few], split.other_labels[few])


def guarded(of: Subject, patterns: Sequence[Pattern], fpr: float | None = None) -> dict[str, Any]:
    """What a guard from these patterns sees of the attacker's triggers."""
    guard = LikelihoodDetector(fpr=fpr).fit(of.network, of.images, of.labels, target=of.target, trigger=patterns)
    rates, held_out = measure_rates(guard, of.others, of.other_labels, trigger=of.true), guard.held_out_
    return {"tpr": rates.tpr, "fpr": rates.fpr, "sia": rates.sia, "held-out tpr": held_out.tpr if held_out else None,
            "left out": list(guard.left_out_), "warnings": list(guard.warnings_)}  # fmt: skip


def row(of: Subject, method: str, per_class: int | None) -> dict[str, Any]:
    """Six searches, and guards from one, three and six of them."""
    found, told = [], []
    for seed in range(SEARCHES):
        search = detection.configured(detection.find(method), seed=seed, per_class=per_class)
        estimate = search(of.network, of.images, of.labels, targets=[of.target]).estimates[of.target]
        mask = estimate.trigger.mask
        strongest = divmod(int(mask.argmax()), mask.shape[-1])
        found.append(estimate.trigger)
        told.append({
            "size": estimate.norm, "strongest pixel": list(strongest),
            "success": metrics.attack_success_rate(of.network, estimate.trigger, of.others, of.other_labels, of.target),
            "likeness": likeness(estimate.trigger, of.true, of.others), "guard": guarded(of, [estimate.trigger]),
        })  # fmt: skip
    return {"estimates": told, "three": guarded(of, found[:3]), "six": guarded(of, found),
            "six at .02": guarded(of, found, fpr=0.02)}  # fmt: skip


def main() -> None:
    """Measure what is missing, and save after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    for name, loaded in subjects():
        for method, per_class in SEARCHED[: 3 if name in ROWS else 2]:
            key = f"{name}, {method}, {per_class or 'all'} images of a class"
            rows = load(PATH).get("rows", {})
            if key not in rows and all(word in key for word in words):
                rows[key] = row(loaded(), method, per_class)
                save(PATH, {"environment": environment(), "rows": rows})
                alone = [round(each["guard"]["tpr"], 3) for each in rows[key]["estimates"]]
                print(key, alone, rows[key]["six"], flush=True)


if __name__ == "__main__":
    main()
