"""Which classes a scan searches, and how long it will take: said before it starts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
import typer
from torch import nn

from btlib import networks
from btlib.cli.scan_images import CleanImages
from btlib.datasets import to_float
from btlib.detection import Detection, screen
from btlib.detection.costs import Passes, seconds_per_image
from btlib.detection.screening import SHORT
from btlib.detection.selection import choose

MANY = 50  # classes; of more, all are searched shortly and some in full
SOME = 40  # of so many, unless a time limit wants it otherwise
FEWEST = 8  # that an outlier test can do with
LONGEST = 24 * 3600.0  # seconds that are spent without being asked for
USUAL = 10  # classes for which the detectors' numbers of images are meant
Detectors = Mapping[str, Callable[..., Detection]]


@dataclass(frozen=True)
class Plan:
    """What is searched.

    Attributes:
        targets: classes; None: all.
        contenders: how many of them a short search of all classes chose.
        said: what is not searched, in words; empty where all is.
    """

    targets: tuple[int, ...] | None = None
    contenders: int = 0
    said: str = ""

    def finished(self, found: Detection) -> Detection:
        """With what was not searched among its warnings, and a p-value that knows how the classes were chosen."""
        return replace(found, contenders=self.contenders, warnings=(*found.warnings, self.said)) if self.said else found


def per_class(wanted: int, classes: int) -> int:
    """Images of each class: of many classes fewer, as many in all as of ten.

    Example:
        >>> per_class(100, 10), per_class(100, 43), per_class(8, 43), per_class(8, 3)
        (100, 23, 1, 8)
    """
    return min(wanted, max(1, USUAL * wanted // classes))


def parse_targets(text: str | None) -> tuple[int, ...] | None:
    """Class numbers separated by commas; their range is checked when the network is known."""
    if text is None:
        return None
    try:
        found = tuple(int(number) for number in text.split(","))
    except ValueError:
        found = ()
    if len(set(found)) < max(3, len(found)):
        raise ValueError(f"--targets: expected three or more classes, each once, such as 0,3,7, got {text!r}; with "
                         "fewer there is nothing to compare with")  # fmt: skip
    return found


def made(
    detectors: Detectors, used: Mapping[str, int], network: nn.Module, clean: CleanImages, *,
    targets: tuple[int, ...] | None = None, minutes: float | None = None, seed: int = 0,
) -> Plan:  # fmt: skip
    """The plan of a scan; says on stderr how long it will take.

    Args:
        detectors: by name.
        used: images of each class, by the same names.
        network, clean: as loaded.
        targets: classes that the user named; None: all, or some of very many.
        minutes: that it may take; None: no limit.
        seed: of the short search, and of the classes to compare with.

    Raises:
        ValueError: classes that do not exist; a limit that is too short; a search of more than a day that nobody asked
            for.
    """
    classes = len(clean.y.unique())
    if targets is not None and not all(0 <= each < classes for each in targets):
        raise ValueError(f"--targets: expected classes in 0…{classes - 1}, got {targets}; they count from 0")
    each = seconds_per_image(network, to_float(clean.x[:64]).to(networks.reference(network).device))

    def seconds(count: int, names: Iterable[str] = used) -> float:
        told = [_passes(detectors[name], used[name] * classes, classes, count) for name in names]
        return sum((passes for passes in told if passes is not None), Passes(0, 0)).seconds(each)

    whole, limit = len(targets or range(classes)), LONGEST if minutes is None else 60 * minutes
    shortly = SHORT.rounds * SHORT.batch_size * classes * each[0]
    count = SOME if targets is None and minutes is None and classes > MANY else whole
    if targets is None and minutes is not None and seconds(whole) > limit:
        count = min(whole - 1, int((limit - shortly) / max(seconds(1), 1e-9)))
    cost = seconds(count) + (shortly if count < whole else 0)
    if cost > limit or count < min(whole, FEWEST):
        slow = max(used, key=lambda name: seconds(1, [name]))
        raise ValueError(f"--time-limit, --methods: expected a search that fits into {_words(limit)}, got one of about "
                         f"{_words(max(cost, shortly + seconds(FEWEST)))}, most of it for {slow}; leave that out, name "
                         "fewer --targets, or allow more")  # fmt: skip
    _say(f"{count} of {classes} classes" + (", after a short search of all" if count < whole else ""), cost)
    if count == whole:
        return Plan(targets, 0, "" if targets is None else _of(targets, classes, "those that were asked for"))
    contenders = max(2, count // 4)
    shown = min(clean.smallest_class, per_class(100, classes))
    sizes = screen(network, clean.x, clean.y, per_class=shown, seed=seed, progress=True)
    chosen = tuple(choose(sizes, contenders, count - contenders, seed))
    which = (
        f"the {contenders} that seemed to need the smallest masks in a short search of all, and others to compare with"
    )
    return Plan(chosen, contenders, _of(chosen, classes, which))


def _passes(detector: Callable[..., Detection], images: int, classes: int, targets: int) -> Passes | None:
    told = getattr(detector, "passes", None)
    passes: Passes | None = told(images, classes, targets) if told is not None else None
    return passes


def _of(searched: tuple[int, ...], classes: int, which: str) -> str:
    return (f"only {len(searched)} of {classes} classes were searched, {which}: a backdoor for one of the other "
            f"{classes - len(searched)} is not seen")  # fmt: skip


def _say(what: str, seconds: float) -> None:
    count = torch.get_num_threads()
    threads = "one thread" if count == 1 else f"{count} threads"
    typer.echo(f"{what}: about {_words(seconds)} on {threads}, more on a busy machine", err=True)


def _words(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(1, round(seconds))} s"
