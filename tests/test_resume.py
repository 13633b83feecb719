"""What is kept between two epochs: everything that the next one depends on."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import toy_data

from btlib.resume import ResumeFile
from btlib.training import Recipe, Stage, device_for, seeded, train

DATA = toy_data(train=12)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, kept: dict[str, Tensor]) -> None:
    """Depends on weights, Adam's moments, the kept tensor and the random state."""
    loss = (network(torch.rand(4, 2)) * kept["scale"]).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    kept["scale"] = kept["scale"] * 1.1


def parts() -> dict:
    network = nn.Linear(2, 1)
    return {"network": network, "optimizer": torch.optim.Adam(network.parameters()), "kept": {"scale": torch.ones(())}}


def test_going_on_is_not_having_stopped(tmp_path: Path) -> None:
    file = ResumeFile(tmp_path / "state", recipe=Recipe(epochs=2), data=DATA)
    with seeded(0, device_for("cpu")):
        whole = parts()
        step(**whole)
        file.save([{"epoch": 1, "loss": 0.5}], **whole)
        step(**whole)
    with seeded(7, device_for("cpu")):  # other weights, another random state
        resumed = parts()
        kept = resumed["kept"]
        assert file.restore(**resumed) == [{"epoch": 1, "loss": 0.5}]
        step(**resumed)
    assert torch.equal(whole["network"].weight, resumed["network"].weight)
    assert torch.equal(whole["kept"]["scale"], kept["scale"])  # the caller's own dict was filled


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    for path in (None, tmp_path / "absent"):
        assert ResumeFile(path, recipe=Recipe(epochs=1), data=DATA).restore(**parts()) == []
    ResumeFile(None, recipe=Recipe(epochs=1), data=DATA).save([], **parts())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [
    {"recipe": Recipe(epochs=2)}, {"seed": 1}, {"data": toy_data(train=6)}, {"start": nn.Linear(2, 1)}, {"start": None},
    {"version": 2},
])  # fmt: skip
def test_the_state_of_another_training_is_refused(tmp_path: Path, other: dict) -> None:
    same = {"recipe": Recipe(epochs=1), "seed": 0, "data": DATA, "start": nn.Linear(2, 1), "version": 1}
    ResumeFile(tmp_path / "state", **same).save([], **parts())
    whole = parts()
    before = whole["network"].weight.clone()
    with pytest.raises(ValueError, match=r"another in .*state; delete the file"):
        ResumeFile(tmp_path / "state", **(same | other)).restore(**whole)
    assert torch.equal(whole["network"].weight, before)
    assert ResumeFile(tmp_path / "state", **same).restore(**whole) == []


@pytest.mark.parametrize("contents", [b"", b"nonsense", "half", [1, 2], {"identity": ""}, "shape", "history"])
def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, contents: object) -> None:
    path = tmp_path / "state"
    file, whole = ResumeFile(path, seed=3), parts()
    file.save([{"epoch": 1}], **whole)
    if contents == "half":
        path.write_bytes(path.read_bytes()[:500])
    elif isinstance(contents, bytes):
        path.write_bytes(contents)
    elif contents == "shape":
        whole["network"] = nn.Linear(3, 1)
    else:
        kept = torch.load(path)
        kept.pop("history")
        torch.save(kept if contents == "history" else contents, path)
    with pytest.raises(ValueError, match=f"resume: .*in {path}.*delete"):
        file.restore(**whole)


def test_a_tensor_is_filled_in_place(tmp_path: Path) -> None:
    file, pattern = ResumeFile(tmp_path / "state"), torch.tensor([1.0, 2.0])
    file.save([], pattern=pattern)
    shown = pattern.zero_()
    file.restore(pattern=pattern)
    assert shown.tolist() == [1, 2]


def test_a_seed_rules_inside_and_the_caller_is_left_alone() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(3, device_for("cpu")):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert device_for().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    """In a weight it would otherwise give another network without a word."""
    file = ResumeFile(tmp_path / "state", recipe=Recipe(epochs=1), data=DATA)
    whole = parts()
    file.save([], **whole)
    content = bytearray((tmp_path / "state").read_bytes())
    place = content.index(whole["network"].weight.detach().numpy().tobytes())
    content[place + 2] ^= 1
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="damaged or foreign file in .*; delete it"):
        file.restore(**parts())


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX systems")
def test_a_full_disk_is_one_sentence_and_the_last_epoch_is_kept(tmp_path: Path) -> None:
    """PyTorch itself says "unexpected pos 112448 vs 112340"."""
    import resource

    file = ResumeFile(tmp_path / "state")
    file.save([{"epoch": 1}], kept={"x": torch.zeros(5)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # no file may be larger
    try:
        with pytest.raises(OSError, match=f"File too large: {tmp_path / 'state'} was not written"):
            file.save([{"epoch": 2}], kept={"x": torch.zeros(50_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.restore(kept={"x": torch.zeros(5)}) == [{"epoch": 1}]


def test_a_large_state_is_written_now_and_then_and_a_small_one_always(tmp_path: Path) -> None:
    large, small = {"x": torch.zeros(5_000_000)}, {"x": torch.zeros(5)}
    for every, then in ((3600.0, False), (0.0, True)):
        file = ResumeFile(tmp_path / "state", every=every)
        assert file.due()
        file.save([{"epoch": 1}], kept=large)
        assert file.due() is then
    file = ResumeFile(tmp_path / "state", every=3600.0)
    file.save([{"epoch": 1}], kept=small)
    assert file.due()


class Heavy(Stage):
    """Three epochs with a state of 20 MB."""

    epochs, steps = 3, 1

    def __init__(self) -> None:
        self.state = {"x": torch.zeros(5_000_000)}

    def start(self, epoch: int) -> list[int]:
        return [epoch]

    def step(self, batch: int, taken: int) -> Tensor:
        return torch.tensor(float(batch))


def test_the_last_epoch_is_always_kept(tmp_path: Path) -> None:
    written = []

    class Counted(ResumeFile):
        def save(self, history: list[dict[str, float]], **parts: Any) -> None:
            written.append(len(history))
            super().save(history, **parts)

    train([Heavy()], Counted(tmp_path / "state", every=3600.0), seed=0, device=device_for("cpu"))
    assert written == [1, 3]
    assert len(train([Heavy()], ResumeFile(tmp_path / "state"), seed=0, device=device_for("cpu"))) == 3
