"""What every in-flight detector keeps: `check_in_flight_detector` tries it on a network with a known backdoor."""

import copy
import random
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import nn

from btlib.datasets import to_float, to_uint8
from btlib.testing.contract import check_refused, check_untouched, demand, failing, state_of, try_all
from btlib.testing.networks import TARGET, attacked, lit_pixels
from btlib.triggers import single_pixel


def check_in_flight_detector(detector: Any) -> None:
    """Try a detector on a network with a backdoor that was set by hand; silence means that it keeps the contract.

    Settings that `repr`, `==` and scikit-learn's `clone` read; `fit` that returns the detector, forgets the fit before
    and leaves nothing when it fails; `inspect` that changes nothing, flags triggers and lets clean images pass; a
    network, inputs and random states that are left as found; uint8 and float alike, and bad input refused.

    Args:
        detector: unfitted, with settings for 40 images of each of three classes; a subclass of
            `btlib.inflight.InFlightDetector`, or whatever has its methods.

    Raises:
        ContractError: it breaks the contract, in one sentence.

    Example:
        >>> from btlib import inflight
        >>> check_in_flight_detector(inflight.B3DDetector(fpr=0.1))
    """
    try_all(type(detector).__name__, _CHECKS, _Trial(detector))


class _Trial:
    """The detector and what it is tried on."""

    def __init__(self, detector: Any) -> None:
        self.detector, self.trigger = detector, single_pixel((1, 8, 8))
        self.images, self.labels = lit_pixels(40, noise=4)
        self.others, self.other_labels = lit_pixels(40, noise=4, seed=1)  # unseen
        self.clean = self.others[self.other_labels == TARGET]
        self.stamped = self.trigger(self.others[self.other_labels != TARGET])  # the network takes each for the target

    def fresh(self) -> Any:
        from sklearn.base import clone

        return clone(self.detector)

    def fit(self, detector: Any = None, network: nn.Module | None = None, **changed: Any) -> Any:
        """A fresh detector, or the given one, fitted."""
        told = {"images": self.images, "labels": self.labels, "target": TARGET, "trigger": self.trigger} | changed
        images, labels = told.pop("images"), told.pop("labels")
        return (detector or self.fresh()).fit(network or attacked(), images, labels, **told)

    def unfitted(self, detector: Any, when: str) -> None:
        from sklearn.exceptions import NotFittedError

        for method in ("inspect", "scores"):
            try:
                getattr(detector, method)(self.clean)
            except NotFittedError as error:
                named = type(detector).__name__ in str(error)
                demand(named, f"{method} {when} raises a NotFittedError that does not name the class")
            except Exception as error:
                demand(False, f"{method} {when} raises {type(error).__name__} ({error}), not NotFittedError")
            else:
                demand(False, f"{method} answers {when}; raise NotFittedError")


def _settings(trial: _Trial) -> None:
    mine = trial.detector
    for method in ("fit", "inspect", "scores", "get_params"):
        demand(callable(getattr(mine, method, None)), f"it has no method {method}")
    demand(isinstance(getattr(mine, "infers_source", None), bool), "infers_source is neither True nor False")
    names, given = set(signature(type(mine)).parameters), set(mine.get_params())
    demand(given == names, f"get_params names {sorted(given)}, the constructor {sorted(names)}")
    try:
        twin = trial.fresh()
    except (TypeError, RuntimeError) as error:
        demand(False, f"scikit-learn's clone fails: {error}")
    shown = all(name in repr(mine) for name in names) and " at 0x" not in repr(mine)
    demand(shown, f"its repr does not show its settings, got {mine!r}")
    equal = mine == twin and mine == copy.deepcopy(mine) and mine != object()
    demand(equal, "== does not compare settings: a clone or a copy differs, or anything is equal")


def _before_fit(trial: _Trial) -> None:
    trial.unfitted(trial.fresh(), "before fit")


def _report(trial: _Trial) -> None:
    detector, images = trial.fresh(), torch.cat([trial.others, trial.stamped])
    demand(trial.fit(detector) is detector, "fit does not return the detector itself")
    report = detector.inspect(images)
    wanted = {"is_trigger": torch.bool, "source": torch.int64, "predicted": torch.int64, "scores": torch.float32}
    for name, dtype in wanted.items():
        got, form = getattr(report, name), (len(images),)
        words = f"expected {dtype} {form}, got {got.dtype} {tuple(got.shape)}"
        demand(got.shape == form and got.dtype == dtype, f"report.{name}: {words}")
    says = attacked()(images).argmax(1)
    demand(torch.equal(report.predicted, says), "report.predicted is not what the network says")
    demand(report.target == TARGET, f"report.target: expected {TARGET}, got {report.target}")
    flagged, source, target = report.is_trigger, report.source, says == TARGET
    demand(not bool((flagged & ~target).any()), "it flags images that are not predicted as the target")
    silent = bool((report.scores[~target] == -torch.inf).all())
    demand(silent, "report.scores of images that are not predicted as the target are not -inf")
    above = target & (report.scores > report.threshold)
    demand(torch.equal(flagged, above), "report.is_trigger is not what its scores and threshold say")
    same = torch.equal(source[~flagged], says[~flagged])
    demand(same, "report.source of images that are not flagged is not their prediction")
    others = {0, 1, 2} - {TARGET} if detector.infers_source else {-1}
    known = set(source[flagged].tolist()) <= others
    demand(known, "report.source of flagged images is no other class, or not -1 where none is inferred")


def _finds(trial: _Trial) -> None:
    detector = trial.fit()
    clean, stamped = detector.scores(trial.clean), detector.scores(trial.stamped)
    demand(bool(clean.isfinite().all() and stamped.isfinite().all()), "scores are not finite")
    share = (stamped[:, None] > clean).float().mean().item()
    demand(share > 0.9, "triggers do not score higher than clean images of the target "
                        f"(in {share:.0%} of pairs); higher is more suspicious")  # fmt: skip
    caught, stopped = (detector.inspect(x).is_trigger.float().mean().item() for x in (trial.stamped, trial.clean))
    demand(caught > 0.9, f"it flags {caught:.0%} of the triggers of a backdoor that is plain to see")
    demand(stopped < 0.3, f"it flags {stopped:.0%} of the clean images of the target")


def _repeats(trial: _Trial) -> None:
    detector, images = trial.fit(), trial.stamped
    first = detector.scores(images)
    same = torch.equal(first, trial.fit().scores(images))
    demand(same, "two fits with the same settings score differently; take a seed")
    before = detector.inspect(images)
    detector.inspect(trial.clean), detector.scores(trial.others)
    after = detector.inspect(images)
    same = torch.equal(before.scores, after.scores) and before.threshold == after.threshold
    same = same and torch.equal(first, detector.scores(images))
    demand(same, "inspect remembers: the same images score differently after others")
    one = torch.cat([detector.scores(images[i : i + 1]) for i in range(4)])
    alike = torch.allclose(one, first[:4], rtol=1e-3, atol=1e-3)
    demand(alike, "an image's score hangs on the images beside it")
    nothing, none = detector.inspect(trial.clean[:0]), detector.scores(trial.clean[:0])
    demand(len(nothing.is_trigger) == len(nothing.scores) == len(none) == 0, "no images do not give an empty report")


def _forgets(trial: _Trial) -> None:
    network = attacked(target=0)
    told = {"images": trial.others, "labels": trial.other_labels, "target": 0}
    fresh, used = trial.fit(None, network, **told), trial.fit(trial.fit(), network, **told)
    images = trial.images
    same = torch.equal(fresh.inspect(images).is_trigger, used.inspect(images).is_trigger)
    demand(same and torch.equal(fresh.scores(images), used.scores(images)), "a second fit remembers the first")


def _fails_whole(trial: _Trial) -> None:
    detector = trial.fit()
    check_refused({"images in 0…255": {"images": trial.images * 255}}, lambda **given: trial.fit(detector, **given))
    trial.unfitted(detector, "after a fit that failed")
    for last in (1, 2, 3):
        _breaks(trial, last)


def _breaks(trial: _Trial, last: int) -> None:
    """A fit in which the network raises an error when it is called for the `last` time."""
    detector, network = trial.fit(), attacked().train()
    calls = failing(network.body[0], last)
    before = state_of(network)
    try:
        trial.fit(detector, network)
    except Exception:
        check_untouched(before, state_of(network), "after the network raised an error")
        trial.unfitted(detector, "after a fit in which the network raised an error")
    else:
        demand(calls[0] < last, "fit hides an error that the network raises")


def _leaves_as_found(trial: _Trial) -> None:
    network = attacked().train()
    network.body.eval()
    network.normalize.requires_grad_(False)
    _ = torch.rand(1), np.random.rand(), random.random()  # not where a seed would put them
    given = {"images": trial.images, "labels": trial.labels, "inspected images": trial.clean}
    before = state_of(network, **given)
    detector = trial.fit(None, network)
    scores = detector.scores(trial.clean)
    detector.inspect(trial.clean)
    check_untouched(before, state_of(network, **given), "after fit and inspect")
    expected, trained = (trial.fit(None, each).scores(trial.clean) for each in (attacked(), attacked().train()))
    same = torch.equal(trained, expected) and torch.equal(scores, expected)
    demand(same, "it asks a network in training mode, with dropout")


def _bytes_and_integers(trial: _Trial) -> None:
    bytes_, shown = to_uint8(trial.images), to_uint8(trial.stamped)
    expected = trial.fit(images=to_float(bytes_)).scores(to_float(shown))
    same = torch.equal(trial.fit(images=bytes_).scores(shown), expected)
    demand(same, "uint8 images score otherwise than the same as float")
    expected = trial.fit().scores(trial.stamped)
    for dtype in (torch.int32, torch.uint8):
        found = trial.fit(labels=trial.labels.to(dtype)).scores(trial.stamped)
        demand(torch.equal(found, expected), f"{dtype} labels make other scores than int64")


def _refuses(trial: _Trial) -> None:
    x, y, first = trial.images, trial.labels, trial.labels == 0
    wrong = {
        "images in 0…255": x * 255, "images that are NaN": torch.full_like(x, torch.nan),
        "images without a channel axis": x[:, 0], "images of another shape": torch.zeros(len(x), 1, 8, 9),
        "images of integers": x.long(),
    }  # fmt: skip
    check_refused({f"{what} in fit": {"images": images} for what, images in wrong.items()}, trial.fit)
    detector = trial.fit()
    for method in ("inspect", "scores"):
        bad = {f"{what} in {method}": {"images": images} for what, images in wrong.items()}
        check_refused(bad, getattr(detector, method))
    labels: dict[str, dict[str, Any]] = {
        "labels that are float": {"labels": y + 0.5}, "fewer labels than images": {"labels": y[:-1]},
        "negative labels": {"labels": torch.where(first, -1, y)},
        "labels of classes that do not exist": {"labels": torch.where(first, 3, y)},
        "a target that does not exist": {"target": 3}, "a fraction as target": {"target": 1.5},
        "images without any of the target": {"images": x[y != TARGET], "labels": y[y != TARGET]},
    }  # fmt: skip
    check_refused(labels, trial.fit)


_CHECKS: tuple[Callable[[_Trial], None], ...] = (
    _settings, _before_fit, _report, _finds, _repeats, _forgets, _fails_whole, _leaves_as_found, _bytes_and_integers,
    _refuses,
)  # fmt: skip
