"""What says which data set is meant."""

import pytest

from btlib import datasets


def test_available_only_looks(tmp_path, monkeypatch):
    monkeypatch.setenv("BTLIB_DATA", str(tmp_path))
    for name in ("mnist", "gtsrb", "cifar10", "folder:mine"):
        assert not datasets.available(name)
    (tmp_path / "gtsrb").mkdir()
    (tmp_path / "mine").mkdir()
    assert datasets.available("gtsrb")
    assert datasets.available("folder:mine")
    assert datasets.available("fashion-mnist")  # embedded, whatever BTLIB_DATA says
    with pytest.raises(ValueError, match="'imagenet'"):
        datasets.available("imagenet")
