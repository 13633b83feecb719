"""The contract for post-training detectors: ours keep it, and each way to break it is named."""

import copy
import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.base import clone

from btlib import detection
from btlib.detection import DETECTORS, Detection, Inversion, RedU, Search, configured, find, register, settings_of
from btlib.detection.images import undisturbed
from btlib.detection.outcome import Estimates
from btlib.testing import ContractError, check_detector
from btlib.testing.contract import check_refused, check_untouched, demand, fail, failing, state_of, try_all

SHORT = Inversion(rounds=40, steps=1, batch_size=20, lr=0.3, patience=2, multiplier=1.5, check=False, bisections=6)
COARSE = Search(delta=0.1, bisections=5)


@pytest.mark.parametrize("name", DETECTORS)
def test_ours_keep_the_contract(name):
    detector = configured(DETECTORS[name], inversion=SHORT)
    if isinstance(detector, detection.RedA | detection.RedU | detection.RedP):  # larger steps take a third of the time
        detector = replace(detector, search=replace(detector.search, delta=0.1, bisections=5))
    check_detector(detector)


@pytest.mark.parametrize("name", DETECTORS)
def test_ours_are_values(name):
    detector = DETECTORS[name]
    assert clone(detector) == copy.deepcopy(detector) == replace(detector) == detector
    assert hash(clone(detector)) == hash(detector)
    assert replace(detector, seed=1) != detector
    assert replace(detector, progress=True) == detector
    assert eval(repr(detector), vars(detection)) == detector
    with pytest.raises(AttributeError):
        detector.seed = 1
    with pytest.raises(TypeError, match="nonsense"):
        type(detector)(nonsense=1)


# ---------------------------------------------------------------------- a stranger's


@dataclass(frozen=True)
class Stranger:
    """Nothing of ours: one call of a detector that works, and on top what a test breaks."""

    per_class: int = 2

    def __call__(self, network, images, labels, *, targets=None):
        return self.detected(network, images, labels, targets)

    def detected(self, network, images, labels, targets=None) -> Detection:
        return RedU(per_class=self.per_class, search=COARSE)(network, images, labels, targets=targets)


def test_a_strangers_detector_that_keeps_it_passes():
    check_detector(Stranger())
    check_detector(
        lambda network, images, labels, *, targets=None: Stranger()(network, images, labels, targets=targets)
    )


def changed(found: Detection, **by_class) -> Detection:
    """With other estimates, by a function from estimate to its new fields."""
    ((name, new),) = by_class.items()
    return replace(found, estimates=Estimates(replace(e, **{name: new(e)}) for e in found.estimates.values()))


class LeavesOut(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        found = self.detected(network, images, labels, targets)
        return replace(found, estimates=Estimates([e for t, e in found.estimates.items() if t != 3]))


class Infinite(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return changed(self.detected(network, images, labels, targets), norm=lambda e: e.norm if e.target else np.inf)


class Flipped(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return changed(self.detected(network, images, labels, targets), norm=lambda e: 1 / e.norm)


class AlwaysTwo(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return changed(self.detected(network, images, labels, targets), norm=lambda e: 0.1 if e.target == 2 else 1.0)


class ZeroSize(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        found = self.detected(network, images, labels, targets)
        return changed(found, norm=lambda e: e.norm * (found.suspect != 2 or e.target != 2))


class Unseeded(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        chance = 1 + os.urandom(1)[0] / 1e4 + os.urandom(1)[0] / 1e6
        return changed(self.detected(network, images, labels, targets), norm=lambda e: e.norm * chance)


class Draws(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        torch.rand(1)
        return self.detected(network, images, labels, targets)


class DrawsWithNumpy(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        np.random.rand()  # noqa: NPY002
        return self.detected(network, images, labels, targets)


class Evaluates(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return self.detected(network.eval(), images, labels, targets)


class Freezes(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return self.detected(network.requires_grad_(False), images, labels, targets)


class Trains(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        with torch.no_grad():
            network.net.head.weight.mul_(1.01)
        return self.detected(network, images, labels, targets)


class HooksOn(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        network.net.register_forward_hook(lambda *_: None)
        return self.detected(network, images, labels, targets)


class Backward(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        with undisturbed(network):
            network.requires_grad_(True)
            network(images.float()[:1].clamp(0, 1)).sum().backward()
        return self.detected(network, images, labels, targets)


class InPlace(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        found = self.detected(network, images, labels, targets)
        images[0] = 0
        return found


class OnlyAfterSuccess(Stranger):
    """Puts the mode back, but not after an error."""

    def __call__(self, network, images, labels, *, targets=None):
        modes = {module: module.training for module in network.modules()}
        network.eval()
        found = self.detected(network, images, labels, targets)
        for module, mode in modes.items():
            module.training = mode
        return found


class Swallows(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        try:
            return self.detected(network, images, labels, targets)
        except RuntimeError:
            return None


class OneScale(Stranger):
    """Floats and bytes for one: so bytes are 255 times too bright."""

    def __call__(self, network, images, labels, *, targets=None):
        dark = images if images.is_floating_point() else images // 2
        return self.detected(network, dark, labels, targets)


class Rescales(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return self.detected(
            network, images / 255 if images.max() > 1 and images.is_floating_point() else images, labels, targets
        )


class ClampsLabels(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return self.detected(network, images, labels.remainder(10), targets)


class CutsImages(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return self.detected(network, images[-len(labels) :], labels, targets)


class DropsTargets(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        known = None if targets is None else [t for t in targets if t < 10]
        return self.detected(network, images, labels, known or None)


class AllTargets(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return self.detected(network, images, labels)


class Nothing(Stranger):
    def __call__(self, network, images, labels, *, targets=None):
        return {"norms": []}


class Asserts(Stranger):
    """Refuses what is bad, but not as bad input."""

    def __call__(self, network, images, labels, *, targets=None):
        assert not images.is_floating_point() or images.max() <= 1
        return self.detected(network, images, labels, targets)


class Plain:
    """An address for a repr, identity for equality."""

    def __call__(self, network, images, labels, *, targets=None):
        return Stranger()(network, images, labels, targets=targets)


@dataclass
class Learns:
    """Keeps what it saw in its settings."""

    calls: int = 0

    def __call__(self, network, images, labels, *, targets=None):
        self.calls += 1
        return Stranger()(network, images, labels, targets=targets)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Nothing, "outcome: expected a detection.Detection, got dict"),
        (LeavesOut, r"estimates: expected one for each of the classes \[0, 1, 2.*got \[0, 1, 2, 4"),
        (Infinite, r"norms: expected 10 finite sizes by class, none negative, got \[inf"),
        (Flipped, "suspect: expected class 2, to which one pixel sends every image, got [^2]"),
        (AlwaysTwo, "clean twin: expected a smallest pattern above 0.1 of the median"),
        (ZeroSize, "verdict: expected one on ten classes, got an error"),
        (Unseeded, "seed: expected the same norms from the same call"),
        (Draws, "torch's random state: expected as before, got another after the call"),
        (DrawsWithNumpy, "numpy's random state: expected as before"),
        (Evaluates, r"the network's mode \(training or evaluation\): expected as before"),
        (Freezes, "the network's requires_grad: expected as before"),
        (Trains, "the network's weights and buffers: expected as before"),
        (HooksOn, "the network's hooks: expected as before"),
        (Backward, "the network's gradients: expected as before"),
        (InPlace, "the images: expected as before"),
        (OnlyAfterSuccess, "the network's mode .*: expected as before, got another after an error inside the network"),
        (Swallows, "error inside the network: expected it to come out"),
        (OneScale, "uint8 images: expected the same norms as from floats"),
        (Rescales, r"images as floats in 0…255: expected a ValueError or TypeError.*, got an outcome"),
        (Asserts, r"images as floats in 0…255: expected a ValueError or TypeError.*, got AssertionError"),
        (ClampsLabels, r"labels up to 10, of 10 classes: expected a ValueError or TypeError.*, got an outcome"),
        (CutsImages, r"fewer labels than images: expected a ValueError or TypeError.*, got an outcome"),
        (DropsTargets, r"targets \[10\], of 10 classes: expected a ValueError or TypeError.*, got an outcome"),
        (AllTargets, r"estimates: expected one for each of the classes \[0, 2, 4, 7\]"),
        (Plain, "settings: expected a copy to be equal, with the same repr, got .* object at"),
        (Learns, "settings: expected as before the call, got Learns"),
    ],
)  # fmt: skip
def test_each_broken_promise_is_named(broken, said):
    with pytest.raises(ContractError, match=f"^{broken.__name__}: {said}.*; .+"):
        check_detector(broken())


# ---------------------------------------------------------------------- the registry


def test_a_registered_detector_is_found_by_its_name_and_a_name_is_given_once():
    with pytest.raises(ValueError, match="name: expected small letters.*got 'red-u'"):
        register("red-u", Stranger())
    with pytest.raises(ValueError, match="got 'My detector'"):
        register("My detector", Stranger())
    with pytest.raises(TypeError, match="detector: expected an object to call, got 3"):
        register("three", 3)
    register("stranger", Stranger(per_class=3))
    try:
        register("stranger", Stranger(per_class=3))  # a cell that is run again
        assert find("stranger") == Stranger(3)
    finally:
        del DETECTORS["stranger"]
    with pytest.raises(ValueError, match="name: expected one of neural-cleanse, .* or module:object, got 'stranger'"):
        find("stranger")


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere:Detector", "ModuleNotFoundError"), ("btlib.detection:Nothing", "AttributeError"),
     ("btlib.detection:Detector", "TypeError"), ("btlib.testing.networks:TARGET", "expected an object to call, got 2")],
)  # fmt: skip
def test_what_cannot_be_imported_is_named(name, said):
    with pytest.raises(ValueError, match=f"--methods: expected what can be imported.*{said}"):
        find(name, argument="--methods")


def test_settings_reach_detectors_that_have_them():
    assert configured(Stranger(), per_class=5, seed=3) == Stranger(5)
    assert configured(RedU(), per_class=5, inversion=1) == RedU(per_class=5)
    plain = Plain()
    assert configured(plain, seed=1) is plain
    assert settings_of(Stranger(4)) == {"per_class": 4}
    assert settings_of(RedU()) == RedU().get_params()
    assert settings_of(plain) == {}


# ---------------------------------------------------------------------- what the contract is made of


def test_state_and_sentences():
    network, x = torch.nn.Linear(2, 2), torch.zeros(1)
    before = state_of(network, images=x)
    x += 1
    with pytest.raises(ContractError, match="^the images: expected as before, got another later;"):
        check_untouched(before, state_of(network, images=x), "later")
    with pytest.raises(ContractError, match="^a: expected b, got c; d$"):
        fail("a", "b", "c", "d")


def test_checks_are_run_in_order_and_random_states_come_back():
    seen = []

    def draws(trial):
        seen.append((trial, torch.rand(1), np.random.rand()))  # noqa: NPY002

    def _breaks(trial):
        demand(seen, "it is not the first")
        raise KeyError("no")

    before = torch.get_rng_state(), repr(np.random.get_state(legacy=False))
    try_all("Mine", [draws], 3)
    with pytest.raises(ContractError, match=r"^Mine: breaks: it raises KeyError \('no'\)$"):
        try_all("Mine", [draws, _breaks, draws], 3)
    assert len(seen) == 2
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state(legacy=False)) == before[1]
    with pytest.raises(ContractError, match="^Mine: it is not the first$"):
        try_all("Mine", [lambda _: demand(False, "it is not the first")], 3)


def test_a_refusal_has_a_kind_and_words():
    def door(error):
        raise error

    check_refused({"nothing": {"error": ValueError("x: expected 1")}}, door)
    for error, said in [(ValueError(), r"ValueError \(\)"), (KeyError("x"), r"KeyError \('x'\)")]:
        with pytest.raises(ContractError, match=f"^bad x: .* that says what is wrong, got {said}; check"):
            check_refused({"bad x": {"error": error}}, door)


def test_a_network_fails_at_its_call_and_so_does_its_copy():
    network = torch.nn.Identity()
    calls = failing(network, 3)
    network(1), copy.deepcopy(network)(1)
    with pytest.raises(RuntimeError, match="out of order"):
        network(1)
    assert network(1) == 1
    assert calls == [4]
