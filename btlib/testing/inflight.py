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
from btlib.testing.contract import check_untouched, state_of
from btlib.testing.errors import ContractError
from btlib.testing.networks import TARGET, hand_set, lit_pixels
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
    trial, states = _Trial(detector), (np.random.get_state(), random.getstate())
    try:
        with torch.random.fork_rng(devices=[]):
            for check in _CHECKS:
                _try(trial, check)
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])


def _try(trial: "_Trial", check: Callable[["_Trial"], None]) -> None:
    try:
        check(trial)
    except ContractError as error:
        raise ContractError(f"{type(trial.detector).__name__}: {error}") from None
    except Exception as error:
        words = f"{check.__name__.strip('_')}: it raises {type(error).__name__} ({error})"
        raise ContractError(f"{type(trial.detector).__name__}: {words}") from error


class _Trial:
    """The detector and what it is tried on."""

    def __init__(self, detector: Any) -> None:
        self.detector, self.trigger = detector, single_pixel((1, 8, 8))
        self.images, self.labels = lit_pixels(40, noise=4)
        self.others, others = lit_pixels(40, noise=4, seed=1)  # unseen
        self.other_labels, self.clean = others, self.others[others == TARGET]
        self.stamped = self.trigger(self.others[others != TARGET])  # the network takes each for the target

    def fresh(self) -> Any:
        from sklearn.base import clone

        return clone(self.detector)

    def fit(self, detector: Any, network: nn.Module | None = None, **changed: Any) -> Any:
        told = {"images": self.images, "labels": self.labels, "target": TARGET, "trigger": self.trigger} | changed
        images, labels = told.pop("images"), told.pop("labels")
        return detector.fit(hand_set(10) if network is None else network, images, labels, **told)

    def demand(self, holds: bool, sentence: str) -> None:
        if not holds:
            raise ContractError(sentence)

    def refuses(self, what: str, call: Callable[..., object], *args: Any, **told: Any) -> None:
        try:
            call(*args, **told)
        except (TypeError, ValueError) as error:
            self.demand(len(str(error)) > 0, f"it refuses {what} without a word of why")
        except Exception as error:
            found = f"{type(error).__name__} ({error})"
            self.demand(False, f"expected a TypeError or ValueError that says what is wrong with {what}, got {found}")
        else:
            self.demand(False, f"it takes {what}; refuse them at the door")

    def unfitted(self, detector: Any, when: str) -> None:
        from sklearn.exceptions import NotFittedError

        for method in ("inspect", "scores"):
            try:
                getattr(detector, method)(self.clean)
            except NotFittedError as error:
                named = type(detector).__name__ in str(error)
                self.demand(named, f"{method} {when} raises a NotFittedError that does not name the class")
            except Exception as error:
                self.demand(False, f"{method} {when} raises {type(error).__name__} ({error}), not NotFittedError")
            else:
                self.demand(False, f"{method} answers {when}; raise NotFittedError")


def _settings(trial: _Trial) -> None:
    mine = trial.detector
    for method in ("fit", "inspect", "scores", "get_params"):
        trial.demand(callable(getattr(mine, method, None)), f"it has no method {method}")
    trial.demand(isinstance(getattr(mine, "infers_source", None), bool), "infers_source is neither True nor False")
    names = set(signature(type(mine)).parameters)
    given = mine.get_params()
    trial.demand(set(given) == names, f"get_params names {sorted(given)}, the constructor {sorted(names)}")
    try:
        twin = trial.fresh()
    except (TypeError, RuntimeError) as error:
        trial.demand(False, f"scikit-learn's clone fails: {error}")
    trial.demand(all(name in repr(mine) for name in names) and " at 0x" not in repr(mine),
                 f"its repr does not show its settings, got {mine!r}")  # fmt: skip
    equal = (mine == twin, mine == copy.deepcopy(mine), mine != object())
    trial.demand(all(equal), "== does not compare settings: a clone or a copy differs, or anything is equal")


def _before_fit(trial: _Trial) -> None:
    trial.unfitted(trial.fresh(), "before fit")


def _report(trial: _Trial) -> None:
    detector, images = trial.fresh(), torch.cat([trial.others, trial.stamped])
    trial.demand(trial.fit(detector) is detector, "fit does not return the detector itself")
    report = detector.inspect(images)
    wanted = {"is_trigger": torch.bool, "source": torch.int64, "predicted": torch.int64, "scores": torch.float32}
    for name, dtype in wanted.items():
        got = getattr(report, name)
        sound = got.shape == (len(images),) and got.dtype == dtype
        words = f"{dtype} ({len(images)},), got {got.dtype} {tuple(got.shape)}"
        trial.demand(sound, f"report.{name}: expected {words}")
    says = hand_set(10)(images).argmax(1)
    trial.demand(torch.equal(report.predicted, says), "report.predicted is not what the network says")
    trial.demand(report.target == TARGET, f"report.target: expected {TARGET}, got {report.target}")
    flagged, source, target = report.is_trigger, report.source, says == TARGET
    trial.demand(not bool((flagged & ~target).any()), "it flags images that are not predicted as the target")
    silent = bool((report.scores[~target] == -torch.inf).all())
    trial.demand(silent, "report.scores of images that are not predicted as the target are not -inf")
    above = target & (report.scores > report.threshold)
    trial.demand(torch.equal(flagged, above), "report.is_trigger is not what its scores and threshold say")
    same = torch.equal(source[~flagged], says[~flagged])
    trial.demand(same, "report.source of images that are not flagged is not their prediction")
    others = [c for c in range(3) if c != TARGET] if detector.infers_source else [-1]
    known = set(source[flagged].tolist()) <= set(others)
    trial.demand(known, "report.source of flagged images is no other class, or not -1 where none is inferred")


def _finds(trial: _Trial) -> None:
    detector = trial.fit(trial.fresh())
    clean, stamped = detector.scores(trial.clean), detector.scores(trial.stamped)
    trial.demand(bool(clean.isfinite().all() and stamped.isfinite().all()), "scores are not finite")
    share = (stamped[:, None] > clean).float().mean().item()
    trial.demand(share > 0.9, "triggers do not score higher than clean images of the target "
                              f"(in {share:.0%} of pairs); higher is more suspicious")  # fmt: skip
    caught, stopped = (detector.inspect(x).is_trigger.float().mean().item() for x in (trial.stamped, trial.clean))
    trial.demand(caught > 0.9, f"it flags {caught:.0%} of the triggers of a backdoor that is plain to see")
    trial.demand(stopped < 0.3, f"it flags {stopped:.0%} of the clean images of the target")


def _repeats(trial: _Trial) -> None:
    detector = trial.fit(trial.fresh())
    first = detector.scores(trial.stamped)
    again = trial.fit(trial.fresh()).scores(trial.stamped)
    trial.demand(torch.equal(first, again), "two fits with the same settings score differently; take a seed")
    before = detector.inspect(trial.stamped)
    detector.inspect(trial.clean), detector.scores(trial.others)
    after = detector.inspect(trial.stamped)
    same = torch.equal(before.scores, after.scores) and before.threshold == after.threshold
    trial.demand(same and torch.equal(first, detector.scores(trial.stamped)),
                 "inspect remembers: the same images score differently after others")  # fmt: skip
    one = torch.cat([detector.scores(trial.stamped[i : i + 1]) for i in range(4)])
    trial.demand(torch.allclose(one, first[:4], rtol=1e-3, atol=1e-3),
                 "an image's score hangs on the images beside it")  # fmt: skip
    nothing = detector.inspect(trial.clean[:0])
    trial.demand(len(nothing.is_trigger) == len(nothing.scores) == 0 == len(detector.scores(trial.clean[:0])),
                 "no images do not give an empty report")  # fmt: skip


def _forgets(trial: _Trial) -> None:
    network = hand_set(10, target=0)
    told = {"images": trial.others, "labels": trial.other_labels, "target": 0}
    fresh, used = trial.fit(trial.fresh(), network, **told), trial.fit(trial.fit(trial.fresh()), network, **told)
    images = trial.images
    same = torch.equal(fresh.inspect(images).is_trigger, used.inspect(images).is_trigger)
    trial.demand(same and torch.equal(fresh.scores(images), used.scores(images)), "a second fit remembers the first")


def _fails_whole(trial: _Trial) -> None:
    detector = trial.fit(trial.fresh())
    trial.refuses("images in 0…255", trial.fit, detector, images=trial.images * 255)
    trial.unfitted(detector, "after a fit that failed")
    for last in (1, 2, 3):
        _breaks(trial, last)


def _breaks(trial: _Trial, last: int) -> None:
    """A fit in which the network raises an error when it is called for the `last` time."""
    detector, network, calls = trial.fit(trial.fresh()), hand_set(10).train(), 0

    def stop(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            raise RuntimeError("out of order")

    network.body[0].register_forward_pre_hook(stop)
    before = state_of(network)
    try:
        trial.fit(detector, network)
    except Exception:
        check_untouched(before, state_of(network), "after the network raised an error")
        trial.unfitted(detector, "after a fit in which the network raised an error")
    else:
        trial.demand(calls < last, "fit hides an error that the network raises")


def _leaves_as_found(trial: _Trial) -> None:
    network = hand_set(10).train()
    network.body.eval()
    network.normalize.requires_grad_(False)
    _ = torch.rand(1), np.random.rand(), random.random()  # not where a seed would put them
    given = {"images": trial.images, "labels": trial.labels, "inspected images": trial.clean}
    before = state_of(network, **given)
    detector = trial.fit(trial.fresh(), network)
    scores = detector.scores(trial.clean)
    detector.inspect(trial.clean)
    check_untouched(before, state_of(network, **given), "after fit and inspect")
    expected = trial.fit(trial.fresh()).scores(trial.clean)
    trained = trial.fit(trial.fresh(), hand_set(10).train()).scores(trial.clean)
    same = torch.equal(trained, expected) and torch.equal(scores, expected)
    trial.demand(same, "it asks a network in training mode, with dropout")


def _bytes_and_integers(trial: _Trial) -> None:
    bytes_, shown = to_uint8(trial.images), to_uint8(trial.stamped)
    expected = trial.fit(trial.fresh(), images=to_float(bytes_)).scores(to_float(shown))
    found = trial.fit(trial.fresh(), images=bytes_).scores(shown)
    trial.demand(torch.equal(found, expected), "uint8 images score otherwise than the same as float")
    for dtype in (torch.int32, torch.uint8):
        found = trial.fit(trial.fresh(), labels=trial.labels.to(dtype)).scores(trial.stamped)
        expected = trial.fit(trial.fresh()).scores(trial.stamped)
        trial.demand(torch.equal(found, expected), f"{dtype} labels make other scores than int64")


def _refuses(trial: _Trial) -> None:
    x, y, first = trial.images, trial.labels, trial.labels == 0
    for what, wrong in {
        "images in 0…255": x * 255, "images that are NaN": torch.full_like(x, torch.nan),
        "images without a channel axis": x[:, 0], "images of another shape": torch.zeros(len(x), 1, 8, 9),
        "images of integers": x.long(),
    }.items():  # fmt: skip
        trial.refuses(f"{what} in fit", trial.fit, trial.fresh(), images=wrong)
        for method in ("inspect", "scores"):
            trial.refuses(f"{what} in {method}", getattr(trial.fit(trial.fresh()), method), wrong)
    bad: dict[str, dict[str, Any]] = {
        "labels that are float": {"labels": y + 0.5}, "fewer labels than images": {"labels": y[:-1]},
        "negative labels": {"labels": torch.where(first, -1, y)},
        "labels of classes that do not exist": {"labels": torch.where(first, 3, y)},
        "a target that does not exist": {"target": 3}, "a fraction as target": {"target": 1.5},
        "images without any of the target": {"images": x[y != TARGET], "labels": y[y != TARGET]},
    }  # fmt: skip
    for what, changed in bad.items():
        trial.refuses(what, trial.fit, trial.fresh(), **changed)


_CHECKS: tuple[Callable[[_Trial], None], ...] = (
    _settings, _before_fit, _report, _finds, _repeats, _forgets, _fails_whole, _leaves_as_found, _bytes_and_integers,
    _refuses,
)  # fmt: skip
