"""`btlib repair`: a backdoored network and clean images in, a repaired network and a report out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btlib.cli import scan as scan_command
from btlib.files import read_json

if TYPE_CHECKING:
    from btlib.cli.probing import Foreign, Told
    from btlib.cli.repair_outcome import Estimates, Outcome
    from btlib.cli.scan_images import CleanImages
    from btlib.cli.scan_outcome import Scan
    from btlib.detection import Detection, Estimate
    from btlib.repair import Repair

SCAN = "As for scan."


def command(
    weights: Annotated[Path, typer.Argument(
        help="A btlib checkpoint, safetensors or state dict; what brings its own code can't be changed.",
        show_default=False)],
    *,
    images: Annotated[str, typer.Option(
        help="Clean images as for scan. A fifth of each class, or more, is held out: they judge only.",
        show_default=False)],
    out: Annotated[Path, typer.Option(
        help="The repaired network: safetensors that scan opens again and load_state_dict takes.")
    ] = Path("repaired.safetensors"),
    method: Annotated[str, typer.Option(
        help="fine-tuning, unlearning, fine-pruning, adversarial-neuron-pruning, implicit-unlearning, activation-caps "
        "or channel-lipschitzness (see btlib.repair). Activation caps add modules; the others keep the network's "
        "form.")] = "unlearning",
    target: Annotated[int | None, typer.Option(
        min=0, help="Repair without a scan: the class that the backdoor leads to.")] = None,
    scanned: Annotated[Path | None, typer.Option(
        help="What scan --json wrote of this network, which is then not scanned before its repair.",
        show_default=False)] = None,
    methods: Annotated[str, typer.Option(help="What scans before and after.")] = "neural-cleanse,red-a",
    per_class: Annotated[int, typer.Option(min=2, help="Most clean images of each class that repair.")] = 100,
    json: Annotated[Path | None, typer.Option(help="The report, as JSON.")] = None,
    network: Annotated[str | None, typer.Option(help=f"Name or module:function. {SCAN}")] = None,
    classes: Annotated[Path | None, typer.Option(help=SCAN, show_default=False)] = None,
    size: Annotated[int | None, typer.Option(min=4, help=SCAN)] = None,
    mean: Annotated[str | None, typer.Option(help=SCAN)] = None,
    std: Annotated[str | None, typer.Option(help=SCAN)] = None,
    scale: Annotated[float, typer.Option(help=SCAN)] = 1,
    bgr: Annotated[bool, typer.Option("--bgr", help=SCAN)] = False,
    invert: Annotated[bool, typer.Option("--invert", help=SCAN)] = False,
    output: Annotated[str | None, typer.Option(help=SCAN)] = None,
    level: Annotated[float, typer.Option(help=SCAN)] = 0.05,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:  # fmt: skip
    """Take a backdoor out of a network.

    A suspicion alone is not repaired: name its class with --target.

    Exit status: 0 repaired, or nothing found and nothing written; 3 the backdoor is still found, or its pattern still
    works; 2 bad input, nothing written.
    """
    from btlib.cli.preprocessing import Convention
    from btlib.cli.probing import Told

    with scan_command.refusing("the repair"):
        check_files(weights, [out] if json is None else [out, json], scanned)
        detectors, chosen = scan_command.check_options(methods, level), repair_named(method)
        numbers = [scan_command.numbers(f"--{name}", text) for name, text in (("mean", mean), ("std", std))]
        told = Told(network, size, Convention(scale, invert, bgr, *numbers), output)
        outcome = run_repair(weights, images, told, chosen, detectors, out=out, targets=named(target, scanned, weights),
                             classes=classes, per_class=per_class, level=level, seed=seed)  # fmt: skip
        report(outcome, json)
    raise typer.Exit(0 if outcome.healed else scan_command.FOUND)


def report(outcome: "Outcome", json: Path | None) -> None:
    """Print what was done, and write it where that was asked for."""
    from btlib import results
    from btlib.cli.repair_outcome import as_json, as_text

    typer.echo(as_text(outcome))
    try:
        if json is not None:
            results.save(json.absolute(), as_json(outcome))
    except Exception as error:  # a full disk; the network is written
        typer.echo(f"--json: expected a file that can be written, got {type(error).__name__}: {error}; the report "
                   "above stands", err=True)  # fmt: skip


def check_files(weights: Path, outputs: Sequence[Path], scanned: Path | None) -> None:
    """Whether the network is a file that can be repaired, and nothing given is written over.

    Raises:
        ValueError: it is not; TorchScript and torch.export archives are programs, and what other programs wrote can't
            be written back.
    """
    from btlib.cli.file_kinds import check_file, file_kind

    check_file(weights)
    for given in (weights, scanned):
        if given is not None:
            scan_command.check_outputs(given, outputs)
    if file_kind(weights) not in ("sealed", "safetensors", "pickle"):
        raise ValueError(f"WEIGHTS: expected weights that can be changed, got {weights.name}, a whole network in one "
                         "file or folder; save its state dict, and pass --network module:function")  # fmt: skip


def repair_named(method: str) -> "Repair":
    """The repair of that name, with its usual settings."""
    from btlib.repair import REPAIRS

    known = {name.replace(" ", "-"): kind for name, kind in REPAIRS.items()}
    if method not in known:
        raise ValueError(f"--method: expected one of {', '.join(known).lower()}, got {method!r}; check the spelling")
    return known[method]()


def named(target: int | None, scanned: Path | None, weights: Path) -> tuple[int, ...] | None:
    """The target classes that were told, by number or by an earlier scan; None: the network is to be scanned.

    Raises:
        ValueError: both were told, or the file is no scan of this network.
    """
    import hashlib

    if scanned is None or target is not None:
        if scanned is not None:
            raise ValueError(f"--target, --scanned: expected one of them, got {target} and {scanned}; leave one out")
        return None if target is None else (target,)
    try:
        told = read_json(scanned)
        digest, targets = told["network"]["sha256"], [int(each) for each in told["verdict"]["targets"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"--scanned: expected what scan --json wrote, got {scanned} ({why}); "
                         "scan the network again, or leave it out") from None  # fmt: skip
    if digest != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise ValueError(f"--scanned: expected a scan of {weights.name}, got one of another file, "
                         f"{told['network'].get('file')}; scan this one")  # fmt: skip
    return tuple(targets)


def run_repair(
    weights: Path, images: str, told: "Told", method: "Repair", detectors: "Mapping[str, Callable[..., Detection]]", *,
    out: Path, targets: tuple[int, ...] | None, classes: Path | None, per_class: int, level: float, seed: int,
) -> "Outcome":  # fmt: skip
    """Scan, repair, scan again, and write the repaired network, whole and after all of that.

    Raises:
        ValueError, TypeError, OSError, DataError: bad input, or a repair that ruins the network; one line says what to
            do, and nothing is written.
    """
    from dataclasses import replace

    from btlib.cli import meaning, repair_outcome, repaired_files, scan_images, scanning

    source, loaded = scanning.opened(weights, images, told, classes)
    clean = scan_images.read(source, loaded.image_shape, 3 * per_class, seed)
    own, held = repair_outcome.divided(clean, per_class)
    examine = {"wanted": scanning.images_wanted(detectors), "level": level, "seed": seed, "told": told}
    first: Scan | None = None
    estimates: Estimates
    if targets is None:
        first = scanning.examined(weights, loaded, source, own, detectors, **examine)  # type: ignore[arg-type]
        estimates = repair_outcome.found_by(first)
    else:
        scanning.placed(loaded.module, loaded.image_shape)
        meaning.checked_accuracy(loaded, own.x, own.y, source.classes)
        estimates = _searched(loaded, own, detectors, targets, seed)
    outcome = repair_outcome.Outcome(weights, loaded, source, (own, held), estimates, first)
    if not estimates:
        return outcome
    trigger = repair_outcome.together(estimates.values())
    done = method(loaded.module, own.x, own.y, trigger=trigger, seed=seed, progress=True)
    mended = repaired_files.with_network(loaded, done.network)
    try:
        second = scanning.examined(out, mended, source, own, detectors, **examine)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"--method: expected a repair that keeps the network's use, but {method.name} ruined it "
                         f"({error}); nothing was written, try another") from None  # fmt: skip
    repaired_files.write(out, mended, done, told, weights)
    return replace(outcome, done=done, repaired=mended, second=second)


def _searched(
    loaded: "Foreign", own: "CleanImages", detectors: "Mapping[str, Callable[..., Detection]]", targets: Sequence[int],
    seed: int,
) -> "Estimates":  # fmt: skip
    """The estimates for classes that were told; a scan is not needed for them."""
    from btlib.cli import scanning
    from btlib.detection import configured

    if any(target >= loaded.num_classes for target in targets):
        raise ValueError(f"--target: expected a class in 0…{loaded.num_classes - 1}, got {max(targets)}; count from 0")
    found: dict[tuple[str, int], Estimate] = {}
    for name, count in scanning.images_wanted(detectors).items() if targets else ():
        detector = configured(detectors[name], per_class=min(count, own.smallest_class), seed=seed, progress=True)
        detection = scanning.detect(name, detector, loaded.module, own, targets)
        found |= {(name, target): detection.estimates[target] for target in targets}
    return found
