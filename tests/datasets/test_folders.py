"""Folders of pictures: order, parts, what lies about in them, and what is in the files."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from btlib.datasets import DataError, load
from btlib.datasets.folders import class_folders, parts
from btlib.datasets.pictures import ENDINGS, decode, fitting, stored_shape


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


# ---------------------------------------------------------------------- what lies about in folders


def test_classes_are_torchvisions(tmp_path: Path) -> None:
    """Sorted as text; of a class, whatever lies deeper too; the same endings."""
    for name in ("0", "1", "10", "2"):
        write_class(tmp_path / name, 3, (0, 0, 0))
    write_class(tmp_path / "10" / "deeper", 2, (9, 9, 9))
    Image.new("RGB", (9, 9)).save(tmp_path / "2" / "z.TIF")
    (tmp_path / "2" / "notes.txt").write_text("no picture")
    theirs = torchvision.datasets.ImageFolder(str(tmp_path))
    ours = class_folders(tmp_path)
    assert list(ours.classes) == theirs.classes
    assert [str(path) for files in ours.files for path in files] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets
    assert set(ENDINGS) == set(torchvision.datasets.folder.IMG_EXTENSIONS)


def test_what_file_managers_and_archives_leave_is_no_class_and_no_picture(cats_and_dogs: Path) -> None:
    before = load(f"folder:{cats_and_dogs}").fingerprint
    for name in (".thumbnails", "__MACOSX"):
        write_class(cats_and_dogs / name, 2, (0, 0, 0))
        write_class(cats_and_dogs / "cats" / name, 2, (0, 0, 0))
    (cats_and_dogs / "cats" / "._000.png").write_bytes(b"Mac OS X resource fork")
    assert load(f"folder:{cats_and_dogs}").fingerprint == before


@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("Train", "VALID"), ("TRAIN", "Test")])
def test_parts_by_any_usual_name(train: str, test: str, tmp_path: Path) -> None:
    for part, count in ((train, 3), (test, 1)):
        for name in ("a", "b"):
            write_class(tmp_path / part / name, count, (0, 0, 0))
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("a", "b")
    assert (len(data.y_train), len(data.y_test)) == (6, 2)
    assert class_folders(parts(tmp_path)[1]).labels.tolist() == [0, 1]  # type: ignore[index]


def test_classes_may_be_called_as_parts_are(tmp_path: Path) -> None:
    for name in ("bus", "train", "test"):
        write_class(tmp_path / name, 2, (0, 0, 0))
    assert parts(tmp_path) is None
    assert load(f"folder:{tmp_path}").classes == ("bus", "test", "train")


def test_folders_that_cannot_be_classes_are_named(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        write_class(tmp_path / "pets" / "pets" / name, 2, (0, 0, 0))
    with pytest.raises(DataError, match=r"pets holds only folders \(cats, dogs, …\); give that one"):
        load(f"folder:{tmp_path / 'pets'}")
    write_class(tmp_path / "two" / "cats", 2, (0, 0, 0))
    (tmp_path / "two" / "dogs").mkdir()
    with pytest.raises(DataError, match="no images in dogs"):
        load(f"folder:{tmp_path / 'two'}")
    write_class(tmp_path / "one" / "cats", 2, (0, 0, 0))
    write_class(tmp_path / "one" / "dogs", 1, (0, 0, 0))
    with pytest.raises(DataError, match="two images of dogs at least, one to train and one to test, got one"):
        load(f"folder:{tmp_path / 'one'}")
    assert len(load(f"folder:{tmp_path / 'pets' / 'pets'}", test_fraction=0.9).y_train) == 2  # one of each class stays


# ---------------------------------------------------------------------- what is in the files


def grey(tmp_path: Path, picture: Image.Image, ending: str = "png") -> tuple[list[int], list[str]]:
    picture.save(tmp_path / f"a.{ending}")
    pixels, changes = decode([tmp_path / f"a.{ending}"], (1, picture.height, picture.width))
    return pixels.flatten().tolist(), changes


RAMP = np.array([[0, 257 * 64, 257 * 128, 65535]], np.uint16)


@pytest.mark.parametrize(
    ("picture", "ending"),
    [
        (Image.fromarray(RAMP), "png"),
        (Image.fromarray(RAMP), "tif"),
        (Image.fromarray(RAMP.astype(np.int32)), "tif"),
        (Image.fromarray((RAMP / 65535).astype(np.float32)), "tif"),
    ],
    ids=["16-bit png", "16-bit tif", "32-bit tif", "float tif"],
)
def test_more_than_eight_bits_are_scaled(tmp_path: Path, picture: Image.Image, ending: str) -> None:
    assert grey(tmp_path, picture, ending) == ([0, 64, 128, 255], ["scaled to eight bits"])


def test_values_of_an_unknown_scale_are_refused(tmp_path: Path) -> None:
    for values in (np.array([[0, 200.0]], np.float32), np.array([[-1, 5]], np.int32), np.array([[np.nan]], np.float32)):
        with pytest.raises(DataError, match=r"a\.tif: it cannot be read as an image \(expected values in 0…"):
            grey(tmp_path, Image.fromarray(values), "tif")


def test_what_can_be_seen_through_is_laid_on_white(tmp_path: Path) -> None:
    black_ink = Image.fromarray(np.array([[[0, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], np.uint8))
    assert grey(tmp_path, black_ink)[0] == [0, 255, 127]
    assert grey(tmp_path, black_ink.convert("LA"))[0] == [0, 255, 127]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 10, 10, 10])
    palette.save(tmp_path / "p.png", transparency=0)
    pixels, changes = decode([tmp_path / "p.png"], (3, 1, 2))
    assert pixels[0, 0].tolist() == [[255, 10]]
    assert changes == ["laid on white"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_other_modes_are_only_converted(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (2, 2), "white").convert(mode)
    ending = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
    pixels, changes = grey(tmp_path, white, ending)
    assert min(pixels) >= 254
    assert changes in ([], ["turned grey"])


def test_the_shape_of_a_file_is_known_without_its_pixels(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    Image.new("RGBA", (5, 4)).save(tmp_path / "b.png")
    assert stored_shape(tmp_path / "a.png") == (1, 1, 4)
    assert stored_shape(tmp_path / "b.png") == (3, 4, 5)
    (tmp_path / "c.png").write_text("no picture")
    with pytest.raises(DataError, match=r"c\.png: it cannot be read"):
        stored_shape(tmp_path / "c.png")
    assert fitting({(1, 2, 2), (3, 2, 4)}, (3, 2, 2)) == [
        "resized from several sizes to 2×2",
        "turned from grey to RGB",
    ]
