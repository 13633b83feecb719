"""`btlib scan`: anyone's network and a folder of clean images in, a verdict and a report out."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from btlib.files import printable

if TYPE_CHECKING:
    from torch import nn

    from btlib.cli.probing import Foreign, Told
    from btlib.cli.scan_images import CleanImages, Origin
    from btlib.cli.scan_outcome import Scan
    from btlib.detection import Detection

LONGEST = 250  # letters of a word in a message: some names are a page long
PER_CLASS = 100  # for a detector that has no such setting, or takes all there are
FOUND, BAD_INPUT = 3, 2  # exit statuses; 1 is what Python itself ends with when something breaks


def command(
    weights: Annotated[Path, typer.Argument(
        help="A btlib checkpoint, safetensors or state dict (never unpickled), TorchScript file or torch.export "
        "archive. The last two run code of their own, with --trust only.", show_default=False)],
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
        "folder and runs its code.")] = "neural-cleanse,red-a",
    per_class: Annotated[int | None, typer.Option(
        min=1, help="Clean images of each class; unless given, up to 100 for masks and 8 for perturbations.")] = None,
    classes: Annotated[Path | None, typer.Option(
        help="File with the classes' names in the order of the network's outputs, one a line (of a CSV the last "
        "column), where that is not the order of the folders.", show_default=False)] = None,
    size: Annotated[int | None, typer.Option(
        min=4, help="Side of the network's input, unless the file says it; default: that of the images.")] = None,
    mean: Annotated[str | None, typer.Option(
        help="For a network that wants normalised pixels: their mean, such as 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, typer.Option(help="Their standard deviation, such as 0.229,0.224,0.225.")] = None,
    scale: Annotated[float, typer.Option(help="What white is for the network: 255 where pixels go from 0 to 255.")] = 1,
    bgr: Annotated[bool, typer.Option("--bgr", help="The network wants blue, green, red.")] = False,
    invert: Annotated[bool, typer.Option("--invert", help="The network wants black for white.")] = False,
    output: Annotated[str | None, typer.Option(help="Name or number of the output with the logits.")] = None,
    trust: Annotated[bool, typer.Option(
        "--trust", help="Run the code that TorchScript and torch.export files bring along.")] = False,
    level: Annotated[float, typer.Option(help="Share of clean networks that may be flagged.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the draw of images and of the estimates.")] = 0,
    out: Annotated[Path, typer.Option(help="The report, one HTML page.")] = Path("report.html"),
    json: Annotated[Path | None, typer.Option(help="The numbers, as JSON.")] = None,
) -> None:  # fmt: skip
    """Is this network backdoored? Exit status: 0 nothing found, 3 backdoor found, 2 bad input or not to be judged."""
    from btlib.cli.file_kinds import check_file
    from btlib.cli.preprocessing import Convention
    from btlib.cli.probing import Told

    with refusing("the scan"):
        check_file(weights)  # before a data set is read
        check_outputs(weights, [out] if json is None else [out, json])
        detectors = check_options(methods, level)
        convention = Convention(scale, invert, bgr, numbers("--mean", mean), numbers("--std", std))
        told = Told(network, size, convention, output, trust)
        scan = run_scan(weights, images, told, detectors, classes=classes, per_class=per_class, level=level, seed=seed)
    report(scan, out, json)
    raise typer.Exit(FOUND if scan.targets else 0)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Inside, whatever breaks ends with one line and the status of bad input: it is no backdoor found."""
    from btlib.cli.adapting import ForeignError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # not every terminal has every sign
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # of others' code; what is to be known of the network is in the report
    try:
        yield
    except ForeignError as error:
        _refuse(error)
    except (Exception, SystemExit) as error:  # nor is a network that exits
        known = isinstance(error, ValueError | TypeError | OSError | RuntimeError)
        _refuse(error if known else RuntimeError(f"{what} broke: {type(error).__name__}: {error}"))


def _refuse(error: BaseException) -> NoReturn:
    words = [word if len(word) <= LONGEST else f"{word[:LONGEST]}…" for word in str(error).split()]
    typer.echo(printable(" ".join(words)) or type(error).__name__, err=True)
    raise typer.Exit(BAD_INPUT) from None


def report(scan: "Scan", out: Path, json: Path | None) -> None:
    """Print what was found, then write it: what can't be written must not take the verdict along."""
    from btlib import __version__, results
    from btlib.cli.scan_outcome import as_json
    from btlib.cli.scan_report import page
    from btlib.cli.scan_text import as_text
    from btlib.files import write_text

    typer.echo(as_text(scan))
    try:
        if json is not None:
            results.save(json.absolute(), as_json(scan, __version__))
        write_text(out, page(scan))
    except Exception as error:  # a full disk, or a figure that can't be drawn
        typer.echo(f"--out, --json: expected files that can be written, got {type(error).__name__}: "
                   f"{' '.join(str(error).split())}; the verdict above stands", err=True)  # fmt: skip
    else:
        typer.echo(f"report: {out}")


def check_outputs(weights: Path, outputs: Sequence[Path]) -> None:
    """Whether reports can be written there without a loss: not over the network, a pipe or one another."""
    for path in outputs:
        if path.is_dir():
            raise ValueError(f"--out, --json: expected a file to write, got the folder {path}; add a name")
        if path.exists() and not path.is_file():
            raise ValueError(
                f"--out, --json: expected a plain file to write, got {path}, a pipe or device; name another"
            )
        if path.exists() and path.samefile(weights):
            raise ValueError(f"--out, --json: expected a file of its own, got {path}, the network itself; name another")
    if len({path.absolute() for path in outputs}) < len(outputs):
        raise ValueError(f"--out, --json: expected two files, got {outputs[0]} for both; name another")


def check_options(methods: str, level: float) -> "dict[str, Callable[..., Detection]]":
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
    return detectors


def numbers(option: str, text: str | None) -> tuple[float, ...]:
    """The numbers of an option, separated by commas; none where it is not given."""
    try:
        return tuple(float(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(f"{option}: expected numbers separated by commas, such as 0.485,0.456,0.406, "
                         f"got {text!r}; mend it") from None  # fmt: skip


def run_scan(
    weights: Path, images: str, told: "Told", detectors: "Mapping[str, Callable[..., Detection]]", *,
    classes: Path | None, per_class: int | None, level: float, seed: int,
) -> "Scan":  # fmt: skip
    """Load network and images, and examine the one with the other.

    Raises:
        ValueError, TypeError, OSError, DataError: bad input; one line says what to do.
    """
    from btlib.cli import scan_images

    source, loaded = opened(weights, images, told, classes)
    wanted = images_wanted(detectors, per_class)
    clean = scan_images.read(source, loaded.image_shape, max(wanted.values()), seed)
    if per_class and per_class > clean.smallest_class:
        least = source.classes[int(clean.y.bincount().argmin())]
        raise ValueError(f"--per-class: expected at most {clean.smallest_class}, all images of {least}, got "
                         f"{per_class}; lower it, or leave it out to use as many as there are")  # fmt: skip
    return examined(weights, loaded, source, clean, detectors, wanted=wanted, level=level, seed=seed)


def opened(weights: Path, images: str, told: "Told", classes: Path | None) -> "tuple[Origin, Foreign]":
    """Where the images are, and the network, which has as many outputs as they have classes."""
    from btlib.cli import foreign, scan_images

    source = scan_images.find(images)
    source = source if classes is None else source.ordered(scan_images.names_in(classes))
    loaded = foreign.load(weights, source.native, told)
    check_classes(source, loaded)
    return source, loaded


def images_wanted(detectors: "Mapping[str, Callable[..., Detection]]", per_class: int | None = None) -> dict[str, int]:
    """Images of each class by method: as told, as its settings say, or the usual number."""
    from btlib.detection import settings_of

    return {name: per_class or settings_of(each).get("per_class") or PER_CLASS for name, each in detectors.items()}


def examined(
    weights: Path, loaded: "Foreign", source: "Origin", clean: "CleanImages",
    detectors: "Mapping[str, Callable[..., Detection]]", *, wanted: "Mapping[str, int]", level: float, seed: int,
) -> "Scan":  # fmt: skip
    """See that network and images mean the same, run the methods, and put together what they found.

    Raises:
        ValueError, TypeError: a network that can't be judged; one line says what to do.
    """
    from btlib.cli import meaning
    from btlib.cli.scan_outcome import Scan
    from btlib.detection import configured

    began = time.perf_counter()
    placed(loaded.module, loaded.image_shape)
    accuracy = meaning.checked_accuracy(loaded, clean.x, clean.y, source.classes)
    used = {name: min(count, clean.smallest_class) for name, count in wanted.items()}
    detections = {}
    for name, detector in detectors.items():
        typer.echo(f"{name}, {used[name]} images per class", err=True)
        with_settings = configured(detector, per_class=used[name], seed=seed, progress=True)
        detections[name] = detect(name, with_settings, loaded.module, clean)
    return Scan(weights, loaded, source, clean, accuracy, detections, used, level, seed, time.perf_counter() - began)


def placed(network: "nn.Module", image_shape: tuple[int, ...]) -> None:
    """To the GPU where there is one, and back if it fails there: a device may be part of a network's code."""
    import torch

    from btlib import metrics, networks, training
    from btlib.cli.probing import Sealed

    if any(isinstance(part, Sealed | torch.jit.ScriptModule) for part in network.modules()):
        return
    try:
        network.to(training.device_for())
        with metrics.evaluating(network):
            network(torch.zeros(2, *image_shape, device=networks.reference(network).device))
    except Exception:
        network.to("cpu")


def check_classes(source: "Origin", network: "Foreign") -> None:
    """Folders and outputs must be as many, or labels mean nothing."""
    if len(source.classes) != network.num_classes:
        raise ValueError(f"--images: expected {network.num_classes} classes, the network's outputs, got "
                         f"{len(source.classes)} in {source.name}; give one subfolder per output")  # fmt: skip


def detect(
    name: str, detector: "Callable[..., Detection]", network: "nn.Module", clean: "CleanImages",
    targets: Sequence[int] | None = None,
) -> "Detection":  # fmt: skip
    """One detector over all classes, or over some. What a stranger's raises is bad input, not a backdoor found."""
    from btlib.detection import Detection

    try:
        found = detector(network, clean.x, clean.y, targets=targets)
    except Exception as error:
        if ":" not in name:
            raise
        raise ValueError(f"--methods: {name} raised {type(error).__name__}: {error}; try it with "
                         "btlib.testing.check_detector") from error  # fmt: skip
    if not isinstance(found, Detection):
        raise ValueError(f"--methods: expected a Detection from {name}, got {type(found).__name__}; try it with "
                         "btlib.testing.check_detector")  # fmt: skip
    return found
