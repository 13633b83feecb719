"""Folders of Hugging Face: config.json, model.safetensors, and what is done to images in preprocessor_config.json.

Folders of timm look alike and are handed on to `timm_folders`.
"""

import os
from pathlib import Path
from typing import Any

import torch

from btlib.cli import timm_folders
from btlib.cli.adapting import ForeignError
from btlib.cli.other_formats import Other, needed
from btlib.cli.preprocessing import Convention
from btlib.cli.probing import Told, said_by
from btlib.files import read_json

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_KIND = "a Hugging Face folder"


def opened(folder: Path, told: Told) -> Other:
    """The image classifier in a folder. Nothing is fetched; code that lies in the folder runs with `--trust` only.

    Raises:
        ForeignError: another kind of network, code without trust, weights that are missing or no safetensors.
    """
    name, config = folder.name, _json(folder / CONFIG)
    _check(config, folder, told)
    if timm_folders.is_one(config):
        return timm_folders.opened(folder, config)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when it is imported
    transformers = needed("transformers", "huggingface", name, _KIND)
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    try:
        network, found = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=told.trust, dtype=torch.float32,
            attn_implementation="eager", output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # of many kinds
        raise ForeignError(f"WEIGHTS: expected an image classifier of transformers in {name}, got {_KIND} that it "
                           f"can't load ({said_by(error)}); save it again with save_pretrained") from None  # fmt: skip
    lost = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if lost:  # transformers would fill them with random numbers
        raise ForeignError(f"WEIGHTS: expected all weights of a {type(network).__name__} in {name}, got none that fit "
                           f"for {', '.join(lost[:3])}; save it again with save_pretrained")  # fmt: skip
    convention, size = preprocessing(folder)
    side = size or _side(getattr(network.config, "image_size", None))
    names = getattr(network.config, "id2label", None) or {}
    own = len(names) > 0 and set(names.values()) != {f"LABEL_{i}" for i in names}  # what it says where none were given
    return Other(
        network, f"{type(network).__name__} of transformers", (getattr(network.config, "num_channels", 3), side, side),
        convention, tuple(str(names[i]) for i in sorted(names)) if own else (),
        () if convention else (f"{name} has no {PREPROCESSOR}: nothing is done to pixels but what the options say",),
    )  # fmt: skip


def _check(config: dict[str, Any], folder: Path, told: Told) -> None:
    """What can be told from the configuration alone, before a large package is imported."""
    if told.network is not None:
        raise ForeignError(f"--network: expected none for {folder.name}, {_KIND}, which says what network it is, got "
                           f"{told.network}; leave it out")  # fmt: skip
    if "auto_map" in config and not told.trust:
        raise ForeignError(f"--trust: expected it for {folder.name}, {_KIND} with code of its own, got none; that code "
                           "runs on this machine when it is loaded: pass --trust if you trust its maker")  # fmt: skip
    if "model_type" not in config and not timm_folders.is_one(config):
        raise ForeignError(f"WEIGHTS: expected the model_type of a network of transformers (or the architecture of one "
                           f"of timm) in {folder / CONFIG}, got neither; get the folder again")  # fmt: skip
    if "quantization_config" in config:
        raise ForeignError(f"WEIGHTS: expected weights in floating point in {folder.name}, got quantised ones; take "
                           "the network that they were made from")  # fmt: skip
    if not any((folder / each).is_file() for each in WEIGHTS):
        raise ForeignError(f"WEIGHTS: expected {' or '.join(WEIGHTS)} in {folder}, got neither; save it again with "
                           "save_pretrained (pickled weights are not read)")  # fmt: skip


def preprocessing(folder: Path) -> tuple[Convention | None, int | None]:
    """What a folder says is done to images in [0, 1], and the side they are brought to; None where it does not say.

    Raises:
        ForeignError: it says what can't be.
    """
    if not (folder / PREPROCESSOR).is_file():
        return None, None
    told = _json(folder / PREPROCESSOR)
    try:
        scale = 255 * float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 255.0
        normal = bool(told.get("do_normalize", "image_mean" in told))
        mean, std = (tuple(map(float, told[key])) if normal else () for key in ("image_mean", "image_std"))
        if told.get("rescale_offset", False):  # pixels - 1, before anything is normalised
            mean, std = tuple(1 + m for m in mean or (0.0,)), std or (1.0,)
        size = told.get("crop_size") if told.get("do_center_crop", False) else told.get("size")
        near = round(scale) if abs(scale - round(scale)) < 1e-6 else scale
        return Convention(float(near), bgr=bool(told.get("do_flip_channel_order")), mean=mean, std=std), _side(size)
    except (KeyError, TypeError, ValueError) as error:
        raise ForeignError(f"WEIGHTS: expected numbers for images in {folder / PREPROCESSOR}, got others ({error}); "
                           "mend the file, or remove it and pass --mean and --std") from None  # fmt: skip


def _side(size: Any) -> int | None:
    """The side of a square from any of the ways to say it."""
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    if isinstance(size, list | tuple):
        size = size[0]
    return size if isinstance(size, int) and not isinstance(size, bool) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        told = read_json(path)
        if not isinstance(told, dict):
            raise ValueError(f"a {type(told).__name__}")
    except (OSError, ValueError) as error:
        raise ForeignError(f"WEIGHTS: expected JSON with names and values in {path}, got {said_by(error)}; get the "
                           "folder again") from None  # fmt: skip
    return told
