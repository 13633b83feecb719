"""`btlib guard`: from a scan's estimate to a guard in service, which says when it doubts itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn

    from btlib.cli.probing import Foreign, Told
    from btlib.cli.scan_images import CleanImages
    from btlib.inflight import LikelihoodDetector
    from btlib.triggers import Trigger


def command(
    scan: Annotated[Path, typer.Argument(
        help="What `btlib scan --json SCAN.json --save-estimates` wrote.", show_default=False)],
    weights: Annotated[Path, typer.Argument(metavar="NETWORK", help="The network that was scanned.",
                                            show_default=False)],
    *,
    images: Annotated[str, typer.Option(help="Clean images, as for scan.", show_default=False)],
    out: Annotated[Path, typer.Option(
        help="The guard: one safetensors file; with several targets -3, -7, … is added to its name.",
    )] = Path("guard.safetensors"),
    target: Annotated[list[int] | None, typer.Option(
        help="Class to guard, may be repeated; default: those that the scan found or, if none, suspected.",
        show_default=False)] = None,
    method: Annotated[str | None, typer.Option(
        help="Whose estimate; default: the method that is surest of the target.", show_default=False)] = None,
    network: Annotated[str | None, typer.Option(
        help="As for scan; names of ours are in the scan, module:function must be said again.")] = None,
    estimates: Annotated[int, typer.Option(
        min=1, help="Patterns to fit it with: the scan's, and what the same method finds on other draws of images. "
        "1 is the paper's.")] = 6,
    layer: Annotated[str, typer.Option(
        help="Whose output is watched: a layer's name in the network; penultimate is what its last linear layer takes "
        "in.")] = "penultimate",
    per_class: Annotated[int, typer.Option(min=4, help="Clean images of each class, at most.")] = 100,
    fpr: Annotated[float | None, typer.Option(
        help="Share of clean target images that may be flagged; default: the paper's arg max.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="As for scan.")] = False,
    seed: Annotated[int, typer.Option(help="Of the draw of images and of the fit.")] = 0,
) -> None:  # fmt: skip
    """Fit a guard to a scanned network.

    It knows the trigger by the scan's own estimate, and by further ones that it searches for.

    Exit status: 0 written; 4 written, but it doubts itself, in words; 2 bad input.
    """
    from btlib.cli.file_kinds import check_file
    from btlib.cli.scan import SUSPICIOUS, check_outputs, refuse

    try:
        check_file(weights)
        check_outputs(weights, [out])
        told = read_scan(scan, weights)
        made = guards(
            told, weights, images, target, method, {"network": network, "trust": trust}, estimates=estimates,
            layer=layer, per_class=per_class, fpr=fpr, seed=seed,
        )  # fmt: skip
        for each in made:
            path = out if len(made) == 1 else out.with_stem(f"{out.stem}-{each.target}")
            each.save(path)
            typer.echo(each.text(path))
    except (Exception, SystemExit) as error:  # whatever a stranger's network raises
        refuse(error)
    raise typer.Exit(SUSPICIOUS if any(each.doubts for each in made) else 0)


@dataclass(frozen=True)
class Scanned:
    """What a scan left: its numbers and the patterns beside them."""

    numbers: Mapping[str, Any]
    patterns: "Mapping[str, Mapping[int, Trigger]]"

    @property
    def suspected(self) -> list[int]:
        """Classes found, else classes suspected."""
        verdict = self.numbers["verdict"]
        return list(verdict["targets"]) or [each["target"] for each in verdict["suspects"]]

    def surest(self, target: int, method: str | None) -> str:
        """The method with the smallest p-value among those that point at the target, else among all.

        Patterns that replace the image (mm-bd's) tell nothing of a trigger.
        """
        methods = self.numbers["methods"]
        whole = {name for name, of in self.patterns.items()
                 if target in of and of[target].kind != "additive" and bool((of[target].mask == 1).all())}  # fmt: skip
        usable = [name for name, of in self.patterns.items() if target in of and name not in whole]
        if not usable or (method is not None and method not in usable):
            raise ValueError(f"--method, --target: expected a method with a pattern for class {target}, got "
                             f"{method or 'none in the scan'}; known are {', '.join(usable) or 'none'}")  # fmt: skip
        return method or min(usable, key=lambda name: (methods[name]["suspect"] != target, decisive_p(methods[name])))


@dataclass(frozen=True, eq=False)
class Made:
    """One fitted guard.

    Attributes:
        target: the class under guard.
        method: whose estimates it was fitted with.
        estimates: how many.
        network: as it was scanned.
        detector: the fit.
        doubts: why it is not to be relied on, in words.
    """

    target: int
    method: str
    estimates: int
    network: "Foreign"
    detector: "LikelihoodDetector"
    doubts: Sequence[str] = field(default=())

    def save(self, path: Path) -> None:
        """Write the guard."""
        from btlib import networks
        from btlib.inflight import Guard

        name = self.network.what.rpartition(" of ")[2]
        ours = isinstance(self.network.module, networks.Network) and name in networks.NETWORKS
        Guard(self.network.module, self.detector).save(path, network_name=name if ours else None)

    def text(self, path: Path) -> str:
        """What is printed."""
        held = self.detector.held_out_
        rates = "too few images to measure it" if held is None else (
            f"on clean images it has not seen: flags {100 * held.tpr:.1f} % of those stamped with an estimate, "
            f"{100 * held.fpr:.1f} % of the clean ones of class {self.target}; names the right source for "
            f"{100 * held.sia:.1f} %"
        )  # fmt: skip
        by = "the estimate" if self.estimates == 1 else f"{self.estimates} estimates"
        lines = [f"guard of class {self.target}, by {by} of {self.method}: {path}", rates]
        if not math.isnan(self.detector.expected):
            lines.append(f"fitted without one of the estimates, it flags {100 * self.detector.expected:.1f} % of the "
                         "images with that one")  # fmt: skip
        return "\n".join([*lines, *(f"doubt: {doubt}" for doubt in self.doubts)])


def read_scan(scan: Path, weights: Path) -> Scanned:
    """The scan's numbers and patterns, of this very network.

    Raises:
        ForeignError: no scan, one without estimates, or one of another network.
    """
    from btlib.cli import estimates
    from btlib.cli.adapting import ForeignError
    from btlib.cli.scan_json import fingerprint
    from btlib.files import read_json

    try:
        numbers = read_json(scan)
        _ = numbers["verdict"]["targets"], numbers["methods"], numbers["images"]["classes"]
        _ = numbers["network"]["told"]["convention"], numbers["seed"]
        _ = [told["per_class"] for told in numbers["methods"].values()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ForeignError(f"SCAN: expected the JSON of a scan, got {scan} ({type(error).__name__}: {error}); scan "
                           "with --json and --save-estimates") from None  # fmt: skip
    return Scanned(numbers, estimates.read(scan, fingerprint(weights)))


def guards(
    told: Scanned, weights: Path, images: str, targets: Sequence[int] | None, method: str | None,
    code: Mapping[str, Any], *, estimates: int, layer: str, per_class: int, fpr: float | None, seed: int,
) -> list[Made]:  # fmt: skip
    """A fitted guard for each target.

    Args:
        told: what the scan left.
        weights: the network's file.
        images: folder or data set of clean images.
        targets: classes; None: those that the scan points at.
        method: whose estimates; None: the surest.
        code: ``network`` and ``trust``: what may run code is said by the user, not by a file.
        estimates, layer, per_class, fpr, seed: see `command`.
    """
    from btlib.cli import foreign, meaning, scan_images
    from btlib.datasets import as_float
    from btlib.inflight import LikelihoodDetector
    from btlib.inflight.features import describe

    wanted = list(targets or told.suspected)
    if not wanted:
        raise ValueError("--target: expected a class, since the scan points at none, got none; name one, at your risk")
    source = scan_images.find(images)
    names = told.numbers["images"]["classes"]
    source = source.ordered(names) if sorted(names) == sorted(source.classes) else source
    loaded = foreign.load(weights, source.native, _loading(told.numbers["network"]["told"], code))
    source = source.for_outputs(loaded.num_classes)
    _check_layers(loaded)
    clean = scan_images.read(source, loaded.image_shape, per_class, seed)
    meaning.checked_accuracy(loaded, clean.x, clean.y, source.classes)
    describe(loaded.module, as_float(clean.x[:2]), layer)  # is there such a layer? Asked before minutes of searching
    made = []
    for target in wanted:
        by = told.surest(target, method)
        patterns = [told.patterns[by][target], *further(told, by, target, loaded.module, clean, estimates - 1)]
        detector = LikelihoodDetector(layer=layer, fpr=fpr, seed=seed)
        detector.fit(loaded.module, clean.x, clean.y, target=target, trigger=patterns)
        said = [*detector.warnings_, *doubts(told, target, by)]
        made.append(Made(target, by, len(patterns), loaded, detector, said))
    return made


def further(
    told: Scanned, method: str, target: int, network: "nn.Module", clean: "CleanImages", count: int
) -> "list[Trigger]":
    """What the method finds on other draws of images, begun elsewhere: a network may obey several patterns.

    Training mirrors and moves its images, and the trigger on them. One search finds one of what came of it, and a guard
    that knows only that one may see hardly a trigger of the attacker. A search takes two thirds of the images at most:
    methods that begin at zero would find the same thing on the same images.
    """
    from btlib import detection

    first, per_class = told.numbers["seed"], told.numbers["methods"][method]["per_class"]
    few = min(per_class, max(1, 2 * clean.smallest_class // 3))
    found = []
    for seed in range(first + 1, first + 1 + count):
        search = detection.configured(detection.find(method), seed=seed, per_class=few, progress=True)
        found.append(search(network, clean.x, clean.y, targets=[target]).estimates[target].trigger)
    return found


def decisive_p(of: Mapping[str, Any]) -> float:
    """The p-value that decided what a method says: beside a washed copy, where one was asked.

    Example:
        >>> decisive_p({"calibrated_p": 0.01, "washed_p": 0.5}), decisive_p({"calibrated_p": 0.01})
        (0.5, 0.01)
    """
    washed: float | None = of.get("washed_p")  # scans of old have none
    return float(of["calibrated_p"] if washed is None else washed)


def doubts(told: Scanned, target: int, method: str) -> list[str]:
    """Why the target may not be the attacker's. A fit alone can't notice: every pattern is told from clean images."""
    of, said = told.numbers["methods"][method], []
    if of["suspect"] != target:
        said.append(f"{method} suspects class {of['suspect']}, not {target}: triggers for another class pass unseen, "
                    "however good the rates are")  # fmt: skip
    elif not of["found"]:
        said.append(
            f"the scan was not sure that class {target} is attacked at all (p {decisive_p(of):.2g}, level "
            f"{of['level']:.2g}): the pattern may be a natural one, and a real trigger may pass unseen"
        )
    return said


def _loading(told: Mapping[str, Any], code: Mapping[str, Any]) -> "Told":
    """How the network is loaded: data from the scan, code from the user."""
    from btlib import networks
    from btlib.cli.adapting import ForeignError
    from btlib.cli.preprocessing import Convention
    from btlib.cli.probing import Told

    name = code["network"] or (told.get("network") if told.get("network") in networks.NETWORKS else None)
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told["convention"].items()}
        return Told(name, told["size"], Convention(**values), told["output"], bool(code["trust"]), layers=True)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ForeignError(f"SCAN: expected how to load the network, got {dict(told)} ({error}); scan again") from None


def _check_layers(network: "Foreign") -> None:
    import torch

    from btlib.cli.adapting import ForeignError
    from btlib.cli.probing import Sealed

    if any(isinstance(part, Sealed | torch.jit.ScriptModule) for part in network.module.modules()):
        raise ForeignError(
            f"NETWORK: expected a network whose layers can be seen, got a {network.what}, a program that computes them "
            "inside; give its state dict, with --network module:function, or export it with torch.export"
        )
