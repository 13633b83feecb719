"""A network with a planted backdoor, its true trigger, and images to fit to and to judge."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from btlib import checkpoints, metrics
from btlib.datasets import ImageDataset, sample_per_class, to_float
from btlib.networks import Network
from btlib.triggers import Trigger

TARGET = 9


@dataclass(frozen=True, eq=False)
class Planted:
    net: Network
    trigger: Trigger
    x: Tensor  # to fit to: 100 of each class
    y: Tensor
    other_x: Tensor  # to judge: 100 others of each class
    other_y: Tensor

    @property
    def clean(self) -> Tensor:
        """Held-out images of the target that the network takes for the target."""
        images = self.other_x[self.other_y == TARGET]
        return images[metrics.predict(self.net, images).argmax(1) == TARGET]

    @property
    def triggered(self) -> Tensor:
        """Held-out stamped images of other classes that the network takes for the target."""
        images = self.trigger(self.other_x[self.other_y != TARGET])
        return images[metrics.predict(self.net, images).argmax(1) == TARGET]

    def few(self, per_class: int) -> tuple[Tensor, Tensor]:
        chosen = sample_per_class(self.y, per_class, range(10))
        return self.x[chosen], self.y[chosen]


def planted_network(name: str, fashion: ImageDataset) -> Planted:
    spec = checkpoints.shipped()[name]
    trigger = spec.make_trigger()
    assert trigger is not None
    chosen = sample_per_class(fashion.y_test, 200, range(10), seed=1).view(10, 2, 100)
    fitting, judged = chosen[:, 0].flatten(), chosen[:, 1].flatten()
    parts = [(to_float(fashion.x_test[part]), fashion.y_test[part]) for part in (fitting, judged)]
    return Planted(checkpoints.load_or_train(spec), trigger, *parts[0], *parts[1])


@pytest.fixture(scope="session")
def box(fashion: ImageDataset) -> Planted:
    return planted_network("box", fashion)


@pytest.fixture(scope="session")
def chessboard(fashion: ImageDataset) -> Planted:
    return planted_network("chessboard", fashion)


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)
