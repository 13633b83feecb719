"""Does a post-training detector keep the contract? Tried on a planted backdoor and its clean twin (floor 4)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from btlib.datasets import to_uint8
from btlib.detection import Detection, settings_of
from btlib.testing.contract import BrokenError, check_refused, check_untouched, fail, failing, state_of, try_all
from btlib.testing.networks import TARGET, hand_set, lit_pixels

CLASSES, SIZE, IMAGES = 10, 12, 20


def check_detector(detector: Callable[..., Detection]) -> None:
    """Try everything that `scan`, `paper` and the lessons expect of a post-training detector.

    It is called about ten times with tiny images (1, 12, 12) of ten classes: of each class one more than its
    setting `per_class` says, else twenty-one. It keeps the contract if

    - its settings are those of its constructor, with a `repr`, equality and copies;
    - it returns a `Detection` with an estimate and a finite size for each class, or for the `targets` that are named;
    - the planted class has the smallest, and the clean twin is less suspicious;
    - the same call gives the same again, and uint8 images the same as floats;
    - network, inputs and random states are left as they were, also where the network fails, and that error comes out;
    - floats in 0…255, labels that do not fit and targets that do not exist are refused.

    Args:
        detector: called with ``(network, images, labels, *, targets=None)``, see `btlib.detection.Detector`.

    Raises:
        ContractError: it does not; one sentence says what.

    Example:
        >>> from btlib.detection import RedU
        >>> check_detector(RedU(per_class=2))
        >>> check_detector(lambda network, images, labels, *, targets=None: "clean")
        Traceback (most recent call last):
        ...
        btlib.testing.errors.ContractError: <lambda>: outcome: expected a detection.Detection, got str; return one
    """
    per_class = settings_of(detector).get("per_class") or IMAGES
    trial = _Trial(detector, *lit_pixels(per_class + 1, num_classes=CLASSES, size=SIZE, noise=4))
    try_all(getattr(detector, "__name__", type(detector).__name__), _CHECKS, trial)


class _Network(nn.Module):
    """`hand_set` behind a layer that minds the mode; counts its calls, and fails at one."""

    def __init__(self, backdoor: float = 10.0, fails_at: int | None = None) -> None:
        super().__init__()
        self.norm, self.net = nn.BatchNorm2d(1, eps=2**-20), hand_set(backdoor, num_classes=CLASSES, size=SIZE)
        self.norm.running_var = torch.tensor([1 - 2**-20])  # with eps exactly 1: images stay as they are
        with torch.no_grad():  # as in trained networks, classes differ
            self.net.head.weight[range(CLASSES), range(CLASSES)] += (7 * torch.arange(CLASSES) % CLASSES) / 20 - 0.2
        self.norm.requires_grad_(False)  # a mixture of frozen and free, and of modes: "all" is wrong in any case
        self.train()
        self.norm.eval()
        self.calls = failing(self, fails_at)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.norm(x))
        return logits


@dataclass(frozen=True, eq=False)
class _Trial:
    """A detector and the images it is tried on."""

    detector: Callable[..., Detection]
    images: Tensor
    labels: Tensor

    def run(self, network: _Network | None = None, when: str = "after the call", **given: Any) -> Detection:
        """Call it, and see what it left behind."""
        network = network or _Network()
        images, labels = given.pop("images", self.images), given.pop("labels", self.labels)
        before, settings = state_of(network, images=images, labels=labels), copy.deepcopy(self.detector)
        try:
            return self.detector(network, images, labels, **given)
        finally:
            check_untouched(before, state_of(network, images=images, labels=labels), when)
            if settings != self.detector:
                fail("settings", "as before the call", repr(self.detector), "keep what was learnt in the Detection")


def _settings(trial: _Trial) -> None:
    detector, settings = trial.detector, settings_of(trial.detector)
    made: Any = type(detector)
    twins = {"a copy": copy.deepcopy(detector), "one made of its settings": made(**settings) if settings else detector}
    for what, twin in twins.items():
        if twin != detector or repr(twin) != repr(detector):
            fail("settings", f"{what} to be equal, with the same repr", repr(twin), "make it a frozen dataclass")


def _outcome(trial: _Trial, targets: Sequence[int] | None = None) -> None:
    found, wanted = trial.run(targets=targets), sorted(targets or range(CLASSES))
    if not isinstance(found, Detection):
        fail("outcome", "a detection.Detection", type(found).__name__, "return one")
    if sorted(found.estimates) != wanted or any(t != e.target for t, e in found.estimates.items()):
        fail("estimates", f"one for each of the classes {wanted}", sorted(found.estimates), "estimate all of them")
    sizes, shown = found.norms[wanted], found.norms.round(3).tolist()
    if found.norms.shape != (CLASSES,) or not (np.isfinite(sizes) & (sizes >= 0)).all():
        fail("norms", f"{len(sizes)} finite sizes by class, none negative", shown, "measure the patterns")
    shapes, shape = {tuple(e.pattern.shape) for e in found.estimates.values()}, (1, SIZE, SIZE)
    if shapes != {shape}:
        fail("estimates", f"patterns of shape {shape}, as the images", shapes, "put the pattern into the trigger")


def _truth(trial: _Trial) -> None:
    planted, clean = trial.run(), trial.run(_Network(0.0))
    if planted.suspect != TARGET:
        fail("suspect", f"class {TARGET}, to which one pixel sends every image", planted.suspect,
             "the smallest pattern is the suspect's: look at the sign")  # fmt: skip
    share, share_clean = (found.norms.min() / np.median(found.norms) for found in (planted, clean))
    if not share < share_clean:
        fail("clean twin", f"a smallest pattern above {share:.3g} of the median, the attacked network's",
             f"{share_clean:.3g}", "look at the network, not at its classes")  # fmt: skip
    try:
        planted.verdict()
    except ValueError as error:
        fail("verdict", "one on ten classes", f"an error ({error})", "give positive sizes and one of the rules")


def _repeats(trial: _Trial) -> None:
    first, again, bytes_ = trial.run().norms, trial.run().norms, trial.run(images=to_uint8(trial.images)).norms
    if not np.array_equal(first, again):
        away = f"a difference of {np.abs(first - again).max():.3g}"
        fail("seed", "the same norms from the same call", away, "seed all draws")
    if not np.allclose(first, bytes_, rtol=1e-5):
        fail("uint8 images", "the same norms as from floats", f"a difference of {np.abs(first - bytes_).max():.3g}",
             "pass images through btlib.datasets.as_float")  # fmt: skip


def _targets(trial: _Trial) -> None:
    _outcome(trial, [7, TARGET, 4, 0])


def _errors(trial: _Trial) -> None:
    counted = _Network()
    trial.run(counted)
    for at in sorted({1, counted.calls[0] // 2 + 1, counted.calls[0]}):
        try:
            trial.run(_Network(fails_at=at), when="after an error inside the network")
        except BrokenError:
            continue
        fail("error inside the network", "it to come out", "an outcome", "don't catch what you can't mend")


def _refusals(trial: _Trial) -> None:
    bad: dict[str, dict[str, Any]] = {
        "images as floats in 0…255": {"images": 255 * trial.images},
        f"labels up to {CLASSES}, of {CLASSES} classes": {"labels": trial.labels + 1},
        "fewer labels than images": {"labels": trial.labels[1:]},
        f"targets [{CLASSES}], of {CLASSES} classes": {"targets": [CLASSES]},
    }
    check_refused(bad, trial.run)


_CHECKS: tuple[Callable[[_Trial], None], ...] = (_settings, _outcome, _truth, _repeats, _targets, _errors, _refusals)
