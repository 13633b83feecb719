"""`btlib scan`: anyone's network and a folder of clean images in, a verdict and a report out."""

import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import nn

    from btlib.cli.probing import Foreign
    from btlib.cli.scan_images import CleanImages, Origin
    from btlib.cli.scan_outcome import Scan
    from btlib.detection import Detection

PER_CLASS = 100  # for a detector that has no such setting, or takes all there are
SHOWN = 30  # classes in the printed table; the report has all


def command(
    weights: Annotated[Path, typer.Argument(
        help="A btlib checkpoint, safetensors or state dict (never unpickled), TorchScript file or torch.export "
        "archive. The last two, and a factory, run code of their own: only for code you trust.", show_default=False)],
    *,
    images: Annotated[str, typer.Option(
        help="Folder with one subfolder of images per class, which sorted as text (10 before 2) are the network's "
        "outputs; or a data set's name, such as fashion-mnist.", show_default=False)],
    network: Annotated[str | None, typer.Option(
        help="What a state dict belongs to: lenet5, vgg9, … (see btlib.networks), or module:function, which is "
        "imported from the current folder and called.")] = None,
    methods: Annotated[str, typer.Option(
        help="Some of neural-cleanse, mask-red-a, red-a, red-a-2, red-a-focused, red-u, red-p (see "
        "btlib.detection.DETECTORS); or module:object, a detector of your own, which is imported from the current "
        "folder and runs its code.")] = "neural-cleanse,red-a,mask-red-a",
    per_class: Annotated[int | None, typer.Option(
        min=1, help="Clean images of each class; unless given, up to 100 for masks and 8 for perturbations.")] = None,
    size: Annotated[int | None, typer.Option(
        min=4, help="Side of the network's input, unless the file says it; default: that of the images.")] = None,
    mean: Annotated[str | None, typer.Option(
        help="For a network that wants normalised pixels: their mean, such as 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, typer.Option(help="Their standard deviation, such as 0.229,0.224,0.225.")] = None,
    level: Annotated[float, typer.Option(help="Share of clean networks that may be flagged.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the draw of images and of the estimates.")] = 0,
    out: Annotated[Path, typer.Option(help="The report, one HTML page.")] = Path("report.html"),
    json: Annotated[Path | None, typer.Option(help="The numbers, as JSON.")] = None,
) -> None:  # fmt: skip
    """Is this network backdoored? Exit status: 0 nothing found, 1 backdoor found, 2 bad input."""
    from btlib import __version__, results
    from btlib.checkpoints import CheckpointError
    from btlib.cli.scan_outcome import as_json
    from btlib.cli.scan_report import page
    from btlib.datasets import DataError
    from btlib.files import write_text

    try:
        detectors = check_options(methods, level, [out] if json is None else [out, json])
        scan = run_scan(weights, images, network, detectors, per_class=per_class, size=size,
                        normalize=_normalisation(mean, std), level=level, seed=seed)  # fmt: skip
        write_text(out, page(scan))
        if json is not None:
            results.save(json.absolute(), as_json(scan, __version__))
    except (ValueError, TypeError, OSError, DataError, CheckpointError) as error:
        typer.echo(" ".join(str(error).split()), err=True)
        raise typer.Exit(2) from None
    typer.echo(as_text(scan))
    typer.echo(f"report: {out}")
    raise typer.Exit(bool(scan.targets))


def check_options(methods: str, level: float, outputs: Sequence[Path]) -> "dict[str, Callable[..., Detection]]":
    """The detectors by name; complains before anything is computed."""
    from btlib.detection import find
    from btlib.paths import from_here

    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--methods: expected names separated by commas, got {methods!r}; see --help")
    with from_here():
        detectors = {name: find(name, argument="--methods") for name in names}
    if not 1e-3 <= level < 1:
        raise ValueError(f"--level: expected a share in [0.001, 1), got {level:g}; 0.05 is usual")
    for path in outputs:
        if path.is_dir():
            raise ValueError(f"--out, --json: expected a file to write, got the folder {path}; add a name")
    return detectors


def _normalisation(mean: str | None, std: str | None) -> tuple[list[float], list[float]] | None:
    if mean is None and std is None:
        return None
    try:
        both = [[float(number) for number in (part or "").split(",")] for part in (mean, std)]
    except ValueError:
        both = []
    if not both or min(both[1]) <= 0:
        raise ValueError(
            f"--mean, --std: expected numbers separated by commas for both, deviations above 0, got {mean} and {std}; "
            "ImageNet's are 0.485,0.456,0.406 and 0.229,0.224,0.225"
        )
    return both[0], both[1]


def run_scan(
    weights: Path, images: str, network: str | None, detectors: "Mapping[str, Callable[..., Detection]]", *,
    per_class: int | None, size: int | None,
    normalize: tuple[list[float], list[float]] | None, level: float, seed: int,
) -> "Scan":  # fmt: skip
    """Load network and images, run the methods, and put together what they found.

    Raises:
        ValueError, TypeError, OSError, DataError, CheckpointError: bad input; one line says what to do.
    """
    from btlib import metrics
    from btlib.cli import foreign, scan_images
    from btlib.cli.scan_outcome import Scan
    from btlib.detection import configured, settings_of

    began = time.perf_counter()
    if not weights.is_file():  # before a data set is read
        raise ValueError(f"WEIGHTS: expected a file, got {weights}, where there is none; check the path")
    source = scan_images.find(images)
    loaded = foreign.load(weights, network, source.native, size, normalize)
    check_classes(source, loaded)
    wanted = {name: per_class or settings_of(d).get("per_class") or PER_CLASS for name, d in detectors.items()}
    clean = scan_images.read(source, loaded.image_shape, max(wanted.values()), seed)
    if per_class and per_class > clean.smallest_class:
        least = source.classes[int(clean.y.bincount().argmin())]
        raise ValueError(f"--per-class: expected at most {clean.smallest_class}, all images of {least}, got "
                         f"{per_class}; lower it, or leave it out to use as many as there are")  # fmt: skip
    placed(loaded.module, loaded.image_shape)
    used = {name: min(count, clean.smallest_class) for name, count in wanted.items()}
    detections = {}
    for name, detector in detectors.items():
        typer.echo(f"{name}, {used[name]} images per class", err=True)
        with_settings = configured(detector, per_class=used[name], seed=seed, progress=True)
        detections[name] = detect(name, with_settings, loaded.module, clean)
    accuracy = metrics.accuracy(loaded.module, clean.x, clean.y)
    return Scan(weights, loaded, source, clean, accuracy, detections, used, level, seed, time.perf_counter() - began)


def placed(network: "nn.Module", image_shape: tuple[int, ...]) -> None:
    """To the GPU where there is one, and back if it fails there: a device may be part of a network's code."""
    import torch

    from btlib import metrics, networks, training
    from btlib.cli.probing import Sealed

    if any(isinstance(part, Sealed | torch.jit.ScriptModule) for part in network.modules()):
        return
    try:
        network.to(training.place())
        with metrics.evaluating(network):
            network(torch.zeros(2, *image_shape, device=networks.anchor(network).device))
    except Exception:
        network.to("cpu")


def check_classes(source: "Origin", network: "Foreign") -> None:
    """Folders and outputs must be as many, or labels mean nothing."""
    if len(source.classes) != network.classes:
        raise ValueError(f"--images: expected {network.classes} classes, the network's outputs, got "
                         f"{len(source.classes)} in {source.name}; give one subfolder per output")  # fmt: skip


def detect(name: str, detector: "Callable[..., Detection]", network: "nn.Module", clean: "CleanImages") -> "Detection":
    """One detector over all classes. What a stranger's raises is bad input, not a backdoor found."""
    from btlib.detection import Detection

    try:
        found = detector(network, clean.x, clean.y)
    except Exception as error:
        if ":" not in name:
            raise
        raise ValueError(f"--methods: {name} raised {type(error).__name__}: {error}; try it with "
                         "btlib.testing.check_detector") from error  # fmt: skip
    if not isinstance(found, Detection):
        raise ValueError(f"--methods: expected a Detection from {name}, got {type(found).__name__}; try it with "
                         "btlib.testing.check_detector")  # fmt: skip
    return found


# ---------------------------------------------------------------------------------------------- what is printed


def as_text(scan: "Scan") -> str:
    """Verdict, tables and limits for a terminal."""
    shape = "×".join(map(str, scan.network.image_shape))
    changes = f" ({scan.images.changes})" if scan.images.changes else ""
    blocks = [
        f"network: {scan.weights.name}, {scan.network.what}, {scan.network.classes} classes, input {shape}\n"
        f"images: {scan.source.name}{changes}, {100 * scan.accuracy:.1f} % classified as labelled",
        scan.verdict,
        method_table(scan),
        class_table(scan),
    ]
    if scan.warnings:
        more = [f"{len(scan.warnings) - 6} more are in the report"] if len(scan.warnings) > 6 else []
        blocks.append(_listed("Take care:", [*scan.warnings[:6], *more]))
    blocks.append(_listed("What this cannot tell:", scan.cannot_tell))
    return "\n\n".join(blocks)


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(textwrap.fill(f"- {line}", 100, subsequent_indent="  ") for line in lines)])


def method_table(scan: "Scan") -> str:
    """One line per method; the calibrated p-value decides."""
    lines = [f"{'method':15} {'suspect':>7} {'calibrated p':>12} {'published p':>12} {'anomaly index':>13}  says"]
    for judgement in scan.judgements:
        said = "backdoor" if judgement.found else "nothing found"
        lines.append(
            f"{judgement.method:15} {judgement.suspect:7} {judgement.calibrated_p:12.4f} {judgement.published_p:>12} "
            f"{judgement.anomaly_index:13.2f}  {said}"
        )
    level = scan.judgements[0].level
    return "\n".join([*lines, f"A method says backdoor where its calibrated p-value is below {level:.4g}."])


def class_table(scan: "Scan") -> str:
    """One line per class: size of its smallest pattern and how many images it moves, for each method."""
    lines = [f"{'class':22}" + "".join(f" {name:>18}" for name in scan.detections)]
    lines.append(f"{'':22}" + "".join(f" {'size':>10} {'success':>7}" for _ in scan.detections))
    smallest = {name: detection.suspect for name, detection in scan.detections.items()}
    best = {name: detection.norms / detection.norms.min() for name, detection in scan.detections.items()}
    shown = sorted(sorted(range(scan.network.classes), key=lambda c: min(n[c] for n in best.values()))[:SHOWN])
    for index in shown:
        line = f"{f'{index} {scan.source.classes[index]}'[:22]:22}"
        for name, detection in scan.detections.items():
            estimate = detection.estimates[index]
            mark = "*" if smallest[name] == index else " "
            line += f" {estimate.norm:9.2f}{mark} {estimate.success:7.2f}"
        lines.append(line)
    rest = scan.network.classes - len(shown)
    legend = "* smallest of its method. Size: sum of the mask in pixels, or length of the perturbation."
    return "\n".join([*lines, *([f"… {rest} more classes are in the report"] if rest else []), legend])
