"""What a repair came to: before and after, in words and as JSON."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from btlib import __version__, metrics
from btlib.cli import scan_json, scan_text
from btlib.cli.probing import Foreign
from btlib.cli.scan_images import CleanImages, Origin
from btlib.cli.scan_outcome import Scan
from btlib.detection import Estimate
from btlib.files import printable
from btlib.repair import Repaired

STILL = 0.5  # of the held-out images: a pattern that moves more of them still works
Estimates = Mapping[tuple[str, int], Estimate]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything that a repair knows.

    Attributes:
        weights: the given network's file.
        network: the given network.
        source: where the images came from.
        images: those that repaired, and those that were held out.
        estimates: by method and target class; none: there was nothing to repair.
        first: the scan before; None where the target was told.
        done: the repair; None where there was nothing to repair, as are the next two.
        repaired: the repaired network.
        second: the scan of it; its file is the repaired network's.
    """

    weights: Path
    network: Foreign
    source: Origin
    images: tuple[CleanImages, CleanImages]
    estimates: Estimates
    first: Scan | None
    done: Repaired | None = None
    repaired: Foreign | None = None
    second: Scan | None = None

    @cached_property
    def accuracies(self) -> tuple[float, ...]:
        """On held-out images, in [0, 1]: before and, where something was repaired, after."""
        held = self.images[1]
        return tuple(metrics.accuracy(network, held.x, held.y) for network in self._networks)

    @cached_property
    def successes(self) -> Mapping[tuple[str, int], tuple[float, ...]]:
        """Of each estimate on held-out images of other classes than its target, in [0, 1]: before and after."""
        held = self.images[1]
        return {
            (method, target): tuple(
                metrics.attack_success_rate(network, estimate.trigger, held.x, held.y, target)
                for network in self._networks
            )
            for (method, target), estimate in self.estimates.items()
        }

    @property
    def _networks(self) -> tuple[nn.Module, ...]:
        return tuple(each.module for each in (self.network, self.repaired) if each is not None)

    @property
    def healed(self) -> bool:
        """Whether no backdoor is found any more, and no estimate moves most images; also where there was none."""
        if self.second is None:
            return True
        return not self.second.targets and all(after <= STILL for _, after in self.successes.values())


def divided(clean: CleanImages, per_class: int) -> tuple[CleanImages, CleanImages]:
    """Images that repair, at most `per_class` of each class and four fifths of it, and the others, which judge.

    Raises:
        ValueError: a class with a single image.

    Example:
        >>> x, y = torch.zeros(15, 1, 2, 2, dtype=torch.uint8), torch.tensor([0] * 5 + [1] * 10)
        >>> [part.y.bincount().tolist() for part in divided(CleanImages(x, y, ""), per_class=6)]
        [[4, 6], [1, 4]]
    """
    counts = clean.y.bincount()
    if counts.min() < 2:
        raise ValueError(f"--images: expected at least 2 images of each class, got {int(counts.min())} of class "
                         f"{int(counts.argmin())}; some repair, the others judge")  # fmt: skip
    most = (4 * counts).div(5, rounding_mode="floor").clamp(max=per_class)
    order = clean.y.argsort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[clean.y[order]]  # within its class
    own = place < most[clean.y]
    repairing, judging = (replace(clean, x=clean.x[part], y=clean.y[part]) for part in (own, ~own))
    return repairing, judging


def found_by(scan: Scan) -> dict[tuple[str, int], Estimate]:
    """The estimates by which a scan found a backdoor."""
    return {
        (judgement.method, judgement.suspect): scan.detections[judgement.method].estimates[judgement.suspect]
        for judgement in scan.judgements if judgement.found
    }  # fmt: skip


def together(estimates: Iterable[Estimate]) -> Callable[[Tensor], Tensor]:
    """One trigger that stamps each estimate on its share of a batch."""
    triggers = [estimate.trigger for estimate in estimates]

    def trigger(images: Tensor) -> Tensor:
        parts = images.tensor_split(len(triggers))
        return torch.cat([stamp(part) for stamp, part in zip(triggers, parts, strict=True)])

    return trigger


def as_text(outcome: Outcome) -> str:
    """What was done and what came of it, for a terminal."""
    scan, done = outcome.second, outcome.done
    given = outcome.network
    own, held = (len(part.y) for part in outcome.images)
    head = (
        f"network: {printable(outcome.weights.name)}, {given.what}, {given.num_classes} classes\n"
        f"images: {outcome.source.name}, {own} that repair, {held} held out"
    )
    before = "not scanned: the target was told, by you or by an earlier scan"
    if outcome.first is not None:
        before = outcome.first.verdict
    if done is None or scan is None:
        said = before if outcome.first is not None else "The scan that was passed found no backdoor."
        return (f"{head}\n\n{said}\nThere is nothing to repair, and nothing was written. --target CLASS repairs for a "
                "class that you suspect.")  # fmt: skip
    return "\n\n".join([
        head,
        f"before: {before}\nrepair: {done.method.name}, {done.summary} ({done.seconds:.1f} s)\nafter:  {scan.verdict}",
        _table(outcome),
        scan_text.method_table(scan),
        f"written: {scan.weights}\n{how_to_open(outcome)}",
        scan_text.listed("What this cannot tell:", cannot_tell(outcome)),
    ])  # fmt: skip


def _table(outcome: Outcome) -> str:
    """Rates on held-out images, before and after."""
    rows = {"accuracy": outcome.accuracies}
    rows |= {f"success of {name}'s pattern for class {t}": rates for (name, t), rates in outcome.successes.items()}
    width = max(map(len, rows))
    lines = [f"{name:{width}} " + " ".join(f"{rate:7.4f}" for rate in rates) for name, rates in rows.items()]
    return "\n".join([f"{'on held-out images':{width}} {'before':>7} {'after':>7}", *lines])


def capped(outcome: Outcome) -> bool:
    """Whether the repaired network has other tensors than the given one."""
    given, repaired = outcome.network, outcome.repaired
    return repaired is not None and repaired.module.state_dict().keys() != given.module.state_dict().keys()


def how_to_open(outcome: Outcome) -> str:
    """The lines of Python that load the repaired network."""
    path = "" if outcome.second is None else str(outcome.second.weights)
    made = f'btlib.networks.build("{outcome.network.ours}", …)' if outcome.network.ours else "your network"
    caps = "btlib.repair.with_caps(net, weights)  # it has caps: the form is another\n  " if capped(outcome) else ""
    return (f"  weights = safetensors.torch.load_file({path!r})  # net: {made}\n"
            f"  {caps}net.load_state_dict(weights)")  # fmt: skip


def cannot_tell(outcome: Outcome) -> tuple[str, ...]:
    """The limits of a repair, in words."""
    held = len(outcome.images[1].y)
    caps = (
        "Caps stop gradients, by which every search of a scan finds its way; their new scan sees less than the first.",
        "A capped network takes images of one size.",
    )
    return (
        f"Accuracy and success are those of {held} held-out images: about {100 * 0.5 / held**0.5:.1f} % standard error "
        "where they are near one half, less elsewhere.",
        "The pattern is the estimate, not the attacker's. On our networks a repair that undoes the one has left the "
        "other: .25 of its success after unlearning mask RED-A's (results/repair.json).",
        "A scan that finds nothing is no proof, neither before a repair nor after it.",
        *(caps if capped(outcome) else ()),
    )


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The repair as plain JSON values."""
    told: dict[str, Any] = {
        "network": outcome.weights.name,
        "images": {"source": outcome.source.name, "repairing": len(outcome.images[0].y),
                   "held_out": len(outcome.images[1].y)},
        "healed": outcome.healed,
        "accuracy": list(outcome.accuracies),
        "estimates": [
            {"method": method, "target": target, "success": list(rates)}
            for (method, target), rates in outcome.successes.items()
        ],
        "first_scan": outcome.first and scan_json.as_json(outcome.first, __version__),
        "repair": None,
    }  # fmt: skip
    if outcome.done is not None and outcome.second is not None:
        done = outcome.done
        told["repair"] = {
            "method": done.method.name, "settings": repr(done.method), "summary": done.summary,
            "changed": dict(done.changed), "history": [dict(row) for row in done.history],
            "seconds": round(done.seconds, 2), "same_form": not capped(outcome),
        }  # fmt: skip
        told["second_scan"] = scan_json.as_json(outcome.second, __version__)
    return told
