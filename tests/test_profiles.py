"""What fast, full and paper mean, and that they name things that exist."""

from pathlib import Path

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


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "signs.toml"
    file.write_text('where = "here"\ndata = "folder:signs"\nnetwork = "littlenet"\nrecipe = "littlenet"\n')
    own = profile(str(file))
    assert (own.name, own.data, own.train_images, own.repeats, own.shipped) == (
        str(file),
        "folder:signs",
        None,
        1,
        False,
    )
    assert profile(own.name) == own
    assert profile("fast").shipped
    file.write_text('data = "folder:signs"\n')
    with pytest.raises(ValueError, match="expected data, network, .*, where, got data, repeats"):
        profile(str(file))
    with pytest.raises(ValueError, match="No such file"):
        profile(str(tmp_path / "none.toml"))
