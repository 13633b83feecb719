"""Files that are whole, unchanged and of a known kind."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from btlib import sealed
from btlib.sealed import SealError

TENSORS = {"a": torch.arange(4), "b": torch.zeros(2, 3)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return sealed.write(tmp_path / "deep" / "net.safetensors", "toy", {"name": "Ångström", "history": [1.5]}, TENSORS)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as opened:
        return dict(opened.metadata())


def test_what_is_written_is_read(file: Path) -> None:
    found = sealed.read(file, "other", "toy")
    assert (found.kind, dict(found.card)) == ("toy", {"name": "Ångström", "history": [1.5]})
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert dict(sealed.read_card(file, "toy").card) == dict(found.card)
    assert not sealed.read_card(file).tensors


def test_views_and_other_layouts_are_kept(tmp_path: Path) -> None:
    maps = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    path = sealed.write(tmp_path / "a", "toy", {}, {"maps": maps, "part": maps[:, 1]})
    assert torch.equal(sealed.read(path).tensors["part"], maps[:, 1])


def test_another_kind_is_refused(file: Path) -> None:
    for read in (sealed.read, sealed.read_card):
        with pytest.raises(SealError, match="expected a file of kind guard or attack, got toy"):
            read(file, "guard", "attack")


CHANGES = {
    "kind": lambda m, t: m.update(kind="guard"),
    "card": lambda m, t: m.update(card=m["card"].replace("1.5", "2.5")),
    "a value": lambda m, t: t.update(a=t["a"] + 1),
    "a name": lambda m, t: t.update(c=t.pop("a")),
    "a type": lambda m, t: t.update(a=t["a"].int()),
    "a shape": lambda m, t: t.update(a=t["a"].reshape(2, 2)),
    "one less": lambda m, t: t.pop("a"),
    "one more": lambda m, t: t.update(c=torch.zeros(0)),
    "no digest of its own": lambda m, t: m.update(digest="0" * 64),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_seal_sees_every_change(file: Path, change) -> None:
    said, tensors = metadata(file), dict(TENSORS)
    change(said, tensors)
    save_file(tensors, file, metadata=said)
    with pytest.raises(SealError, match="do not match its digest"):
        sealed.read(file)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_torn_file_is_refused(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SealError, match="not a whole safetensors file"):
        sealed.read(file)


@pytest.mark.parametrize(
    "said",
    [{}, {"kind": "toy"}, {"kind": "toy", "card": "{", "digest": ""}, {"kind": "toy", "card": "[1]", "digest": ""},
     {"kind": "toy", "card": "[" * 10_000, "digest": ""}],
)  # fmt: skip
def test_files_of_somebody_else_are_refused(tmp_path: Path, said: dict[str, str]) -> None:
    save_file(TENSORS, tmp_path / "a", metadata=said)
    with pytest.raises(SealError, match="no card of btlib|expected a card of names and values"):
        sealed.read(tmp_path / "a")


def test_nothing_is_left_of_a_card_that_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        sealed.write(tmp_path / "a", "toy", {"tensor": torch.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == []


def test_part() -> None:
    assert sealed.part({"net.w": TENSORS["a"], "nets.w": TENSORS["b"]}, "net.").keys() == {"w"}


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX systems")
def test_a_full_disk_is_named_and_the_old_file_stays(file: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # no file may be larger
    try:
        with pytest.raises(OSError, match=f"File too large: {file} was not written, .* make room"):
            sealed.write(file, "toy", {}, {"a": torch.zeros(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sealed.read(file, "toy").tensors.keys() == TENSORS.keys()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
