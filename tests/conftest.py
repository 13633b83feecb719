"""What all tests share."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
from toys import toy_data

from btlib import datasets
from btlib.datasets import ImageDataset

pytest.register_assert_rewrite("exercise_contract")


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on the caller's switches, and none leaves a figure open."""
    for name in ("BTLIB_RETRAIN", "BTLIB_STRICT", "BTLIB_PROFILE", "BTLIB_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def fashion() -> ImageDataset:
    """The embedded Fashion-MNIST."""
    return datasets.load("fashion-mnist")


@pytest.fixture
def toy() -> ImageDataset:
    """240 training and 60 test images of 16×16 in three classes."""
    return toy_data()
