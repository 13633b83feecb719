"""What all tests share."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator
from contextlib import ExitStack

import matplotlib.pyplot as plt
import pytest
from hypothesis import settings
from toys import toy_data

from btlib import datasets
from btlib.datasets import ImageDataset

# `make nightly` chooses the other one: pytest --hypothesis-profile=nightly.
settings.register_profile("nightly", max_examples=5000, deadline=None, derandomize=True)
settings.register_profile("usual", max_examples=150, deadline=None, derandomize=True)
settings.load_profile("usual")

pytest.register_assert_rewrite("exercise_contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--emulated-gpu", action="store_true", help="run everything as if there was a GPU, lessons too")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--emulated-gpu"):
        from emulated_gpu import emulated_gpu

        stack = ExitStack()
        config.add_cleanup(stack.close)
        stack.enter_context(emulated_gpu())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: the last one that is begun is short, and no process waits long for it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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
