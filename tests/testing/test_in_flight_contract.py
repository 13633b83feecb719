"""Our in-flight detectors keep the contract, and each way of breaking it is named in a sentence."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from btlib import inflight, metrics
from btlib.inflight import B3DDetector, InFlightDetector
from btlib.inflight.base import Measured
from btlib.testing import ContractError, check_in_flight_detector
from btlib.testing.networks import TARGET, hand_set, lit_pixels


@pytest.mark.parametrize("make", inflight.DETECTORS.values(), ids=inflight.DETECTORS)
def test_ours_keep_the_contract(make: Callable[[], InFlightDetector]) -> None:
    check_in_flight_detector(make())


class Stranger:
    """Nothing of ours inside: how bright is the brightest spot in the last row?"""

    infers_source = False

    def __init__(self, margin: float = 0.5) -> None:
        self.margin = margin

    def __repr__(self) -> str:
        return f"Stranger(margin={self.margin})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stranger) and self.margin == other.margin

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"margin": self.margin}

    def fit(self, network: nn.Module, images: Tensor, labels: Tensor, *, target: int, trigger: Any = None) -> Any:
        self.__dict__.pop("inner", None)
        inner = B3DDetector().fit(network, images, labels, target=target, trigger=lambda x: x)
        inner._measure = lambda x: Measured(metrics.predict(network, x).argmax(1), x[:, 0, -1].amax(1))  # type: ignore[method-assign]
        inner.threshold_, self.inner = self.margin, inner
        return self

    def scores(self, images: Tensor) -> Tensor:
        return self._fitted().scores(images)

    def inspect(self, images: Tensor) -> Any:
        return self._fitted().inspect(images)

    def _fitted(self) -> B3DDetector:
        if not hasattr(self, "inner"):
            raise NotFittedError("Stranger is not fitted")
        return self.inner


class Flipped(B3DDetector):
    def _measure(self, images: Tensor) -> Measured:
        measured = super()._measure(images)
        return measured._replace(scores=-measured.scores)


class Address(B3DDetector):
    __repr__ = object.__repr__


class Identity(B3DDetector):
    __eq__ = object.__eq__


class Renames(B3DDetector):
    def __init__(self, rate: float = 0.05) -> None:
        super().__init__(fpr=rate)


class Rounds(B3DDetector):
    def __init__(self, fpr: float = 0.05) -> None:
        super().__init__(fpr=round(fpr, 1) + 0.1)


class Unasked(B3DDetector):
    def scores(self, images: Tensor) -> Tensor:
        return super().scores(images) if hasattr(self, "threshold_") else torch.zeros(len(images))


class Crashes(B3DDetector):
    def inspect(self, images: Tensor) -> Any:
        return super().inspect(images) if self.threshold_ < 1 else None


class Nothing(B3DDetector):
    def fit(self, *args: Any, **told: Any) -> Any:
        super().fit(*args, **told)


class Everything(B3DDetector):
    def inspect(self, images: Tensor) -> Any:
        report = super().inspect(images)
        return replace(report, is_trigger=torch.ones_like(report.is_trigger))


class AllScores(B3DDetector):
    def inspect(self, images: Tensor) -> Any:
        return replace(super().inspect(images), scores=self.scores(images)) if len(images) else super().inspect(images)


class Doubles(B3DDetector):
    def inspect(self, images: Tensor) -> Any:
        report = super().inspect(images)
        return replace(report, scores=report.scores.double())


class Claims(B3DDetector):
    infers_source = True


class Deaf(B3DDetector):
    def _fit(self, *given: Any) -> float:
        super()._fit(*given)
        return 9.0


class Nervous(B3DDetector):
    def _fit(self, *given: Any) -> float:
        super()._fit(*given)
        return -9.0


class Dice(B3DDetector):
    def _fit(self, *given: Any) -> float:
        self.shift_ = float(torch.rand(()))
        return super()._fit(*given)

    def _measure(self, images: Tensor) -> Measured:
        measured = super()._measure(images)
        return measured._replace(scores=measured.scores + self.shift_)


class Reseeds(B3DDetector):
    def _fit(self, *given: Any) -> float:
        torch.manual_seed(0)
        return super()._fit(*given)


class Tally(B3DDetector):
    seen = 0

    def _score(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return super()._score(images) + self.seen


class Relative(B3DDetector):
    def _score(self, images: Tensor) -> Tensor:
        return super()._score(images) + 0.01 * len(images)


class Clings(B3DDetector):
    def fit(self, *args: Any, **told: Any) -> Any:
        kept = vars(self).get("threshold_")
        super().fit(*args, **told)
        if kept is not None:
            self.threshold_ = kept - 0.5
        return self


class HalfFitted(B3DDetector):
    def _forget(self) -> None:
        pass


class Hushes(B3DDetector):
    def fit(self, network: nn.Module, *args: Any, **told: Any) -> Any:
        try:
            return super().fit(network, *args, **told)
        except RuntimeError:
            return super().fit(hand_set(10), *args, **told)


class Evaluates(B3DDetector):
    def _fit(self, *given: Any) -> float:
        self.network_.eval()
        return super()._fit(*given)


class Hooks(B3DDetector):
    def _fit(self, *given: Any) -> float:
        self.network_.register_forward_hook(lambda *_: None)
        return super()._fit(*given)


class Trains(B3DDetector):
    def _measure(self, images: Tensor) -> Measured:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            logits = self.network_(images)
        return Measured(logits.argmax(1), super()._measure(images).scores + logits[:, 0])


class InPlace(B3DDetector):
    def _measure(self, images: Tensor) -> Measured:
        measured = super()._measure(images)
        images[:, 0, 3, 3] += 0.001
        return measured


class Raw(B3DDetector):
    """Takes bytes as they are."""

    def fit(self, network: nn.Module, images: Tensor, *args: Any, **told: Any) -> Any:
        return super().fit(network, raw(images), *args, **told)

    def scores(self, images: Tensor) -> Tensor:
        return super().scores(raw(images))


def raw(images: Tensor) -> Tensor:
    return images.float() / 510 if images.dtype == torch.uint8 else images


class FloatsOnly(B3DDetector):
    def scores(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            raise TypeError("images: floats, please")
        return super().scores(images)


class Lenient(B3DDetector):
    def scores(self, images: Tensor) -> Tensor:
        return super().scores(images.clamp(0, 1) if images.is_floating_point() else images)


class Blunt(B3DDetector):
    def fit(self, network: nn.Module, images: Tensor, *args: Any, **told: Any) -> Any:
        if not images.is_floating_point() and images.dtype != torch.uint8:
            raise KeyError("no")
        return super().fit(network, images, *args, **told)


class Wraps(B3DDetector):
    def fit(self, network: nn.Module, images: Tensor, labels: Tensor, **told: Any) -> Any:
        return super().fit(network, images, labels % 3, **told)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (object, "it has no method fit"),
        (Flipped, r"do not score higher than clean images of the target \(in 0% of pairs\)"),
        (Address, "its repr does not show its settings"),
        (Identity, "== does not compare settings"),
        (Renames, "settings: it raises AttributeError"),
        (Rounds, "scikit-learn's clone fails"),
        (Unasked, "scores answers before fit; raise NotFittedError"),
        (Crashes, "inspect before fit raises AttributeError .*not NotFittedError"),
        (Nothing, "fit does not return the detector itself"),
        (Everything, "it flags images that are not predicted as the target"),
        (AllScores, "not predicted as the target are not -inf"),
        (Doubles, r"report.scores: expected torch.float32 \(200,\), got torch.float64"),
        (Claims, "report.source of flagged images is no other class"),
        (Deaf, "it flags 0% of the triggers"),
        (Nervous, "it flags 100% of the clean images"),
        (Dice, "two fits with the same settings score differently"),
        (Reseeds, "torch's random state: expected as before, got another after fit and inspect"),
        (Tally, "inspect remembers"),
        (Relative, "hangs on the images beside it"),
        (Clings, "a second fit remembers the first"),
        (HalfFitted, "inspect answers after a fit that failed"),
        (Hushes, "fit hides an error that the network raises"),
        (Evaluates, r"the network's mode \(training or evaluation\): expected as before"),
        (Hooks, "the network's hooks: expected as before"),
        (Trains, "it asks a network in training mode"),
        (InPlace, "the inspected images: expected as before"),
        (Raw, "uint8 images score otherwise than the same as float"),
        (FloatsOnly, r"bytes_and_integers: it raises TypeError \(images: floats, please\)"),
        (Lenient, "images in 0…255 in scores: expected a ValueError or TypeError.*, got an outcome"),
        (Blunt, r"images of integers in fit: .* that says what is wrong, got KeyError \('no'\)"),
        (Wraps, "negative labels: .*, got an outcome"),
    ],
)
def test_each_way_of_breaking_it_is_named(broken: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ContractError, match=f"^{broken.__name__}: .*{sentence}"):
        check_in_flight_detector(broken())


def test_a_detector_that_inherits_nothing_can_keep_it() -> None:
    check_in_flight_detector(Stranger())


def test_the_hand_set_network_is_what_it_says() -> None:
    images, labels = lit_pixels(5, noise=4)
    assert torch.equal(hand_set(10)(images).argmax(1), labels)
    stamped = images.clone()
    stamped[:, 0, -1, -1] = 1
    assert bool((hand_set(10)(stamped).argmax(1) == TARGET).all())
    assert torch.equal(hand_set(0)(stamped).argmax(1), labels)
    assert bool((hand_set(10, target=0)(stamped).argmax(1) == 0).all())
    assert not torch.equal(images, lit_pixels(5, noise=4, seed=1)[0])
    state = torch.get_rng_state()
    hand_set(10)
    assert torch.equal(torch.get_rng_state(), state)
