"""One loop: it learns, repeats itself exactly, goes on after a kill, and refuses what it can't do."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import TARGET, toy_data

from btlib import metrics, networks, poisoning, triggers
from btlib.datasets import ImageDataset
from btlib.networks.generator import Generator
from btlib.resume import ResumeFile
from btlib.training import (
    RECIPES,
    Fitting,
    Recipe,
    Stage,
    TrainingRun,
    augmented,
    curve,
    device_for,
    fit,
    learning_rate,
    optimizer_for,
    placed,
    seeded,
    shuffled,
    train,
)
from btlib.training.device import has_bf16, in_precision, keep_freed_memory

RECIPE = Recipe(epochs=3, batch_size=32, lr=4e-3)


def trained(
    data: ImageDataset, recipe: Recipe = RECIPE, seed: int = 0, network: str = "lenet5", **settings: object
) -> tuple[Tensor, TrainingRun]:
    """All weights and running statistics after training, as one vector, and the run."""
    net = networks.build(network, data, seed=0)
    run = fit(net, data, recipe, seed=seed, progress=False, **settings)  # type: ignore[arg-type]
    return torch.cat([tensor.flatten() for tensor in net.state_dict().values()]), run


# ---------------------------------------------------------------------- it learns


def test_it_learns_the_toy_and_reports_how(toy: ImageDataset) -> None:
    net = networks.build("lenet5", toy, seed=0)
    seen: list[tuple[int, bool]] = []

    def on_epoch(epoch: int, network: nn.Module) -> Mapping[str, float]:
        seen.append((epoch, network.training))
        return {"accuracy": metrics.accuracy(network, toy.x_test, toy.y_test)}

    run = fit(net, toy, Recipe(epochs=5, batch_size=32, lr=4e-3), seed=0, progress=False, on_epoch=on_epoch)
    assert seen == [(epoch, False) for epoch in range(1, 6)]
    assert run.curve("accuracy")[-1] == 1.0
    assert run.curve("epoch") == [1, 2, 3, 4, 5]
    assert run.curve("loss")[-1] < 0.1 < run.curve("loss")[0]
    assert run.curve("train_accuracy")[-1] > 0.99
    assert run.seconds == pytest.approx(sum(run.curve("seconds")))
    assert (run.seed, run.recipe.epochs) == (0, 5)
    assert not net.training
    with pytest.raises(KeyError, match="'f1' is not in the history"):
        run.curve("f1")


def test_poison_plants_a_backdoor_and_a_clean_twin_has_none(toy: ImageDataset) -> None:
    trigger = triggers.box(toy.image_shape)
    rates = {}
    recipe = Recipe(epochs=8, batch_size=32, lr=4e-3)
    for name, data in (("poisoned", poisoning.poison(toy, trigger, TARGET, per_class=20)), ("clean", toy)):
        net = networks.build("lenet5", data, seed=0)
        fit(net, data, recipe, seed=0, progress=False)
        assert metrics.accuracy(net, toy.x_test, toy.y_test) > 0.95
        rates[name] = metrics.attack_success_rate(net, trigger, toy.x_test, toy.y_test, TARGET)
    assert rates["poisoned"] > 0.95
    assert rates["clean"] < 0.05


# ---------------------------------------------------------------------- it repeats itself


@pytest.mark.parametrize(("network", "augment"), [("lenet5", "crop+flip"), ("littlenet", "shift+flip")])
def test_same_seed_same_weights(network: str, augment: str, toy: ImageDataset) -> None:
    recipe = Recipe(epochs=2, batch_size=64, augment=augment)  # type: ignore[arg-type]
    first, run = trained(toy, recipe, network=network)
    again, same = trained(toy, recipe, network=network)
    other, _ = trained(toy, recipe, seed=1, network=network)
    assert torch.equal(first, again)
    assert run.curve("loss") == same.curve("loss")
    assert not torch.equal(first, other)


def test_the_callers_random_state_is_left_alone(toy: ImageDataset) -> None:
    torch.manual_seed(5)
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, _ = trained(toy, Recipe(epochs=1, augment="crop"))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numpys
    torch.manual_seed(6)
    assert torch.equal(trained(toy, Recipe(epochs=1, augment="crop"))[0], first), "the caller's state leaks in"


def test_what_on_epoch_draws_does_not_change_the_training(toy: ImageDataset) -> None:
    def draws(epoch: int, network: nn.Module) -> Mapping[str, float]:
        return {"noise": float(torch.rand(epoch).sum())}

    quiet, _ = trained(toy)
    noisy, run = trained(toy, on_epoch=draws)
    assert torch.equal(quiet, noisy)
    assert len(run.curve("noise")) == 3


def test_the_data_are_not_changed(toy: ImageDataset) -> None:
    x, y = toy.x_train.clone(), toy.y_train.clone()
    trained(toy, Recipe(epochs=1, augment="crop+flip"))
    assert torch.equal(toy.x_train, x)
    assert torch.equal(toy.y_train, y)


# ---------------------------------------------------------------------- it goes on after a kill


class Killed(Exception):
    pass


@pytest.mark.parametrize("schedule", ["constant", "step", "one_cycle"])
@pytest.mark.parametrize(
    ("network", "optimizer", "augment"), [("littlenet", "adam", "crop"), ("lenet5", "nesterov", "shift+flip")]
)
def test_a_stopped_training_ends_in_the_same_weights(
    network: str, optimizer: str, augment: str, schedule: str, toy: ImageDataset, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=4, batch_size=64, lr=2e-3, optimizer=optimizer, schedule=schedule, step_epochs=2,
                    augment=augment)  # type: ignore[arg-type]  # fmt: skip
    whole, run = trained(toy, recipe, network=network)
    state = tmp_path / "run.unfinished"

    def dies(epoch: int, network: nn.Module) -> Mapping[str, float]:
        if epoch == 3:
            raise Killed
        return {}

    with pytest.raises(Killed):
        trained(toy, recipe, network=network, resume=state, on_epoch=dies)
    torch.manual_seed(99)  # a new process has another random state
    weights, resumed = trained(toy, recipe, network=network, resume=state)
    assert torch.equal(weights, whole)
    assert resumed.curve("loss") == run.curve("loss")
    assert resumed.curve("epoch") == [1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["run.unfinished"], "something half-written was left"


def test_sigkill(toy: ImageDataset, tmp_path: Path) -> None:
    """A process killed by the system between two epochs; nothing of it is asked to cooperate."""
    state = tmp_path / "run.unfinished"
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from toys import toy_data
from btlib import networks
from btlib.training import Recipe, fit
data = toy_data()
def dies(epoch, network):
    if epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {{}}
fit(networks.build("lenet5", data, seed=0), data, Recipe(epochs=3, batch_size=32, lr=4e-3), seed=0,
    progress=False, on_epoch=dies, resume={str(state)!r})
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["run.unfinished"]
    weights, run = trained(toy, RECIPE, resume=state)
    assert run.curve("epoch") == [1, 2, 3]
    assert torch.equal(weights, trained(toy)[0])


def test_a_finished_training_is_not_run_again(toy: ImageDataset, tmp_path: Path) -> None:
    weights, run = trained(toy, resume=tmp_path / "state")
    again, same = trained(toy, resume=tmp_path / "state")
    assert torch.equal(weights, again)
    assert same.history == run.history


def test_a_state_of_something_else_is_refused(toy: ImageDataset, tmp_path: Path) -> None:
    state = tmp_path / "state"
    trained(toy, Recipe(epochs=1), resume=state)
    for recipe, seed, data in (
        (Recipe(epochs=1, lr=0.1), 0, toy),
        (Recipe(epochs=1), 1, toy),
        (Recipe(epochs=1), 0, toy.subset(train=200)),
    ):
        with pytest.raises(ValueError, match=f"another in {state}"):
            trained(data, recipe, seed=seed, resume=state)


class Full(nn.Module):
    """Half of its state can be written."""

    def state_dict(self, *args: object, **settings: object) -> dict[str, object]:  # type: ignore[override]
        return {"whole": torch.zeros(100_000), "half": Unwritable()}


class Unwritable:
    def __reduce__(self) -> str:
        raise OSError("disk full")


def test_a_state_of_another_starting_network_is_refused(toy: ImageDataset, tmp_path: Path) -> None:
    state = tmp_path / "state"
    trained(toy, Recipe(epochs=1), resume=state)
    other = networks.build("lenet5", toy, seed=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=f"starting network, got another in {state}; delete"):
        fit(other, toy, Recipe(epochs=1), progress=False, resume=state)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in before.items())
    with pytest.raises(ValueError, match=f"starting network, got another in {state}; delete"):  # other shapes
        trained(toy, Recipe(epochs=1), network="littlenet", resume=state)


def test_a_write_that_fails_leaves_the_last_epoch(toy: ImageDataset, tmp_path: Path) -> None:
    state = tmp_path / "state"
    trained(toy, Recipe(epochs=1), resume=state)
    before = state.read_bytes()

    with pytest.raises(OSError, match="disk full"):
        ResumeFile(state).save([], network=Full())
    assert state.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


# ---------------------------------------------------------------------- any stages, one loop


class Counting(Stage):
    """Notes what it is asked for; its loss is a random number."""

    def __init__(self, epochs: int, steps: int, prefix: str = "") -> None:
        self.epochs, self.steps, self.prefix = epochs, steps, prefix
        self.network, self.seen = nn.Dropout(), []
        self.state = {f"{prefix}network": self.network, f"{prefix}count": torch.zeros(())}

    def start(self, epoch: int) -> tuple[Tensor, ...]:
        self.network.train()
        return shuffled(self.steps, 1, device_for("cpu"))

    def step(self, batch: Tensor, taken: int) -> Tensor:
        self.seen.append(taken)
        self.state[f"{self.prefix}count"].add_(1)
        return torch.rand(())

    def measure(self, epoch: int) -> Mapping[str, float]:
        return {"training": self.network.training, "noise": float(torch.rand(epoch).sum())}


def looped(stages: list[Stage], path: Path | None = None) -> list[dict[str, float]]:
    return train(stages, ResumeFile(path), seed=3, device=device_for("cpu"))


def test_stages_follow_each_other_in_one_history(tmp_path: Path) -> None:
    stages = [Counting(2, 3, "first_"), Counting(1, 2)]
    history = looped(stages, tmp_path / "state")
    assert [stage.seen for stage in stages] == [[0, 1, 2, 3, 4, 5], [0, 1]]
    assert (curve(history, "first_epoch"), curve(history, "epoch")) == ([1, 2], [1])
    assert (len(curve(history, "first_loss")), len(curve(history, "loss")), len(curve(history, "seconds"))) == (2, 1, 3)
    assert not any(curve(history, "training")), "measured in evaluation mode"
    assert not any(stage.network.training for stage in stages)
    with seeded(3, device_for("cpu")):  # one seed for all; what was measured drew nothing from it
        by_hand = []
        for steps in (3, 3, 2):
            torch.randperm(steps)
            by_hand.append(float(torch.stack([torch.rand(()) for _ in range(steps)]).mean()))
    assert curve(history, "first_loss") + curve(history, "loss") == by_hand
    again = [Counting(2, 3, "first_"), Counting(1, 2)]
    assert looped(again, tmp_path / "state") == history
    assert [stage.seen for stage in again] == [[], []]
    assert again[0].state["first_count"] == 6


def test_a_stage_may_end_a_training_early() -> None:
    stage = Counting(5, 1)
    stage.done = lambda history: len(history) == 2  # type: ignore[method-assign]
    assert len(looped([stage])) == 2


def test_batches_are_all_images_once_in_another_order() -> None:
    torch.manual_seed(0)
    first, second = (shuffled(10, 4, device_for("cpu")) for _ in range(2))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(torch.cat(first).tolist()) == list(range(10))
    assert not torch.equal(torch.cat(first), torch.cat(second))


def test_a_module_is_placed_in_the_order_that_suits_it() -> None:
    network = Generator(3, seed=0)
    weight = network.layers[0].weight
    before = weight.detach().clone()
    placed(network, device_for("cpu"))
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, before)
    placed(network, device_for("cpu"), torch.contiguous_format)
    assert weight.is_contiguous()


def test_what_the_machine_is_asked() -> None:
    cpu, (amx, avx) = device_for("cpu"), ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    for has in ((False, False), (True, False), (False, True)):
        with mock.patch.multiple(torch.cpu, **{amx: lambda: has[0], avx: lambda: has[1]}, create=True):  # noqa: B023
            assert has_bf16(cpu) is any(has)
            with in_precision("auto", cpu):
                made = nn.Linear(2, 2)(torch.zeros(2)).dtype
            assert made == (torch.bfloat16 if any(has) else torch.float32)
            with in_precision("bf16", cpu):  # slowly, where it is emulated
                assert nn.Linear(2, 2)(torch.zeros(2)).dtype == torch.bfloat16
            assert not has_bf16(torch.device("mps"))
    keep_freed_memory()
    keep_freed_memory()  # is asked once


# ---------------------------------------------------------------------- parts of the loop


def test_constant_and_step_schedules() -> None:
    assert {learning_rate(Recipe(epochs=3, lr=0.1), s, 10) for s in range(30)} == {0.1}
    step = Recipe(epochs=6, lr=0.8, schedule="step", step_epochs=2, gamma=0.5)
    rates = [learning_rate(step, s, 10) for s in (0, 19, 20, 39, 40, 59)]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_one_cycle_rises_for_a_quarter_and_falls_to_almost_nothing() -> None:
    recipe = Recipe(epochs=4, lr=1.0, schedule="one_cycle")
    rates = [learning_rate(recipe, s, 10) for s in range(40)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[25] == pytest.approx(0.5)
    assert rates[39] == pytest.approx(1 / 30)
    assert max(rates) <= 1.0
    assert all(np.diff(rates[:10]) > 0)
    assert all(np.diff(rates[10:]) < 0)
    assert learning_rate(Recipe(epochs=1, schedule="one_cycle", lr=1.0), 0, 1) == 1.0  # a single step


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (RECIPES["in-flight-cifar10"], {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}),
        (RECIPES["l-red-mnist"], {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.0}),
        (Recipe(epochs=1, weight_decay=0.1), {"lr": 1e-3, "weight_decay": 0.1}),  # Adam
    ],
)
def test_the_optimizer_is_told_what_the_recipe_says(recipe: Recipe, told: dict[str, float]) -> None:
    stage = Fitting(nn.Linear(2, 2), toy_data(), recipe, seed=0, device=device_for("cpu"))
    for optimizer in (stage.optimizer, optimizer_for(nn.Linear(2, 2), recipe)):
        (group,) = optimizer.param_groups
        assert {name: group[name] for name in told} == told


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov"])
def test_two_steps_by_hand(optimizer: str) -> None:
    data = toy_data(train=1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 3, bias=False))
    weights, memory = torch.linspace(-1, 1, 3 * 256).view(3, 256), torch.zeros(3, 256)
    net[1].weight.data = weights.clone()
    x, wanted = data.x_train[0].flatten() / 255, torch.eye(3)[data.y_train[0]]
    recipe = Recipe(epochs=2, batch_size=1, lr=0.01, optimizer=optimizer, momentum=0.5, weight_decay=0.1)  # type: ignore[arg-type]
    fit(net, data, recipe, progress=False, device="cpu")
    for _ in range(2):
        slope = torch.outer((weights @ x).softmax(0) - wanted, x) + 0.1 * weights  # cross-entropy's, and ½ · 0.1 · w²'s
        memory = 0.5 * memory + slope
        weights = weights - 0.01 * (memory if optimizer == "sgd" else slope + 0.5 * memory)
    torch.testing.assert_close(net[1].weight.detach(), weights)


def numbered(n: int = 200, channels: int = 3) -> Tensor:
    """Images in which every pixel has a number of its own, so that a crop tells where it was taken."""
    return torch.arange(1, n * channels * 64 + 1, dtype=torch.int32).view(n, channels, 8, 8)


@pytest.mark.parametrize(
    ("how", "most", "border"),
    [("crop", 4, "constant"), ("crop+flip", 4, "constant"), ("shift+flip", 2, "reflect")],
)
def test_augmentation_is_a_padded_crop_per_image(how: str, most: int, border: Literal["constant", "reflect"]) -> None:
    torch.manual_seed(0)
    x = numbered()
    out = augmented(x, how)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    found = []
    for image, result in zip(x.numpy(), out.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (most, most), (most, most)), mode=border)
        choices = [
            (down, right, flip)
            for down in range(2 * most + 1)
            for right in range(2 * most + 1)
            for flip in (False, True)
            if np.array_equal(result[..., ::-1] if flip else result, padded[:, down : down + 8, right : right + 8])
        ]
        assert len(choices) == 1, "not a crop of its own image, the same in all channels"
        found += choices
    # 200 draws from 9: each offset is expected 22 times; a missing one has odds of 9·(8/9)^200 < 1e-9.
    assert {down for down, _, _ in found} == {right for _, right, _ in found} == set(range(2 * most + 1))
    assert len({(down, right) for down, right, _ in found}) > 20, "rows and columns move together"
    flips = sum(flip for _, _, flip in found)
    assert flips == 0 if how == "crop" else 65 < flips < 135  # 100 ± 5 standard deviations of a fair coin


def test_a_chessboard_stays_one_over_a_mirrored_border() -> None:
    place = torch.arange(8)
    chessboard = ((place[:, None] + place) % 2).to(torch.uint8)
    found = augmented(chessboard.expand(50, 3, 8, 8), "shift+flip")
    assert all(torch.equal(image, chessboard) or torch.equal(image, 1 - chessboard) for image in found[:, 0])


def test_a_trigger_in_the_corner_moves_with_its_image() -> None:
    """What docs/choices.md says: a 3×3 box never leaves the image, a pixel often does."""
    torch.manual_seed(0)
    images = torch.zeros(2000, 1, 8, 8, dtype=torch.uint8)
    images[..., -1, -1] = 1
    kept = [augmented(images, how).flatten(1).any(1).float().mean().item() for how in ("shift+flip", "crop+flip")]
    assert kept == pytest.approx([(3 / 5) ** 2, (5 / 9) ** 2], abs=0.05)  # five standard deviations
    images[..., -3:, -3:] = 1
    assert augmented(images, "shift+flip").flatten(1).any(1).all()


def test_no_augmentation_is_none() -> None:
    x = numbered(2)
    assert augmented(x, "none") is x


def test_trained_images_are_what_augmentation_and_division_make(toy: ImageDataset) -> None:
    """The network is handed floats in [0, 1] in the layout of its weights, each image once per epoch."""
    got: list[Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(256, 3)

        def forward(self, x: Tensor) -> Tensor:
            got.append(x.detach().cpu().clone())
            return self.head(x.flatten(1))

    fit(Spy(), toy, Recipe(epochs=1, batch_size=100), progress=False)
    tried, *got = got  # one image, to see what the network gives
    assert [len(batch) for batch in got] == [100, 100, 40]
    seen = sorted((torch.cat(got) * 255).round().to(torch.uint8).numpy().reshape(240, -1).tolist())
    assert seen == sorted(toy.x_train.numpy().reshape(240, -1).tolist())


def test_bf16_learns_too(toy: ImageDataset) -> None:
    net, seen = networks.build("lenet5", toy, seed=0), set()
    net.head.register_forward_hook(lambda head, _, made: seen.add((head.training, made.dtype)))
    run = fit(net, toy, Recipe(epochs=5, batch_size=32, lr=4e-3, precision="bf16"), progress=False)
    assert run.curve("train_accuracy")[-1] > 0.95
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}  # trained in it, looked at before in float32
    fit(net, toy, Recipe(epochs=1), progress=False)
    assert (True, torch.float32) in seen


def test_layout_does_not_change_what_is_computed(toy: ImageDataset) -> None:
    last, _ = trained(toy, Recipe(epochs=1, channels_last=True))
    first, _ = trained(toy, Recipe(epochs=1, channels_last=False))
    torch.testing.assert_close(last, first, rtol=1e-3, atol=1e-4)  # the same sums in another order


# ---------------------------------------------------------------------- bad input


def test_a_loss_that_explodes_is_an_error(toy: ImageDataset) -> None:
    net = networks.build("lenet5", toy, seed=0)
    with pytest.raises(FloatingPointError, match=r"got (nan|inf); lower the learning rate"):
        fit(net, toy, Recipe(epochs=2, lr=1e30, optimizer="sgd"), progress=False)


def test_a_set_that_is_fed_later_is_trained_on(toy: ImageDataset) -> None:
    stage = Fitting(networks.build("lenet5", toy, seed=0), toy, RECIPE, seed=0, device=device_for("cpu"))
    stage.feed(toy.subset(train=50))
    assert sorted(torch.cat(stage.start(1)).tolist()) == list(range(50))


def test_an_empty_training_set_is_refused() -> None:
    empty = toy_data(0, 6)
    with pytest.raises(ValueError, match="got none"):
        fit(networks.build("lenet5", image_shape=(1, 16, 16), num_classes=3), empty, RECIPE, progress=False)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs: .*got 0"),
        ({"batch_size": -1}, "batch_size: .*got -1"),
        ({"lr": float("nan")}, "lr: .*got nan"),
        ({"gamma": 0.0}, r"gamma: .*got 0\.0"),
        ({"step_epochs": 0}, "step_epochs: .*got 0"),
        ({"optimizer": "nesterov", "momentum": 0.0}, r"momentum: .*got 0\.0"),
        ({"optimizer": "lion"}, "got 'lion'"),
        ({"schedule": "cosine"}, "got 'cosine'"),
        ({"augment": "cutout"}, "got 'cutout'"),
        ({"precision": "fp8"}, "got 'fp8'"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Recipe(**{"epochs": 1} | settings)  # type: ignore[arg-type]


def test_recipes_have_the_papers_settings() -> None:
    in_flight = RECIPES["in-flight-cifar10"]
    assert (in_flight.epochs, in_flight.batch_size, in_flight.lr) == (150, 32, 0.1)
    cifar = RECIPES["l-red-cifar10"]
    assert (cifar.epochs, cifar.batch_size, cifar.lr, cifar.augment) == (100, 32, 1e-3, "crop+flip")
    mnist = RECIPES["l-red-mnist"]
    assert (mnist.epochs, mnist.batch_size, mnist.lr) == (60, 256, 1e-2)
    assert len({hash(recipe) for recipe in RECIPES.values()}) >= len(RECIPES) - 1  # mnist and fmnist are equal
