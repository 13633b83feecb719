"""Whatever a stranger passes: the result of the same thing said properly, or one error with expected and got.

Each odd value below knows what it means: another way of saying a right value (then the result must be that of the right
one), or nothing (then it must be refused). A wrong value that is taken in silence fails here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import TARGET, hand_set, lit_pixels

from btlib import detection, inflight, metrics, networks, poisoning, repair, training, triggers
from btlib.datasets import ImageDataset

X, Y = lit_pixels(12, noise=3)
SHAPE = (1, 8, 8)
PIXEL = triggers.single_pixel(SHAPE)
NOTHING = object()  # the meaning of what must be refused


@dataclass(frozen=True)
class Odd:
    """A value that may be passed, and the usual one that means the same."""

    make: Callable[[], Any]
    meaning: Any = NOTHING


class Wrapped(nn.Module):
    """The toy network, with something done to what goes in or comes out."""

    def __init__(self, after: Callable[[Tensor], Any] = lambda z: z, before: Callable[[Tensor], Tensor] = lambda x: x):
        super().__init__()
        self.net, self.after, self.before = hand_set(10), after, before

    def forward(self, x: Tensor) -> Any:
        return self.after(self.net(self.before(x)))


def broken(x: Tensor) -> Tensor:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def with_nan() -> nn.Module:
    net = hand_set(10)
    net.head.weight.data[0, 0] = math.nan
    return net


NETWORKS: dict[str, Odd] = {
    "in training mode": Odd(lambda: hand_set(10).train(), "usual"),
    "of another kind": Odd(Wrapped, "usual"),
    "in double precision": Odd(lambda: hand_set(10).double(), "usual"),
    "that works in place": Odd(lambda: Wrapped(before=lambda x: x.mul_(1.0)), "usual"),
    "that gives a tuple": Odd(lambda: Wrapped(lambda z: (z, z))),
    "that gives a dict": Odd(lambda: Wrapped(lambda z: {"logits": z})),
    "that gives one row less": Odd(lambda: Wrapped(lambda z: z[1:])),
    "that gives maps": Odd(lambda: Wrapped(lambda z: z[:, :, None, None])),
    "that gives one number": Odd(lambda: Wrapped(lambda z: z.sum())),
    "that knows one class": Odd(lambda: Wrapped(lambda z: z[:, :1])),
    "for other images": Odd(lambda: hand_set(10, size=10)),
    "that breaks inside torch": Odd(lambda: Wrapped(before=broken)),
}
IMAGES: dict[str, Odd] = {
    "bytes": Odd(lambda: (X * 255).round().byte(), "usual"),
    "doubles": Odd(lambda: X.double(), "usual"),
    "not contiguous": Odd(lambda: X.repeat_interleave(2, 3)[..., ::2], "usual"),
    "channels last": Odd(lambda: X.contiguous(memory_format=torch.channels_last), "usual"),
    "with gradients": Odd(lambda: X.clone().requires_grad_(), "usual"),
    "numpy": Odd(X.numpy),
    "a list": Odd(X.tolist),
    "nothing": Odd(lambda: None),
    "no images": Odd(lambda: X[:0]),
    "one image": Odd(lambda: X[0]),
    "without channels": Odd(lambda: X[:, 0]),
    "in five dimensions": Odd(lambda: X[None]),
    "channels at the end": Odd(lambda: X.permute(0, 2, 3, 1)),
    "in colour": Odd(lambda: X.expand(-1, 3, -1, -1)),
    "of another size": Odd(lambda: X[..., :6]),
    "in 0…255": Odd(lambda: X * 255),
    "in -1…1": Odd(lambda: X * 2 - 1),
    "NaN": Odd(lambda: X * math.nan),
    "infinite": Odd(lambda: X / 0),
    "integers": Odd(lambda: (X * 255).long()),
    "true and false": Odd(lambda: X > 0),
    "complex": Odd(lambda: X.to(torch.complex64)),
}
LABELS: dict[str, Odd] = {
    "bytes": Odd(lambda: Y.byte(), "usual"),
    "short": Odd(lambda: Y.short(), "usual"),
    "from 1": Odd(lambda: Y + 1),
    "from -1": Odd(lambda: Y - 1),
    "floats": Odd(lambda: Y.float()),
    "halves": Odd(lambda: Y + 0.5),
    "one less": Odd(lambda: Y[1:]),
    "none": Odd(lambda: Y[:0]),
    "one-hot": Odd(lambda: nn.functional.one_hot(Y)),
    "in a column": Odd(lambda: Y[:, None]),
    "true and false": Odd(lambda: Y > 0),
    "numpy": Odd(Y.numpy),
    "a list": Odd(Y.tolist),
    "nothing": Odd(lambda: None),
    "NaN": Odd(lambda: Y * math.nan),
    "huge": Odd(lambda: Y + 2**40),
}
TARGETS: dict[str, Odd] = {
    "numpy's": Odd(lambda: np.int64(TARGET), "usual"),
    "a tensor": Odd(lambda: torch.tensor(TARGET), "usual"),
    "-1": Odd(lambda: -1),
    "K": Odd(lambda: 3),
    "a half": Odd(lambda: 1.5),
    "a float": Odd(lambda: 2.0),
    "a name": Odd(lambda: "2"),
    "nothing": Odd(lambda: None),
    "two": Odd(lambda: [1, 2]),
}
SEEDS: dict[str, Odd] = {
    "numpy's": Odd(lambda: np.int64(0), "usual"),
    "nothing": Odd(lambda: None),
    "a half": Odd(lambda: 0.5),
    "a float": Odd(lambda: 0.0),
    "-1": Odd(lambda: -1),
    "2^64": Odd(lambda: 2**64),
    "a name": Odd(lambda: "0"),
}
ODD = {"network": NETWORKS, "images": IMAGES, "labels": LABELS, "target": TARGETS, "seed": SEEDS}
USUAL: dict[str, Callable[[], Any]] = {
    "network": lambda: hand_set(10), "images": lambda: X.clone(), "labels": lambda: Y.clone(), "target": lambda: TARGET,
    "seed": lambda: 0,
}  # fmt: skip


def dataset(images: Any, labels: Any) -> ImageDataset:
    return ImageDataset("toy", images, labels, images, labels, ("a", "b", "c"))


@torch.inference_mode(False)
def network_for_training() -> nn.Module:
    return hand_set(10)


def as_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().byte()


QUICK = detection.Inversion(rounds=20, steps=1, batch_size=36, lr=0.1)
#: Public doors: name → (what it takes, how it is called, what counts of its result).
DOORS: dict[str, tuple[str, Callable[..., Any]]] = {
    "accuracy": ("network images labels", metrics.accuracy),
    "predict": ("network images", metrics.predict),
    "attack_success_rate": ("network images labels target", lambda network, images, labels, target:
        metrics.attack_success_rate(network, PIXEL, images, labels, target=target)),
    "red_a": ("network images labels seed", lambda network, images, labels, seed:
        detection.RedA(seed=seed)(network, images, labels).norms),
    "neural_cleanse": ("network images labels seed", lambda network, images, labels, seed:
        detection.NeuralCleanse(inversion=QUICK, per_class=12, seed=seed)(network, images, labels).norms),
    "LikelihoodDetector.fit": ("network images labels target seed", lambda network, images, labels, target, seed:
        inflight.LikelihoodDetector(seed=seed).fit(network, images, labels, target=target, trigger=PIXEL).scores(X)),
    "StripDetector.fit": ("network images labels target seed", lambda network, images, labels, target, seed:
        inflight.StripDetector(overlays=4, seed=seed).fit(network, images, labels, target=target).scores(X)),
    "NeuronDetector.fit": ("network images labels target", lambda network, images, labels, target:
        inflight.NeuronDetector().fit(network, images, labels, target=target, trigger=PIXEL).scores(X)),
    "inspect": ("images", lambda images:
        inflight.LikelihoodDetector().fit(hand_set(10), X, Y, target=TARGET, trigger=PIXEL).inspect(images).scores),
    "repair": ("network images labels seed", lambda network, images, labels, seed:
        metrics.predict(repair.FineTuning(training.Recipe(epochs=1))(network, images, labels, seed=seed).network, X)),
    "trigger": ("images", lambda images: PIXEL(images)),
    "build": ("seed", lambda seed:
        networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3, seed=seed).head.weight),
    "sample": ("images labels seed", lambda images, labels, seed:
        dataset(images, labels).clean_images(2, seed=seed)[0]),
    "poison": ("images labels target seed", lambda images, labels, target, seed: poisoning.poison(
        dataset(images, labels), PIXEL, target=target, per_class=2, seed=seed).x_train),
    "fit": ("images labels seed", lambda images, labels, seed: training.fit(
        network_for_training(), dataset(images, labels), training.Recipe(epochs=1), seed=seed).history[0]["loss"]),
}  # fmt: skip
#: Where an odd value means something else than in the table above, and why.
OTHERWISE: dict[tuple[str, str, str], Any] = {
    ("trigger", "images", "one image"): "one",  # a single picture is a documented input
    ("trigger", "images", "no images"): "none",
    ("predict", "images", "no images"): "none",
    ("inspect", "images", "no images"): "none",
    **{("predict", "network", name): "as it is" for name in ("that gives maps", "that knows one class")},
}


def odd(door: str, argument: str, name: str) -> Odd:
    if door in SETS and (argument, name) != ("images", "bytes") and argument in ("images", "labels"):
        return Odd(ODD[argument][name].make)
    return Odd(ODD[argument][name].make, OTHERWISE.get((door, argument, name), ODD[argument][name].meaning))


def arguments(door: str, **replaced: Any) -> dict[str, Any]:
    given = {name: USUAL[name]() for name in DOORS[door][0].split()}
    if door in SETS:
        given["images"] = as_bytes(given["images"])  # a data set is bytes
    return {**given, **replaced}


def numbers(value: Any) -> Tensor:
    return torch.as_tensor(value).double()


def state(given: dict[str, Any]) -> tuple[Any, ...]:
    """What no call may change: the network, its modes, the inputs, and torch's random state."""
    network = given.get("network")
    modules = [] if network is None else [m.training for m in network.modules()]
    weights = [] if network is None else [(t.clone(), t.requires_grad) for t in network.parameters()]
    tensors = {k: v.detach().clone() for k, v in given.items() if isinstance(v, Tensor)}
    return modules, weights, tensors, torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()


def unchanged(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    assert before[0] == after[0], "the modes of modules"
    for (old, had), (new, has) in zip(before[1], after[1], strict=True):
        assert torch.equal(old.nan_to_num(7), new.nan_to_num(7)), "the weights"
        assert had == has, "whether weights want gradients"
    for name, tensor in before[2].items():
        same = torch.equal(tensor.isnan(), after[2][name].isnan()) and torch.equal(
            tensor.nan_to_num(7, 7, 7), after[2][name].nan_to_num(7, 7, 7)
        ) if tensor.is_floating_point() else torch.equal(tensor, after[2][name])  # fmt: skip
        assert same, name
    assert torch.equal(before[3], after[3]), "the random state"
    assert before[4:] == after[4:]


def answer(door: str, given: dict[str, Any]) -> Tensor | Exception:
    """The result, or the error; nothing else may have changed."""
    before = state(given)
    try:
        result: Any = numbers(DOORS[door][1](**given))
    except Exception as error:
        result = error
    unchanged(before, state(given))
    return result


@cache
def usual_answer(door: str) -> Tensor:
    """The result of usual arguments; asked for once, as the same call gives the same bits."""
    usual = answer(door, arguments(door))
    assert isinstance(usual, Tensor), usual
    return usual


def check_error(error: Exception) -> None:
    said = str(error)
    assert type(error) in (ValueError, TypeError), f"{type(error).__name__}: {said}"
    assert "expected" in said and ("got" in said or "says" in said), said  # noqa: PT018 (one sentence)


SETS = ("sample", "poison", "fit")  # they take a data set, whose images are bytes and whose labels are int64
CASES = [
    (door, argument, name)
    for door, (takes, _) in DOORS.items() for argument in takes.split() for name in ODD[argument]
]  # fmt: skip


@pytest.mark.parametrize(("door", "argument", "name"), CASES, ids=[" ".join(case) for case in CASES])
def test_one_odd_value(door: str, argument: str, name: str) -> None:
    one = odd(door, argument, name)
    result = answer(door, arguments(door, **{argument: one.make()}))
    if one.meaning is NOTHING:
        assert isinstance(result, Exception), f"taken in silence: {result}"
        check_error(result)
        return
    if isinstance(result, Exception):
        raise result
    if one.meaning == "none":
        assert len(result) == 0
    elif one.meaning != "as it is":
        usual = usual_answer(door)
        torch.testing.assert_close(result, usual if one.meaning == "usual" else usual[0], rtol=1e-3, atol=1e-3)


CHEAP = [door for door in DOORS if door not in ("neural_cleanse", "repair", "fit", "StripDetector.fit")]


@given(st.data())
def test_several_odd_values(data: st.DataObject) -> None:
    """One error for all of them, or the usual result where all mean that."""
    door = data.draw(st.sampled_from(CHEAP))
    takes = DOORS[door][0].split()
    chosen = data.draw(st.lists(st.sampled_from(takes), min_size=min(2, len(takes)), unique=True))
    odds = {argument: odd(door, argument, data.draw(st.sampled_from(sorted(ODD[argument])))) for argument in chosen}
    result = answer(door, arguments(door, **{argument: one.make() for argument, one in odds.items()}))
    if any(one.meaning is NOTHING for one in odds.values()):
        assert isinstance(result, Exception), f"taken in silence: {result}"
        check_error(result)
    elif isinstance(result, Exception):
        raise result


@given(
    shape=st.tuples(st.integers(-1, 12), st.integers(-1, 12), st.integers(-1, 12)), size=st.one_of(
        st.integers(-3, 14), st.floats(), st.none(), st.text(max_size=2)),
    margin=st.one_of(st.integers(-2, 12), st.floats(0, 3)),
    make=st.sampled_from([triggers.box, triggers.local_chessboard]),
)  # fmt: skip
def test_squares_of_any_size(shape: tuple[int, int, int], size: Any, margin: Any, make: Callable[..., Any]) -> None:
    """A square of that side, that far from the corner, inside the image; or one error."""
    try:
        made = make(shape, size=size, margin=margin)
    except (ValueError, TypeError) as error:
        check_error(error)
        assert min(shape) < 1 or not isinstance(size, int) or not isinstance(margin, int) or (
            size < 1 or margin < 0 or size + margin > min(shape[1:])) or (
            make is triggers.local_chessboard and size == 1 and (shape[1] + shape[2]) % 2)  # fmt: skip
        return
    rows, columns = (made.mask[0] > 0).nonzero().T
    edge = shape[1] - 1 - margin, shape[2] - 1 - margin
    assert (int(rows.max()), int(columns.max())) == edge
    assert int(rows.min()) == edge[0] - size + 1
    assert tuple(made(torch.zeros(1, *shape)).shape) == (1, *shape)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("door", ["red_a", "neural_cleanse", "fit", "repair", "LikelihoodDetector.fit"])
def test_whatever_mode_of_gradients_the_caller_is_in(door: str, mode: Any) -> None:
    usual, given = usual_answer(door), arguments(door)
    with mode():
        result = numbers(DOORS[door][1](**given))
    torch.testing.assert_close(result, usual)


def test_patterns_are_the_same_whatever_the_default_dtype() -> None:
    makers = (triggers.box, triggers.blend, triggers.trojan_square, triggers.chessboard, triggers.watermark)
    usual = [make((3, 16, 16)) for make in makers]
    torch.set_default_dtype(torch.float64)
    try:
        doubled = [make((3, 16, 16)) for make in makers]
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(usual, doubled, strict=True):
        assert other.pattern.dtype == other.mask.dtype == torch.float32
        torch.testing.assert_close(other.pattern, one.pattern)
        torch.testing.assert_close(other.mask, one.mask)


def test_the_toy_is_what_the_table_says() -> None:
    """Else "the usual result" would say nothing."""
    assert metrics.accuracy(hand_set(10), X, Y) == 1.0
    assert metrics.attack_success_rate(hand_set(10), PIXEL, X, Y, target=TARGET) == 1.0
    assert {case[0] for case in CASES} == set(DOORS)
