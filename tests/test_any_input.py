"""Whatever a stranger passes: the result of the same thing said properly, or one error with expected and got.

Each odd value below knows what it means: another way of saying a right value (then the result must be that of the right
one), or nothing (then it must be refused). A wrong value that is taken in silence fails here.
"""

import copy
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import TARGET, hand_set, lit_pixels

from btlib import attacks, datasets, detection, inflight, metrics, networks, poisoning, repair, training, triggers
from btlib.datasets import ImageDataset
from btlib.networks import Network
from btlib.networks.layers import sequential
from btlib.testing.networks import attacked
from btlib.training import Recipe

X, Y = lit_pixels(12, noise=3)
SHAPE = (1, 8, 8)
S = torch.linspace(0, 1, 12)
PIXEL = triggers.single_pixel(SHAPE)
NOTHING = object()  # the meaning of what must be refused


@dataclass(frozen=True)
class Odd:
    """A value that may be passed, and the usual one that means the same."""

    make: Callable[[], Any]
    meaning: Any = NOTHING


def toy() -> Network:
    """`attacked`, which is `hand_set(10)` with neurons to look into, behind a convolution and a batch normalisation."""
    like = attacked()
    with torch.random.fork_rng(devices=[]):
        first, hidden = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(128, 64, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([1.0, 0.5])[:, None, None, None])
        hidden.weight.copy_(torch.eye(64, 128))
    body = sequential(
        first=first, norm=nn.BatchNorm2d(2), flatten=nn.Flatten(), dropout=nn.Dropout(0.5), hidden=hidden
    )  # fmt: skip
    return Network(body, like.head, like.normalize, like.image_shape, {}).eval()


class Wrapped(nn.Module):
    """The toy network, with something done to what goes in or comes out."""

    def __init__(self, after: Callable[[Tensor], Any] = lambda z: z, before: Callable[[Tensor], Tensor] = lambda x: x):
        super().__init__()
        self.net, self.after, self.before = toy(), after, before

    def forward(self, x: Tensor) -> Any:
        return self.after(self.net(self.before(x)))


def broken(x: Tensor) -> Tensor:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def with_nan() -> nn.Module:
    net = toy()
    net.head.weight.data[0, 0] = math.nan
    return net


NETWORKS: dict[str, Odd] = {
    "in training mode": Odd(lambda: toy().train(), "usual"),
    "of another kind": Odd(Wrapped, "usual"),
    "in double precision": Odd(lambda: toy().double(), "usual"),
    "in half precision": Odd(lambda: toy().half()),
    "that works in place": Odd(lambda: Wrapped(before=lambda x: x.mul_(1.0)), "usual"),
    "nothing": Odd(lambda: None),
    "a state dict": Odd(lambda: toy().state_dict()),
    "a path": Odd(lambda: Path("network.safetensors")),
    "a class": Odd(lambda: Wrapped),
    "that gives a tuple": Odd(lambda: Wrapped(lambda z: (z, z))),
    "that gives a dict": Odd(lambda: Wrapped(lambda z: {"logits": z})),
    "that gives one row less": Odd(lambda: Wrapped(lambda z: z[1:])),
    "that gives maps": Odd(lambda: Wrapped(lambda z: z[:, :, None, None])),
    "that gives one number": Odd(lambda: Wrapped(lambda z: z.sum())),
    "that knows one class": Odd(lambda: Wrapped(lambda z: z[:, :1])),
    "for other images": Odd(lambda: hand_set(10, size=10)),
    "that breaks inside torch": Odd(lambda: Wrapped(before=broken)),
    "with weights that are NaN": Odd(with_nan),
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
#: Beside other images: of what both of them may be, nothing is odd.
OTHERS = {name: one for name, one in IMAGES.items() if name not in ("in colour", "of another size")}
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
COUNTS: dict[str, Odd] = {
    "numpy's": Odd(lambda: np.int64(2), "usual"),
    "0": Odd(lambda: 0),
    "-1": Odd(lambda: -1),
    "a half": Odd(lambda: 0.5),
    "a float": Odd(lambda: 2.0),
    "a name": Odd(lambda: "2"),
    "more than there are": Odd(lambda: 10**6),
}
SHAPES: dict[str, Odd] = {
    "a list": Odd(lambda: [1, 8, 8], "usual"),
    "numpy's": Odd(lambda: tuple(np.array([1, 8, 8])), "usual"),
    "of two numbers": Odd(lambda: (8, 8)),
    "of a batch": Odd(lambda: (2, 1, 8, 8)),
    "without rows": Odd(lambda: (1, 0, 8)),
    "negative": Odd(lambda: (1, -8, 8)),
    "of floats": Odd(lambda: (1.0, 8.0, 8.0)),
    "a name": Odd(lambda: "1×8×8"),
    "a number": Odd(lambda: 8),
    "nothing": Odd(lambda: None),
}
TRIGGERS: dict[str, Odd] = {
    "a function": Odd(lambda: lambda images: PIXEL(images), "usual"),
    "that gives one image less": Odd(lambda: lambda images: images[1:]),
    "that gives other sizes": Odd(lambda: lambda images: images[..., 1:]),
    "that gives 0…255": Odd(lambda: lambda images: images * 255 + 2),
    "that gives NaN": Odd(lambda: lambda images: images * math.nan),
    "that gives numpy": Odd(lambda: lambda images: images.detach().numpy()),
    "that gives nothing": Odd(lambda: lambda images: None),
}
SCORES: dict[str, Odd] = {
    "doubles": Odd(lambda: S.double(), "usual"),
    "nothing": Odd(lambda: None),
    "numpy": Odd(S.numpy),
    "NaN": Odd(lambda: S * math.nan),
    "none": Odd(lambda: S[:0]),
}
ODD = {
    "network": NETWORKS, "images": IMAGES, "labels": LABELS, "target": TARGETS, "seed": SEEDS, "count": COUNTS,
    "shape": SHAPES, "trigger": TRIGGERS, "others": OTHERS, "scores": SCORES,
}  # fmt: skip
USUAL: dict[str, Callable[[], Any]] = {
    "network": toy, "images": lambda: X.clone(), "labels": lambda: Y.clone(), "target": lambda: TARGET,
    "seed": lambda: 0, "count": lambda: 2, "shape": lambda: SHAPE, "trigger": lambda: PIXEL,
    "others": lambda: X.clone(), "scores": lambda: S.clone(),
}  # fmt: skip


def dataset(images: Any, labels: Any) -> ImageDataset:
    return ImageDataset("toy", images, labels, images, labels, ("a", "b", "c"))


def trainable(network: nn.Module) -> nn.Module:
    """A copy, as training changes what it is given."""
    return copy.deepcopy(network)


@torch.inference_mode(False)
def network_for_training() -> nn.Module:
    return toy()


def as_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().byte()


QUICK = detection.Inversion(rounds=20, steps=1, batch_size=36, lr=0.1)
TINY = detection.Inversion(rounds=2, steps=1, batch_size=36, lr=0.1)
ONE = Recipe(epochs=1)


def attack(recipe: Callable[..., Any], **settings: Any) -> Callable[..., Tensor]:
    """A door to an attack on the toy, whose numbers say what was trained."""

    def run(network: Any, target: Any, seed: Any) -> Tensor:
        data = dataset(as_bytes(X), Y)
        made = attacks.run(data, recipe(target=target, watch=36, **settings), seed, network=network, device="cpu")
        return torch.cat([metrics.predict(made.network, X), made.trigger(X).mean((2, 3))], 1)

    return run


def found(detector: type[detection.Detector], **settings: Any) -> tuple[str, Callable[..., Any]]:
    return "network images labels target seed", lambda network, images, labels, target, seed: numbers(detector(
        seed=seed, per_class=4, **settings)(network, images, labels, targets=target).norms).nan_to_num(7)  # fmt: skip


def repaired(method: repair.Repair) -> tuple[str, Callable[..., Any]]:
    return "network images labels seed", lambda network, images, labels, seed: metrics.predict(
        method(network, images, labels, trigger=PIXEL, seed=seed).network, X)  # fmt: skip


def fitted(detector: Callable[..., inflight.InFlightDetector]) -> tuple[str, Callable[..., Any]]:
    return "network images labels target trigger", lambda network, images, labels, target, trigger: (
        detector().fit(network, images, labels, target=target, trigger=trigger).scores(X))  # fmt: skip


@cache
def likelihoods() -> inflight.LikelihoodDetector:
    return inflight.LikelihoodDetector().fit(toy(), X, Y, target=TARGET, trigger=PIXEL)


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
        likelihoods().inspect(images).scores),
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
        network_for_training(), dataset(images, labels), ONE, seed=seed).history[0]["loss"]),
    "fit any network": ("network seed", lambda network, seed: training.fit(
        trainable(network), dataset(as_bytes(X), Y), ONE, seed=seed).history[0]["loss"]),
    "success_by_class": ("network trigger images labels target", lambda **given:
        metrics.success_by_class(**given).nan_to_num(7)),
    "separability": ("network trigger images labels target", metrics.separability),
    "psnr": ("images others", lambda images, others: min(metrics.psnr(images, others), 1e3)),
    "ssim": ("images others", lambda images, others: metrics.ssim(images, others)),
    "perturbation_norms": ("images others", lambda images, others: list(
        metrics.perturbation_norms(images, others).values())),
    "RedU": found(detection.RedU), "RedP": found(detection.RedP), "MaskRedA": found(detection.MaskRedA, inversion=TINY),
    "MaskRedP": found(detection.MaskRedP, inversion=TINY), "MMBD": found(detection.MMBD, starts=2, steps=20),
    "additive_estimation": ("network images labels target", lambda **given:
        detection.additive_estimation(**given).norm),
    "screen": ("network images labels count seed", lambda network, images, labels, count, seed:
        detection.screen(network, images, labels, per_class=count, seed=seed)),
    "B3DDetector.fit": fitted(inflight.B3DDetector),
    "ScaleUpDetector.fit": ("network images labels target", lambda network, images, labels, target:
        inflight.ScaleUpDetector().fit(network, images, labels, target=target).scores(X)),
    "CapsDetector.fit": ("network images labels target seed", lambda network, images, labels, target, seed:
        inflight.CapsDetector(repair.ActivationCaps(epochs=1), seed=seed).fit(
            network, images, labels, target=target).scores(X)),
    "Guard": ("images", lambda images: inflight.Guard(toy(), likelihoods())(images).scores),
    "measure_rates": ("images labels trigger", lambda images, labels, trigger: inflight.measure_rates(
        likelihoods(), images, labels, trigger=trigger).tpr),
    "roc": ("scores", lambda scores: inflight.roc(scores, S + 0.3).auc),
    "blend_entropy": ("network images others", lambda network, images, others:
        inflight.blend_entropy(network, images, others)),
    "scaled_consistency": ("network images", inflight.scaled_consistency),
    "source_by_fine_tuning": ("network images labels trigger seed", lambda network, images, labels, trigger, seed:
        metrics.predict(inflight.source_by_fine_tuning(network, dataset(images, labels), trigger, learning_rates=[0.01],
            share=0.9, seed=seed).networks[0.01], X)),
    "Unlearning": repaired(repair.Unlearning(recipe=ONE)), "FinePruning": repaired(repair.FinePruning(recipe=ONE)),
    "AdversarialNeuronPruning": repaired(repair.AdversarialNeuronPruning(steps=2)),
    "ImplicitUnlearning": repaired(repair.ImplicitUnlearning(ascents=1, recipe=ONE)),
    "ActivationCaps": repaired(repair.ActivationCaps(epochs=1)),
    "ChannelLipschitz": repaired(repair.ChannelLipschitz()),
    "stealthy": ("network target seed", attack(attacks.stealthy.StealthyRecipe, epochs=1, batch_size=36)),
    "input_aware": ("network target seed", attack(attacks.input_aware.InputAwareRecipe, epochs=1, batch_size=36)),
    "invisible": ("network target seed", attack(
        attacks.invisible.InvisibleRecipe, steps=2, per_class=2, training=ONE)),
    "indicators": ("network trigger target seed", lambda network, trigger, target, seed: list(asdict(
        attacks.indicators(network, trigger, dataset(as_bytes(X), Y), target, baseline=1.0, images=24, per_class=2,
            overlays=3, inversion=TINY, seed=seed)).values())[:4]),
    "source_classes": ("target", lambda target: poisoning.source_classes("all", target, 3)),
    "poison with any trigger": ("trigger", lambda trigger: poisoning.poison(
        dataset(as_bytes(X), Y), trigger, TARGET, per_class=2).x_train),
    "poison so many": ("count", lambda count: poisoning.poison(
        dataset(as_bytes(X), Y), PIXEL, TARGET, per_class=count).x_train),
    "subset": ("count seed", lambda count, seed: dataset(as_bytes(X), Y).subset(train=count, seed=seed).x_train),
    "defender_split": ("count seed", lambda count, seed:
        dataset(as_bytes(X), Y).defender_split(count, seed=seed).images),
    "sample_per_class": ("count seed", lambda count, seed: datasets.sample_per_class(Y, count, range(3), seed=seed)),
    "as_float": ("images", datasets.as_float),
    "as_labels": ("labels images", lambda labels, images: datasets.as_labels(labels, datasets.as_float(images), 3)),
    **{name: ("shape seed" if "seed" in signature(make).parameters else "shape",
              lambda shape, make=make, **seed: make(shape, **seed)(torch.full((1, *SHAPE), 0.3)))
       for name, make in (triggers.TRIGGERS | {"adaptive_patch": partial(triggers.adaptive_patch, size=2)}).items()},
    "WarpTrigger.in_training": ("images seed", lambda images, seed:
        triggers.wanet(SHAPE).in_training(images, cover=True, seed=seed)),
    "PartialTrigger.in_training": ("images seed", lambda images, seed:
        triggers.adaptive_blend(SHAPE).in_training(images, seed=seed)),
}  # fmt: skip
DETECTORS = ("RedU", "RedP", "MaskRedA", "MaskRedP", "MMBD")
#: They pass images through a network, and neither search nor train: in half precision it says the same.
ONLY_PASSES = (
    "accuracy", "predict", "attack_success_rate", "success_by_class", "separability", "blend_entropy",
    "scaled_consistency", "LikelihoodDetector.fit", "StripDetector.fit", "NeuronDetector.fit", "B3DDetector.fit",
    "ScaleUpDetector.fit",
)  # fmt: skip
#: Where an odd value means something else than in the table above, and why.
OTHERWISE: dict[tuple[str, str, str], Any] = {
    ("trigger", "images", "one image"): "one",  # a single picture is a documented input
    ("trigger", "images", "no images"): "none",
    ("predict", "images", "no images"): "none",
    **{
        (door, "images", "no images"): "none"
        for door in (
            "inspect",
            "Guard",
            "blend_entropy",
            "scaled_consistency",
            "as_float",
            "WarpTrigger.in_training",
            "PartialTrigger.in_training",
        )
    },
    **{
        (door, "images", name): "as it is"
        for door in ("as_float", "as_labels")
        for name in ("in colour", "of another size")
    },  # nothing says what size is expected
    **{(door, "target", "nothing"): "as it is" for door in DETECTORS},  # all classes
    **{(door, "target", "two"): "as it is" for door in DETECTORS},
    **{("MMBD", argument, "nothing"): "as it is" for argument in ("images", "labels")},
    **{(door, "count", "0"): "as it is" for door in ("sample_per_class", "poison so many")},
    # Of a logit that is NaN an image is of no class: no success, and no constant answer.
    **{
        (door, "network", "with weights that are NaN"): "as it is"
        for door in (
            "accuracy",
            "predict",
            "attack_success_rate",
            "success_by_class",
            "separability",
            "blend_entropy",
            "scaled_consistency",
            "source_by_fine_tuning",
        )
    },
    **{
        (door, "network", name): NOTHING
        for door in ("separability", "invisible")
        for name in ("of another kind", "that works in place")
    },  # they look inside
    **{(door, "network", "in half precision"): "usual" for door in ONLY_PASSES},
    ("screen", "network", "in double precision"): "as it is",  # thirty steps of a sign: its order counts
    ("input_aware", "network", "in double precision"): "as it is",  # it magnifies the last digit of a sum
    ("PartialTrigger.in_training", "images", "doubles"): "as it is",  # .75 of a level lies between two
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
    network = network if isinstance(network, nn.Module) else nn.Module()
    modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    every = [*network.parameters(), *network.buffers()]
    weights = [(each.clone(), (each.requires_grad, each.dtype, each.stride())) for each in every]
    tensors = {k: v.detach().clone() for k, v in given.items() if isinstance(v, Tensor)}
    return (
        modules,
        weights,
        tensors,
        torch.get_rng_state(),
        torch.get_default_dtype(),
        (torch.is_grad_enabled()),
        np.random.get_state()[1].tolist(),
    )


def unchanged(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    assert before[0] == after[0], "the modes of modules, or their hooks"
    for (old, had), (new, has) in zip(before[1], after[1], strict=True):
        assert torch.equal(old.nan_to_num(7), new.nan_to_num(7)), "the weights"
        assert had == has, "whether weights want gradients, their kind of number, or their order in memory"
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
    assert type(error) in (ValueError, TypeError, FloatingPointError), f"{type(error).__name__}: {said}"
    assert "expected" in said and ("got" in said or "says" in said), said  # noqa: PT018 (one sentence)


#: They take a data set, whose images are bytes and whose labels are int64.
SETS = ("sample", "poison", "fit", "source_by_fine_tuning")
CASES = [(door, argument) for door, (takes, _) in DOORS.items() for argument in takes.split()]


@pytest.mark.parametrize(("door", "argument"), CASES, ids=[" ".join(case) for case in CASES])
def test_one_odd_value(door: str, argument: str) -> None:
    for name in list(ODD[argument]):
        try:
            check_one(door, argument, name)
        except BaseException as error:
            error.add_note(f"{door}: {argument} {name}")
            raise


def check_one(door: str, argument: str, name: str) -> None:
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


@given(st.data())
def test_several_odd_values(data: st.DataObject) -> None:
    """One error for all of them, or the usual result where all mean that."""
    door = data.draw(st.sampled_from(list(DOORS)))
    takes = DOORS[door][0].split()
    chosen = data.draw(st.lists(st.sampled_from(takes), min_size=min(2, len(takes)), unique=True))
    names = {argument: data.draw(st.sampled_from(list(ODD[argument]))) for argument in chosen}
    odds = {argument: odd(door, argument, name) for argument, name in names.items()}
    result = answer(door, arguments(door, **{argument: one.make() for argument, one in odds.items()}))
    if any(one.meaning is NOTHING for one in odds.values()):
        if any(one.meaning == "none" for one in odds.values()) and isinstance(result, Tensor) and not len(result):
            return  # of no images a network can't give a row too little
        assert isinstance(result, Exception), f"taken in silence: {result}"
        check_error(result)
    elif isinstance(result, Exception):
        if all(one.meaning == "usual" for one in odds.values()):
            raise result
        check_error(result)


class Stopped(Exception):
    """Of the caller's, in the middle of a call."""


@pytest.mark.parametrize("door", [door for door, (takes, _) in DOORS.items() if takes.startswith("network")])
def test_a_network_that_breaks_in_the_middle(door: str) -> None:
    """The network's own error comes out, and all is as it was; or it was not asked so often."""
    network, left = toy().train(), iter(range(2))

    def count(*_: Any) -> None:
        if next(left, None) is None:
            raise Stopped

    network.body.flatten.register_forward_hook(count)
    result = answer(door, arguments(door, network=network))
    assert isinstance(result, (Tensor, Stopped)), repr(result)


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
    assert metrics.accuracy(toy(), X, Y) == 1.0
    assert metrics.attack_success_rate(toy(), PIXEL, X, Y, target=TARGET) == 1.0
    assert {case[0] for case in CASES} == set(DOORS)


#: Public names that are no doors for a stranger's input, and those whose odd input other tests try.
ELSEWHERE = """
    what comes back: AttackResult Indicators Detection Estimate Verdict GuardedPrediction HeldOutRates InFlightRates
        InspectionReport Roc Repaired PoisonRecord PoisonedDataset TrainingRun DefenderSplit Facts
    what others build on: Trigger Attack AttackRecipe Detector InFlightDetector Repair Reader Stage Fitting AnyTrigger
    settings, tried in their own tests: Recipe Search Inversion DataSource AttackSpec GeneratedTrigger MaskedTrigger
        FAITHFUL FAST FOCUSED PUBLIC QUICK COVARIANCES LEARNING_RATES RECIPES VERSION Kind Precision Shape
    names and files: ATTACKS DETECTORS REPAIRS TRIGGERS register find configured settings_of build load available
        verify names roots load_or_run make_shipped shipped export_guard with_caps DataError
    arithmetic on what was checked: anomaly attach logit_change output_change relevant_neurons probabilities quantize
        to_float to_uint8 check_images augmented learning_rate curve shuffled FineTuning
    inside a training: train device_for in_precision optimizer_for placed seeded evaluating frozen
"""


def test_every_public_name_is_a_door_or_is_tried_elsewhere() -> None:
    known = set(re.findall(r"\w+", Path(__file__).read_text(encoding="utf-8")))
    modules = (attacks, datasets, detection, inflight, metrics, poisoning, repair, training, triggers)
    public = {name for module in modules for name in getattr(module, "__all__", ("poison", "source_classes"))}
    functions = {"mask_red_a", "red_u", "red_p"}  # the detectors above, under another name
    assert sorted(public - known - functions - set(triggers.TRIGGERS)) == []
