"""The report of a scan: one HTML page with its pictures inside, which fetches nothing."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from btlib import __version__, metrics, plots
from btlib.cli.pages import render
from btlib.cli.scan_outcome import Judgement, Scan
from btlib.datasets import to_float
from btlib.detection import Detection, Estimate

MOST = 40  # classes in a picture
GREY = 127 / 255


@dataclass(frozen=True)
class Picture:
    """A PNG with its description.

    Attributes:
        data: base64.
        alt: what is seen, in words.
        caption: what it means.
    """

    data: str
    alt: str
    caption: str


def page(scan: Scan) -> str:
    """The report, in HTML."""
    parts = [(judgement, scan.decisive(judgement.method), pictures(scan, judgement)) for judgement in scan.judgements]
    shape = "×".join(map(str, scan.network.image_shape))
    return render("scan/report.html.j2", scan=scan, parts=parts, shape=shape, version=__version__)


def pictures(scan: Scan, judgement: Judgement) -> list[Picture]:
    """Sizes per class, patterns, masks where there are any, and the suspect's pattern on images."""
    detection = scan.decisive(judgement.method)
    order = sorted(detection.estimates, key=lambda c: detection.relative_norms[c])
    shown = sorted(order[:MOST])
    some = "" if len(shown) == len(order) else f" Only the {MOST} classes with the smallest patterns are shown."
    made = [_sizes(scan, judgement, detection, shown, some), _patterns(scan, judgement, detection, shown, some)]
    if _whole(detection):
        return made
    if not _additive(detection):
        made.append(_masks(scan, judgement, detection, shown, some))
    return [*made, _on_images(scan, judgement, detection.estimates[judgement.suspect])]


def _additive(detection: Detection) -> bool:
    return detection.estimates[detection.suspect].trigger.kind == "additive"


def _whole(detection: Detection) -> bool:
    """Whether patterns are images of their own, which leave nothing of what is below."""
    return not _additive(detection) and bool((detection.estimates[detection.suspect].mask == 1).all())


def _picture(png: bytes, alt: str, caption: str) -> Picture:
    return Picture(base64.b64encode(png).decode(), alt, caption)


def _sizes(scan: Scan, judgement: Judgement, detection: Detection, shown: Sequence[int], some: str) -> Picture:
    what = detection.size_name
    names = [_short(scan, c) for c in shown]
    figure, axes = plt.subplots(figsize=(max(6.5, 0.3 * len(shown)), 3.2), layout="constrained")
    sizes = [detection.relative_norms[c] for c in shown]
    if detection.references is not None:
        what += " / references" if scan.references else " / the same in a washed copy"
    plots.class_bars(sizes, names, ylabel=what, highlight=[shown.index(judgement.suspect)], highlight_label="smallest",
                     ax=axes)  # fmt: skip
    axes.set_ylim(0, 1.25 * max(sizes))  # room for the legend
    smallest, *others = sorted(detection.relative_norms[list(detection.estimates)])
    alt = (
        f"Bars of the {what} per class by {judgement.method}: {scan.class_name(judgement.suspect)} has the smallest, "
        f"{smallest:.3g}; the others lie between {others[0]:.3g} and {others[-1]:.3g}."
    )
    caption = (
        f"How large the smallest pattern is that sends images to each class. A backdoor's target stands out.{some}"
    )
    return _picture(plots.png(figure), alt, caption)


def _patterns(scan: Scan, judgement: Judgement, detection: Detection, shown: Sequence[int], some: str) -> Picture:
    estimates = [detection.estimates[c] for c in shown]
    drawn = torch.stack([_visible(estimate) for estimate in estimates])
    figure = plots.image_grid(drawn, _titles(scan, estimates), columns=5 if len(shown) <= 10 else 8)
    grey = (
        "each magnified to half of the scale and laid on grey"
        if _additive(detection)
        else "each an image of its own"
        if _whole(detection)
        else "seen through its mask, on grey"
    )
    alt = (f"The patterns estimated by {judgement.method} for {len(shown)} classes, {grey}. The smallest is that of "
           f"{scan.class_name(judgement.suspect)}, {_where(detection.estimates[judgement.suspect])}.")  # fmt: skip
    return _picture(plots.png(figure), alt, f"Estimated patterns, {grey}; under each name its size.{some}")


def _masks(scan: Scan, judgement: Judgement, detection: Detection, shown: Sequence[int], some: str) -> Picture:
    estimates = [detection.estimates[c] for c in shown]
    figure = plots.image_grid(
        torch.stack([e.mask for e in estimates]).clamp(0, 1),
        _titles(scan, estimates),
        columns=5 if len(shown) <= 10 else 8,
    )
    alt = (f"The masks estimated by {judgement.method} for {len(shown)} classes: white where the pattern covers the "
           f"image, black where the image stays. That of {scan.class_name(judgement.suspect)} is the smallest, "
           f"{_where(detection.estimates[judgement.suspect])}.")  # fmt: skip
    return _picture(plots.png(figure), alt, f"Estimated masks: white covers the image, black leaves it as it is.{some}")


def _on_images(scan: Scan, judgement: Judgement, estimate: Estimate) -> Picture:
    """Up to five images of other classes, and the same with the suspect's pattern."""
    others = [
        int((scan.images.y == c).nonzero()[0]) for c in range(scan.network.num_classes) if c != judgement.suspect
    ][:5]
    clean = to_float(scan.images.x[others])
    both = torch.cat([clean, estimate.trigger(clean)])
    called = metrics.predict(scan.network.module, both).argmax(1).tolist()
    figure = plots.image_grid(both, [_short(scan, c) for c in called], columns=len(others))
    moved = sum(c == judgement.suspect for c in called[len(others) :])
    alt = (f"Above {len(others)} clean images, below the same with the pattern that {judgement.method} estimated for "
           f"{scan.class_name(judgement.suspect)}; {moved} of them are then classified as that class.")  # fmt: skip
    return _picture(plots.png(figure), alt, "Above clean images, below the same with the suspect's pattern; the names "
                    "are what the network calls them.")  # fmt: skip


def _visible(estimate: Estimate) -> Tensor:
    """The pattern as an image; a perturbation is magnified, it would be too faint."""
    if estimate.trigger.kind != "additive":
        return estimate.trigger.offset_display().clamp(0, 1)
    return (GREY + 0.5 * estimate.pattern / estimate.pattern.abs().max().clamp_min(1e-9)).clamp(0, 1)


def _titles(scan: Scan, estimates: Sequence[Estimate]) -> list[str]:
    return [f"{_short(scan, e.target)}\n{e.norm:.3g}" for e in estimates]


def _short(scan: Scan, index: int) -> str:
    name = scan.source.classes[index]
    short = str(index) if name == str(index) else f"{index} {name[:14]}"
    return short.replace("$", r"\$")  # else matplotlib takes what is between two of them for a formula


def _where(estimate: Estimate) -> str:
    """Where a pattern's weight lies, for those who can't see it."""
    weight = (estimate.pattern.abs() if estimate.trigger.kind == "additive" else estimate.mask).sum(0)
    height, width = weight.shape
    row, column = divmod(int(weight.argmax()), width)
    down = ("top", "middle", "bottom")[3 * row // height]
    right = ("left", "centre", "right")[3 * column // width]
    return f"strongest in row {row}, column {column} ({down} {right})"
