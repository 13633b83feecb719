"""Toy images, and a clean network trained on them, for all attacks."""

import pytest
from toys import toy_data

from btlib import metrics, networks, training
from btlib.datasets import ImageDataset
from btlib.networks import Network
from btlib.training import Recipe


@pytest.fixture(scope="session")
def data() -> ImageDataset:
    return toy_data(train=480)


@pytest.fixture(scope="session")
def clean(data: ImageDataset) -> Network:
    net = networks.build("lenet5", data, seed=0)
    training.fit(net, data, Recipe(epochs=6, batch_size=32, lr=3e-3), progress=False)
    assert metrics.accuracy(net, data.x_test, data.y_test) > 0.95
    return net
