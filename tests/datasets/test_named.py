"""The data sets that torchvision knows: what is read, what is refused, and what is left behind."""

import gzip
import hashlib
import os
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

from btlib import datasets
from btlib.datasets import DataError, Facts, ImageDataset, load, to_float
from btlib.datasets.named import NamedReader, cifar_reader, gtsrb_reader, idx_reader

SOURCE = datasets.roots()[-1] / "FashionMNIST" / "raw"
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
        assert fashion.classes == tuple(theirs.classes)
    raw = np.frombuffer(gzip.decompress((SOURCE / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    np.testing.assert_array_equal(fashion.x_test.numpy().ravel(), raw)
    labels = np.frombuffer(gzip.decompress((SOURCE / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    np.testing.assert_array_equal(fashion.y_test.numpy(), labels)
    assert fashion.x_train.shape == (60000, 1, 28, 28)
    assert torch.bincount(fashion.y_train).tolist() == [6000] * 10
    assert (fashion.name, fashion.image_shape, fashion.num_classes) == ("fashion-mnist", (1, 28, 28), 10)
    assert fashion.classes[0] == "T-shirt/top"
    assert fashion.classes[9] == "Ankle boot"


def test_a_file_is_read_again_only_where_it_changed(copied: Path) -> None:
    first = read(copied)
    for path in copied.iterdir():
        was = path.stat()
        path.write_bytes(bytes(was.st_size))
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))  # as if nobody had been there
    assert read(copied).fingerprint == first.fingerprint
    next(copied.glob("*images*ubyte")).write_bytes(b"")
    with pytest.raises(DataError, match="its MD5 sum is"):
        read(copied)
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
def copied(tmp_path: Path) -> Path:
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
    datasets.register("tiny", idx_reader("FashionMNIST", sums, Facts((1, 28, 28), 10, 40, 20)))
    return raw


def read(raw: Path) -> ImageDataset:
    return load("tiny", root=raw.parents[1], download=False)


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


def test_files_that_change_are_read_anew(copied: Path) -> None:
    assert read(copied).x_test.any()
    (copied / "t10k-images-idx3-ubyte").write_bytes(b"torn, later in the same process")
    with pytest.raises(DataError, match="its MD5 sum is"):
        read(copied)


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


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX systems")
def test_a_full_disk_is_not_blamed_on_the_packed_file(copied: Path) -> None:
    """It used to say of a whole file: delete it."""
    import resource

    (copied / "t10k-labels-idx1-ubyte").unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, before[1]))  # no file may be larger
    try:
        with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz could not be unpacked: .*; make room"):
            read(copied)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read(copied).y_test.tolist()


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
            assert "A checkout of btlib's repository brings 'fashion-mnist'" in text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(DataError, match="downloading is switched off"):
        datasets.load("mnist", root=tmp_path, download=False)


def test_btlib_data_comes_first(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BTLIB_DATA", raising=False)
    own = datasets.roots()
    assert own == (SOURCE.parents[1],)
    monkeypatch.setenv("BTLIB_DATA", str(copied.parents[1]))
    assert datasets.roots() == (copied.parents[1].resolve(), *own)
    assert len(load("tiny").y_train) == 40


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="got 'fashion'"):
        load("fashion")


def test_two_that_miss_the_same_images_download_them_once(tmp_path: Path) -> None:
    downloads = []
    x, y = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])

    def download_or_read(root: Path, download: bool, size: int) -> ImageDataset:
        if download:
            time.sleep(0.2)
            downloads.append(root)
            (root / "slow").mkdir(parents=True)
        return ImageDataset("slow", x, y, x, y, ("a", "b"))

    datasets.register("slow", NamedReader("slow", Facts((1, 4, 4), 2, 2, 2), download_or_read))
    found = []
    both = [threading.Thread(target=lambda: found.append(load("slow", root=tmp_path))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(10)
    assert len(found) == 2
    assert len(downloads) == 1


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
    facts = Facts((3, 32, 32), classes, train, 10)
    datasets.register("tiny cifar", cifar_reader(name.upper(), facts))
    data = load("tiny cifar", root=tmp_path, download=False)
    assert Facts.of(data) == facts
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
def fake_gtsrb(tmp_path: Path) -> Path:
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
    counts = {"train": (3,), "test": (2,)}
    datasets.register("signs", gtsrb_reader(counts, Facts((3, 32, 32), 43, 3, 2)))
    return base


def test_gtsrb_reader(fake_gtsrb: Path) -> None:
    data = load("signs", root=fake_gtsrb.parent, download=False)
    assert data.x_train.shape == (3, 3, 32, 32)
    assert data.x_train[:, :, 5, 5].tolist() == [[10, 20, 200], [20, 40, 200], [30, 60, 200]]
    assert data.y_test.tolist() == [16, 1]
    assert data.x_test[:, 0, 0, 0].tolist() == [0, 1]
    assert len(data.classes) == 43
    assert data.classes[14] == "stop"
    assert load("signs", root=fake_gtsrb.parent, size=16).image_shape == (3, 16, 16)


def test_a_half_extracted_gtsrb_is_refused(fake_gtsrb: Path) -> None:
    root = fake_gtsrb.parent
    sign = fake_gtsrb / "GTSRB" / "Training" / "00000" / "00001.ppm"
    sign.write_bytes(sign.read_bytes()[:100])
    with pytest.raises(DataError, match=r"00001\.ppm: it cannot be read as an image"):
        load("signs", root=root, download=False)
    sign.unlink()
    with pytest.raises(DataError, match="train split has 2 images where 3 are expected"):
        load("signs", root=root, download=False)
    (fake_gtsrb / "GT-final_test.csv").unlink()
    Image.new("RGB", (8, 8)).save(sign)
    with pytest.raises(DataError, match="test split is incomplete"):
        load("signs", root=root, download=False)


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
