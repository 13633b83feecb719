"""Data sets: what is read, what is refused, and what is left behind."""

import gzip
import hashlib
import pickle
import threading
import time
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from toys import toy_data

from btlib import datasets
from btlib.datasets import DataError, ImageDataset, check_images, load, sample_per_class, to_float, to_uint8

SOURCE = Path(datasets.__file__).parents[1] / "data" / "FashionMNIST" / "raw"
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def somewhere(name: str, below: str) -> ImageDataset:
    """A data set of BTLIB_DATA, or a skip that says how to have it."""
    if not any((root / below).exists() for root in datasets.roots()):
        pytest.skip(f"{name} is not on this machine: set BTLIB_DATA to a folder that holds {below}")
    return load(name, download=False)


# ---------------------------------------------------------------------- idx files


def test_fashion_mnist_is_what_torchvision_and_numpy_read(fashion: ImageDataset) -> None:
    for train, x, y in ((True, fashion.x_train, fashion.y_train), (False, fashion.x_test, fashion.y_test)):
        theirs = torchvision.datasets.FashionMNIST(str(SOURCE.parents[1]), train=train)
        assert torch.equal(x[:, 0], theirs.data)
        assert torch.equal(y, theirs.targets)
    raw = np.frombuffer(gzip.decompress((SOURCE / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    np.testing.assert_array_equal(fashion.x_test.numpy().ravel(), raw)
    labels = np.frombuffer(gzip.decompress((SOURCE / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    np.testing.assert_array_equal(fashion.y_test.numpy(), labels)
    assert fashion.x_train.shape == (60000, 1, 28, 28)
    assert torch.bincount(fashion.y_train).tolist() == [6000] * 10
    assert (fashion.name, fashion.image_shape, fashion.num_classes) == ("fashion-mnist", (1, 28, 28), 10)
    assert fashion.classes[0] == "T-shirt/top"
    assert fashion.classes[9] == "Ankle boot"


def test_a_second_load_costs_nothing(fashion: ImageDataset) -> None:
    assert load("fashion-mnist") is fashion
    assert load("fashion-mnist", download=False) is fashion
    datasets.verify("fashion-mnist")


def test_size_resizes(fashion: ImageDataset) -> None:
    small = load("fashion-mnist", size=14)
    assert small.x_test.shape == (10000, 1, 14, 14)
    # Halving the side with antialiasing keeps the mean grey level; each image is off by rounding at most.
    drift = to_float(small.x_test[:200]).mean((1, 2, 3)) - to_float(fashion.x_test[:200]).mean((1, 2, 3))
    assert drift.abs().max() < 0.02
    with pytest.raises(ValueError, match="got 3;"):
        load("fashion-mnist", size=3)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set in Fashion-MNIST's place and format, packed and unpacked: the folder of its files."""
    raw = tmp_path / "root" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    sums = {}
    for name in FILES:
        count = 40 if name.startswith("train") else 20
        if "images" in name:
            body = generator.integers(0, 256, count * 784, np.uint8)
            head = [0x803, count, 28, 28]
        else:
            body, head = np.arange(count).astype(np.uint8) % 10, [0x801, count]
        content = np.array(head, ">i4").tobytes() + body.astype(np.uint8).tobytes()
        (raw / name).write_bytes(content)
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(datasets._IDX_FILES, "fashion-mnist", ("FashionMNIST", sums))
    return raw


def read(raw: Path) -> ImageDataset:
    return load("fashion-mnist", root=raw.parents[1], download=False)


def listing(raw: Path) -> set[str]:
    return {path.name for path in raw.iterdir()}


def test_packed_files_are_unpacked_once(copied: Path) -> None:
    whole = {name: (copied / name).read_bytes() for name in FILES}
    for name in FILES:
        (copied / name).unlink()
    data = read(copied)
    assert data.y_train.tolist() == [k % 10 for k in range(40)]
    assert data.x_test.numpy().tobytes() == whole["t10k-images-idx3-ubyte"][16:]
    assert listing(copied) == {*FILES, *(f"{name}.gz" for name in FILES)}
    assert {name: (copied / name).read_bytes() for name in FILES} == whole


def test_one_flipped_byte_is_noticed_and_named(copied: Path) -> None:
    path = copied / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: its MD5 sum is .* Delete it"):
        read(copied)
    path.unlink()  # what the message says to do, while the packed file is there
    assert len(read(copied).y_test) == 20


@pytest.mark.parametrize("packed", [False, True])
def test_a_half_extracted_or_truncated_file_is_never_used(copied: Path, packed: bool) -> None:
    name = "train-images-idx3-ubyte"
    if packed:
        (copied / name).unlink()
        name += ".gz"
    before = (copied / name).read_bytes()
    (copied / name).write_bytes(before[: len(before) // 2])
    there = listing(copied)
    with pytest.raises(DataError, match=f"{name}: "):
        read(copied)
    assert listing(copied) == there, "something half-written was left behind"


def test_a_packed_file_of_something_else_is_refused(copied: Path) -> None:
    (copied / "train-labels-idx1-ubyte").unlink()
    (copied / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"not labels"))
    there = listing(copied)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: it does not unpack"):
        read(copied)
    (copied / "train-labels-idx1-ubyte.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: it cannot be unpacked"):
        read(copied)
    assert listing(copied) == there


def test_a_missing_file_is_named(copied: Path) -> None:
    for name in ("t10k-labels-idx1-ubyte", "t10k-labels-idx1-ubyte.gz"):
        (copied / name).unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is missing"):
        read(copied)


# ---------------------------------------------------------------------- where data is sought


def test_missing_data_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    folders = {
        "mnist": "MNIST",
        "cifar10": "cifar-10-batches-py",
        "cifar100": "cifar-100-python",
        "gtsrb": "gtsrb",
    }
    for name, folder in folders.items():
        for attempt in range(2):  # the first must leave nothing that the second takes for data
            with pytest.raises(DataError) as caught:
                load(name, root=tmp_path)
            text = str(caught.value)
            assert str(tmp_path / folder) in text, attempt
            assert "no network" in text
            assert f"load({name!r})" in text
            assert "BTLIB_DATA" in text
            assert "'fashion-mnist' is embedded and works offline" in text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(DataError, match="downloading is switched off"):
        datasets.load("mnist", root=tmp_path, download=False)


def test_btlib_data_comes_first(copied: Path, monkeypatch: pytest.MonkeyPatch, fashion: ImageDataset) -> None:
    monkeypatch.delenv("BTLIB_DATA", raising=False)
    own = datasets.roots()
    assert own == (SOURCE.parents[1],)
    monkeypatch.setenv("BTLIB_DATA", str(copied.parents[1]))
    assert datasets.roots() == (copied.parents[1].resolve(), *own)
    assert len(load("fashion-mnist").y_train) == 40


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="got 'fashion'"):
        load("fashion")


# ---------------------------------------------------------------------- cifar, gtsrb


def fake_cifar(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A tiny CIFAR in torchvision's pickle format, with its own MD5 sums; the pixels by split."""
    source = torchvision.datasets.CIFAR10 if name == "cifar10" else torchvision.datasets.CIFAR100
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    key, classes = ("labels", 10) if name == "cifar10" else ("fine_labels", 100)
    pixels: dict[str, list[np.ndarray]] = {"train": [], "test": []}

    def write(file: str, entry: object) -> list[str]:
        (folder / file).write_bytes(pickle.dumps(entry))
        return [file, hashlib.md5((folder / file).read_bytes()).hexdigest()]

    lists: dict[str, list[list[str]]] = {"train": [], "test": []}
    for split, files in (("train", source.train_list), ("test", source.test_list)):
        for file, _ in files:
            data = generator.integers(0, 256, (10, 3072), dtype=np.uint8)
            pixels[split].append(data)
            lists[split].append(write(file, {"data": data, key: [(7 * k) % classes for k in range(10)]}))
    names = [f"class {k}" for k in range(classes)]
    meta = write(source.meta["filename"], {source.meta["key"]: names})
    monkeypatch.setattr(source, "train_list", lists["train"])
    monkeypatch.setattr(source, "test_list", lists["test"])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": meta[1]})
    return {split: np.concatenate(parts) for split, parts in pixels.items()}


@pytest.mark.parametrize(("name", "classes", "train"), [("cifar10", 10, 50), ("cifar100", 100, 10)])
def test_cifar_reader(name: str, classes: int, train: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = fake_cifar(tmp_path, name, monkeypatch)
    data = load(name, root=tmp_path, download=False)
    assert data.x_train.shape == (train, 3, 32, 32)
    # A row of the pickle is 1024 red, 1024 green, 1024 blue values, row by row: (C, H, W) already.
    np.testing.assert_array_equal(data.x_train.numpy().reshape(train, 3072), pixels["train"])
    np.testing.assert_array_equal(data.x_test.numpy().reshape(10, 3072), pixels["test"])
    assert data.x_train.is_contiguous()
    assert data.y_test.tolist() == [(7 * k) % classes for k in range(10)]
    assert data.classes == tuple(f"class {k}" for k in range(classes))


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_cifar_is_refused_and_named(
    damage: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cifar(tmp_path, "cifar10", monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / file
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.unlink()
    if damage != "delete":
        path.write_bytes(content if damage == "flip" else content[:20])
    with pytest.raises(DataError, match=f"cifar-10-batches-py: its {file} is missing or"):
        load("cifar10", root=tmp_path, download=False)


@pytest.fixture
def fake_gtsrb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three training and two test signs in GTSRB's own folders."""
    base = tmp_path / "gtsrb"
    for label, colours in ((0, [10, 20]), (42, [30])):
        folder = base / "GTSRB" / "Training" / f"{label:05d}"
        folder.mkdir(parents=True)
        for index, colour in enumerate(colours):
            Image.new("RGB", (40, 50), (colour, 2 * colour, 200)).save(folder / f"{index:05d}.ppm")
    folder = base / "GTSRB" / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    for index in range(2):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(folder / f"{index:05d}.ppm")
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    rows = [f"{index:05d}.ppm;32;32;0;0;31;31;{label}" for index, label in enumerate((16, 1))]
    (base / "GT-final_test.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    # torchvision's folder reader wants 43 classes only by convention; the count of images is ours to check.
    monkeypatch.setattr(datasets, "_GTSRB_COUNTS", {"train": (3,), "test": (2,)})
    return base


def test_gtsrb_reader(fake_gtsrb: Path) -> None:
    data = load("gtsrb", root=fake_gtsrb.parent, download=False)
    assert data.x_train.shape == (3, 3, 32, 32)
    assert data.x_train[:, :, 5, 5].tolist() == [[10, 20, 200], [20, 40, 200], [30, 60, 200]]
    assert data.y_test.tolist() == [16, 1]
    assert data.x_test[:, 0, 0, 0].tolist() == [0, 1]
    assert len(data.classes) == 43
    assert data.classes[14] == "stop"
    assert load("gtsrb", root=fake_gtsrb.parent, size=16).image_shape == (3, 16, 16)


def test_a_half_extracted_gtsrb_is_refused(fake_gtsrb: Path) -> None:
    root = fake_gtsrb.parent
    sign = fake_gtsrb / "GTSRB" / "Training" / "00000" / "00001.ppm"
    sign.write_bytes(sign.read_bytes()[:100])
    with pytest.raises(DataError, match=r"00001\.ppm: it cannot be read as an image"):
        load("gtsrb", root=root, download=False)
    sign.unlink()
    with pytest.raises(DataError, match="train split has 2 images where 3 are expected"):
        load("gtsrb", root=root, download=False)
    (fake_gtsrb / "GT-final_test.csv").unlink()
    Image.new("RGB", (8, 8)).save(sign)
    with pytest.raises(DataError, match="test split is incomplete"):
        load("gtsrb", root=root, download=False)


def test_mnist_when_it_is_there() -> None:
    data = somewhere("mnist", "MNIST/raw")
    assert data.x_train.shape == (60000, 1, 28, 28)
    assert data.x_test.shape == (10000, 1, 28, 28)
    assert data.classes == tuple("0123456789")
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    # Published mean and deviation of MNIST: 0.1307, 0.3081.
    assert [round(float(v), 4) for v in data.pixel_statistics] == [0.1307, 0.3081]


@pytest.mark.slow
def test_gtsrb_when_it_is_there() -> None:
    data = somewhere("gtsrb", "gtsrb/GTSRB")
    assert len(data.y_train) in (26640, 26638)
    assert len(data.y_test) == 12630
    assert data.image_shape == (3, 32, 32)
    assert data.y_train.unique().tolist() == list(range(43))
    assert data.x_train.flatten(1).float().std(1).min() > 0, "an image without contents"


def test_cifar10_jpg_when_it_is_there() -> None:
    data = somewhere("folder:cifar10-jpg/test", "cifar10-jpg/test")
    assert data.x_train.shape == (8000, 3, 32, 32)
    assert torch.bincount(data.y_test).tolist() == [200] * 10
    assert data.classes[:3] == ("airplane", "automobile", "bird")


# ---------------------------------------------------------------------- folders


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
        load(f"folder:{tmp_path}", seed=1)


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


# ---------------------------------------------------------------------- ImageDataset


def test_pixel_statistics_are_numpys() -> None:
    data = toy_data(30, 6, channels=3)
    mean, std = data.pixel_statistics
    pixels = data.x_train.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean.numpy(), pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), pixels.std((0, 2, 3)), rtol=1e-6)


def test_statistics_of_a_constant_channel_can_be_divided_by() -> None:
    x, y = torch.full((2, 1, 8, 8), 7, dtype=torch.uint8), torch.tensor([0, 1])
    _, std = ImageDataset("flat", x, y, x, y, ("a", "b")).pixel_statistics
    assert std.item() == pytest.approx(1e-3)


def test_fingerprint_sees_one_pixel_one_label_and_one_class_name() -> None:
    base = toy_data(12, 6)
    assert toy_data(12, 6).fingerprint == base.fingerprint
    parts = {k: getattr(base, k) for k in ("x_train", "y_train", "x_test", "y_test")}
    seen = {base.fingerprint}
    for key in parts:
        changed = parts[key].clone()
        changed.view(-1)[-1] = (int(changed.view(-1)[-1]) + 1) % 3
        seen.add(ImageDataset("toy", classes=base.classes, **parts | {key: changed}).fingerprint)
    seen.add(ImageDataset("toy", classes=("bar 0", "bar 1", "x"), **parts).fingerprint)
    assert len(seen) == 6


def test_subset_is_a_random_part(toy: ImageDataset) -> None:
    part = toy.subset(train=50, test=10, seed=4)
    assert (len(part.y_train), len(part.y_test)) == (50, 10)
    whole = {x.numpy().tobytes(): int(y) for x, y in zip(toy.x_train, toy.y_train, strict=True)}
    taken = [(x.numpy().tobytes(), int(y)) for x, y in zip(part.x_train, part.y_train, strict=True)]
    assert len({x for x, _ in taken}) == 50
    assert all(whole[x] == y for x, y in taken)
    assert torch.equal(part.x_train, toy.subset(train=50, seed=4).x_train)
    assert not torch.equal(part.x_train, toy.subset(train=50, seed=5).x_train)
    assert toy.subset(test=10).y_train is toy.y_train
    for count in (0, 241):
        with pytest.raises(ValueError, match=f"got {count}"):
            toy.subset(train=count)


def test_clean_images_are_balanced_floats(toy: ImageDataset) -> None:
    x, y = toy.clean_images(5, seed=1)
    assert y.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert x.dtype == torch.float32
    test = {image.numpy().tobytes() for image in toy.x_test}
    assert {image.numpy().tobytes() for image in to_uint8(x)} <= test
    assert not torch.equal(x, toy.clean_images(5, seed=2)[0])
    assert torch.equal(x, toy.clean_images(5, seed=1)[0])
    assert {i.numpy().tobytes() for i in to_uint8(toy.clean_images(5, split="train")[0])}.isdisjoint(test)
    with pytest.raises(ValueError, match="got 21"):
        toy.clean_images(21)


def test_sample_per_class() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 2])
    chosen = sample_per_class(labels, 2, [2, 0])
    assert labels[chosen].tolist() == [2, 2, 0, 0]
    assert len(chosen.unique()) == 4
    assert sample_per_class(labels, 0, [1]).tolist() == []
    assert sample_per_class(labels, 5, []).dtype == torch.int64
    with pytest.raises(ValueError, match=r"class 1\), got 2"):
        sample_per_class(labels, 2, [1])


def test_to_device_keeps_everything(toy: ImageDataset) -> None:
    moved = toy.to("cpu")
    assert moved.fingerprint == toy.fingerprint
    assert moved.name == "toy"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x_train": torch.zeros(2, 1, 4, 4)}, r"x_train: .*got torch\.float32"),
        ({"x_test": torch.zeros(2, 4, 4, dtype=torch.uint8)}, r"x_test: .*\(2, 4, 4\)"),
        ({"y_train": torch.zeros(2)}, r"y_train: .*got torch\.float32"),
        ({"y_test": torch.zeros(3, dtype=torch.int64)}, r"y_test: .*\(3,\)"),
        ({"y_train": torch.tensor([0, 2])}, r"y_train: .*got 0…2"),
        ({"y_train": torch.tensor([-1, 0])}, r"y_train: .*got -1…0"),
        ({"x_test": torch.zeros(2, 1, 5, 5, dtype=torch.uint8)}, r"x_test: .*got \(1, 5, 5\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, torch.Tensor], says: str) -> None:
    x, y = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    parts = {"x_train": x, "y_train": y, "x_test": x, "y_test": y} | changes
    with pytest.raises(ValueError, match=says):
        ImageDataset("bad", classes=("a", "b"), **parts)


# ---------------------------------------------------------------------- conversions


def test_every_grey_level_survives_the_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels)
    np.testing.assert_allclose(floats.numpy(), np.arange(256) / 255, rtol=1e-7)
    assert torch.equal(to_uint8(floats), levels)
    assert torch.equal(to_uint8(floats.double()), levels)
    assert levels.dtype == torch.uint8
    assert to_uint8(torch.tensor([0.499 / 255, 0.501 / 255, 1 + 1e-7])).tolist() == [0, 1, 255]


def test_wrong_types_and_ranges_are_refused_with_the_value() -> None:
    with pytest.raises(TypeError, match=r"got torch\.float32"):
        to_float(torch.zeros(1))
    with pytest.raises(TypeError, match=r"got torch\.uint8"):
        to_uint8(torch.zeros(1, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"got 0…1\.5"):
        to_uint8(torch.tensor([0.0, 1.5]))
    with pytest.raises(ValueError, match="got nan"):
        to_uint8(torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match=r"faces: .*got -0\.2…0"):
        check_images(torch.tensor([[[[-0.2, 0.0]]]]), name="faces")
    with pytest.raises(ValueError, match=r"got \(1, 8, 8\)"):
        check_images(torch.zeros(1, 8, 8))
    with pytest.raises(TypeError, match="got ndarray"):
        check_images(np.zeros((1, 1, 8, 8)))  # type: ignore[arg-type]
    check_images(torch.full((1, 1, 2, 2), 1 + 5e-7))  # robust to float error
    check_images(torch.zeros(0, 1, 2, 2))


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


def test_two_that_miss_the_same_images_download_them_once(tmp_path, monkeypatch):
    downloads = []

    def download(name, root, _):
        time.sleep(0.2)
        downloads.append(name)
        datasets._folder_of(name, root).mkdir(parents=True)

    monkeypatch.setattr(datasets, "_download", download)
    found = []
    both = [threading.Thread(target=lambda: found.append(datasets._root_of("mnist", (tmp_path,), True)))
            for _ in range(2)]  # fmt: skip
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(10)
    assert (found, downloads) == ([tmp_path] * 2, ["mnist"])
