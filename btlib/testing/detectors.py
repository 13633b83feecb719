"""Does a post-training detector keep the contract? Tried on a planted backdoor and its clean twin (floor 4)."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from btlib.datasets import to_uint8
from btlib.detection import Detection, settings_of
from btlib.testing.contract import check_untouched, fail, state_of
from btlib.testing.errors import ContractError
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
        detector: called with (network, images, labels, *, targets=None), see `btlib.detection.Detector`.

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
    name = getattr(detector, "__name__", type(detector).__name__)
    try:
        _check_settings(detector)
        per_class = settings_of(detector).get("per_class") or IMAGES
        trial = _Trial(detector, *lit_pixels(per_class + 1, num_classes=CLASSES, size=SIZE, noise=4))
        _check_outcome(trial.run(), range(CLASSES))
        for check in (_check_truth, _check_repeats, _check_targets, _check_errors, _check_refusals):
            check(trial)
    except ContractError as error:
        raise ContractError(f"{name}: {error}") from None


class _BrokenError(RuntimeError):
    """Raised by a network on purpose."""


class _Network(nn.Module):
    """`hand_set` behind a layer that minds the mode; counts calls, those of copies too, and fails at one."""

    def __init__(self, backdoor: float, fails_at: int | None) -> None:
        super().__init__()
        self.norm, self.net = nn.BatchNorm2d(1, eps=0.0), hand_set(backdoor, num_classes=CLASSES, size=SIZE)
        with torch.no_grad():  # as in trained networks, classes differ
            self.net.head.weight[range(CLASSES), range(CLASSES)] += (7 * torch.arange(CLASSES) % CLASSES) / 20 - 0.2
        self.norm.requires_grad_(False)  # a mixture of frozen and free, and of modes: "all" is wrong in any case
        self.train()
        self.norm.eval()
        self.fails_at, self.calls = fails_at, [0]
        self.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls[0] += 1
        if self.calls[0] == self.fails_at:
            raise _BrokenError

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.norm(x))
        return logits


@dataclass(frozen=True, eq=False)
class _Trial:
    """A detector and the images it is tried on."""

    detector: Callable[..., Detection]
    images: Tensor
    labels: Tensor

    def run(
        self, backdoor: float = 10.0, network: _Network | None = None, when: str = "after the call", **given: Any
    ) -> Detection:
        """Call it, and see what it left behind."""
        network = network or _Network(backdoor, None)
        images, labels = given.pop("images", self.images), given.pop("labels", self.labels)
        before, settings = state_of(network, images=images, labels=labels), copy.deepcopy(self.detector)
        try:
            return self.detector(network, images, labels, **given)
        finally:
            check_untouched(before, state_of(network, images=images, labels=labels), when)
            if settings != self.detector:
                fail("settings", "as before the call", repr(self.detector), "keep what was learnt in the Detection")


def _check_settings(detector: Callable[..., Detection]) -> None:
    settings = settings_of(detector)
    made: Any = type(detector)
    twins = {"a copy": copy.deepcopy(detector), "one made of its settings": made(**settings) if settings else detector}
    for what, twin in twins.items():
        if twin != detector or repr(twin) != repr(detector):
            fail("settings", f"{what} to be equal, with the same repr", repr(twin), "make it a frozen dataclass")


def _check_outcome(found: Detection, targets: range | list[int]) -> None:
    if not isinstance(found, Detection):
        fail("outcome", "a detection.Detection", type(found).__name__, "return one")
    if sorted(found.estimates) != sorted(targets) or any(t != e.target for t, e in found.estimates.items()):
        fail(
            "estimates",
            f"one for each of the classes {sorted(targets)}",
            sorted(found.estimates),
            "estimate all of them",
        )
    sizes = found.norms[sorted(targets)]
    if found.norms.shape != (CLASSES,) or not (np.isfinite(sizes) & (sizes >= 0)).all():
        fail(
            "norms",
            f"{len(sizes)} finite sizes by class, none negative",
            found.norms.round(3).tolist(),
            "measure the patterns",
        )
    shapes = {tuple(e.pattern.shape) for e in found.estimates.values()}
    if shapes != {(1, SIZE, SIZE)}:
        fail(
            "estimates",
            f"patterns of shape (1, {SIZE}, {SIZE}), as the images",
            shapes,
            "put the pattern into the trigger",
        )


def _check_truth(trial: _Trial) -> None:
    planted, clean = trial.run(), trial.run(0.0)
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


def _check_repeats(trial: _Trial) -> None:
    first, again, bytes_ = trial.run().norms, trial.run().norms, trial.run(images=to_uint8(trial.images)).norms
    if not np.array_equal(first, again):
        fail(
            "seed",
            "the same norms from the same call",
            f"a difference of {np.abs(first - again).max():.3g}",
            "seed all draws",
        )
    if not np.allclose(first, bytes_, rtol=1e-5):
        fail("uint8 images", "the same norms as from floats", f"a difference of {np.abs(first - bytes_).max():.3g}",
             "pass images through btlib.datasets.as_float")  # fmt: skip


def _check_targets(trial: _Trial) -> None:
    targets = [7, TARGET, 4, 0]
    _check_outcome(trial.run(targets=targets), targets)


def _check_errors(trial: _Trial) -> None:
    counted = _Network(10.0, None)
    trial.run(network=counted)
    for at in sorted({1, counted.calls[0] // 2 + 1, counted.calls[0]}):
        try:
            trial.run(network=_Network(10.0, at), when="after an error inside the network")
        except _BrokenError:
            continue
        fail("error inside the network", "it to come out", "an outcome", "don't catch what you can't mend")


def _check_refusals(trial: _Trial) -> None:
    bad: dict[str, dict[str, Any]] = {
        "images as floats in 0…255": {"images": 255 * trial.images},
        f"labels up to {CLASSES}, of {CLASSES} classes": {"labels": trial.labels + 1},
        "fewer labels than images": {"labels": trial.labels[1:]},
        f"targets [{CLASSES}], of {CLASSES} classes": {"targets": [CLASSES]},
    }
    for what, given in bad.items():
        came = "an outcome"
        try:
            trial.run(**given)
        except (ValueError, TypeError):
            continue
        except ContractError:
            raise
        except Exception as error:
            came = type(error).__name__
        fail(what, "a ValueError or TypeError", came, "check what comes in, as btlib.detection.images.defense_set does")
