"""`btlib scan`: anyone's network and a folder of clean images in, a verdict and a report out."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from btlib.files import printable
from btlib.memory import enough_memory

if TYPE_CHECKING:
    from btlib.cli.scan_outcome import Scan
    from btlib.detection import Detection

METHODS, IMAGELESS = "neural-cleanse,red-a", "mm-bd"  # by default: with images, and without
LONGEST = 250  # letters of a word in a message: some names are a page long
FOUND, BAD_INPUT, SUSPICIOUS = 3, 2, 4  # exit statuses; 1 is what Python itself ends with when something breaks


def command(
    weights: Annotated[Path, typer.Argument(
        help="A btlib checkpoint, safetensors or state dict (never unpickled), ONNX or Keras file, folder of "
        "Hugging Face or timm, TorchScript or torch.export. The last two run code of their own, with --trust only.",
        show_default=False)],
    *,
    images: Annotated[str | None, typer.Option(
        help="Folder with one subfolder of images per class, which sorted as text (10 before 2) are the network's "
        "outputs; or a data set's name, such as fashion-mnist. Without it, mm-bd alone can be run.",
        show_default=False)] = None,
    network: Annotated[str | None, typer.Option(
        help="What a state dict belongs to: lenet5, vgg9, … (see btlib.networks), or module:function, which is "
        "imported from the current folder and called.")] = None,
    methods: Annotated[str | None, typer.Option(
        help="Some of neural-cleanse, mask-red-a, mask-red-p, red-a, red-a-2, red-a-focused, red-u, red-p, mm-bd "
        "(see btlib.detection.DETECTORS); or module:object, a detector of your own, which is imported from the current "
        "folder and runs its code. Unless given: neural-cleanse,red-a, and mm-bd where there are no images.",
        show_default=False)] = None,
    reference: Annotated[list[Path] | None, typer.Option(
        help="A network known to be clean, of the same task and kind, or the JSON that a scan of it left. Sizes are "
        "then judged relative to its own, since classes differ by nature. May be repeated; each file takes as long as "
        "the scan itself, JSON takes none.", show_default=False)] = None,
    per_class: Annotated[int | None, typer.Option(
        min=1, help="Clean images of each class; unless given, up to 100 for masks and 8 for perturbations.")] = None,
    targets: Annotated[str | None, typer.Option(
        help="Search these classes only, numbers separated by commas. Unless given, all; of more than 50 classes, "
        "those that a short search of all finds suspect, and others to compare with.", show_default=False)] = None,
    time_limit: Annotated[float | None, typer.Option(
        min=0.1, help="Minutes it may take: fewer classes are searched where all would take longer, and the report "
        "says so. It is planned from one measured pass, not enforced.", show_default=False)] = None,
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
    power: Annotated[bool, typer.Option(
        "--power", help="Where no backdoor is found: plant one in a copy of the network (three minutes at most), scan "
        "that likewise, and say whether such a backdoor would have been found. Takes as long again.")] = False,
    plant: Annotated[str | None, typer.Option(
        help="What --power plants: box (a small white one), chessboard (faint), noise (blended), wave (faint), or "
        "two-sources (a box for two classes alone, with covers).", show_default="box")] = None,
    wash: Annotated[bool, typer.Option(
        "--wash/--no-wash", help="Where a class stands out somewhat (p below 0.25): judge it again beside a washed "
        "copy of the network (half of each weight thrown away, then trained on the clean images), which shows what "
        "classes are like by nature. Takes more than as long again. None is made beside --reference or "
        "--time-limit.")] = True,
    trust: Annotated[bool, typer.Option(
        "--trust", help="Run the code that TorchScript and torch.export files bring along, and Keras files and Hugging "
        "Face folders may.")] = False,
    level: Annotated[float, typer.Option(help="Share of clean networks that may be flagged.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the draw of images and of the estimates.")] = 0,
    out: Annotated[Path, typer.Option(help="The report, one HTML page.")] = Path("report.html"),
    json: Annotated[Path | None, typer.Option(help="The numbers, as JSON.")] = None,
    save_estimates: Annotated[bool, typer.Option(
        "--save-estimates", help="Beside the JSON, also the estimated patterns (.estimates.safetensors), which `btlib "
        "guard` goes on with.")] = False,
) -> None:  # fmt: skip
    """Is this network backdoored?

    Exit status: 0 nothing found, 3 backdoor found, 4 suspicious (an estimate points at a class, the test is not sure),
    2 bad input or not to be judged.
    """
    from btlib.cli.file_kinds import check_file
    from btlib.cli.planting import KINDS
    from btlib.cli.preprocessing import Convention
    from btlib.cli.probing import Told
    from btlib.cli.scan_budget import parse_targets
    from btlib.cli.scanning import run_scan

    with refusing("the scan"):
        check_file(weights)  # before a data set is read
        check_outputs(weights, [out] if json is None else [out, json])
        if save_estimates and json is None:
            raise ValueError("--save-estimates: expected --json FILE to put them beside, got none; pass it")
        detectors = check_options(methods or (IMAGELESS if images is None else METHODS), level, images is not None)
        if plant is not None and plant not in KINDS:
            raise ValueError(f"--plant: expected one of {', '.join(KINDS)}, got {plant}; choose one")
        convention = Convention(scale, invert, bgr, numbers("--mean", mean), numbers("--std", std))
        told = Told(network, size, convention, output, trust)
        scan = run_scan(weights, images, told, detectors, classes=classes, per_class=per_class, level=level, seed=seed,
                        references=reference or (), targets=parse_targets(targets), minutes=time_limit,
                        power=power or plant is not None, wash=wash, planted=plant or "box")  # fmt: skip
    report(scan, out, json, save_estimates)
    raise typer.Exit(FOUND if scan.targets else SUSPICIOUS if scan.suspects else 0)


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
        with enough_memory(what):
            yield
    except ForeignError as error:
        refuse(error)
    except (Exception, SystemExit) as error:  # nor is a network that exits
        known = isinstance(error, ValueError | TypeError | OSError | RuntimeError | MemoryError)
        refuse(error if known else RuntimeError(f"{what} broke: {type(error).__name__}: {error}"))


def refuse(error: BaseException) -> NoReturn:
    """One line on stderr, exit status 2."""
    words = [word if len(word) <= LONGEST else f"{word[:LONGEST]}…" for word in str(error).split()]
    typer.echo(printable(" ".join(words)) or type(error).__name__, err=True)
    raise typer.Exit(BAD_INPUT) from None


def report(scan: "Scan", out: Path, json: Path | None, save_estimates: bool = False) -> None:
    """Print what was found, then write it: what can't be written must not take the verdict along."""
    from btlib import __version__, results
    from btlib.cli import estimates
    from btlib.cli.scan_json import as_json, fingerprint
    from btlib.cli.scan_report import page
    from btlib.cli.scan_text import as_text
    from btlib.files import write_text

    typer.echo(as_text(scan))
    try:
        if json is not None:
            results.save(json.absolute(), as_json(scan, __version__))
            if save_estimates:
                estimates.save(json, fingerprint(scan.weights), scan.detections)
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


def check_options(methods: str, level: float, images: bool = True) -> "dict[str, Callable[..., Detection]]":
    """The detectors by name; complains before anything is computed."""
    from btlib.detection import find
    from btlib.paths import from_here

    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--methods: expected names separated by commas, got {methods!r}; see --help")
    with from_here():
        detectors = {name: find(name, argument="--methods") for name in names}
    needy = [] if images else [name for name, each in detectors.items() if getattr(each, "needs_images", True)]
    if needy:
        raise ValueError(f"--images: expected a folder or data set for {', '.join(needy)}, got none; pass one, or "
                         "--methods mm-bd, which needs none")  # fmt: skip
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
