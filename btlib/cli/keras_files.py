"""Keras files, by Keras 3 on torch. Layers that may bring code are refused before Keras reads of them."""

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from btlib.cli.adapting import ForeignError
from btlib.cli.other_formats import Other, axes_of, needed, reordered
from btlib.cli.probing import Told, said_by

_KIND = "a Keras file"
#: What a file may name without `--trust`: plain layers of image classifiers. Keras' own safe mode was got round more
#: than once (CVE-2025-1550, -8747, -9905, -9906), so nothing else reaches it.
PLAIN = frozenset(
    re.findall(
        r"\w+",
        """
Functional Model Sequential InputLayer
Dense EinsumDense Conv1D Conv2D Convolution2D DepthwiseConv2D SeparableConv2D SeparableConvolution2D Conv2DTranspose
Convolution2DTranspose MultiHeadAttention Embedding
MaxPooling2D MaxPool2D AveragePooling2D AvgPool2D GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling2D
BatchNormalization BatchNormalizationV1 LayerNormalization GroupNormalization UnitNormalization Normalization
Dropout SpatialDropout2D GaussianNoise GaussianDropout AlphaDropout ActivityRegularization
Activation ReLU LeakyReLU PReLU ELU Softmax
Flatten Reshape Permute RepeatVector ZeroPadding2D Cropping2D UpSampling2D
Add Subtract Multiply Average Maximum Minimum Concatenate Dot
Rescaling Resizing CenterCrop RandomFlip RandomRotation RandomZoom RandomTranslation RandomCrop RandomContrast
RandomBrightness
Zeros Ones Constant Identity Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling GlorotNormal
GlorotUniform HeNormal HeUniform LecunNormal LecunUniform
L1 L2 L1L2 L1_L2 MaxNorm NonNeg UnitNorm MinMaxNorm
DTypePolicy FloatDTypePolicy Policy __tensor__ __keras_tensor__ __numpy__ __tuple__ TensorShape
""",
    )
)


def opened(path: Path, told: Told) -> Other:
    """The network in a `.keras` or `.h5` file.

    Raises:
        ForeignError: layers that may bring code, without trust; weights without a network; a file that Keras can't
            load.
    """
    if told.network is not None:
        raise ForeignError(f"--network: expected none for {path.name}, {_KIND}, which is a whole network, got "
                           f"{told.network}; leave it out")  # fmt: skip
    packed = zipfile.is_zipfile(path)
    if not told.trust:
        _check_plain(_config(path, packed), path.name)
    keras = _keras(path.name)
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / ("network.keras" if packed else "network.h5")  # Keras goes by the ending
        shutil.copyfile(path, named)
        try:
            with keras.device("cpu"):
                model = keras.saving.load_model(named, compile=False, safe_mode=not told.trust)
        except Exception as error:
            raise ForeignError(f"WEIGHTS: expected a network that Keras {keras.__version__} can load, got {path.name} "
                               f"({said_by(error)}); save it again with model.save('net.keras')") from None  # fmt: skip
    try:
        _, *size = model.input_shape
    except (AttributeError, TypeError, ValueError):
        raise ForeignError(f"WEIGHTS: expected a network of one input of known shape in {path.name}, got another; save "
                           "it after it has seen an image") from None  # fmt: skip
    axes, shape = axes_of(size, path.name, _KIND)
    body, head, notes = _divided(keras, model)
    return Other(reordered(OnTorch(body, head, keras), axes), "Keras network", shape, notes=notes)


class OnTorch(nn.Module):
    """A Keras network in evaluation mode, computed where its images are; its last dense layer is one of torch's."""

    def __init__(self, body: Any, head: nn.Module, keras: Any) -> None:
        super().__init__()
        self.body, self.head, self._device = body, head, keras.device
        self.layers = nn.ModuleDict(
            {each.name.replace(".", "_"): each for each in body.layers}
        )  # so that they are seen
        self._register_state_dict_hook(_without_seeds)
        self.register_load_state_dict_pre_hook(_with_seeds)

    def forward(self, x: Tensor) -> Tensor:
        """Images, in the order of axes that it wants → what it returns."""
        with self._device(str(x.device)):
            features = self.body(x, training=False)
        found: Tensor = self.head(features)
        return found


def _without_seeds(_: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    """Keras counts the seeds of dropout through a process: their names are not the same twice, and they say nothing."""
    for name in [each for each in state if each.startswith(prefix) and "seed_generator" in each]:
        del state[name]


def _with_seeds(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    state |= {f"{prefix}{name}": value for name, value in module.named_parameters() if "seed_generator" in name}


def _divided(keras: Any, model: Any) -> tuple[Any, nn.Module, tuple[str, ...]]:
    """What is before the last dense layer, that layer, and what was done: a softmax after it is taken off."""
    last, outputs = model.layers[-1], model.outputs
    soft = isinstance(last, keras.layers.Softmax)
    dense = model.layers[-2] if soft and len(model.layers) > 1 else last
    plain = (keras.activations.linear, keras.activations.softmax)
    if (not isinstance(dense, keras.layers.Dense) or len(outputs) != 1 or outputs[0] is not last.output
            or (soft and last.input is not dense.output) or dense.activation not in plain):  # fmt: skip
        return model, nn.Identity(), ()
    kernel = dense.kernel.value.detach()
    head = nn.Linear(kernel.shape[0], kernel.shape[1], bias=dense.use_bias, device=kernel.device)
    head.load_state_dict({"weight": kernel.T} | ({"bias": dense.bias.value.detach()} if dense.use_bias else {}))
    said = ("the network ends in a softmax, which was taken off",) if soft or dense.activation is plain[1] else ()
    return keras.Model(model.inputs, dense.input), head, said


def _keras(name: str) -> Any:
    """Keras on torch, whatever backend the user's settings name."""
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "torch"
    try:
        keras = needed("keras", "keras", name, _KIND)
    finally:
        if before is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = before
    if keras.backend.backend() != "torch":
        raise ForeignError(f"KERAS_BACKEND: expected Keras on torch to read {name}, got it imported on "
                           f"{keras.backend.backend()}; begin anew with KERAS_BACKEND=torch")  # fmt: skip
    return keras


def _config(path: Path, packed: bool) -> Any:
    """What the file says of its layers, as plain JSON."""
    h5py = None if packed else needed("h5py", "keras", path.name, _KIND)
    try:
        if h5py is None:
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        with h5py.File(path, "r") as file:
            told = file.attrs.get("model_config")
    except Exception as error:  # h5py's, zipfile's and json's have no common class
        raise ForeignError(f"WEIGHTS: expected a whole Keras file, got {path.name} ({said_by(error)}); copy it "
                           "again") from None  # fmt: skip
    try:
        return json.loads(told)
    except (TypeError, ValueError, RecursionError):
        raise ForeignError(f"WEIGHTS: expected a whole Keras network, got {path.name}, which holds weights alone or is "
                           "no Keras file; save it with model.save('net.keras')") from None  # fmt: skip


def _check_plain(config: Any, name: str) -> None:
    """Whether all that a file names is plain layers of Keras' own.

    Raises:
        ForeignError: it is not.
    """
    if isinstance(config, dict):
        config = config | {"compile_config": None}  # its loss and optimiser: not loaded
    other = [said for each in _named(config) if (said := _suspicious(each))]
    if other:
        named = ", ".join(sorted(set(other))[:3])
        raise ForeignError(
            f"--trust: expected it for {name}, {_KIND} with more than plain layers ({named}), got none; such layers "
            "may run code of their own on this machine: pass --trust if you trust its maker"
        )


def _suspicious(named: dict[str, Any]) -> str:
    """What is not plain about a thing that a file names; empty: nothing."""
    told, module, registered = (named.get(key) for key in ("class_name", "module", "registered_name"))
    ours = module is None or (isinstance(module, str) and module.split(".")[0] in ("keras", "builtins"))
    plain = isinstance(told, str) and told in PLAIN and ours and registered in (None, told)
    return "" if plain else str(told)[:40]


def _named(config: Any) -> Iterator[dict[str, Any]]:
    """Every part of a configuration that names a class, whatever it is inside of."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
