"""The capstone as an examination: cases without their answers, a key that stays with the instructor, sealed reports.

The seed of a case is drawn from the system's random numbers and kept nowhere. What a student gets holds the networks
and a defender's images, nothing else; the truth and the images to mark by are in the key.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from btlib import datasets, inflight, networks, sealed
from btlib.exercises import mystery
from btlib.exercises.marks import Mark, Report, Truth, mark
from btlib.exercises.mystery import Mystery, Vendor
from btlib.exercises.mystery_attacks import ATTACKS
from btlib.inflight import InFlightDetector
from btlib.profiles import Profile
from btlib.triggers import AnyTrigger, Trigger, WarpTrigger

_CASE, _KEY, _REPORTS = "capstone case", "capstone key", "capstone reports"


def make_case(
    profile: Profile, case: str | Path, key: str | Path, *, vendor: Vendor = mystery.trained,
    attacks: Sequence[str] = ATTACKS, covers: int = 0, progress: bool = False,
) -> None:  # fmt: skip
    """Draw a case that nobody knows, and write what the student gets and what stays with you.

    Args:
        profile: as in `mystery.make`.
        case: the student's file.
        key: the instructor's file.
        vendor, attacks, covers: as in `mystery.make`.
        progress: show a bar.

    Raises:
        ValueError: as in `mystery.make`.
    """
    seed = secrets.randbits(48)
    drawn = mystery.make(profile, seed, vendor=vendor, attacks=attacks, covers=covers, progress=progress)
    tensors = {"x": drawn.x, "y": drawn.y}
    for name, net in drawn.networks.items():
        tensors |= {f"{name}.{part}": tensor.clone() for part, tensor in net.state_dict().items()}
    number = secrets.token_hex(8)
    card = {"number": number, "network": profile.network, "classes": list(drawn.classes), "names": list(drawn.networks)}
    x, y = drawn.unseen()
    truths = drawn.open_the_envelope()
    told = {name: {**_said(one), "trigger": _form(one.trigger)} for name, one in truths.items()}
    patterns = {
        f"{name}.{part}": tensor for name, one in truths.items() for part, tensor in _parts(one.trigger).items()
    }
    sealed.write(key, _KEY, {"number": number, "truths": told}, {"x": x, "y": y, **patterns})
    sealed.write(case, _CASE, card, tensors)


def open_case(case: str | Path) -> Mystery:
    """What `make_case` wrote for a student: a `Mystery` without an envelope.

    Raises:
        sealed.SealError: another file, or one that was changed.
    """
    found = sealed.read(case, _CASE)
    x, classes = found.tensors["x"], tuple(found.card["classes"])
    shape: Any = tuple(x.shape[1:])
    nets = {}
    for name in found.card["names"]:
        net = networks.build(found.card["network"], image_shape=shape, num_classes=len(classes), seed=0)
        net.load_state_dict(sealed.part(found.tensors, f"{name}."))
        nets[name] = net.eval()
    return Mystery(nets, x, found.tensors["y"], classes, number=found.card["number"])


def hand_in(path: str | Path, case: Mystery, reports: Mapping[str, Report]) -> Path:
    """Write a student's reports: verdicts, patterns, and the kind and settings of each guard.

    Args:
        path: the file, named after the student.
        case: what `open_case` gave.
        reports: name → `Report`, one for each network.

    Raises:
        ValueError: a network without a report, or a guard of a kind that is not in `inflight.DETECTORS`.
    """
    case.check_reports(reports)
    said: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for name, report in reports.items():
        guard = None if report.guard is None else {"kind": _kind(report.guard), "settings": report.guard.get_params()}
        said[name] = {**_said(report), "trigger": _form(report.pattern), "guard": guard}
        tensors |= {f"{name}.{part}": tensor for part, tensor in _parts(report.pattern).items()}
    return sealed.write(path, _REPORTS, {"number": case.number, "reports": said}, tensors)


def mark_reports(reports: str | Path, case: str | Path, key: str | Path) -> list[Mark]:
    """The marks of one student. Guards are fitted again, to the case's images with the pattern that was handed in.

    Raises:
        sealed.SealError: one of the files is another kind, or was changed.
        ValueError: they do not belong together.
    """
    given, truth, opened = sealed.read(reports, _REPORTS), sealed.read(key, _KEY), open_case(case)
    if not given.card["number"] == truth.card["number"] == opened.number:
        raise ValueError(f"reports: expected those of case {opened.number}, got {given.card['number']}; "
                         "name the case and the key that the student had")  # fmt: skip
    marks = []
    for name, net in opened.networks.items():
        said, true = given.card["reports"][name], truth.card["truths"][name]
        pattern = _trigger(said["trigger"], sealed.part(given.tensors, f"{name}."))
        guard = _fitted(said["guard"], net, opened, said["target"], pattern)
        report = Report(bool(said["attacked"]), said["target"], tuple(said["sources"]), pattern, guard)
        trigger = _trigger(true["trigger"], sealed.part(truth.tensors, f"{name}."))
        real = Truth(true["attacked"], true["target"], tuple(true["sources"]), trigger)
        marks += mark(name, net, report, real, truth.tensors["x"], truth.tensors["y"])
    return marks


def number_of(path: str | Path) -> str:
    """The number of the case that a case, a key or reports belong to."""
    return str(sealed.read_card(path, _CASE, _KEY, _REPORTS).card["number"])


# ---------------------------------------------------------------------------------------- as plain values


def _said(one: Report | Truth) -> dict[str, Any]:
    return {"attacked": bool(one.attacked), "target": None if one.target is None else int(one.target),
            "sources": [int(c) for c in one.sources]}  # fmt: skip


def _form(trigger: AnyTrigger | None) -> dict[str, Any] | None:
    if isinstance(trigger, WarpTrigger):
        return {"kind": "warp", "channels": trigger.channels, "noise": trigger.noise, "bits": trigger.bits,
                "name": trigger.name}  # fmt: skip
    return None if trigger is None else {"kind": trigger.kind, "bits": trigger.bits, "name": trigger.name}


def _parts(trigger: AnyTrigger | None) -> dict[str, Tensor]:
    if isinstance(trigger, WarpTrigger):
        return {"field": trigger.field.clone()}
    return {} if trigger is None else {"pattern": trigger.pattern.clone(), "mask": trigger.mask.clone()}


def _trigger(form: dict[str, Any] | None, tensors: Mapping[str, Tensor]) -> AnyTrigger | None:
    if form is None:
        return None
    if form["kind"] == "warp":
        return WarpTrigger(tensors["field"], **{key: value for key, value in form.items() if key != "kind"})
    return Trigger(pattern=tensors["pattern"], mask=tensors["mask"], **form)


def _kind(guard: InFlightDetector) -> str:
    for name, kind in inflight.DETECTORS.items():
        if type(guard) is kind:
            return name
    known = ", ".join(inflight.DETECTORS)
    raise ValueError(f"guard: expected one of {known}, got a {type(guard).__name__}; hand in one of those, or None")


def _fitted(
    form: dict[str, Any] | None, net: networks.Network, case: Mystery, target: int | None, pattern: AnyTrigger | None
) -> InFlightDetector | None:
    if form is None or target is None or form["kind"] not in inflight.DETECTORS:
        return None
    try:
        guard = inflight.DETECTORS[form["kind"]](**form["settings"])
        return guard.fit(net, datasets.as_float(case.x), case.y, target=target, trigger=pattern)
    except (TypeError, ValueError):  # settings that don't work: no guard
        return None
