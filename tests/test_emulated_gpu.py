"""The library with its networks on a GPU, held without one: `emulated_gpu` refuses what CUDA refuses.

``pytest --emulated-gpu tests`` runs all tests so, and the lessons.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import emulated_gpu as device
import numpy as np
import pytest
import torch
from emulated_gpu import counts, waits
from torch import nn
from toys import TARGET, hand_set, lit_pixels, toy_data

from btlib import attacks, checkpoints, datasets, detection, inflight, metrics, networks, repair, training, triggers
from btlib.attacks import input_aware, invisible, stealthy
from btlib.checkpoints import Spec
from btlib.datasets import ImageDataset
from btlib.detection import Detector, Inversion, Search, configured, weights
from btlib.detection.outcome import Estimate
from btlib.exercises import EXERCISES
from btlib.networks import Network
from btlib.testing.networks import attacked
from btlib.training import Recipe

GPU = torch.device("cuda", 0)
LESSONS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SHORT = Recipe(epochs=1, batch_size=32)


pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_name() != "Emulated GPU", reason="there is a real one"
)


@pytest.fixture(autouse=True)
def _gpu() -> Iterator[None]:
    with device.emulated_gpu():
        yield


def on_gpu(thing: Any) -> bool:
    return bool(networks.reference(thing).device == GPU)


# ---------------------------------------------------------------------------------------------- the device itself

CPU = torch.arange(3.0)
REFUSED: dict[str, Callable[[torch.Tensor], Any]] = {
    "a sum over both devices": lambda x: x + CPU,
    "a backward pass": lambda x: (x.requires_grad_() * x).backward(CPU),
    "a product": lambda x: x @ CPU,
    "joined": lambda x: torch.cat([x, CPU]),
    "a number of the CPU joined": lambda x: torch.stack([x[0], torch.ones(())]),
    "added to a number of the CPU": lambda x: torch.zeros(()).add_(x[0]),
    "CPU indexed by GPU": lambda x: CPU[x.long()],
    "CPU masked by GPU": lambda x: CPU[x > 1],
    "a part replaced": lambda x: x.__setitem__(torch.tensor([0, 1]), torch.ones(2)),
    "a one-hot product": lambda x: torch.nn.functional.one_hot(x.long()).float() @ CPU,
    "written to the other": lambda x: torch.add(x, x, out=CPU.clone()),
    "NumPy": lambda x: x.numpy(),
    "NumPy by the way": lambda x: np.asarray(x),
    "a CPU generator": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
    "a shuffle by one": lambda x: torch.randperm(3, device=x.device, generator=torch.Generator()),
    "a network elsewhere": lambda x: torch.nn.Linear(3, 2)(x),
    "images elsewhere": lambda x: torch.nn.Linear(3, 2, device=x.device)(CPU),
    "labels elsewhere": lambda x: torch.nn.functional.cross_entropy(x.repeat(3, 1), CPU.long()),
}


@pytest.mark.parametrize("mistake", REFUSED.values(), ids=REFUSED)
def test_what_cuda_refuses_is_refused(mistake: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises((RuntimeError, TypeError), match="cuda|device"):
        mistake(torch.arange(3.0, device="cuda"))


def test_what_cuda_takes_is_taken_with_the_same_numbers() -> None:
    x = CPU.to("cuda")
    assert x.device == torch.zeros_like(x).device == x.new_ones(2).device == (x + 1).device == GPU
    assert torch.tensor([1.0], device="cuda").device == CPU.to(x).device == GPU
    assert x.cpu().device.type == x.to(CPU).device.type == torch.zeros_like(x, device="cpu").device.type == "cpu"
    assert (x + CPU.sum()).tolist() == [3.0, 4.0, 5.0]  # a number may come from anywhere
    assert x[torch.tensor([2, 0])].tolist() == [2.0, 0.0]  # as may an index
    x[torch.tensor([True, False, True], device="cuda")] = 7.0
    assert x.tolist() == [7.0, 1.0, 7.0]
    assert x.cpu().numpy().sum() == 15


def test_it_counts_operations_and_waits() -> None:
    x = torch.ones(3, device="cuda")
    counts.clear()
    y = x * 2 + 1
    assert counts == {"operations": 2}
    assert float(y.sum()) == 9
    assert (counts["operations"], counts["sync"]) == (4, 1)
    _ = x[x > 0]
    assert counts["sync"] == 2


def test_it_ends() -> None:
    assert training.device_for() == torch.device("cuda")


# ---------------------------------------------------------------------------------------------- the library on it


@dataclass(frozen=True)
class Careless(Detector):
    """A planted mistake: where the images are is forgotten."""

    def _estimate(self, network: Any, data: Any, targets: Any) -> list[Estimate]:
        network(data.images + torch.zeros(data.images.shape[1:]))
        return []


def test_a_planted_mistake_is_seen() -> None:
    with pytest.raises(RuntimeError, match="same device"):
        Careless()(hand_set(10.0).to("cuda"), *lit_pixels(4))


@pytest.mark.parametrize("name", ["lenet5", "vgg9"])
def test_training_and_going_on_with_it(name: str, tmp_path: Path) -> None:
    data, recipe = toy_data(train=32), Recipe(epochs=3, batch_size=32, augment="crop+flip", precision="auto")

    def killed(epoch: int, _: Any) -> dict[str, float]:
        if epoch == 2:
            raise KeyboardInterrupt
        return {}

    network = networks.build(name, data)
    with pytest.raises(KeyboardInterrupt):
        training.fit(network, data, recipe, resume=tmp_path / "state", on_epoch=killed)
    network = networks.build(name, data)
    counts.clear()
    run = training.fit(network, data, recipe, resume=tmp_path / "state")
    assert on_gpu(network)
    assert run.curve("epoch") == [1, 2, 3]


def test_a_step_waits_for_nothing() -> None:
    waited = []
    for images in (32, 160):
        data = toy_data(train=images)
        counts.clear()
        training.fit(networks.build("lenet5", data), data, replace(SHORT, precision="auto"))
        waited.append(counts["sync"])
    assert waited[0] == waited[1]


def test_a_checkpoint_is_measured_where_it_was_trained(tmp_path: Path) -> None:
    data = toy_data(train=32)
    spec = Spec("lenet5", data, SHORT, trigger="box", target=1, per_class=4)
    network = checkpoints.load_or_train(spec, folder=tmp_path)
    assert network.head.weight.device.type == "cpu"
    assert any(line.startswith("metrics/prediction.py") for line in waits), "measured on the CPU"
    assert network.card.accuracy == metrics.accuracy(network.to("cuda"), data.x_test, data.y_test)


@pytest.mark.parametrize("name", detection.DETECTORS)
def test_detectors_say_the_same_as_on_a_cpu(name: str) -> None:
    short = Inversion(rounds=6, steps=1, batch_size=9, lr=0.3, patience=2, multiplier=1.5, check=False, bisections=3)
    detector = configured(
        detection.find(name), inversion=short, search=Search(0.2, max_norm=2.0, bisections=3), per_class=3
    )
    images, labels = lit_pixels(3, noise=2)
    on_cpu = detector(hand_set(10.0), images, labels)
    for place in ("cpu", "cuda"):
        found = detector(hand_set(10.0).to("cuda"), images.to(place), labels.to(place))
        assert found.norms == pytest.approx(on_cpu.norms, nan_ok=True)
        assert found.estimates[2].trigger.pattern.device.type == "cpu"


def test_ties_in_pooling_are_a_cpus_where_patterns_are_looked_for() -> None:
    noise = 1e-6 * torch.rand(
        1, 1, 16, 16, generator=torch.Generator().manual_seed(0)
    )  # what rounding does to a plain area
    network = networks.build("lenet5", toy_data()).eval()
    slopes = []
    for place in ("cpu", "cuda"):
        image = noise.to(place).requires_grad_()
        (slope,) = torch.autograd.grad(network.to(place)(image)[0, 1], image)
        slopes.append(slope.cpu())
    torch.testing.assert_close(*slopes)


def test_batches_grow_with_the_memory_that_a_process_may_have() -> None:
    assert networks.images_at_once(1000, GPU) == 1000  # 8 GiB
    for gib, share, wanted in ((24, 1.0, 1000), (48, 1.0, 2000), (80, 1.0, 4000), (190, 1.0, 4000), (80, 0.25, 1000)):
        card = SimpleNamespace(total_memory=gib * 2**30)
        fakes = {"get_device_properties": lambda _: card, "get_per_process_memory_fraction": lambda _: share}  # noqa: B023
        with mock.patch.multiple(torch.cuda, **fakes):
            assert networks.images_at_once(1000, GPU) == wanted


def test_settled_weights_are_the_same_and_seldom_waited_for() -> None:
    rates, allowed = torch.tensor([[0.8, 0.5, 0.0], [0.1, 0.2, 0.0]]), torch.tensor([[True, True, False]] * 2)
    start = allowed / 2.0
    settled = weights.settle(rates, start, allowed)
    counts.clear()
    there = weights.settle(*(x.to("cuda") for x in (rates, start, allowed)))
    assert there.cpu().equal(settled)
    assert counts["sync"] <= 1 + 300 // 16


@pytest.fixture(scope="module")
def small() -> tuple[Network, ImageDataset]:
    data = toy_data(train=240, test=90)
    network = networks.build("lenet5", data)
    training.fit(network, data, Recipe(epochs=4, batch_size=32, lr=3e-3), device="cpu")
    return network, data


@pytest.mark.parametrize("name", inflight.DETECTORS)
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_in_flight_detectors(name: str, place: str) -> None:
    def lit(images: torch.Tensor) -> torch.Tensor:
        stamped = images.clone()
        stamped[..., -1, -1] = 1.0
        return stamped

    make = partial(inflight.DETECTORS[name], **({"overlays": 9} if "strip" in name else {}))
    images, labels = lit_pixels(9, noise=3)
    on_cpu = make().fit(attacked(), images, labels, target=TARGET, trigger=lit).inspect(images)
    images, labels = images.to(place), labels.to(place)
    detector = make().fit(attacked().to("cuda"), images, labels, target=TARGET, trigger=lit)
    report = detector.inspect(images)
    assert report.predicted.cpu().equal(on_cpu.predicted)
    assert report.is_trigger.cpu().equal(on_cpu.is_trigger)
    assert inflight.measure_rates(detector, images, labels, trigger=lit).triggers == 18


def test_a_guard_moves_and_comes_back_from_its_file(small: tuple[Network, ImageDataset], tmp_path: Path) -> None:
    network, data = small
    images, box = datasets.to_float(data.x_test), triggers.box(data.image_shape)
    detector = inflight.LikelihoodDetector().fit(network, images, data.y_test, target=1, trigger=box)
    path = inflight.Guard(network, detector).save(tmp_path / "guard", network_name="lenet5")
    guard = inflight.Guard.load(path)
    on_cpu = guard(images)
    answer = guard.to("cuda")(images.to("cuda"))
    assert answer.label.device == GPU
    assert answer.label.cpu().equal(on_cpu.label)


def test_fine_tuning_as_a_rival(small: tuple[Network, ImageDataset]) -> None:
    network, data = small
    tuned = inflight.source_by_fine_tuning(network.to("cuda"), data, triggers.box(data.image_shape), share=0.5,
                                           learning_rates=[0.01])  # fmt: skip
    assert 0 <= tuned.accuracies(datasets.to_float(data.x_test), data.y_test)[0.01] <= 1
    network.cpu()


REPAIRS: dict[str, repair.Repair] = {
    "fine-tuning": repair.FineTuning(SHORT), "unlearning": repair.Unlearning(0.3, SHORT),
    "fine-pruning": repair.FinePruning(recipe=SHORT), "activation caps": repair.ActivationCaps(epochs=1),
    "adversarial neuron pruning": repair.AdversarialNeuronPruning(steps=4, batch_size=32),
    "implicit unlearning": repair.ImplicitUnlearning(rounds=2, ascents=2, recipe=SHORT),
    "channel Lipschitzness": repair.ChannelLipschitz(u=2),
}  # fmt: skip


def normalised(data: ImageDataset) -> tuple[nn.Module, torch.Tensor]:
    """A network with batch normalisation, and labels that it agrees with: it is not trained."""
    convolutions = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    network = nn.Sequential(*convolutions, nn.LazyLinear(3)).eval()
    return network, metrics.predict(network, data.x_test).argmax(1)


@pytest.mark.parametrize("name", repair.REPAIRS)
def test_repairs(name: str, small: tuple[Network, ImageDataset]) -> None:
    data = small[1]
    network, labels = normalised(data) if name == "channel Lipschitzness" else (small[0], data.y_test)
    given = {"trigger": triggers.box(data.image_shape)} if name == "unlearning" else {}
    mended = REPAIRS[name](network.to("cuda"), datasets.to_float(data.x_test), labels, **given)
    assert on_gpu(mended.network)
    assert on_gpu(network)
    network.cpu()


ATTACKS: dict[str, attacks.AttackRecipe] = {
    "stealthy": stealthy.StealthyRecipe(target=1, epochs=1, watch=30, restart=2),
    "stealthy patch": stealthy.StealthyRecipe(target=1, epochs=1, watch=30, pattern="patch"),
    "stealthy patch and pattern": stealthy.StealthyRecipe(target=1, epochs=1, watch=30, pattern="patch+generated"),
    "input-aware": input_aware.InputAwareRecipe(target=1, epochs=1, watch=30, batch_size=32),
    "input-aware from fresh weights": input_aware.InputAwareRecipe(1, epochs=1, watch=30, batch_size=32, scratch=True),
    "invisible": invisible.InvisibleRecipe(target=1, steps=3, per_class=4, watch=30, training=SHORT),
}


@pytest.mark.parametrize("recipe", ATTACKS.values(), ids=ATTACKS)
def test_attacks(recipe: attacks.AttackRecipe) -> None:
    data = toy_data(train=64)
    result = attacks.run(data, recipe, network=networks.build("lenet5", data))
    assert on_gpu(result.network)
    assert result.to("cpu").network.head.weight.device.type == "cpu"
    assert result.trigger(datasets.to_float(data.x_test)).device.type == "cpu"


def test_attacks_compute_in_half_precision_where_the_gpu_has_it() -> None:
    data = toy_data(train=32)
    network, seen = networks.build("lenet5", data), []
    network.body.register_forward_hook(lambda module, given, out: seen.append((module.training, out.dtype)))
    with mock.patch.object(torch.cuda, "is_bf16_supported", return_value=True):
        attacks.run(data, ATTACKS["stealthy"], network=network)
    assert (True, torch.bfloat16) in seen  # trained in it
    assert (False, torch.bfloat16) not in seen  # inverted and measured in float32


def test_the_indicators_of_an_attack_on_the_gpu(small: tuple[Network, ImageDataset]) -> None:
    network, data = small
    result = attacks.run(data.subset(train=32), ATTACKS["stealthy"], network=network)
    inversion = Inversion(rounds=2, steps=1, batch_size=8, lr=0.1)
    settings = {"images": 20, "per_class": 4, "overlays": 6, "inversion": inversion}
    found = attacks.indicators(result.network, result.trigger, data, 1, baseline=0.5, **settings)
    assert 0 <= found.asr <= 1


def test_a_data_set_on_the_gpu() -> None:
    data = toy_data(train=96).to("cuda")
    box = triggers.box(data.image_shape)
    assert data.fingerprint == toy_data(train=96).fingerprint
    assert data.subset(train=20, test=10).x_train.device == GPU
    poisoned = attacks.invisible.poisoning.poison(data, box, 1, per_class=3)
    training.fit(networks.build("lenet5", data), poisoned, SHORT)
    assert data.defender_split(2).images.device == GPU


@pytest.mark.parametrize("name", EXERCISES)
def test_solutions_of_exercises_pass_their_checks(name: str) -> None:
    EXERCISES[name].check(EXERCISES[name].solution)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_lessons(lesson: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--emulated-gpu"):
        pytest.skip("takes a minute each: only with --emulated-gpu")
    ran = subprocess.run([sys.executable, device.__file__, str(lesson)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr.splitlines()[-1]
    if "cuda" in lesson.read_text(encoding="utf-8"):  # 01, 03 and 08 announce none
        assert int(ran.stdout.splitlines()[-1].split()[0]) > 0, "announced, and never used"
