"""What a scan prints: verdict, tables and limits for a terminal."""

import textwrap
from collections.abc import Sequence

from btlib.cli.scan_outcome import UNSURE, Scan

SHOWN = 30  # classes in the printed table; the report has all


def as_text(scan: Scan) -> str:
    """Verdict, tables and limits for a terminal."""
    shape = "×".join(map(str, scan.network.image_shape))
    changes = f" ({scan.images.changes})" if scan.images.changes else ""
    right = f", {100 * scan.accuracy:.1f} % classified as labelled" if len(scan.images.y) else ""
    blocks = [
        f"network: {scan.name}, {scan.network.what}, {scan.network.num_classes} classes, input {shape}\n"
        f"images: {scan.source.name}{changes}{right}",
        textwrap.fill(scan.verdict, 118),
        *(textwrap.fill(said, 118) for said in (scan.washed_sentence, scan.power_sentence) if said),
        method_table(scan),
        class_table(scan),
    ]
    if scan.warnings:
        more = [f"{len(scan.warnings) - 6} more are in the report"] if len(scan.warnings) > 6 else []
        blocks.append(listed("Take care:", [*scan.warnings[:6], *more]))
    blocks.append(listed("What this cannot tell:", scan.cannot_tell))
    return "\n\n".join(blocks)


def listed(title: str, lines: Sequence[str]) -> str:
    """A title and its points, folded at 100 letters."""
    return "\n".join([title, *(textwrap.fill(f"- {line}", 100, subsequent_indent="  ") for line in lines)])


def method_table(scan: Scan) -> str:
    """One line per method; the calibrated p-value decides."""
    lines = [f"{'method':15} {'suspect':>7} {'calibrated p':>12} {'beside washed':>13} {'published p':>12} "
             f"{'anomaly index':>13}  says"]  # fmt: skip
    for judgement in scan.judgements:
        washed = "" if judgement.washed_p is None else f"{judgement.washed_p:.4f}"
        lines.append(
            f"{judgement.method:15} {judgement.suspect:7} {judgement.calibrated_p:12.4f} {washed:>13} "
            f"{judgement.published_p:>12} {judgement.anomaly_index:13.2f}  {judgement.says}"
        )
    level = scan.judgements[0].level
    says = (
        f"A method says backdoor where its calibrated p-value is below {level:.4g}, suspicious below "
        f"{UNSURE * level:.4g}; where there is a washed copy, the one beside that."
    )
    return "\n".join([*lines, textwrap.fill(says, 118)])


def class_table(scan: Scan) -> str:
    """One line per class: size of its smallest pattern and how many images it moves, for each method."""
    lines = [f"{'class':22}" + "".join(f" {name:>18}" for name in scan.detections)]
    lines.append(f"{'':22}" + "".join(f" {'size':>10} {'success':>7}" for _ in scan.detections))
    decisive = {name: scan.decisive(name) for name in scan.detections}
    smallest = {name: detection.suspect for name, detection in decisive.items()}
    best = {name: d.relative_norms / d.relative_norms[d.suspect] for name, d in decisive.items()}
    searched = next(iter(scan.detections.values())).estimates
    shown = sorted(sorted(searched, key=lambda c: min(n[c] for n in best.values()))[:SHOWN])
    for index in shown:
        line = f"{f'{index} {scan.source.classes[index]}'[:22]:22}"
        for name, detection in scan.detections.items():
            estimate = detection.estimates[index]
            mark = "*" if smallest[name] == index else " "
            line += f" {estimate.norm:9.3g}{mark} {estimate.success:7.2f}"
        lines.append(line)
    rest = len(searched) - len(shown)
    what = "; ".join(f"{name}, {detection.size_name}" for name, detection in scan.detections.items())
    beside = (
        " beside the references"
        if scan.references
        else " beside a washed copy, where one decides"
        if scan.washing and scan.washing.beside
        else ""
    )
    legend = f"* smallest of its method{beside}. Size: {what}."
    return "\n".join([*lines, *([f"… {rest} more classes are in the report"] if rest else []), legend])
