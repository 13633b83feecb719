"""What post-training detectors share: settings, the door, and the outcome (floor 2)."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from btlib.detection.costs import Passes
from btlib.detection.images import DefenseSet, check_classes, defense_set, undisturbed
from btlib.detection.outcome import Detection, Estimate, Estimates, shared_warnings
from btlib.detection.verdict import Rule
from btlib.memory import enough_memory
from btlib.seeds import check_seed


@dataclass(frozen=True, kw_only=True)
class Detector(ABC):
    """A post-training detector: settings in the constructor, called with a network and clean images.

    One of your own is a frozen dataclass below this one, with further settings as fields and one method, `_estimate`;
    what comes in is checked here, and the network is left as it was found. `btlib.testing.check_detector` tries it.

    Attributes:
        per_class: images drawn of each class; None: all.
        seed: of the draw of images, and of all else that is random.
        progress: show a bar; no part of what detectors are compared by.
        rule: how its verdict decides unless told otherwise, see `Detection.verdict`.
        size_name: what its sizes are, for tables and figures.
        needs_images: whether it can't do without clean images.
        by_pairs: whether it looks at each source and target; beside references it then needs all targets.

    Example:
        >>> from btlib.detection import RedA
        >>> RedA(per_class=4) == RedA(per_class=4, progress=True), sorted(RedA().get_params())
        (True, ['per_class', 'progress', 'search', 'seed'])
    """

    per_class: int | None = None
    seed: int = 0
    progress: bool = field(default=False, repr=False, compare=False)
    rule: ClassVar[Rule] = "calibrated"
    size_name: ClassVar[str] = "size of the pattern"
    needs_images: ClassVar[bool] = True
    by_pairs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))

    @torch.inference_mode(False)  # what is made in inference mode has no gradients
    @enough_memory("a detection")
    def __call__(
        self, network: nn.Module, images: Tensor | None, labels: Tensor | None, *,
        targets: Sequence[int] | None = None, sources: Sequence[int] | None = None,
    ) -> Detection:  # fmt: skip
        """Look for a backdoor.

        Args:
            network: images in [0, 1] → logits (N, K); left as it was found.
            images, labels: clean images, uint8 or float in [0, 1], (N, C, H, W), and their classes (N,).
                None for those that need none.
            targets: putative targets; None: all but the sources that are named. With fewer than three the outcome has
                norms but no statistic.
            sources: classes whose images are to be moved, where they are suspected to be few; None: all.

        Raises:
            TypeError, ValueError: bad images, labels, targets or settings; a class without an image; a network without
                logits, or whose logits do not change with the image.
        """
        began = time.perf_counter()
        data = self._data(network, images, labels)
        named = [] if sources is None else check_classes(sources, data.num_classes, "sources")
        wanted = check_classes(targets, data.num_classes)
        if targets is None:
            wanted = [c for c in wanted if c not in named]
        with undisturbed(network, data.images[:2]):
            found = self._estimate(network, data.of_classes(sources), wanted)
        best = [min((e for e in found if e.target == t), key=lambda e: e.norm) for t in wanted]
        return Detection(
            self.title, Estimates(best), self.rule, time.perf_counter() - began, self._settings(),
            (*shared_warnings(best), *data.warnings, *self._warnings(data)), [e for e in found if e.source is not None],
            size_name=self.size_name,
        )  # fmt: skip

    @property
    def title(self) -> str:
        """Its name in tables and figures."""
        return type(self).__name__

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name: `type(self)(**self.get_params())` is an equal detector; scikit-learn clones so."""
        return {setting.name: getattr(self, setting.name) for setting in fields(self)}

    def _data(self, network: nn.Module, images: Tensor | None, labels: Tensor | None) -> DefenseSet:
        """What comes in, checked."""
        if images is None or labels is None:
            raise TypeError(f"images, labels: expected clean images and their classes, got None; {self.title} needs "
                            "them, MMBD does not")  # fmt: skip
        return defense_set(network, images, labels, self.per_class, self.seed)

    @abstractmethod
    def _estimate(self, network: nn.Module, data: DefenseSet, targets: Sequence[int]) -> list[Estimate]:
        """An estimate for each target, or for each pair of a source and a target; the network is frozen meanwhile."""

    def passes(self, images: int, num_classes: int, targets: int) -> Passes | None:
        """About how many images a call sends through the network, so that its time can be told before; None: unknown.

        Args:
            images: all that are used.
            num_classes: K.
            targets: how many putative targets.
        """
        return None

    def _warnings(self, data: DefenseSet) -> list[str]:
        """What speaks against these settings on these images."""
        return []

    def _settings(self) -> dict[str, Any]:
        """Plain values: a setting that is a dataclass is named by its own fields."""
        told: dict[str, Any] = {}
        for name, value in self.get_params().items():
            told |= asdict(value) if is_dataclass(value) and not isinstance(value, type) else {name: value}
        del told["progress"]
        return told
