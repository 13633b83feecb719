"""What says which data set is meant: one value, in specs, files and results."""

import copy
import gc
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from toys import TARGET, toy_data

from btlib import attacks, checkpoints, datasets
from btlib.attacks.attack import clean_network
from btlib.checkpoints import Spec
from btlib.datasets import DataError, DataSource, ImageDataset, load
from btlib.datasets.readers import reader_of
from btlib.papers import jobs
from btlib.papers.costs import cost
from btlib.papers.measurements import Measurement, with_network
from btlib.poisoning import poison
from btlib.training import Recipe


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two kinds of pets, sixteen pictures each, in a folder of one's own."""
    folder = tmp_path / "own" / "pets"
    for label, name in enumerate(("cats", "dogs")):
        (folder / name).mkdir(parents=True)
        for index in range(16):
            Image.new("RGB", (24, 24), (200 * label + index, 100, 50)).save(folder / name / f"{index:02d}.png")
    return folder


# ---------------------------------------------------------------------- a value


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (DataSource("fashion-mnist"), "fashion-mnist"),
        (DataSource("gtsrb", size=32), "gtsrb"),
        (DataSource("folder:pets", size=32, channels=3, test_fraction=0.2, seed=0), "folder:pets"),
        (DataSource("mnist", size=32), {"name": "mnist", "size": 32}),
        (DataSource("folder:pets", seed=3, channels=1), {"name": "folder:pets", "channels": 1, "seed": 3}),
    ],
)
def test_a_source_goes_through_json_and_back(source: DataSource, told: object) -> None:
    assert source.as_json() == told
    assert DataSource.of(json.loads(json.dumps(source.as_json()))) == source
    assert len({source, DataSource.of(told), copy.deepcopy(source), pickle.loads(pickle.dumps(source))}) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", [{"channels": 3}, {"channels": 1}, {"test_fraction": 0.2}, {"seed": 0}])
def test_named_sets_refuse_what_means_nothing_for_them(setting: dict) -> None:
    (name,) = setting
    with pytest.raises(ValueError, match=f"{name}: expected none for 'fashion-mnist'"):
        load("fashion-mnist", **setting)


def test_what_is_no_data_set_is_refused() -> None:
    for name in ("fashion", "folder", "mnist:", "disk:pets"):
        with pytest.raises(ValueError, match=f"got '{name}'; check the spelling"):
            DataSource(name)
    with pytest.raises(TypeError, match="got int"):
        DataSource.of(3)  # type: ignore[arg-type]


def test_shapes_are_known_without_the_images(tmp_path: Path) -> None:
    elsewhere = str(tmp_path)  # there is nothing
    assert DataSource("cifar100", root=elsewhere).num_classes == 100
    assert DataSource("mnist", root=elsewhere, size=32).image_shape == (1, 32, 32)
    assert DataSource("folder:pets", root=elsewhere, channels=1).image_shape == (1, 32, 32)
    with pytest.raises(DataError, match="'pets' is missing"):
        _ = DataSource("folder:pets", root=elsewhere).num_classes


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist", "gtsrb"])
def test_what_is_said_without_the_images_is_true_of_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, labels and classes are the real ones; the pixels of gtsrb's 39,000 pictures say nothing of that."""
    if not datasets.available(name):
        pytest.skip(f"{name} is not on this machine")
    monkeypatch.setattr(
        "btlib.datasets.named.decode", lambda files, shape, _: (torch.zeros(len(files), *shape, dtype=torch.uint8), ())
    )
    source, reader = DataSource(name), reader_of(name)
    data, facts = reader.read(source, reader.find(source, False)), source.facts
    assert facts is not None
    assert (facts.image_shape, facts.num_classes) == (data.image_shape, data.num_classes)
    assert 0 <= facts.train - len(data.y_train) <= 2  # the course's copy of gtsrb lacks two
    assert facts.test == len(data.y_test)


def test_a_folder_is_counted_without_its_images_being_read(pets: Path) -> None:
    (pets / "cats" / "00.png").write_bytes(b"no picture")
    facts = DataSource(f"folder:{pets}", size=20).facts
    assert facts == datasets.Facts((3, 20, 20), 2, 26, 6)
    recipe = Measurement("detection", with_network(Spec(data=DataSource(f"folder:{pets}"))))
    assert cost(recipe).memory_mb < cost(Measurement("detection", with_network(Spec()))).memory_mb


def test_available_only_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTLIB_DATA", str(tmp_path))
    for name in ("mnist", "gtsrb", "cifar10", "folder:mine"):
        assert not datasets.available(name)
    (tmp_path / "gtsrb").mkdir()
    (tmp_path / "mine").mkdir()
    assert datasets.available("gtsrb")
    assert datasets.available("folder:mine")
    assert datasets.available("fashion-mnist")  # embedded, whatever BTLIB_DATA says
    assert not datasets.available(DataSource("fashion-mnist", root=str(tmp_path)))
    with pytest.raises(ValueError, match="'imagenet'"):
        datasets.available("imagenet")


# ---------------------------------------------------------------------- where a set came from


def test_a_loaded_set_knows_its_source_and_parts_of_it_do_too(pets: Path) -> None:
    data = load(f"folder:{pets}", size=20)
    assert data.source == DataSource(f"folder:{pets}", size=20)
    assert data.source.load().fingerprint == data.fingerprint
    assert data.subset(train=5).source == data.source
    assert DataSource.of(data) == data.source
    assert DataSource.of(data.subset(train=5)) != data.source, "a part is another data set"


def test_a_folder_of_the_same_name_below_a_root_is_another_one(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = pets.parents[1] / "roots"
    for name in ("cats", "dogs", "fish"):
        (other / "pets" / name).mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (24, 24)).save(other / "pets" / name / f"{index}.png")
    monkeypatch.setenv("BTLIB_DATA", str(other))
    data = load(f"folder:{pets}")
    again = Spec(data=data).clean_data()
    assert again.classes == ("cats", "dogs")
    assert again.fingerprint == data.fingerprint
    assert load("folder:pets").num_classes == 3


@pytest.mark.parametrize("settings", [{}, {"size": 20, "channels": 1}])
def test_the_clean_network_of_an_own_folder_is_of_its_images(
    settings: dict, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BTLIB_CHECKPOINTS", str(tmp_path / "nets"))
    data = load(f"folder:{pets}", **settings)
    net = clean_network(data, seed=0)
    assert (net.image_shape, net.num_classes) == (data.image_shape, 2)
    assert net.card.data_hash == data.fingerprint
    recipe = attacks.stealthy.StealthyRecipe(target=1, epochs=1, watch=4)
    assert attacks.stealthy.run(data, recipe, progress=False).network.image_shape == data.image_shape


def test_the_clean_network_of_a_part_is_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTLIB_CHECKPOINTS", str(tmp_path))
    datasets.register("bars", lambda _: toy_data())
    part = load("bars").subset(train=30, seed=1)
    bad = poison(part, checkpoints.Spec(data=part, trigger="box").make_trigger(), TARGET, per_class=2)  # type: ignore[arg-type]
    nets = [clean_network(data, seed=0) for data in (part, bad)]
    assert {net.card.data_hash for net in nets} == {toy_data().fingerprint}
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


# ---------------------------------------------------------------------- nobody's images change by another's hand


def test_what_one_caller_changes_no_other_sees(pets: Path) -> None:
    mine, before = load(f"folder:{pets}"), load(f"folder:{pets}").fingerprint
    mine.x_train.fill_(255)
    assert mine.fingerprint != before, "the fingerprint is of the images as they are"
    assert load(f"folder:{pets}").fingerprint == before
    assert DataSource(f"folder:{pets}").fingerprint == before
    assert DataSource.of(mine) != DataSource(f"folder:{pets}"), "they are no longer what the folder gives"
    assert DataSource.of(mine).load().x_train.unique().tolist() == [255]
    assert mine.pixel_statistics[0].tolist() == [1.0, 1.0, 1.0]


def test_a_folder_that_changes_is_read_again(pets: Path) -> None:
    assert len(load(f"folder:{pets}").y_train) == 26
    Image.new("RGB", (24, 24)).save(pets / "dogs" / "more.png")
    assert len(load(f"folder:{pets}").y_train) + len(load(f"folder:{pets}").y_test) == 33


# ---------------------------------------------------------------------- tensors of one's own


def test_own_tensors_are_a_source_by_what_is_in_them() -> None:
    source = DataSource.of(toy_data())
    assert source == DataSource.of(toy_data())
    assert source != DataSource.of(toy_data(test=59))
    assert source.name == f"memory:{toy_data().fingerprint[:16]}"
    assert source.load().fingerprint == source.fingerprint == toy_data().fingerprint
    assert DataSource.of(source.load()) == source
    assert DataSource.of(source.as_json()).load().name == "toy", "while a source is in use, its name is enough"
    told = DataSource.of(toy_data(test=58)).as_json()
    gc.collect()
    assert len(DataSource.of(told).load().y_test) == 58, "of the latest sets the name is enough, too"
    assert (source.image_shape, source.num_classes, source.classes[1]) == ((1, 16, 16), 3, "bar 1")


def test_own_tensors_of_another_process_are_asked_for() -> None:
    gone = DataSource("memory:0123456789abcdef")
    assert not gone.available()
    with pytest.raises(DataError, match="pass the ImageDataset itself"):
        gone.load()


def test_own_tensors_work_where_a_named_set_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints, attacks that are remembered, and the measurements of tables."""
    monkeypatch.setenv("BTLIB_CHECKPOINTS", str(tmp_path))
    spec = Spec(data=toy_data(), recipe=Recipe(epochs=3, batch_size=32, lr=4e-3), trigger="box", target=TARGET,
                per_class=20)  # fmt: skip
    settings = with_network(spec, detectors=["red-a-2"], attack="stealthy", target=TARGET,
                            attack_settings={"epochs": 1, "watch": 30})  # fmt: skip
    found = jobs.run(Measurement("detection", settings))
    assert found["accuracy"] > 0.9
    attacked = attacks.AttackSpec(attacks.stealthy.StealthyRecipe(target=TARGET, epochs=1, watch=30), spec.clean_twin())
    assert attacks.load_or_run(attacked, progress=False).history == attacks.load_or_run(attacked).history
    assert Measurement("detection", settings).spec == spec
    assert cost(Measurement("detection", settings)).disk_mb == 0, "its network was found"


def test_a_reader_of_ones_own(tmp_path: Path) -> None:
    asked = []

    made = {size: toy_data(size=size) for size in (16, 20)}

    def read(source: DataSource) -> ImageDataset:
        asked.append(source)
        return replace(made[source.size], name=source.name)

    datasets.register("mine", read, size=16)
    assert "mine" in datasets.names()
    assert reader_of("mine").settings == {"size": 16}
    assert DataSource("mine", size=16).as_json() == "mine"
    assert [load("mine").image_shape, load("mine", size=20).image_shape] == [(1, 16, 16), (1, 20, 20)]
    load("mine").x_train.zero_()
    made[16].x_train.zero_()  # what their owner does with them later
    assert torch.equal(load("mine").x_train, toy_data().x_train)
    assert len(asked) == 2, "once for each size"
    with pytest.raises(ValueError, match=r"seed: .*\(size can be set\)"):
        load("mine", seed=1)
    assert Spec(data="mine", trigger="box").file_name.startswith("mine-lenet5-box-s0-")
