"""Folders of pictures: order, parts, what lies about in them, and what is in the files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from btlib.datasets import DataError, load


def write_class(folder: Path, count: int, colour: tuple[int, int, int], side: int = 40) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", (side, side), (*colour[:2], index)).save(folder / f"{index:03d}.png")


@pytest.fixture
def cats_and_dogs(tmp_path: Path) -> Path:
    """Ten cats, thirty dogs; the blue channel numbers them."""
    write_class(tmp_path / "pets" / "cats", 10, (200, 0, 0))
    write_class(tmp_path / "pets" / "dogs", 30, (0, 100, 0))
    return tmp_path / "pets"


def test_folder_without_split_is_split_by_seed_class_by_class(cats_and_dogs: Path) -> None:
    data = load(f"folder:{cats_and_dogs}", size=8)
    assert data.classes == ("cats", "dogs")
    assert data.name == "folder:pets"
    assert data.image_shape == (3, 8, 8)
    assert torch.bincount(data.y_train).tolist() == [8, 24]
    assert torch.bincount(data.y_test).tolist() == [2, 6]
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x[y == 0, 0].unique().tolist() == [200]
        assert x[y == 1, 1].unique().tolist() == [100]
    numbered = [data.x_train[data.y_train == 1], data.x_test[data.y_test == 1]]
    assert sorted(int(v) for part in numbered for v in part[:, 2, 0, 0]) == list(range(30)), "lost or in both"
    again = load(f"folder:{cats_and_dogs}", size=8, seed=0)
    assert again.fingerprint == data.fingerprint
    assert load(f"folder:{cats_and_dogs}", size=8, seed=1).fingerprint != data.fingerprint
    assert len(load(f"folder:{cats_and_dogs}", size=8, test_fraction=0.5).y_test) == 20


def test_folder_with_a_split_of_its_own(tmp_path: Path) -> None:
    for split, counts in (("train", (3, 4)), ("test", (1, 2))):
        write_class(tmp_path / split / "a", counts[0], (255, 255, 0))
        write_class(tmp_path / split / "b", counts[1], (0, 0, 0))
    data = load(f"folder:{tmp_path}")
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.y_test.tolist() == [0, 1, 1]
    assert data.image_shape == (3, 32, 32)
    write_class(tmp_path / "test" / "c", 1, (0, 0, 0))
    with pytest.raises(DataError, match=r"\['c'\] are in one only"):
        load(f"folder:{tmp_path}")  # the folder is looked at again


def test_folder_in_grey_and_resized(tmp_path: Path) -> None:
    left_white = np.zeros((64, 64, 3), np.uint8)
    left_white[:, :32] = 255
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.fromarray(left_white).save(tmp_path / name / f"{index}.png")
    data = load(f"folder:{tmp_path}", size=16, channels=1)
    assert data.image_shape == (1, 16, 16)
    assert data.x_train[0, 0, :, :7].unique().tolist() == [255]
    assert data.x_train[0, 0, :, 9:].unique().tolist() == [0]


def test_folder_below_a_root(cats_and_dogs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTLIB_DATA", str(cats_and_dogs.parent))
    assert len(load("folder:pets").y_train) == 32


def test_folder_mistakes_are_named(cats_and_dogs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"sought in {tmp_path / 'birds'}"):
        load(f"folder:{tmp_path / 'birds'}")
    with pytest.raises(ValueError, match="got 2;"):
        load(f"folder:{cats_and_dogs}", channels=2)
    with pytest.raises(ValueError, match=r"got 1\.5"):
        load(f"folder:{cats_and_dogs}", test_fraction=1.5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="one subfolder of images per class"):
        load(f"folder:{tmp_path / 'empty'}")
    (cats_and_dogs / "cats" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    with pytest.raises(DataError, match=r"broken\.png: it cannot be read as an image"):
        load(f"folder:{cats_and_dogs}")
