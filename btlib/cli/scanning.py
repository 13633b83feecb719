"""One scan from files to outcome: load, see that network and images mean the same, run the methods, look closer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import typer
from torch import nn

from btlib import metrics, networks, training
from btlib.cli import foreign, meaning, scan_budget, scan_images, scan_references
from btlib.cli.file_kinds import file_kind
from btlib.cli.planting import KINDS, Power, plant
from btlib.cli.probing import Foreign, Sealed, Told
from btlib.cli.scan_images import CleanImages, Origin
from btlib.cli.scan_looks import look
from btlib.cli.scan_outcome import Scan
from btlib.cli.trainable import NotTrainedError
from btlib.cli.washing import Washing, washed_copy
from btlib.detection import Detection, configured, settings_of
from btlib.files import printable

PER_CLASS = 100  # for a detector that has no such setting, or takes all there are
Detectors = Mapping[str, Callable[..., Detection]]


def run_scan(
    weights: Path, images: str | None, told: Told, detectors: Detectors, *, classes: Path | None = None,
    per_class: int | None = None, level: float = 0.05, seed: int = 0, references: Sequence[Path] = (),
    targets: tuple[int, ...] | None = None, minutes: float | None = None, power: bool = False, wash: bool = True,
    planted: str = "box",
) -> Scan:  # fmt: skip
    """Load network and images, see that they mean the same, run the methods, and put together what they found.

    Raises:
        ValueError, TypeError, OSError, DataError: bad input; one line says what to do.
    """
    source, loaded = opened(weights, images, told, classes)
    wanted = images_wanted(detectors, per_class, loaded.num_classes)
    planting = scan_budget.per_class(PER_CLASS, loaded.num_classes) if power else 0
    clean = scan_images.read(source, loaded.image_shape, max(planting, *wanted.values()), seed)
    if per_class and per_class > clean.smallest_class:
        least = source.classes[int(clean.y.bincount().argmin())] if len(clean.y) else "each class"
        raise ValueError(f"--per-class: expected at most {clean.smallest_class}, all images of {least}, got "
                         f"{per_class}; lower it, or leave it out to use as many as there are")  # fmt: skip
    scan = examined(weights, loaded, source, clean, detectors, wanted=wanted, level=level, seed=seed, told=told,
                    references=references, targets=targets, minutes=minutes, wash=wash)  # fmt: skip
    return replace(scan, power=powered(scan, detectors, targets, minutes, planted)) if power else scan


def powered(
    scan: Scan, detectors: Detectors, targets: tuple[int, ...] | None = None, minutes: float | None = None,
    kind: str = "box",
) -> Power:  # fmt: skip
    """Plant a backdoor in a copy of the network, scan that in the same way, and see whether it is found.

    Args:
        scan: of the network, which found nothing.
        detectors, targets, minutes: of that scan.
        kind: of backdoor, a name in `planting.KINDS`.
    """
    if scan.targets or not len(scan.images.y):
        return Power(None, "a backdoor was found already" if scan.targets else "it takes clean images")
    sizes = next(iter(scan.detections.values())).relative_norms
    searched = [c for c in range(len(sizes)) if sizes[c] == sizes[c]]
    target = sorted(searched, key=lambda c: float(sizes[c]))[len(searched) // 2]  # neither the easiest nor the hardest
    typer.echo(
        f"power: planting {KINDS[kind].words} for class {target} in a copy, then the same scan of that", err=True
    )
    try:
        made = plant(scan.network.module, scan.images, target, kind, scan.seed)
    except NotTrainedError as error:
        return Power(None, str(error))
    copy = replace(scan.network, module=made.network)
    second = examined(scan.weights, copy, scan.source, scan.images, detectors, wanted=scan.per_class, level=scan.level,
                      seed=scan.seed, told=scan.told, targets=targets, minutes=minutes, closer=False,
                      wash=scan.washes)  # fmt: skip
    found = dict(second.detections)
    for name, first in scan.detections.items():
        if first.references is not None:
            found[name] = found[name].against(first.references)
    second = replace(second, detections=found)
    return Power(made, "", target in second.targets, target in second.suspects,
                 {each.method: each.decisive_p for each in second.judgements}, second.targets)  # fmt: skip


def opened(weights: Path, images: str | None, told: Told, classes: Path | None) -> tuple[Origin, Foreign]:
    """Where the images are, and the network, which has as many outputs as they have classes."""
    source = origin(weights, images, told.size)
    source = source if classes is None else source.ordered(scan_images.names_in(classes))
    loaded = foreign.load(weights, source.native, told)
    if classes is None and loaded.classes:
        source, note = source.named_by(loaded.classes)
        loaded = replace(loaded, notes=(*loaded.notes, *note))
    return source.for_outputs(loaded.num_classes), loaded


def images_wanted(detectors: Detectors, per_class: int | None = None, classes: int = 1) -> dict[str, int]:
    """Images of each class by method: as told, or as its settings say or the usual number, of many classes fewer."""
    usual = {name: settings_of(each).get("per_class") or PER_CLASS for name, each in detectors.items()}
    return {name: per_class or scan_budget.per_class(count, classes) for name, count in usual.items()}


def examined(
    weights: Path, loaded: Foreign, source: Origin, clean: CleanImages, detectors: Detectors, *,
    wanted: Mapping[str, int], level: float, seed: int, told: Told, references: Sequence[Path] = (),
    targets: tuple[int, ...] | None = None, minutes: float | None = None, closer: bool = True, wash: bool = True,
) -> Scan:  # fmt: skip
    """See that network and images mean the same, run the methods, and put together what they found.

    Raises:
        ValueError, TypeError: a network that can't be judged; one line says what to do.
    """
    began = time.perf_counter()
    used = {name: min(count, clean.smallest_class) for name, count in wanted.items()}
    measure = _Measure(detectors, source, clean, used, seed)
    accuracy = measure.accuracy(loaded)
    plan = scan_budget.Plan()
    if len(clean.y):
        plan = scan_budget.made(detectors, used, loaded.module, clean, targets=targets, minutes=minutes, seed=seed)
    if references and plan.targets is not None:
        _check_pairs(detectors, len(plan.targets), loaded.num_classes)

    def reference(path: Path) -> Foreign:
        network = foreign.load(path, source.native, told)
        measure.accuracy(network)
        return network

    clean_ones = scan_references.opened(references, detectors, reference)
    found = measure(loaded, weights, plan)
    found = scan_references.judged_beside(found, clean_ones, lambda network, path: measure(network, path, plan))
    scan = Scan(weights, loaded, source, clean, accuracy, found, used, level, seed, references=tuple(references),
                told=told, washes=wash and not references and minutes is None)  # fmt: skip
    if scan.washes:
        scan = replace(scan, washing=beside_washed(scan, measure, plan))
    looks = [
        look(target, method, found, loaded.module, clean, {"seed": seed, "progress": True})
        for target, method in scan.suspects.items() if closer and len(clean.y)
    ]  # fmt: skip
    return replace(scan, looks=looks, seconds=time.perf_counter() - began)


def beside_washed(scan: Scan, measure: "_Measure", plan: scan_budget.Plan) -> Washing | None:
    """What doubtful methods say beside a washed copy; None: there are none, or no images.

    Where a method is clear, only those that accuse another class are doubtful.
    """
    clear = {each.suspect for each in scan.judgements if each.clear}
    doubtful = [each for each in scan.judgements if each.doubtful and not scan.detections[each.method].pairs]
    again = [each.method for each in doubtful if not clear or (each.found and each.suspect not in clear)]
    if not again or not len(scan.images.y):
        return None
    typer.echo(f"{scan.name}: {', '.join(again)} once more, beside a washed copy", err=True)
    try:
        copy = washed_copy(scan.network.module, scan.images, scan.seed)
    except NotTrainedError as error:
        return Washing(None, str(error))
    some = replace(measure, detectors={name: measure.detectors[name] for name in again})
    try:
        found = some(replace(scan.network, module=copy.network), scan.weights, plan)
        return Washing(copy, "", {name: scan.detections[name].against([found[name]]) for name in again})
    except (ValueError, RuntimeError) as error:  # sizes in it are no numbers; the verdict alone stands
        return Washing(None, f"it could not be searched ({printable(' '.join(str(error).split()))})")


def _check_pairs(detectors: Detectors, searched: int, classes: int) -> None:
    """Beside references, what looks at pairs needs all of them: said before hours are spent."""
    for name, detector in detectors.items():
        if getattr(detector, "by_pairs", False) and searched < classes:
            raise ValueError(
                f"--methods: expected a search of all {classes} classes for {name} beside --reference, which compares "
                f"all pairs, got one of {searched} (--targets, --time-limit, or more than {scan_budget.MANY} classes); "
                f"leave out {name}, or what makes the classes fewer"
            )


@dataclass(frozen=True)
class _Measure:
    """All methods on one network, the scanned one or a reference, with the same images and settings."""

    detectors: Detectors
    source: Origin
    clean: CleanImages
    used: Mapping[str, int]
    seed: int

    def accuracy(self, network: Foreign) -> float:
        """On the clean images, once it is where it computes."""
        self.source.for_outputs(network.num_classes)
        placed(network.module, network.image_shape)
        return meaning.checked_accuracy(network, self.clean.x, self.clean.y, self.source.classes)

    def __call__(self, network: Foreign, path: Path, plan: scan_budget.Plan) -> dict[str, Detection]:
        """What each method found."""
        found = {}
        for name, detector in self.detectors.items():
            typer.echo(f"{printable(path.name)}: {name}, {self.used[name]} images per class", err=True)
            settings = {"per_class": self.used[name] or 1, "image_shape": network.image_shape, "seed": self.seed}
            made = configured(detector, progress=True, **settings)
            found[name] = plan.finished(detect(name, made, network.module, self.clean, plan.targets))
        return found


def origin(weights: Path, images: str | None, size: int | None) -> Origin:
    """Where the images are; without them the input's size must be known from elsewhere."""
    if images is not None:
        return scan_images.find(images)
    if size is None and file_kind(weights) not in ("sealed", "export"):
        raise ValueError(f"--size: expected the side of the network's input, which neither images nor {weights.name} "
                         "say, got none; pass it")  # fmt: skip
    return scan_images.none_at_all(size)


def placed(network: nn.Module, image_shape: tuple[int, ...]) -> None:
    """To the GPU where there is one, and back if it fails there: a device may be part of a network's code."""
    if any(isinstance(part, Sealed | torch.jit.ScriptModule) for part in network.modules()):
        return
    try:
        network.to(training.device_for())
        with metrics.evaluating(network):
            network(torch.zeros(2, *image_shape, device=networks.reference(network).device))
    except Exception:
        network.to("cpu")


def detect(
    name: str, detector: Callable[..., Detection], network: nn.Module, clean: CleanImages,
    targets: Sequence[int] | None = None,
) -> Detection:  # fmt: skip
    """One detector over all classes, or over some. What a stranger's raises is bad input, not a backdoor found."""
    given = (clean.x, clean.y) if len(clean.y) else (None, None)
    try:
        found = detector(network, *given, targets=targets)
    except Exception as error:
        if ":" not in name:
            raise
        raise ValueError(f"--methods: {name} raised {type(error).__name__}: {error}; try it with "
                         "btlib.testing.check_detector") from error  # fmt: skip
    if not isinstance(found, Detection):
        raise ValueError(f"--methods: expected a Detection from {name}, got {type(found).__name__}; try it with "
                         "btlib.testing.check_detector")  # fmt: skip
    return found
