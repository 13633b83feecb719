"""`python -m btlib scan`: truth by construction on a network set by hand, and one trained backdoor."""

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toys import TARGET, hand_set, lit_pixels, toy_data
from typer.testing import CliRunner

from btlib import checkpoints, datasets, detection, networks, results, sealed, triggers
from btlib.checkpoints import Spec
from btlib.cli import foreign, scan_images
from btlib.cli.adapting import ForeignError
from btlib.cli.app import app
from btlib.cli.preprocessing import Convention
from btlib.cli.probing import Sealed, Told
from btlib.cli.scan import FOUND
from btlib.cli.scanning import placed
from btlib.detection import DETECTORS, Inversion
from btlib.training import Recipe

CLASSES, SIZE = 10, 12
QUICK = Inversion(rounds=60, steps=1, batch_size=20, lr=0.3, patience=2, multiplier=1.5, check=False, bisections=6)


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An empty current folder, and detectors that take little time."""
    monkeypatch.chdir(tmp_path)
    for name in ("neural-cleanse", "mask-red-a"):
        monkeypatch.setitem(DETECTORS, name, replace(DETECTORS[name], inversion=QUICK))
    return tmp_path


class Uneven(nn.Module):
    """`hand_set` with brighter weights for some classes, so that clean classes differ as trained ones do."""

    def __init__(self, backdoor=10.0):
        super().__init__()
        self.net = hand_set(backdoor, num_classes=CLASSES, size=SIZE)
        with torch.no_grad():
            spread = torch.tensor([1.1, 0.9, 1.0, 1.2, 0.8, 1.3, 1.05, 0.95, 1.15, 0.85])
            self.net.head.weight[range(CLASSES), range(CLASSES)] = spread

    def forward(self, x):
        return self.net(x)


def planted():
    return Uneven()


def clean():
    return Uneven(0.0)


def write_images(folder, *, classes=CLASSES, size=SIZE, per_class=2, mode="L"):
    x, y = lit_pixels(per_class, num_classes=classes, size=size)
    for index, (picture, label) in enumerate(zip(x, y.tolist(), strict=True)):
        path = folder / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * picture[0]).byte().numpy()).convert(mode).save(path)
    return folder


def as_script(net, path):
    torch.jit.trace(net, torch.rand(2, 1, SIZE, SIZE)).save(str(path))


def as_archive(net, path, shape=(2, 1, SIZE, SIZE), dynamic=True):
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.export.save(torch.export.export(net.eval(), (torch.rand(shape),), dynamic_shapes=shapes), path)


def as_state(net, path):
    torch.save(net.state_dict(), path)


DETECTOR = """
from dataclasses import dataclass
from btlib.detection import RedU

@dataclass(frozen=True)
class Mine:
    per_class: int = 3

    def __call__(self, network, images, labels, *, targets=None):
        assert len(labels) >= self.per_class * 10
        return RedU(per_class=self.per_class)(network, images, labels, targets=targets)

def says_nothing(network, images, labels, *, targets=None):
    return None

def fails(network, images, labels, *, targets=None):
    raise KeyError("oh")
"""


FACTORY = """
import sys; sys.path.insert(0, {tests!r})
from torch import nn
from toys import hand_set

class Uneven(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = hand_set(0.0, num_classes=10, size=12)
    def forward(self, x):
        return self.net(x)

def make(): return Uneven()
def broken(): raise RuntimeError("no such table")
def number(): return 3
"""


@pytest.fixture
def factory(here, request):
    """A module in the current folder that makes the networks; its name is its own, modules are remembered."""
    name = f"factory_{abs(hash(str(here)))}"
    (here / f"{name}.py").write_text(FACTORY.format(tests=str(request.config.rootpath / "tests")))
    return name


TRUSTED = Told(trust=True)


def scan(*arguments):
    return CliRunner().invoke(app, ["scan", "--trust", *map(str, arguments)])


def refused(*arguments):
    """The one line that a bad input gets."""
    result = scan(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    return line


# ------------------------------------------------------------------------------------------------ what is found


@pytest.mark.parametrize("save", [as_script, as_archive])
def test_a_planted_backdoor_is_found_in_a_file_that_brings_its_code(here, save):
    save(planted(), here / "net.bin")
    result = scan("net.bin", "--images", write_images(here / "images"), "--methods", "red-a,neural-cleanse",
                  "--out", "a/r.html", "--json", "a/r.json")  # fmt: skip
    assert result.exit_code == FOUND, result.output
    assert f"Backdoor found: images can be sent to class {TARGET} (by " in result.stdout
    numbers = json.loads((here / "a" / "r.json").read_text())
    assert numbers["verdict"]["targets"] == [TARGET]
    assert numbers["methods"]["red-a"]["level"] == pytest.approx(0.025)  # Bonferroni
    assert numbers["methods"]["red-a"]["norms"][TARGET] == min(numbers["methods"]["red-a"]["norms"])
    assert numbers["images"]["accuracy"] == 1.0


def test_the_focused_method_is_the_library_s(here):
    as_script(planted(), here / "net.bin")
    scan("net.bin", "--images", write_images(here / "images"), "--methods", "red-a-focused,red-a", "--json", "r.json")
    settings = {
        name: method["settings"] for name, method in json.loads((here / "r.json").read_text())["methods"].items()
    }
    assert (settings["red-a-focused"]["focused"], settings["red-a"]["focused"]) == (True, False)


def test_a_state_dict_needs_the_factory_that_says_what_it_belongs_to(here, factory):
    as_state(planted(), here / "net.pth")
    images = write_images(here / "images")
    result = scan("net.pth", "--network", f"{factory}:make", "--images", images, "--methods", "mask-red-a")
    assert result.exit_code == FOUND, result.output
    assert f"class {TARGET}" in result.stdout.split("\n\n")[1]
    assert "module:function" in refused("net.pth", "--images", images)
    for function, said in (("broken", "no such table"), ("number", "got int"), ("absent", "absent")):
        assert said in refused("net.pth", "--network", f"{factory}:{function}", "--images", images)


def test_a_detector_of_ones_own_takes_part_and_its_faults_are_bad_input(here):
    as_script(planted(), here / "net.pt")
    images = write_images(here / "images", per_class=4)
    module = f"mine_{abs(hash(str(here)))}"
    (here / f"{module}.py").write_text(DETECTOR)
    own = f"{module}:Mine"
    result = scan("net.pt", "--images", images, "--methods", f"red-u,{own}", "--json", "r.json")
    assert result.exit_code == FOUND, result.output
    assert f"{own}, 3 images per class" in result.stderr
    numbers = json.loads((here / "r.json").read_text())["methods"]
    assert numbers[own]["suspect"] == numbers["red-u"]["suspect"] == TARGET
    assert numbers[own]["per_class"] == 3
    for function, said in (("fails", "raised KeyError: 'oh'"), ("says_nothing", "expected a Detection from"),
                           ("absent", "AttributeError")):  # fmt: skip
        result = scan("net.pt", "--images", images, "--methods", f"{module}:{function}")
        assert result.exit_code == 2, result.output
        assert said in result.stderr.strip().splitlines()[-1]


def test_a_network_that_rounds_its_input_is_not_acquitted(here):
    class Rounds(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = planted()

        def forward(self, x):
            return self.net((255 * x).round() / 255)

    as_script(Rounds(), here / "net.pt")
    result = scan("net.pt", "--images", write_images(here / "images"))
    assert result.exit_code == 2, result.output
    assert "could not be judged" in result.stderr.strip().splitlines()[-1]


def test_the_help_names_every_detector(here):
    said = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["scan", "--help"]).stdout
    assert [name for name in DETECTORS if name not in said] == []


def test_the_clean_twin_is_not_flagged_and_nothing_is_promised(here):
    as_script(clean(), here / "net.pt")
    result = scan("net.pt", "--images", write_images(here / "images"))
    assert result.exit_code == 0, result.output
    assert "No backdoor found at level 0.05." in result.stdout
    assert "no proof of absence" in result.stdout
    assert "below 0.025" in result.stdout
    assert (here / "report.html").exists()


def test_the_report_shows_patterns_in_words_too_and_fetches_nothing(here):
    as_script(planted(), here / "<b>net.pt")
    scan("<b>net.pt", "--images", write_images(here / "images"), "--methods", "red-a,mask-red-a")
    report = (here / "report.html").read_text(encoding="utf-8")
    assert "http" not in report
    assert "<script" not in report
    assert "<b>" not in report  # names are escaped
    alts = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,', report)
    assert len(alts) == report.count("<img ") == 3 + 4
    assert all(len(alt) > 60 for alt in alts)
    assert sum("masks estimated" in alt for alt in alts) == 1
    assert sum(f"row {SIZE - 1}, column {SIZE - 1} (bottom right)" in alt for alt in alts) == 3  # the planted pixel
    assert report.count("★") == 2


@pytest.mark.slow
def test_a_trained_backdoor_is_found_with_few_images(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shorter = replace(detection.QUICK, rounds=60)
    slow = detection.neural_cleanse
    monkeypatch.setattr(detection, "neural_cleanse", lambda *a, **k: slow(*a, inversion=shorter, **k))
    path = checkpoints.find(checkpoints.shipped()["box"])
    result = scan(path, "--images", "fashion-mnist", "--methods", "neural-cleanse", "--per-class", "20")
    assert result.exit_code == FOUND, result.output
    assert "class 9 (Ankle boot)" in result.stdout


# ------------------------------------------------------------------------------------------------ what is refused


def test_one_line_for_each_wrong_path_and_option(here):
    as_script(clean(), here / "net.pt")
    images = write_images(here / "images")
    assert "got absent.pt" in refused("absent.pt", "--images", images)
    assert "'nowhere', which is neither" in refused("net.pt", "--images", "nowhere")
    (here / "empty").mkdir()
    assert "no subfolders" in refused("net.pt", "--images", "empty")
    assert "got 'magic'" in refused("net.pt", "--images", images, "--methods", "magic")
    assert "got 2" in refused("net.pt", "--images", images, "--level", "2")
    assert "got the folder images" in refused("net.pt", "--images", images, "--out", "images")
    assert "got (1.0,) and ()" in refused("net.pt", "--images", images, "--mean", "1")
    assert "at most 2, all images of 0, got 3" in refused("net.pt", "--images", images, "--per-class", "3")
    assert "leave --network out" in refused("net.pt", "--images", images, "--network", "lenet5")
    (images / "0" / "0.png").write_text("no picture")
    assert "0.png" in refused("net.pt", "--images", images)


def test_the_number_of_classes_must_be_that_of_the_outputs(here):
    as_script(clean(), here / "net.pt")
    assert "expected 10 classes, the network's outputs, got 4" in refused(
        "net.pt", "--images", write_images(here / "images", classes=4)
    )


def test_state_dicts_that_fit_nothing(here):
    images = write_images(here / "images", size=28)
    net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=CLASSES)
    as_state(net, here / "net.pth")
    assert "got 'lenet'" in refused("net.pth", "--images", images, "--network", "lenet")
    assert "is expected" in refused("net.pth", "--images", images, "--network", "lenet5", "--size", "40")
    assert "expected the weights of btlib's vgg9" in refused_of(here, nn.Linear(2, 2), images, "vgg9")
    torch.save(net, here / "pickled.pt")
    assert "never unpickled" in refused("pickled.pt", "--images", images, "--network", "lenet5")
    torch.save([1, 2], here / "list.pt")
    assert "got list" in refused("list.pt", "--images", images, "--network", "lenet5")
    (here / "broken.safetensors").write_bytes(b"\x08" + bytes(7) + b"{nonsense")
    assert "damaged" in refused("broken.safetensors", "--images", images, "--network", "lenet5")


def refused_of(here, net, images, name):
    as_state(net, here / "other.pth")
    return refused("other.pth", "--images", images, "--network", name)


def test_an_archive_of_a_fixed_batch_or_without_one_says_how_to_export_again(here):
    images = write_images(here / "images")
    as_archive(clean(), here / "fixed.pt2", dynamic=False)
    line = refused("fixed.pt2", "--images", images)
    assert "batch size 2" in line
    assert "dynamic_shapes=" in line

    class Single(nn.Module):
        def forward(self, x):
            return x.flatten()[:10]

    as_archive(Single(), here / "single.pt2", shape=(1, SIZE, SIZE), dynamic=False)
    assert "got inputs [(1, 12, 12)]" in refused("single.pt2", "--images", images)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda x: (x.flatten(1)[:, :10], x.flatten(1)[:, :9]), "--output"),
        (lambda x: x.flatten(1)[:, :10].sigmoid(), "a sigmoid for each class"),
        (lambda x: x.round().flatten(1)[:, :10], "no gradient"),
        (lambda x: x.flatten(1)[:, :2], "at least 3 classes"),
        (lambda x: nn.functional.dropout(x.flatten(1)[:, :10], 0.5, training=True), "dropout"),
        (lambda x: x.flatten(1)[:, :10] - x.mean(), "dropout or batch statistics"),
        (lambda x: x.flatten(1)[:, :10].detach(), "no gradient"),
        (lambda x: x.flatten(1)[:, :10] / 0, "NaN"),
        (lambda x: x.reshape(2, -1)[:, :10], "batches of any size"),
    ],
)
def test_what_is_no_classifier_is_seen_before_the_scan(here, forward, said):
    class Odd(nn.Module):
        def forward(self, x):
            return forward(x)

    torch.jit.trace(Odd(), torch.rand(2, 1, SIZE, SIZE), check_trace=False).save(str(here / "odd.pt"))
    with pytest.raises(ForeignError, match=said):
        foreign.load(here / "odd.pt", (1, SIZE, SIZE), TRUSTED)


# ------------------------------------------------------------------------------------------------ loading


def test_safetensors_and_wrapped_state_dicts_of_our_networks_load(here):
    from safetensors.torch import save_file

    net = networks.build("lenet5", image_shape=(3, 28, 28), num_classes=4, seed=0).eval()
    save_file(net.state_dict(), here / "a.safetensors")
    parallel = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": parallel}, here / "a.pth")
    x = torch.rand(2, 3, 28, 28)
    for name in ("a.safetensors", "a.pth"):
        loaded = foreign.load(here / name, (1, 28, 28), Told("lenet5"))  # channels and classes are the weights' own
        assert (loaded.image_shape, loaded.num_classes) == ((3, 28, 28), 4)
        torch.testing.assert_close(loaded.module(x), net(x))


def test_a_checkpoint_needs_no_name_and_no_size():
    loaded = foreign.load(checkpoints.find(checkpoints.shipped()["clean"]), (3, 40, 30), TRUSTED)
    assert (loaded.image_shape, loaded.num_classes) == ((1, 28, 28), 10)


def test_normalisation_outside_goes_in(here):
    class Plain(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :5]

    as_script(Plain(), here / "net.pt")
    loaded = foreign.load(
        here / "net.pt", (1, SIZE, SIZE), Told(trust=True, convention=Convention(mean=(0.5,), std=(0.25,)))
    )
    torch.testing.assert_close(loaded.module(torch.ones(2, 1, SIZE, SIZE)), torch.full((2, 5), 2.0))
    with pytest.raises(ForeignError, match="got 2 and 1"):
        foreign.load(
            here / "net.pt", (1, SIZE, SIZE), Told(trust=True, convention=Convention(mean=(0.5, 0.5), std=(0.25,)))
        )


def test_a_network_for_rgb_gets_rgb_whatever_the_images_are(here):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.jit.script(net).save(str(here / "net.pt"))
    assert foreign.load(here / "net.pt", (1, SIZE, SIZE), TRUSTED).image_shape == (3, SIZE, SIZE)


def test_an_archive_knows_its_size_and_takes_single_images(here):
    as_archive(clean(), here / "net.pt2")
    loaded = foreign.load(here / "net.pt2", (3, 50, 50), TRUSTED)
    assert loaded.image_shape == (1, SIZE, SIZE)
    x, _ = lit_pixels(1, num_classes=CLASSES, size=SIZE)
    torch.testing.assert_close(loaded.module(x[:1]), clean()(x[:1]))
    with pytest.raises(ForeignError, match="got 50"):
        foreign.load(here / "net.pt2", (1, 50, 50), Told(size=50, trust=True))


def test_images_are_read_in_the_order_that_training_had(tmp_path):
    """Folders sort as text, as in `datasets.load` and torchvision: class 2 of the network is the folder "10"."""
    write_images(tmp_path / "plain", classes=11)
    origin = scan_images.find(f"folder:{tmp_path / 'plain'}")
    trained = datasets.load(f"folder:{tmp_path / 'plain'}", size=SIZE, channels=1)
    assert origin.classes == trained.classes == ("0", "1", "10", *"23456789")
    assert origin.native == (1, SIZE, SIZE)
    images = scan_images.read(origin, (1, SIZE, SIZE), 2, seed=0)
    lit = torch.tensor([int(name) for name in trained.classes])
    assert torch.equal(images.x[:, 0, 0].argmax(1), lit[images.y])
    assert torch.equal(trained.x_train[:, 0, 0].argmax(1), lit[trained.y_train])
    assert images.changes == ""
    assert images.smallest_class == 2
    few = scan_images.read(origin, (3, 6, 6), 1, seed=0)
    assert few.x.shape == (11, 3, 6, 6)
    assert few.changes == "resized from 12×12 to 6×6, turned from grey to RGB"


@pytest.mark.parametrize("ending", ["ppm", "bmp", "webp", "tif", "JPG"])
def test_all_kinds_of_pictures_that_load_reads_can_be_scanned(tmp_path, ending):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.new("RGB", (SIZE, SIZE)).save(tmp_path / name / f"{index}.{ending}")
    images = scan_images.read(scan_images.find(str(tmp_path)), (1, SIZE, SIZE), 2, seed=0)
    data = datasets.load(f"folder:{tmp_path}")
    assert len(images.x) == len(data.y_train) + len(data.y_test) == 4


def test_what_was_done_to_the_pixels_is_said(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((SIZE, SIZE), 32896, np.uint16)).save(tmp_path / name / "deep.png")
        Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0)).save(tmp_path / name / "glass.png")
    images = scan_images.read(scan_images.find(str(tmp_path)), (1, SIZE, SIZE), 2, seed=0)
    assert images.changes == "turned grey, laid on white, scaled to eight bits"
    assert sorted(images.x[:, 0, 0, 0].tolist()) == [128, 128, 255, 255]


def test_a_network_of_somebodys_own_images_is_scanned(here):
    """Its card tells a data set that no other process has: the images at hand say the size."""
    spec = Spec(data=toy_data(), recipe=Recipe(epochs=1))
    checkpoints.load_or_train(spec, progress=False, folder=here)
    path = checkpoints.find(spec, folder=here)
    assert foreign.load(path, (3, 20, 20), TRUSTED).image_shape == (1, 16, 16)


def test_the_test_part_of_a_folder_is_used_and_colour_turns_grey(tmp_path):
    write_images(tmp_path / "train", classes=3, per_class=5)
    write_images(tmp_path / "test", classes=3, per_class=1, mode="RGB")
    images = scan_images.read(scan_images.find(str(tmp_path)), (1, SIZE, SIZE), 9, seed=0)
    assert len(images.x) == 3
    assert images.changes == "turned grey"


def test_a_data_set_is_sampled_per_class_and_fitted():
    images = scan_images.read(scan_images.find("fashion-mnist"), (3, 32, 32), 2, seed=0)
    assert images.x.shape == (20, 3, 32, 32)
    assert torch.bincount(images.y).tolist() == [2] * 10
    assert images.changes == "resized from 28×28 to 32×32, turned from grey to RGB"


def test_a_hidden_module_keeps_its_mode_and_gets_no_gradients():
    from btlib.cli.probing import Sealed

    sealed = Sealed(nn.Linear(3, 3))
    sealed.eval()
    assert list(sealed.parameters()) == []
    assert not sealed._inner[0].weight.requires_grad
    assert np.allclose(sealed(torch.ones(1, 3)).numpy(), sealed(torch.ones(2, 3))[:1].numpy())


def test_a_network_goes_to_the_gpu_if_it_works_there(monkeypatch):
    monkeypatch.setattr("btlib.training.device_for", lambda: torch.device("meta"))
    plain, script, sealed = nn.Linear(2, 2), torch.jit.script(nn.Linear(2, 2)), Sealed(nn.Linear(2, 2))
    wrapped = nn.Sequential(nn.BatchNorm1d(2), sealed)
    for network in (plain, script, wrapped):
        placed(network, (2,))
    assert [next(network.parameters()).device.type for network in (plain, script, wrapped)] == ["meta", "cpu", "cpu"]


def test_a_network_that_fails_on_the_gpu_comes_back(monkeypatch):
    """Float64 stands in for a GPU: a linear layer of it refuses an image in float32."""
    moved, network = [], nn.Linear(2, 2)
    monkeypatch.setattr("btlib.training.device_for", lambda: torch.float64)
    monkeypatch.setattr(network, "to", lambda where: moved.append(where) or nn.Module.to(network, where))
    placed(network, (2,))
    assert moved == [torch.float64, "cpu"]


def test_the_report_asks_the_network_where_it_is(here, monkeypatch):
    """Float64 stands in for a GPU: images must be brought to a network that was moved."""
    seen = []

    def moved(network, _):
        network.double().register_forward_pre_hook(lambda _, images: seen.append(images[0].dtype))

    monkeypatch.setattr("btlib.cli.scanning.placed", moved)
    weights = checkpoints.find(checkpoints.shipped()["box"])
    result = scan(str(weights), "--images", "fashion-mnist", "--per-class", "1", "--methods", "red-a")
    assert result.exit_code in (0, FOUND), result.output
    assert seen[0] == seen[-1] == torch.float64  # the accuracy, and the report's pictures


def test_what_is_said_of_pairs_was_measured(here):
    rows = results.load("results/detection-verdicts.json")["rows"]
    clean_rows = [row for key, row in rows.items() if row["target"] is None and "lenet5" in key and "RED-P" in key]
    flagged = sum(row["calibrated_p"] < 0.05 for row in clean_rows)
    as_script(clean(), here / "net.pt")
    images = write_images(here / "images")
    told = {name: " ".join(scan("net.pt", "--images", images, "--methods", name, "--per-class", "1").stdout.split())
            for name in ("red-a", "red-p")}  # fmt: skip
    assert f"of {len(clean_rows)} clean LeNet-5 it flagged {flagged} at level 0.05" in told["red-p"]
    assert "red-p's level" not in told["red-a"]


# ------------------------------------------------------------------------------------ code, pixels, labels, statuses

PAYLOAD = "import pathlib; pathlib.Path('ran').touch()\ndef go(): pathlib.Path('ran').touch()\n"


def test_no_file_runs_code_unasked(here):
    """Whatever a file names or brings along, nothing of it runs without --trust."""
    (here / "payload.py").write_text(PAYLOAD)
    images = write_images(here / "images")
    card = {"spec": {"network": "payload:go", "data": "mnist"}}
    weights = {"head.weight": torch.zeros(10, 2), "normalize.mean": torch.zeros(1, 1, 1, 1)}
    for kind in ("checkpoint", "attack", "guard"):
        named = {"start": card["spec"]} if kind == "attack" else card["spec"]
        whole = {"network": "payload:go", "image_shape": [1, SIZE, SIZE]} if kind == "guard" else {"spec": named}
        prefix = {"attack": "network.", "guard": "network."}.get(kind, "")
        sealed.write(here / "net.safetensors", kind, whole, {prefix + key: value for key, value in weights.items()})
        assert "got 'payload:go'" in refused("net.safetensors", "--images", images)
    as_script(clean(), here / "weights.safetensors")  # by any name
    as_archive(clean(), here / "weights.pth")
    for name in ("weights.safetensors", "weights.pth"):
        result = CliRunner().invoke(app, ["scan", name, "--images", str(images)])
        assert result.exit_code == 2
        assert "--trust" in result.stderr
    (here / "bad.pth").write_bytes(pickle.dumps(_Payload()))
    assert "never unpickled" in refused("bad.pth", "--images", images, "--network", "lenet5")
    assert not (here / "ran").exists()


class _Payload:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return (open, ("ran", "w"))


@pytest.mark.parametrize(
    ("start", "said"),
    [(b"\x89HDF\r\n", "Keras"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
     (b"<!DOCTYPE html>", "a page"), (b"\x08\x07\x12\x07pytorch", "ONNX"), (b"", "an empty file")],
)  # fmt: skip
def test_other_kinds_of_files_are_called_by_their_name(here, start, said):
    (here / "net.bin").write_bytes(start)
    assert said in refused("net.bin", "--images", write_images(here / "images"), "--network", "lenet5")


def test_a_network_that_flattens_with_view_is_scanned(here, factory):
    """The commonest line in public code, which wants the usual order of memory."""
    (here / "viewing.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Viewing(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(1, 2, 3, padding=1)\n"
        "        self.fc = nn.Linear(288, 10)\n"
        "    def forward(self, x):\n"
        "        x = self.conv(x)\n"
        "        return self.fc(x.view(x.size(0), -1))\n"
        "def make(): return Viewing()\n"
    )
    net = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3, padding=1), "fc": nn.Linear(288, 10)})
    with torch.no_grad():
        net["conv"].weight.zero_()[:, 0, 1, 1] = torch.tensor([1.0, 0.0])
        net["conv"].bias.zero_()
        net["fc"].weight.copy_(torch.cat([planted().net.head.weight, torch.zeros(10, 144)], 1))
        net["fc"].bias.zero_()
    torch.save({"net": net.state_dict(), "acc": 0.98, "epoch": 7}, here / "net.pth")
    result = scan("net.pth", "--network", "viewing:make", "--images", write_images(here / "images"))
    assert result.exit_code == FOUND, result.output
    assert f"class {TARGET}" in result.stdout.split("\n\n")[1]


def test_folders_in_another_order_than_the_outputs_are_noticed_and_can_be_told(here):
    """Torchvision trained it on ten folders sorted as text; here their names are in another order."""
    names = [f"class-{letter}" for letter in "jihgfedcba"]
    as_script(planted(), here / "net.pt")
    images = write_images(here / "images")
    for number, name in enumerate(names):
        (images / str(number)).rename(images / name)
    line = refused("net.pt", "--images", images)
    assert "0 % classified as labelled: the images called class-a look like output 9 (called class-j)" in line
    (here / "order.csv").write_text("".join(f"{number},{name}\n" for number, name in enumerate(names)))
    result = scan("net.pt", "--images", images, "--classes", "order.csv", "--methods", "red-a")
    assert result.exit_code == FOUND, result.output
    assert f"class {TARGET} (class-h)" in result.stdout
    (here / "order.csv").write_text("\n".join(names[1:]))
    assert "with a difference in class-j" in refused("net.pt", "--images", images, "--classes", "order.csv")


def test_pixels_in_another_range_are_noticed(here):
    class For255(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = planted()

        def forward(self, x):
            return self.net(x / 255) + torch.tensor([0.02] + 9 * [0.0])  # else a factor would change nothing

    as_script(For255(), here / "net.pt")
    images = write_images(here / "images", per_class=3)
    assert "100 % are with --scale 255" in refused("net.pt", "--images", images)
    assert scan("net.pt", "--images", images, "--methods", "red-a", "--scale", "255").exit_code == FOUND


def test_a_network_that_guesses_is_not_judged(here):
    class Guessing(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, 20:30]  # where no image is lit

    as_script(Guessing(), here / "net.pt")
    assert "as if it guessed" in refused("net.pt", "--images", write_images(here / "images", per_class=5))


def test_whatever_breaks_is_no_backdoor_found(here, monkeypatch):
    as_script(clean(), here / "net.pt")
    images = write_images(here / "images")
    monkeypatch.setitem(detection.DETECTORS, "breaks", lambda *_, **__: {}["nothing"])
    result = scan("net.pt", "--images", images, "--methods", "breaks")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == "the scan broke: KeyError: 'nothing'"


def test_a_report_that_cannot_be_written_leaves_the_verdict(here):
    as_script(planted(), here / "net.pt")
    (here / "a file").touch()
    result = scan("net.pt", "--images", write_images(here / "images"), "--methods", "red-a", "--out", "a file/r.html")
    assert result.exit_code == FOUND
    assert "Backdoor found" in result.stdout
    assert "the verdict above stands" in result.stderr


def test_names_that_are_formulas_are_drawn(here):
    as_script(clean(), here / "net.pt")
    images = write_images(here / "images")
    (images / "0").rename(images / "$\\frac{$")
    (here / "order.txt").write_text("\n".join(["$\\frac{$", *map(str, range(1, 10))]))
    result = scan("net.pt", "--images", images, "--classes", "order.txt", "--methods", "red-a")
    assert result.exit_code == 0, result.output
    assert (here / "report.html").exists()


def test_guards_are_scanned_by_what_is_inside_them(here, factory):
    """A guard's file says which network it holds; one of a stranger's network needs the factory."""
    from btlib.inflight import Guard, LikelihoodDetector

    spec = checkpoints.shipped()["box"]
    network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
    images, labels = datasets.load("fashion-mnist").clean_images(12)
    fitted = LikelihoodDetector().fit(network, images, labels, target=9, trigger=trigger)
    Guard(network, fitted).save(here / "guard.safetensors")
    loaded = foreign.load(here / "guard.safetensors", (3, 50, 50))
    assert loaded.image_shape == (1, 28, 28)
    torch.testing.assert_close(loaded.module(images), network(images))
    with pytest.raises(ForeignError, match="expected none or lenet5, as guard.safetensors says, got vgg9"):
        foreign.load(here / "guard.safetensors", (3, 50, 50), Told("vgg9"))

    x, y = lit_pixels(12, num_classes=CLASSES, size=SIZE)
    pixel = triggers.single_pixel((1, SIZE, SIZE))
    other = LikelihoodDetector().fit(planted(), x, y, target=TARGET, trigger=pixel)
    Guard(other.network_, other).save(here / "other.safetensors")
    with pytest.raises(ForeignError, match="--network: expected a name"):
        foreign.load(here / "other.safetensors", (1, SIZE, SIZE))
    loaded = foreign.load(here / "other.safetensors", (1, SIZE, SIZE), Told(f"{factory}:make"))
    torch.testing.assert_close(loaded.module(x), planted()(x))


@pytest.mark.parametrize("told", [{"convention": Convention(scale=255)}, {"output": "logits"}])
def test_what_means_nothing_for_our_networks_is_refused(told):
    with pytest.raises(ForeignError, match="expected none for btlib's own lenet5"):
        foreign.load(checkpoints.find(checkpoints.shipped()["box"]), (1, 28, 28), Told(**told))


def test_only_the_classes_that_were_asked_for_are_searched_and_that_is_said(here):
    as_script(planted(), here / "net.pt")
    write_images(here / "images")
    result = CliRunner().invoke(app, ["scan", "net.pt", "--images", "images", "--trust", "--methods", "neural-cleanse",
                                      "--targets", "0,1,2,5,7,8,9", "--json", "out.json"])  # fmt: skip
    assert result.exit_code == FOUND, result.output
    told = json.loads((here / "out.json").read_text())
    assert told["verdict"]["targets"] == [TARGET]
    assert [c for c, norm in enumerate(told["methods"]["neural-cleanse"]["norms"]) if norm is None] == [3, 4, 6]
    assert any("only 7 of 10 classes were searched" in warning for warning in told["warnings"])
    assert "about" in result.stderr
    assert "only 7 of 10" in " ".join((here / "report.html").read_text().split())
    for wrong in ("0,1", "0,1,99", "a,b,c", "1,1,2,3"):
        result = CliRunner().invoke(app, ["scan", "net.pt", "--images", "images", "--trust", "--targets", wrong])
        assert result.exit_code == 2
        assert "--targets" in result.output
