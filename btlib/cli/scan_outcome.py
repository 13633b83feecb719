"""What a scan came to: one judgement per method, one for the network, and what it leaves open."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from btlib.cli import scan_levels
from btlib.cli.planting import Power
from btlib.cli.probing import Foreign, Told
from btlib.cli.scan_images import CleanImages, Origin
from btlib.cli.scan_looks import Look
from btlib.cli.washing import Washing
from btlib.detection import Detection
from btlib.files import printable

#: Numbers from results/references.json, which a test holds to it.
WITHOUT_REFERENCES = (
    "Classes are not alike by nature: one whose images differ little from the others' has a small pattern without any "
    "attack. --reference with a clean network of the same task takes that out: of 270 times that a method met an "
    "attacked LeNet-5 it named the target 188 times without a reference and 218 times with one, and of 120 clean ones "
    "it accused 5 and 4 (level 0.05, results/references.json)."
)
WITH_REFERENCES = (
    "Sizes are relative to those of networks that were said to be clean; one that has the same backdoor hides it."
)
UNSURE = 4  # times the level: up to there a p-value is called suspicious
CLEAR = 0.1  # times the level: below that no washed copy is asked
DOUBTFUL = 0.25  # a p-value: above that, and above what is suspicious, none is asked either


@dataclass(frozen=True)
class Judgement:
    """One method's answer.

    Attributes:
        method: its name on the command line.
        suspect: the class with the smallest estimate.
        sources: source classes that its weights point to.
        calibrated_p: decides, compared with `level`.
        published_log10_p: of the p-value as published.
        anomaly_index: of the suspect.
        level: of the whole scan, divided by the number of methods (Bonferroni).
        washed_p: the calibrated p-value beside a washed copy, which then decides; None: not asked for.
    """

    method: str
    suspect: int
    sources: tuple[int, ...]
    calibrated_p: float
    published_log10_p: float
    anomaly_index: float
    level: float
    washed_p: float | None = None

    @property
    def decisive_p(self) -> float:
        """The p-value that decides."""
        return self.calibrated_p if self.washed_p is None else self.washed_p

    @property
    def found(self) -> bool:
        """Whether this method says that there is a backdoor."""
        return self.decisive_p < self.level

    @property
    def doubtful(self) -> bool:
        """Whether a class stands out somewhat, and not so clearly."""
        return not self.clear and self.calibrated_p < max(DOUBTFUL, UNSURE * self.level)

    @property
    def clear(self) -> bool:
        """Whether it finds something so clearly that no washed copy need be asked."""
        return self.calibrated_p < CLEAR * self.level

    @property
    def explained(self) -> bool:
        """Whether it would say so, but a washed copy has the same."""
        return self.calibrated_p < self.level and self.decisive_p >= UNSURE * self.level

    @property
    def unsure(self) -> bool:
        """Whether it points at a class without being sure: up to four times the level, or explained."""
        return self.level <= self.decisive_p < UNSURE * self.level or self.explained

    @property
    def says(self) -> str:
        """Its answer, in a word or two."""
        return "backdoor" if self.found else "suspicious" if self.unsure else "nothing found"

    @property
    def published_p(self) -> str:
        """The published p-value, also where it is too small for a double."""
        power = self.published_log10_p
        return f"{10**power:.2g}" if power > -300 else f"1e{math.floor(power)}"


@dataclass(frozen=True, eq=False)
class Scan:
    """Everything a scan knows.

    Attributes:
        weights: the network's file.
        network: the network itself.
        source: where the images came from.
        images: those that were used.
        accuracy: share of them that is classified as labelled, in [0, 1]; NaN without images.
        detections: by method.
        per_class: images of each class that a method used.
        level: false-alarm level of the whole scan.
        seed: of the draw of images and of the estimates.
        seconds: wall time.
        references: files of the clean networks that sizes are relative to.
        looks: a closer look at each suspect, where no backdoor was found.
        told: how the network was loaded.
        power: whether a backdoor planted in a copy is found; None: not asked for.
        washes: whether what is doubtful is judged beside a washed copy.
        washing: what doubtful methods say beside a washed copy; None: there were none.
    """

    weights: Path
    network: Foreign
    source: Origin
    images: CleanImages
    accuracy: float
    detections: Mapping[str, Detection]
    per_class: Mapping[str, int]
    level: float
    seed: int
    seconds: float = field(default=0.0)
    references: Sequence[Path] = ()
    looks: Sequence[Look] = ()
    told: Told = Told()
    power: Power | None = None
    washes: bool = True
    washing: Washing | None = None

    @property
    def name(self) -> str:
        """The file's, as it can be shown."""
        return printable(self.weights.name)

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """One per method, in their order."""
        return tuple(self._judge(name, detection) for name, detection in self.detections.items())

    def decisive(self, name: str) -> Detection:
        """What a method's suspect is read from: its detection, beside the washed copy unless that explains it."""
        alone, beside = self.detections[name], self.washing and self.washing.beside.get(name)
        unusual = beside and beside.calibrated_p_value < UNSURE * self.level / len(self.detections)
        return beside if beside and unusual else alone

    def _judge(self, name: str, detection: Detection) -> Judgement:
        beside, decisive = self.washing and self.washing.beside.get(name), self.decisive(name)
        return Judgement(
            name, decisive.suspect, decisive.sources, detection.calibrated_p_value,
            detection.log_p_value / math.log(10), float(detection.anomaly_index[decisive.suspect]),
            self.level / len(self.detections), beside.calibrated_p_value if beside else None,
        )  # fmt: skip

    @property
    def targets(self) -> tuple[int, ...]:
        """Target classes of the backdoors found, without repetition; empty when none was."""
        return tuple(sorted({judgement.suspect for judgement in self.judgements if judgement.found}))

    @property
    def suspects(self) -> dict[int, str]:
        """Where no backdoor was found: classes that a method points at without being sure, and the surest one."""
        unsure = sorted((each for each in self.judgements if each.unsure), key=lambda each: -each.decisive_p)
        return {} if self.targets else {each.suspect: each.method for each in unsure}

    @property
    def kind(self) -> str:
        """One of "found", "suspicious" and "nothing found"."""
        return "found" if self.targets else "suspicious" if self.suspects else "nothing found"

    def class_name(self, index: int) -> str:
        """Number and name of a class, as in "class 9 (Ankle boot)"."""
        name = self.source.classes[index]
        return f"class {index}" if name == str(index) else f"class {index} ({name})"

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.suspects:
            said = " and ".join(f"{self.class_name(c)} (by {method})" for c, method in self.suspects.items())
            by_nature = all(each.explained for each in self.judgements if each.unsure)
            but = (
                "though no smaller than in a washed copy" if by_nature
                else f"though not small enough for level {self.level:g}"
            )  # fmt: skip
            return f"Suspicious, not sure: a pattern that leads to {said} is small, {but}. {self._looked()}".strip()
        if not self.targets:
            return f"No backdoor found at level {self.level:g}."
        said = " and ".join(self.class_name(target) for target in self.targets)
        methods = [judgement.method for judgement in self.judgements if judgement.found]
        return f"Backdoor found: images can be sent to {said} (by {', '.join(methods)})."

    @property
    def power_sentence(self) -> str:
        """What a backdoor planted in a copy showed; empty where that was not asked for."""
        return "" if self.power is None else self.power.sentence(self._class_names)

    @property
    def washed_sentence(self) -> str:
        """What a washed copy showed; empty where none was asked."""
        if self.washing is None:
            return ""
        said = {}
        for each in self.judgements:
            if each.washed_p is not None:
                suspect, alone = self.washing.beside[each.method].suspect, self.detections[each.method].suspect
                other = "" if alone == suspect else f" for {self.class_name(alone)}"
                said[each.method] = (f"says p {each.washed_p:.2g} for {self.class_name(suspect)} (alone "
                                     f"{each.calibrated_p:.2g}{other}: {self._means(each)})")  # fmt: skip
        return self.washing.sentence(said)

    @staticmethod
    def _means(judged: Judgement) -> str:
        if judged.found:
            return "the class needs less than its like in the copy"
        if judged.washed_p is not None and judged.washed_p >= UNSURE * judged.level:
            return "as small in the copy, by nature or since a backdoor outlives the washing"
        return "still unusual, not sure"

    def _looked(self) -> str:
        return " ".join(each.sentence(self._class_names) for each in self.looks)

    @property
    def _class_names(self) -> dict[int, str]:
        return {index: self.class_name(index) for index in range(self.network.num_classes)}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes this outcome less to be trusted."""
        said = [] if not self.accuracy < 0.5 else [
            f"only {100 * self.accuracy:.0f} % of the images are classified as labelled: are they images of the kind "
            "that it was trained on, and is anything done to their pixels (--mean, --std, --scale)?"
        ]  # fmt: skip
        said += self.network.notes
        for name, detection in self.detections.items():
            said += [f"{name}: {warning}" for warning in detection.warnings]
        return tuple(said)

    def _measured_level(self) -> tuple[str, ...]:
        """What clean networks of this kind came to, where a scan like this one was measured."""
        scanned = (tuple(self.detections), self.level, self.network.num_classes)
        measured = (scan_levels.METHODS, scan_levels.LEVEL, scan_levels.CLASSES)
        failed = self.washing is not None and self.washing.copy is None
        how = "beside a clean one" if self.references else "by default" if self.washes and not failed else "alone"
        said = scan_levels.sentence(self.network.module, how) if scanned == measured else ""
        return (said,) if said else ()

    @property
    def cannot_tell(self) -> tuple[str, ...]:
        """The limits of this scan, in words."""
        per_class = ", ".join(f"{name} {count}" for name, count in self.per_class.items())
        methods = len(self.detections)
        suspected = (UNSURE + self.washes) * self.level  # what a washed copy explains comes on top
        share = f", divided among {methods} methods (Bonferroni)" if methods > 1 else ""
        pairs = (
            "red-p's level holds for pairs that are independent, and a network's are not: of 20 clean LeNet-5 it "
            "flagged 7 at level 0.05 (results/detection-verdicts.json).",
        )
        images = (f"It rests on few clean images (per class: {per_class}), taken for clean and rightly labelled.",
                  "Without clean images it is not known whether this network does its task at all.")  # fmt: skip
        return (
            "No backdoor found is no proof of absence: it says that no class has an unusually small pattern.",
            "Triggers that differ from image to image or are drawn by a generator (warps, styles), and attacks trained "
            "against inversion as in the stealthy paper, are built to escape what was run here.",
            "A backdoor for one or two classes escapes neural-cleanse and red-a; red-a-focused and red-p can see it, "
            "unless images of other classes were poisoned against it (covers): then mask-red-p (patches) and red-p "
            "(faint patterns) can, with --reference.",
            "All-to-all attacks, several targets at once and patterns that cover much of the image leave no single "
            "class that stands out.",
            f"With fewer than about 7 classes an outlier test has little to compare with; here there are "
            f"{self.network.num_classes}.",
            images[math.isnan(self.accuracy)],
            f"About {100 * self.level:g} % of clean networks are flagged: the level is {self.level:g}{share}, if sizes "
            f"of clean networks follow a Gamma distribution; up to {100 * min(1, suspected):g} % are at least "
            "suspicious.",
            *self._measured_level(),
            WITH_REFERENCES if self.references else WITHOUT_REFERENCES,
            "An estimated pattern is the smallest that works, not the attacker's: place and shape often differ.",
            *(pairs if "red-p" in self.detections and not self.references else ()),
        )
