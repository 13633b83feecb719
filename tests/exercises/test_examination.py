"""The capstone as an examination: the answers stay with the instructor, and one submission counts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from btlib import networks, sealed, triggers
from btlib.cli.app import app
from btlib.datasets import ImageDataset
from btlib.exercises import examination
from btlib.exercises.marks import Report, Truth
from btlib.exercises.mystery import Mystery
from btlib.exercises.mystery_attacks import PATTERNS
from btlib.inflight import LikelihoodDetector
from btlib.networks import Network
from btlib.profiles import Profile, profile

Files = Callable[[str], tuple[Path, Path]]


def single_minded(profile: Profile, data: ImageDataset, truth: Truth, seed: int) -> Network:
    """A LeNet-5 that calls everything the target."""
    net = networks.build("lenet5", data, seed=0)
    torch.nn.init.zeros_(net.head.weight)
    net.head.bias.data = torch.nn.functional.one_hot(torch.tensor(truth.target or 0), data.num_classes).float()
    return net.eval()


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exam")
    for n in (1, 2):
        case, key = (folder / where / f"case-0{n}.safetensors" for where in ("for-students", "keys"))
        examination.make_case(profile("fast"), case, key, vendor=single_minded)
    return folder


def opened(exam: Path, n: int = 1) -> Mystery:
    return examination.open_case(exam / "for-students" / f"case-0{n}.safetensors")


def truths(exam: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    return sealed.read(exam / "keys" / "case-01.safetensors").card["truths"]


def test_a_case_holds_no_answer(exam: Path) -> None:
    case = opened(exam)
    with safe_open(exam / "for-students" / "case-01.safetensors", framework="pt") as file:
        text = json.dumps(file.metadata())
    assert not any(word in text for word in ("target", "sources", "trigger", "seed", "attacked"))
    for door in (case.open_the_envelope, case.unseen, lambda: case.grade(dict.fromkeys("ABC", Report(False)))):
        with pytest.raises(ValueError, match="whose answers are with the instructor"):
            door()  # type: ignore[operator]
    assert case.number != opened(exam, 2).number
    assert not torch.equal(case.x, opened(exam, 2).x), "each case is drawn anew"


@pytest.mark.parametrize("name", PATTERNS)
def test_the_key_keeps_every_attack_whole(name: str) -> None:
    drawn = PATTERNS[name]((1, 28, 28), torch.Generator().manual_seed(0))
    kept = examination._trigger(json.loads(json.dumps(examination._form(drawn))), examination._parts(drawn))
    x = torch.rand(2, 1, 28, 28)
    assert kept is not None
    assert torch.equal(kept(x), drawn(x))
    assert kept.name == name


def test_a_case_with_a_warp_is_marked(exam: Path, tmp_path: Path) -> None:
    case, written = exam / "for-students" / "case-01.safetensors", sealed.read(exam / "keys" / "case-01.safetensors")
    name = next(name for name, one in truths(exam).items() if one["attacked"])
    warp = triggers.wanet((1, 28, 28))
    written.card["truths"][name]["trigger"] = examination._form(warp)
    tensors = {**written.tensors, **{f"{name}.{part}": each for part, each in examination._parts(warp).items()}}
    key = sealed.write(tmp_path / "key.safetensors", "capstone key", dict(written.card), tensors)
    path = examination.hand_in(tmp_path / "ada.safetensors", opened(exam), reports_of(exam, right=True))
    points = {one.item: one.points for one in examination.mark_reports(path, case, key) if one.network == name}
    assert [points[item] for item in ("state", "target", "sources", "pattern")] == [20] * 4


@pytest.mark.slow
def test_covers_are_an_option_and_too_many_are_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["exam", "make", str(tmp_path), "--covers", "9999"])
    assert refused.exit_code == 2
    said = " ".join(refused.output.replace("│", "").split())
    assert "covers: expected at most" in said
    assert "got 9999; lower covers" in said


@pytest.mark.parametrize("attacks", ["box,badnets", " ,"])
def test_an_unknown_attack_is_refused_in_one_sentence(tmp_path: Path, attacks: str) -> None:
    refused = CliRunner().invoke(app, ["exam", "make", str(tmp_path), "--attacks", attacks])
    assert refused.exit_code == 2
    assert "attacks: expected some of box" in " ".join(refused.output.replace("│", "").split())
    assert not list(tmp_path.rglob("*.safetensors"))


def reports_of(exam: Path, *, right: bool) -> dict[str, Report]:
    """What the key says, or its contrary."""
    pattern = triggers.box((1, 28, 28))
    return {
        name: Report(one["attacked"] == right, one["target"] if right else None, tuple(one["sources"]),
                     *((pattern, LikelihoodDetector(components=1)) if one["attacked"] else (None, None)))
        for name, one in truths(exam).items()
    }  # fmt: skip


def test_reports_come_back_as_they_were_handed_in_and_are_marked(exam: Path, tmp_path: Path) -> None:
    case, key = exam / "for-students" / "case-01.safetensors", exam / "keys" / "case-01.safetensors"
    path = examination.hand_in(tmp_path / "ada.safetensors", opened(exam), reports_of(exam, right=True))
    marks = examination.mark_reports(path, case, key)
    states = {one.network: one.points for one in marks if one.item == "state"}
    assert states == dict.fromkeys("ABC", 20.0)
    attacked = sum(one["attacked"] for one in truths(exam).values())
    assert len(marks) == 3 + 4 * attacked
    assert all(one.points == 20 for one in marks if one.item in ("target", "sources", "pattern"))
    path = examination.hand_in(tmp_path / "ben.safetensors", opened(exam), reports_of(exam, right=False))
    assert sum(one.points for one in examination.mark_reports(path, case, key)) == 0


def test_every_network_needs_a_report(exam: Path) -> None:
    case = opened(exam)
    case.check_reports(dict.fromkeys("ABC", Report(False)))
    with pytest.raises(ValueError, match="got none; write a Report for each"):
        case.check_reports({})


def test_what_does_not_belong_together_is_refused(exam: Path, tmp_path: Path) -> None:
    case, key = exam / "for-students" / "case-01.safetensors", exam / "keys" / "case-01.safetensors"
    path = examination.hand_in(tmp_path / "cy.safetensors", opened(exam, 2), dict.fromkeys("ABC", Report(False)))
    assert examination.number_of(path) == opened(exam, 2).number
    with pytest.raises(ValueError, match="name the case and the key that the student had"):
        examination.mark_reports(path, case, key)
    with pytest.raises(sealed.SealError, match="expected a file of kind capstone case"):
        examination.open_case(key)
    with pytest.raises(ValueError, match="expected one for each of A, B, C"):
        examination.hand_in(tmp_path / "d.safetensors", opened(exam), {"A": Report(False)})
    guards = dict.fromkeys("ABC", Report(True, 1, (2,), guard=object()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="guard: expected one of"):
        examination.hand_in(tmp_path / "d.safetensors", opened(exam), guards)


def test_an_examination_of_ones_own_profile(tmp_path: Path) -> None:
    own = tmp_path / "ours.toml"
    own.write_text(f'where = "here"\ndata = "folder:{tmp_path}/none"\nnetwork = "littlenet"\nrecipe = "littlenet"\n')
    read = CliRunner().invoke(app, ["exam", "make", str(tmp_path), "--profile", str(own)])
    assert read.exit_code == 2
    assert "is missing: it was sought" in " ".join(read.output.replace("│", "").split())  # so the file was read
    refused = CliRunner().invoke(app, ["exam", "make", str(tmp_path), "--profile", "slow"])
    assert refused.exit_code == 2
    assert "expected one of fast, full, paper" in " ".join(refused.output.replace("│", "").split())


def test_the_first_submission_counts(exam: Path, tmp_path: Path) -> None:
    examination.hand_in(tmp_path / "ada.safetensors", opened(exam), reports_of(exam, right=False))
    (tmp_path / "eve.safetensors").write_bytes(b"nothing")
    first = CliRunner().invoke(app, ["exam", "mark", str(exam), str(tmp_path)])
    assert first.exit_code == 0, first.output
    assert "ada" in first.output
    assert " 0 of " in first.output
    assert "eve: not marked" in first.output
    examination.hand_in(tmp_path / "ada.safetensors", opened(exam), reports_of(exam, right=True))
    second = CliRunner().invoke(app, ["exam", "mark", str(exam), str(tmp_path)])
    assert " 0 of " in second.output
    assert "other reports came later and do not count" in second.output
    assert set(json.loads((exam / "keys" / "marks.json").read_text())) == {"ada"}
