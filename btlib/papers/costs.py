"""What measurements will take: memory, disk and time, before anything is started (floor 5)."""

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

import psutil
import torch

from btlib import checkpoints, networks
from btlib.datasets import Facts
from btlib.papers.measurements import Measurement
from btlib.papers.store import Result

_PROGRAM_MB = 1200.0  # Python, the libraries, a batch's activations; rows of Fashion-MNIST were seen at 970 to 1,420
_MORE_MB = {"inflight": 800.0, "attack": 1200.0}  # all test images and their features; the backdoor of each image
_RESULT_MB = 0.05


@dataclass(frozen=True)
class Cost:
    """What one measurement takes.

    Attributes:
        memory_mb: of its process, MiB: measured on the same measurement with any seed, else estimated.
        disk_mb: of the networks that must be trained yet, with the state of the training, MiB.
        seconds: mean of the same measurement with other seeds, or with this one; None: it was never measured.
    """

    memory_mb: float
    disk_mb: float
    seconds: float | None


class NoRoom(RuntimeError):
    """A sweep does not fit into memory or on the disk; the message says how far, and what to do."""


def cost(measurement: Measurement, known: Iterable[Result] = ()) -> Cost:
    """What a measurement will take.

    Args:
        measurement: what is to be measured.
        known: results, whatever of; those of the same measurement with any seed are used.

    Example:
        >>> cost(Measurement("mine:job")).seconds is None
        True
    """
    from btlib.papers import jobs  # slow: everything that is measured; listing tables needs none of it

    alike = measured(measurement, known)
    memory, disk = _PROGRAM_MB + _MORE_MB.get(measurement.kind, 0.0), 0.0
    if measurement.data is not None:
        facts = measurement.data.facts or Facts(measurement.data.image_shape)
        classes, train, test = facts.num_classes or 10, facts.train or 50_000, facts.test or 10_000
        image = math.prod(facts.image_shape) / 2**20
        weights = _parameters(measurement.settings["spec"]["network"], facts.image_shape, classes) * 4 / 2**20
        memory += image * (3 * train + 12 * test) + 8 * weights  # clean, poisoned, shuffled; test images as floats
        # The state of a training holds the weights and Adam's two moments, and is replaced whole: twice that.
        disk = 7 * weights * sum(checkpoints.find(network) is None for network in jobs.networks(measurement))
    if alike:  # a network that was there was not trained in that memory
        peak = 1.1 * max(r.peak_memory_mb for r in alike)
        memory = max(memory, peak) if disk else peak
    return Cost(memory, disk, fmean(r.seconds for r in alike) if alike else None)


def measured(measurement: Measurement, known: Iterable[Result]) -> list[Result]:
    """Results of the same measurement, whatever the seed.

    Example:
        >>> measured(Measurement("mine:job"), [])
        []
    """
    wanted = _without_seed(measurement)
    return [r for r in known if r.measurement.kind == measurement.kind and _without_seed(r.measurement) == wanted]


def check_room(costs: Sequence[Cost], workers: int, folder: str | Path, here: bool = True) -> None:
    """Refuse a sweep that can't fit.

    Args:
        costs: of every measurement.
        workers: how many run at a time.
        folder: of the results.
        here: whether the workers run on this machine.

    Raises:
        NoRoom: less memory or disk is free than the sweep wants.

    Example:
        >>> check_room([Cost(10.0, 1.0, None)], 1, ".")
    """
    memory = sum(sorted((c.memory_mb for c in costs), reverse=True)[:workers])
    free = psutil.virtual_memory().available / 2**20
    if here and memory > free:
        raise NoRoom(f"memory: expected {memory:,.0f} MiB free for {workers} workers, got {free:,.0f} MiB; "
                     "close programs, or lower --workers")  # fmt: skip
    places = [("results", _RESULT_MB * len(costs), Path(folder))]
    if here:
        places.append(("networks", sum(c.disk_mb for c in costs), checkpoints.cache_folder(None)))
    for what, disk, place in places:
        place = place.absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free / 2**20
        if disk > free:
            raise NoRoom(f"disk: expected {disk:,.1f} MiB free for the {what} of {len(costs)} measurements, got "
                         f"{free:,.1f} MiB in {place}; make room, or run fewer --rows")  # fmt: skip


def _without_seed(measurement: Measurement) -> Mapping[str, object]:
    settings = dict(measurement.settings)
    if "spec" in settings:  # a place drawn by the seed is no other measurement
        placed = {k: v for k, v in settings["spec"]["trigger_settings"].items() if k != "seed"}
        settings["spec"] = {**settings["spec"], "trigger_settings": placed}
    return settings


@cache
def _parameters(network: str, shape: tuple[int, int, int], classes: int) -> int:
    with torch.device("meta"):
        built = networks.build(network, image_shape=shape, num_classes=classes, seed=0)
    return sum(p.numel() for p in built.parameters())
