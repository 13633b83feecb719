"""A scan's estimates in one sealed file beside its JSON: what `guard` and `repair` go on with."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from btlib import sealed
from btlib.cli.adapting import ForeignError
from btlib.detection import Detection
from btlib.triggers import Trigger

KIND = "estimates"
Patterns = Mapping[str, Mapping[int, Trigger]]  # by method and target class


def beside(json: Path) -> Path:
    """Where the estimates of a scan are kept whose numbers are in this JSON.

    Example:
        >>> beside(Path("net.json")).name
        'net.estimates.safetensors'
    """
    return json.with_suffix(".estimates.safetensors")


def save(json: Path, network: str, detections: Mapping[str, Detection]) -> Path:
    """Write them.

    Args:
        json: the scan's numbers.
        network: SHA-256 of the network's file, so that they are used with no other.
        detections: by method.
    """
    kinds: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for method, detection in detections.items():
        for target, estimate in detection.estimates.items():
            name = f"{method}/{target}"
            kinds[name] = estimate.trigger.kind
            tensors |= {f"{name}/pattern": estimate.pattern, f"{name}/mask": estimate.mask}
    return sealed.write(beside(json), KIND, {"network": network, "kinds": kinds}, tensors)


def read(json: Path, network: str) -> Patterns:
    """The patterns, ready to be embedded.

    Raises:
        ForeignError: no such file, one that was changed, or the estimates of another network.
    """
    path = beside(json)
    try:
        found = sealed.read(path, KIND)
        patterns: dict[str, dict[int, Trigger]] = {}
        for name, kind in found.card["kinds"].items():
            method, _, target = name.rpartition("/")
            pattern, mask = (found.tensors[f"{name}/{part}"] for part in ("pattern", "mask"))
            patterns.setdefault(method, {})[int(target)] = Trigger(kind, pattern, mask, None, f"estimate {target}")
    except (sealed.SealError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise ForeignError(f"SCAN: expected the estimates of {json.name} in {path.name}, got none that can be read "
                           f"({error}); scan again with --json and --save-estimates") from None  # fmt: skip
    if found.card["network"] != network:
        raise ForeignError(f"SCAN: expected a scan of this very network, got estimates of another in {path.name}; "
                           "scan this one")  # fmt: skip
    return patterns
