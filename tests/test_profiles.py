"""What fast, full and paper mean, and that they name things that exist."""

import pytest

from btlib import datasets, networks, training
from btlib.profiles import PROFILES, profile


def test_the_three_profiles_name_things_that_exist() -> None:
    assert list(PROFILES) == ["fast", "full", "paper"]
    for name, one in PROFILES.items():
        assert one.name == name
        assert one.data in datasets.names()
        assert one.network in networks.NETWORKS
        assert one.recipe in training.RECIPES
        assert one.repeats >= 1


def test_fast_needs_no_download_and_less_work() -> None:
    fast, full = PROFILES["fast"], PROFILES["full"]
    assert fast.data == "fashion-mnist"
    assert fast.train_images is not None
    assert training.RECIPES[fast.recipe].epochs < training.RECIPES[full.recipe].epochs


def test_which_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile().name == "fast"
    monkeypatch.setenv("BTLIB_PROFILE", "paper")
    assert profile().name == "paper"
    assert profile("full").name == "full"
    monkeypatch.setenv("BTLIB_PROFILE", "")
    assert profile().name == "fast"
    monkeypatch.setenv("BTLIB_PROFILE", "slow")
    with pytest.raises(ValueError, match="got 'slow'"):
        profile()
