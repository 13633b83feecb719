"""What was measured of clean networks that are not btlib's: how many a scan accused, by what they are made of."""

from torch import nn

LEVEL, METHODS, CLASSES = 0.05, ("neural-cleanse", "red-a"), 10  # what was measured
#: By kind and by what was judged: looks, and how many accused the network. From results/level.json, which a test holds
#: to it.
ACCUSED: dict[str, dict[str, tuple[int, int]]] = {
    "convolutions": {"by default": (11, 0), "alone": (11, 1), "beside a clean one": (30, 0)},
    "convolutions and batch normalisation": {"by default": (22, 1), "alone": (22, 5), "beside a clean one": (60, 6)},
    "layer normalisation": {"by default": (11, 0), "alone": (11, 0), "beside a clean one": (30, 2)},
}


def made_of(network: nn.Module) -> str | None:
    """The kind of network that is nearest; None: none of those that were measured.

    Example:
        >>> made_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
        'convolutions and batch normalisation'
    """
    has = {kind: any(isinstance(part, kind) for part in network.modules())
           for kind in (nn.LayerNorm, nn.BatchNorm2d, nn.Conv2d)}  # fmt: skip
    if has[nn.LayerNorm]:
        return "layer normalisation"
    if has[nn.BatchNorm2d]:
        return "convolutions and batch normalisation"
    return "convolutions" if has[nn.Conv2d] else None


def sentence(network: nn.Module, how: str) -> str:
    """How often clean networks of this kind were accused; empty where none were measured.

    Args:
        network: that is scanned.
        how: it is judged: "by default" (beside a washed copy where that is doubtful), "alone", "beside a clean one".
    """
    kind = made_of(network)
    if kind is None:
        return ""
    looks, accused = ACCUSED[kind][how]
    what = "looks at clean networks" if how == "beside a clean one" else "clean networks"
    beside = {
        "by default": "",
        "alone": " without a washed copy",
        "beside a clean one": " beside one clean network each",
    }
    return (
        f"Measured with these methods at this level: of {looks} {what} of {kind}, of ten classes and not btlib's, "
        f"{accused} were accused{beside[how]} (results/level.json)."
    )
