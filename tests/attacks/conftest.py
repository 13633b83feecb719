"""Toy images, and a clean network trained on them, for all attacks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toys import toy_data

from btlib import metrics, networks, training
from btlib.attacks import AttackRecipe
from btlib.datasets import ImageDataset
from btlib.networks import Network
from btlib.resume import ResumeFile
from btlib.training import VERSION, Recipe


@pytest.fixture(scope="session")
def data() -> ImageDataset:
    return toy_data(train=480)


@pytest.fixture(scope="session")
def clean(data: ImageDataset) -> Network:
    net = networks.build("lenet5", data, seed=0)
    training.fit(net, data, Recipe(epochs=6, batch_size=32, lr=3e-3), device="cpu")
    assert metrics.accuracy(net, data.x_test, data.y_test) > 0.95
    return net


@pytest.fixture
def stopped(tmp_path: Path, data: ImageDataset, clean: Network) -> Callable[[AttackRecipe, int, int], Path]:
    """Runs an attack until an epoch (from 1) of a stage (from 0); gives its resume file."""

    def run(recipe: AttackRecipe, stage: int, epoch: int) -> Path:
        cpu = torch.device("cpu")
        attack = recipe.attack(data, clean, 0, cpu)
        stages = [*attack.before, attack]
        start = stages[stage].start

        def dies(number: int) -> object:
            if number == epoch:
                raise KeyboardInterrupt
            return start(number)

        stages[stage].start = dies  # type: ignore[method-assign]
        file = ResumeFile(tmp_path / "state", recipe=recipe, data=data, start=clean, device=cpu, version=VERSION)
        with pytest.raises(KeyboardInterrupt):
            training.train(stages, file, seed=0, device=cpu)
        return tmp_path / "state"

    return run
