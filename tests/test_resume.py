"""What is kept between two epochs: everything that the next one depends on."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import toy_data

from btlib.resume import ResumeFile
from btlib.training import Recipe, place, seeded

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
    file = ResumeFile(tmp_path / "state", Recipe(epochs=2), 0, DATA)
    with seeded(0, place("cpu")):
        whole = parts()
        step(**whole)
        file.save([{"epoch": 1, "loss": 0.5}], **whole)
        step(**whole)
    with seeded(7, place("cpu")):  # other weights, another random state
        resumed = parts()
        kept = resumed["kept"]
        assert file.restore(**resumed) == [{"epoch": 1, "loss": 0.5}]
        step(**resumed)
    assert torch.equal(whole["network"].weight, resumed["network"].weight)
    assert torch.equal(whole["kept"]["scale"], kept["scale"])  # the caller's own dict was filled


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    for path in (None, tmp_path / "absent"):
        assert ResumeFile(path, Recipe(epochs=1), 0, DATA).restore(**parts()) == []
    ResumeFile(None, Recipe(epochs=1), 0, DATA).save([], **parts())
    assert list(tmp_path.iterdir()) == []


def test_the_state_of_another_version_of_the_code_is_refused(tmp_path: Path) -> None:
    ResumeFile(tmp_path / "state", Recipe(epochs=1), 0, DATA, version=1).save([], **parts())
    with pytest.raises(ValueError, match="another in .*state; delete the file"):
        ResumeFile(tmp_path / "state", Recipe(epochs=1), 0, DATA, version=2).restore(**parts())


def test_a_seed_rules_inside_and_the_caller_is_left_alone() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(3, place("cpu")):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert place().type == ("cuda" if torch.cuda.is_available() else "cpu")
