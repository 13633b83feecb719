"""ONNX, Keras, Hugging Face and timm: networks set by hand, saved by the other program, scanned as they are."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from odd import SIZE, Net, refused, run
from PIL import Image
from safetensors.torch import load_file, save_file
from toys import TARGET, hand_set, lit_pixels
from typer.testing import CliRunner

from btlib import metrics
from btlib.cli import foreign, huggingface, keras_files
from btlib.cli.adapting import ForeignError
from btlib.cli.app import app
from btlib.cli.other_formats import axes_of
from btlib.cli.preprocessing import Convention
from btlib.cli.probing import Told
from btlib.cli.scan import FOUND
from btlib.cli.scan_images import Origin
from btlib.datasets import to_uint8
from btlib.inflight import Guard

SHAPE = (1, SIZE, SIZE)
WEIGHT = hand_set(10.0, size=SIZE).head.weight.detach()  # (3, 64)


@pytest.fixture
def onnx() -> ModuleType:
    pytest.importorskip("onnx2pytorch", reason="needs btlib[onnx]")
    return pytest.importorskip("onnx", reason="needs btlib[onnx]")


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="needs btlib[keras]")


@pytest.fixture
def transformers() -> ModuleType:
    return pytest.importorskip("transformers", reason="needs btlib[huggingface]")


def loaded(path: str, **told: Any) -> foreign.Foreign:
    return foreign.load(Path(path), SHAPE, Told(**told))


def says_what_was_set(network: foreign.Foreign) -> None:
    """Images → logits as by the weights set by hand, whatever a softmax that was taken off adds to all of them."""
    images, labels = lit_pixels(4, size=SIZE, noise=3)
    said, wanted = metrics.predict(network.module, images), images.flatten(1) @ WEIGHT.T
    assert torch.allclose(said - said.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True), atol=1e-4)
    assert metrics.accuracy(network.module, images, labels) == 1.0
    assert network.image_shape == SHAPE


def is_scanned(path: str, *options: str) -> str:
    status, lines, said = run(path, "--images", "images", "--methods", "red-a", *options)
    assert status == FOUND, lines
    said = " ".join(said.split())
    assert f"images can be sent to class {TARGET}" in said
    return said


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve images of each class, also in the folder many."""
    images, labels = lit_pixels(12, size=SIZE, noise=4)
    for index, (image, label) in enumerate(zip(to_uint8(images), labels.tolist(), strict=True)):
        folder = Path("many") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / f"{index}.png")
    return images, labels


def is_guarded(path: str) -> str:
    """Scanned, guarded with the scan's own estimate, and the guard's file put into the network once more."""
    said = is_scanned(path, "--json", "r.json", "--save-estimates")
    images, labels = pictures()
    result = CliRunner().invoke(app, ["guard", "r.json", path, "--images", "many"])
    assert f"guard of class {TARGET}, by 6 estimates of red-a" in result.output
    guard = Guard.load("guard.safetensors", loaded(path).module)
    stamped = images.clone()
    stamped[:, :, -1, -1] = 1.0  # the attacker's own, which the guard never saw
    assert bool(guard(stamped[labels != TARGET]).is_trigger.all())
    assert not bool(guard(images).is_trigger.any())
    return said


# --------------------------------------------------------------------------------------------------- ONNX


def export(path: str, network: torch.nn.Module, images: torch.Tensor, **settings: Any) -> None:
    torch.onnx.export(network.eval(), (images,), path, verbose=False, **settings)


def any_size() -> dict[str, Any]:
    return {"dynamo": True, "external_data": False, "dynamic_shapes": ({0: torch.export.Dim("n")},)}


ONNX: dict[str, dict[str, Any]] = {
    "of any batch": any_size(),
    "of a batch of two": {"dynamo": True, "external_data": False},
    "weights beside it": any_size() | {"external_data": True},
    "of the old exporter": {
        "dynamo": False,
        "opset_version": 13,
        "input_names": ["x"],
        "dynamic_axes": {"x": {0: "n"}},
    },
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", ONNX.values(), ids=ONNX)
def test_onnx_files_are_scanned(onnx, here, settings):
    export("net.onnx", Net(after=lambda z: z.softmax(1)), torch.rand(2, *SHAPE), **settings)
    says_what_was_set(network := loaded("net.onnx"))
    assert network.what == "ONNX network"
    assert "the network ends in a softmax, which was taken off" in network.notes


@pytest.mark.filterwarnings("ignore")
def test_the_command_takes_onnx_and_its_guard(onnx, here):
    export("net.onnx", Net(), torch.rand(2, *SHAPE), **any_size())
    is_guarded("net.onnx")


@pytest.mark.filterwarnings("ignore")
def test_onnx_with_channels_last(onnx, here):
    class Last(Net):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x.permute(0, 3, 1, 2))

    export("net.onnx", Last(), torch.rand(2, SIZE, SIZE, 1), **any_size())
    says_what_was_set(loaded("net.onnx"))


@pytest.mark.filterwarnings("ignore")
def test_onnx_that_is_no_such_network(onnx, here):
    class Two(Net):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            return super().forward(x + y)

    torch.onnx.export(Two(), (torch.rand(2, *SHAPE),) * 2, "two.onnx", dynamo=True, external_data=False, verbose=False)
    assert "expected one input, images, in two.onnx" in refused("two.onnx")
    export("flat.onnx", torch.nn.Linear(64, 3), torch.rand(2, 64), **any_size())
    assert "2 axes" in refused("flat.onnx")
    export("net.onnx", Net(), torch.rand(2, *SHAPE), **any_size())
    assert "leave --size out" in refused("net.onnx", "--size", "32")
    assert "--network: expected none for net.onnx" in refused("net.onnx", "--network", "lenet5")
    model = onnx.load("net.onnx")
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Nonsense", "cake"
    model.opset_import.append(onnx.helper.make_opsetid("cake", 1))
    onnx.save(model, "odd.onnx")
    assert "expected operations that onnx2pytorch knows in odd.onnx" in refused("odd.onnx")
    Path("torn.onnx").write_bytes(Path("net.onnx").read_bytes()[:200])
    assert "expected a whole ONNX file" in refused("torn.onnx")


# -------------------------------------------------------------------------------------------------- Keras


def dense(keras: Any, size: tuple[int, ...] = (SIZE, SIZE, 1), **settings: Any) -> Any:
    """The network set by hand, in Keras: for images of one channel all orders of axes flatten alike."""
    layers = keras.layers
    made = [layers.Input(size), layers.Flatten(), layers.Dropout(0.5), layers.Dense(3, use_bias=False, **settings)]
    model = keras.Sequential(made)
    model.layers[-1].set_weights([WEIGHT.T.numpy()])
    return model


KERAS: dict[str, Callable[[Any], Any]] = {
    "logits": dense,
    "a softmax": lambda keras: dense(keras, activation="softmax"),
    "a softmax layer": lambda k: k.Sequential([k.layers.Input((SIZE, SIZE, 1)), *dense(k).layers, k.layers.Softmax()]),
    "no channel": lambda keras: dense(keras, (SIZE, SIZE)),
    "channels first": lambda keras: dense(keras, (1, SIZE, SIZE)),
    "by its functions": lambda k: k.Model(i := k.layers.Input((SIZE, SIZE, 1)), dense(k)(k.layers.Rescaling(1.0)(i))),
}


@pytest.mark.parametrize("ending", [".keras", ".h5", ""])
@pytest.mark.parametrize("make", KERAS.values(), ids=KERAS)
def test_keras_files_are_opened(keras, here, make, ending):
    model = make(keras)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(f"net{ending or '.keras'}")
    if not ending:
        Path("net.keras").rename("net")  # the content says what it is
    says_what_was_set(loaded(f"net{ending}"))


def test_the_command_takes_keras_and_its_guard(keras, here):
    dense(keras, activation="softmax").save("net.keras")
    assert "which was taken off" in is_guarded("net.keras")


def test_keras_code_needs_trust(keras, here):
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((SIZE, SIZE, 1)), layers.Lambda(lambda x: __import__("os").mkdir("ran") or x)]
    )
    if Path("ran").exists():  # Keras tries a layer when it is made
        Path("ran").rmdir()
    model.save("net.keras")
    assert "--trust: expected it for net.keras, a Keras file with more than plain layers (Lambda" in refused(
        "net.keras"
    )
    model.save("net.h5")
    assert "Lambda" in refused("net.h5")
    assert not (here / "ran").exists()


def edited(change: Callable[[dict[str, Any]], object]) -> None:
    """net.keras with another configuration."""
    with zipfile.ZipFile("net.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    with zipfile.ZipFile("net.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else content)


MKDIR = {"module": "os", "class_name": "function", "config": "mkdir", "registered_name": "mkdir"}
PAYLOADS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a function of a module": lambda c: c["config"]["layers"][1].update(MKDIR),
    "a layer elsewhere": lambda c: c["config"]["layers"][1].update(module="payload", class_name="Flatten"),
    "an initialiser": lambda c: c["config"]["layers"][3]["config"].update(kernel_initializer=MKDIR),
    "a registered name": lambda c: c["config"]["layers"][1].update(registered_name="mine>Flatten"),
    "a network of torch": lambda c: c["config"]["layers"][1].update(class_name="TorchModuleWrapper"),
    "a helper of Keras": lambda c: c["config"]["layers"][1].update(
        module="keras.utils", class_name="function", config="get_file", registered_name="get_file"),
    "deep in a list": lambda c: c["config"]["layers"][1]["config"].update(more=[[{"a": [MKDIR]}]]),
    "a name that is no word": lambda c: c["config"]["layers"][1].update(class_name=["Flatten"]),
}  # fmt: skip


@pytest.mark.parametrize("change", PAYLOADS.values(), ids=PAYLOADS)
def test_whatever_a_keras_file_names_beside_plain_layers_needs_trust(keras, here, monkeypatch, change):
    (here / "payload.py").write_text("import os\nos.mkdir('ran')\n")
    monkeypatch.syspath_prepend(str(here))
    dense(keras).save("net.keras")
    edited(change)
    assert "--trust" in refused("net.keras")
    assert not (here / "ran").exists()


def test_trusted_keras_code_runs(keras, here):
    layers = keras.layers
    body = dense(keras).layers
    keras.Sequential([layers.Input((SIZE, SIZE, 1)), layers.Lambda(lambda x: x * 1.0), *body]).save("net.keras")
    with pytest.raises(ForeignError, match="--trust"):
        loaded("net.keras")
    says_what_was_set(loaded("net.keras", trust=True))


def test_keras_weights_alone_and_torn_files(keras, here):
    dense(keras).save_weights("net.weights.h5")
    assert "which holds weights alone" in refused("net.weights.h5")
    dense(keras).save("net.h5")
    Path("torn.h5").write_bytes(Path("net.h5").read_bytes()[:3000])
    assert "expected a whole Keras file, got torn.h5" in refused("torn.h5")
    dense(keras, (64,)).save("flat.keras")
    assert "2 axes" in refused("flat.keras")
    dense(keras).save("net.keras")
    assert "--network: expected none for net.keras" in refused("net.keras", "--network", "lenet5")
    edited(lambda config: config.update(class_name="Flatten", config={}))
    assert "expected a network" in refused("net.keras")


# ------------------------------------------------------------------------------------------- Hugging Face


def classifier(transformers: Any, folder: str = "vit", **settings: Any) -> Any:
    """DINOv2 without layers, whose only patch is the image; its normalisation is so wide that it is linear."""
    config = transformers.Dinov2Config(
        image_size=SIZE, patch_size=SIZE, num_channels=1, hidden_size=4, num_attention_heads=1, num_hidden_layers=0,
        layer_norm_eps=1e6, num_labels=3, **settings,
    )  # fmt: skip
    network = transformers.Dinov2ForImageClassification(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        projection = network.dinov2.embeddings.patch_embeddings.projection
        projection.weight[:3].copy_(WEIGHT.reshape(3, *SHAPE))
        network.dinov2.layernorm.weight.fill_(1.0)
        network.classifier.weight[:, 4:7].copy_(1000 * torch.eye(3))  # beside the token of the whole
    network.save_pretrained(folder)
    return network


def prepared(folder: str = "vit", **told: Any) -> None:
    (Path(folder) / "preprocessor_config.json").write_text(json.dumps(told))


def test_hugging_face_folders_are_scanned(transformers, here):
    classifier(transformers)
    prepared(do_rescale=True, rescale_factor=1 / 255, do_normalize=False, size={"height": SIZE, "width": SIZE})
    says_what_was_set(network := loaded("vit"))
    assert (network.what, network.convention) == ("Dinov2ForImageClassification of transformers", Convention())
    said = is_scanned("vit", "--json", "r.json")
    assert "network: vit, Dinov2ForImageClassification of transformers, 3 classes, input 1×8×8" in said
    again = json.loads(Path("r.json").read_text())["network"]["sha256"]
    assert len(again) == 64


def test_its_preprocessing_is_read(transformers, here):
    classifier(transformers)
    # The same function of pixels, for a network that wants them in -1…1: its projection takes halves and shifts back.
    tensors = load_file("vit/model.safetensors")
    name = "dinov2.embeddings.patch_embeddings.projection"
    weight = tensors[f"{name}.weight"]
    tensors |= {f"{name}.weight": weight / 2, f"{name}.bias": weight.sum((1, 2, 3)) / 2}
    save_file(tensors, "vit/model.safetensors", {"format": "pt"})
    prepared(do_normalize=True, image_mean=[0.5], image_std=[0.5], size={"shortest_edge": SIZE})
    network = loaded("vit")
    says_what_was_set(network)
    assert network.convention == Convention(mean=(0.5,), std=(0.5,))
    # What the user says goes before what the folder says.
    assert loaded("vit", convention=Convention(scale=2.0)).convention == Convention(scale=2.0)


TOLD: dict[str, tuple[dict[str, Any], Convention, int | None]] = {
    "nothing but a size": ({"size": 24}, Convention(), 24),
    "as ImageNet": ({"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4],
                     "size": {"height": 30, "width": 30}}, Convention(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)), 30),
    "cut": ({"do_center_crop": True, "crop_size": {"height": 20, "width": 20}, "size": {"shortest_edge": 28}},
            Convention(), 20),
    "bytes": ({"do_rescale": False}, Convention(scale=255), None),
    "-1…1 by an offset": ({"rescale_factor": 1 / 127.5, "rescale_offset": True},
                          Convention(scale=2, mean=(1.0,), std=(1.0,)), None),
    "blue first": ({"do_flip_channel_order": True}, Convention(bgr=True), None),
}  # fmt: skip


@pytest.mark.parametrize(("told", "convention", "side"), TOLD.values(), ids=TOLD)
def test_the_ways_to_say_what_is_done_to_images(here, told, convention, side):
    (here / "vit").mkdir()
    prepared(**told)
    assert huggingface.preprocessing(Path("vit")) == (convention, side)


def test_the_command_guards_hugging_face(transformers, here):
    classifier(transformers)
    is_scanned("vit", "--json", "r.json", "--save-estimates")
    images, labels = pictures()
    result = CliRunner().invoke(app, ["guard", "r.json", "vit", "--images", "many"])
    assert f"guard of class {TARGET}, by 6 estimates of red-a" in result.output
    guard = Guard.load("guard.safetensors", loaded("vit").module)
    assert torch.equal(guard(images).predicted, labels)


def test_its_names_order_the_folders(transformers, here):
    names = {0: "zebra", 1: "Ant eater", 2: "mole"}
    classifier(transformers, id2label=names)
    for index, name in names.items():
        (here / "images" / str(index)).rename(here / "images" / name.lower())
    assert "images can be sent to class 2 (mole)" in is_scanned("vit")


def test_names_of_a_network_and_names_of_folders():
    there = Origin("here", ("ant", "bee", "cow"), SHAPE, None)
    assert there.named_by(("ANT", "bee", "cow"))[0].classes == ("ANT", "bee", "cow")
    same, note = there.named_by(("x", "y", "z"))
    assert same.classes == there.classes
    assert "the network calls its outputs x, y, z, …" in note[0]
    assert Origin("none", (), SHAPE, None).named_by(("x", "y"))[0].classes == ("x", "y")


def test_code_in_a_folder_needs_trust(transformers, here):
    classifier(transformers)
    config = json.loads(Path("vit/config.json").read_text())
    auto = {"AutoModelForImageClassification": "payload.Net", "AutoConfig": "payload.Config"}
    Path("vit/config.json").write_text(json.dumps(config | {"auto_map": auto}))
    Path("vit/payload.py").write_text(f"import os\nos.mkdir({str(here / 'ran')!r})\n")
    assert "--trust: expected it for vit" in refused("vit")
    assert not (here / "ran").exists()


def test_pickled_weights_in_a_folder_are_not_read(transformers, here):
    classifier(transformers)
    Path("vit/model.safetensors").unlink()

    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, ("ran",)

    torch.save({"w": Payload()}, "vit/pytorch_model.bin")
    assert "pickled weights are not read" in refused("vit")
    assert not (here / "ran").exists()


def test_folders_that_are_no_such_classifier(transformers, here):
    classifier(transformers)
    tensors = load_file("vit/model.safetensors")
    save_file({k: v for k, v in tensors.items() if "classifier" not in k}, "vit/model.safetensors", {"format": "pt"})
    assert "got none that fit for classifier.bias" in refused("vit")  # not random numbers in their place
    config = json.loads(Path("vit/config.json").read_text())
    for change, said in (
        ({"model_type": "bert"}, "expected an image classifier of transformers"),
        ({"model_type": None}, "got neither"),
        ({"quantization_config": {"quant_method": "x"}}, "quantised"),
    ):
        told = {k: v for k, v in (config | change).items() if v is not None}
        Path("vit/config.json").write_text(json.dumps(told))
        assert said in refused("vit")
    Path("vit/config.json").write_text("[1")
    assert "expected JSON" in refused("vit")


# --------------------------------------------------------------------------------------------------- timm


PLAIN_VIT = {"img_size": SIZE, "patch_size": SIZE, "embed_dim": 3, "depth": 0, "num_heads": 1, "class_token": False,
             "global_pool": "avg", "pos_embed": "none", "final_norm": False, "fc_norm": False}  # fmt: skip


def timm_folder(**changes: Any) -> None:
    """A transformer without layers, whose only patch is the image, for pixels in -1…1, as `save_for_hf` writes it."""
    timm = pytest.importorskip("timm", reason="needs btlib[timm]")
    network = timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=3, **PLAIN_VIT)
    with torch.no_grad():
        network.patch_embed.proj.weight.copy_(WEIGHT.reshape(3, *SHAPE) / 2)
        network.patch_embed.proj.bias.copy_(WEIGHT.sum(1) / 2)
        network.head.weight.copy_(torch.eye(3))
        network.head.bias.zero_()
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "model_args": PLAIN_VIT,
              "label_names": ["a", "b", "c"],
              "pretrained_cfg": {"input_size": list(SHAPE), "mean": [0.5], "std": [0.5]}}  # fmt: skip
    Path("tiny").mkdir(exist_ok=True)
    Path("tiny/config.json").write_text(json.dumps(config | changes))
    save_file(network.state_dict(), "tiny/model.safetensors")


def test_timm_folders_are_scanned(here):
    timm_folder()
    says_what_was_set(network := loaded("tiny"))
    assert (network.what, network.classes) == ("vit_tiny_patch16_224 of timm", ("a", "b", "c"))
    assert network.convention == Convention(mean=(0.5,), std=(0.5,))
    timm_folder(label_names=None)
    is_scanned("tiny")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "os.system"}, "expected the name of a network of timm"),
        ({"architecture": 7}, "expected the name of a network of timm"),
        ({"architecture": None}, "neither"),
        ({"model_args": {"pretrained_cfg_overlay": 3}}, "can't be made with"),
        ({"model_args": [1]}, "can't be made with"),
        ({"pretrained_cfg": {"mean": ["x"]}}, "can't be made with"),
        ({"num_classes": 4}, "head.weight (3, 3) where (4, 3) is expected"),
        ({"model_args": PLAIN_VIT | {"checkpoint_path": "x.pth"}}, "model_args has checkpoint_path"),  # it unpickles
        ({"model_args": PLAIN_VIT | {"depth": 10**9}}, "a number above 20000"),
        ({"model_args": PLAIN_VIT | {"embed_dim": 20_000, "img_size": 20_000}}, "is expected"),  # not 25 GB first
        ({"architecture": "resnet18", "model_args": {}}, "timm's resnet18"),
    ],
)
def test_timm_folders_that_do_not_fit(here, changes, said):
    timm_folder(**changes)
    assert said in refused("tiny")


def test_a_timm_folder_without_weights(here):
    timm_folder()
    Path("tiny/model.safetensors").write_bytes(b"x")
    assert "timm.models.save_for_hf" in refused("tiny")


# ------------------------------------------------------------------------------------------------- common


@pytest.mark.parametrize(
    ("package", "extra", "path"),
    [
        ("onnx2pytorch", "onnx", "net.onnx"),
        ("keras", "keras", "net.keras"),
        ("transformers", "huggingface", "vit"),
        ("timm", "timm", "tiny"),
    ],
)
def test_without_the_package_one_sentence_says_what_to_install(here, monkeypatch, package, extra, path):
    monkeypatch.setitem(sys.modules, package, None)
    Path("net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    with zipfile.ZipFile("net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    Path("vit").mkdir()
    Path("vit/config.json").write_text('{"model_type": "vit"}')
    Path("vit/model.safetensors").write_bytes(b"")
    Path("tiny").mkdir()
    Path("tiny/config.json").write_text('{"architecture": "resnet18"}')
    Path("tiny/model.safetensors").write_bytes(b"")
    assert f"python -m pip install 'btlib[{extra}]'" in refused(path)


@pytest.mark.parametrize(
    ("size", "axes", "shape"),
    [((3, 32, 32), "CHW", (3, 32, 32)), ((32, 32, 3), "HWC", (3, 32, 32)), ((28, 28), "HW", (1, 28, 28)),
     ((3, 5, 3), "CHW", (3, 5, 3)), ((None, None, 3), "HWC", (3, None, None))],
)  # fmt: skip
def test_the_order_of_axes(size, axes, shape):
    assert axes_of(size, "net", "a file") == (axes, shape)


def test_large_packages_come_when_they_are_needed():
    names = {"onnx", "onnx2pytorch", "keras", "h5py", "transformers", "timm"}
    code = f"import btlib.cli.foreign, sys; print({names} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_what_is_plain_is_words():
    assert "Lambda" not in keras_files.PLAIN
    assert {"Dense", "Conv2D", "Functional", "GlorotUniform"} <= keras_files.PLAIN
    assert np.all([name.isidentifier() for name in keras_files.PLAIN])
