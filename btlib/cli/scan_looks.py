"""A closer look at a suspect: from which classes does its pattern work, and what do these alone need?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from btlib.cli.scan_images import CleanImages
from btlib.detection import DETECTORS, Detection, configured


@dataclass(frozen=True, eq=False)
class Look:
    """What was found when only the likely sources were moved.

    Attributes:
        target: the suspect.
        sources: the classes that the weights point to; empty where no weights are known.
        by: the method whose weights they are.
        outcome: the smallest patterns that move these sources alone to every other class; None where the sources are
            not few, so that this would show nothing new.
    """

    target: int
    sources: tuple[int, ...]
    by: str
    outcome: Detection | None

    @property
    def agrees(self) -> bool:
        """Whether the suspect is still the class with the smallest pattern."""
        return self.outcome is not None and self.outcome.suspect == self.target

    def sentence(self, names: Mapping[int, str]) -> str:
        """What it means, in words; classes are called as in `names`."""
        if self.outcome is None:
            return (
                f"The pattern for {names[self.target]} works from most classes alike (by {self.by}), so there are no "
                "few sources to look at alone."
            )
        told = " and ".join(names[source] for source in self.sources)
        best, *others = sorted(self.outcome.estimates.values(), key=lambda e: e.norm)
        mine = self.outcome.estimates[self.target]
        after = f"the next smallest is {names[others[0].target]} with {others[0].norm:.3g}"
        before = f"the smallest is {names[best.target]} with {best.norm:.3g}"
        p = f"p {self.outcome.calibrated_p_value:.2g}, but chosen after looking, so it is no level"
        return (
            f"Its likely sources are {told} (by {self.by}). From these alone {names[self.target]} needs a "
            f"{self.outcome.size_name.split(' [')[0]} of {mine.norm:.3g}; "
            + (f"{after} ({p})." if self.agrees else f"{before}: this speaks against the suspicion.")
        )


def look(
    target: int, suspected_by: str, detections: Mapping[str, Detection], network: nn.Module, images: CleanImages,
    settings: Mapping[str, Any],
) -> Look:  # fmt: skip
    """Look closer at one suspect.

    Args:
        target: the suspect.
        suspected_by: the method that points at it, in `detections`.
        detections: what all methods found.
        network: as it was scanned.
        images: clean ones.
        settings: of the searches, such as the seed.
    """
    classes = detections[suspected_by].num_classes
    sources: tuple[int, ...] = ()
    by = ""
    for name in [suspected_by, *detections]:
        found = detections[name]
        told = found.sources if found.suspect == target else found.estimates[target].sources()
        if 0 < len(told) < classes - 1:
            sources, by = told, name
            break
    if not by:  # no method that was run weighs its sources: one class alone takes little time
        by = "mask-red-a"
        weighed = configured(DETECTORS[by], per_class=_most(by, images), **settings)
        sources = weighed(network, images.x, images.y, targets=[target]).estimates[target].sources()
    if len(sources) > (classes - 1) // 2 or classes - len(sources) < 3:
        return Look(target, sources, by, None)
    additive = detections[suspected_by].estimates[target].trigger.kind == "additive"
    name = "red-u" if additive else "neural-cleanse"
    detector: Any = configured(DETECTORS[name], per_class=_most(name, images), **settings)
    return Look(target, sources, by, detector(network, images.x, images.y, sources=sources))


def _most(name: str, images: CleanImages) -> int:
    wanted = getattr(DETECTORS[name], "per_class", None) or images.smallest_class
    return min(int(wanted), images.smallest_class)
