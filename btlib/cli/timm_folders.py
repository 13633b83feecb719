"""Folders of timm: an architecture's name, mean and deviation in config.json, and model.safetensors."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from btlib.cli import state_dicts
from btlib.cli.adapting import ForeignError
from btlib.cli.other_formats import Other, needed
from btlib.cli.preprocessing import Convention
from btlib.cli.probing import said_by

WEIGHTS = "model.safetensors"
_KIND = "a folder of timm"
LARGEST = 20_000  # no setting of a network of timm is larger


def is_one(config: dict[str, Any]) -> bool:
    """Whether a configuration is timm's."""
    return config.get("model_type") == "timm_wrapper" or (
        isinstance(config.get("architecture"), str | int) and "model_type" not in config
    )


def opened(folder: Path, config: dict[str, Any]) -> Other:
    """The image classifier in a folder. Nothing is fetched, and a name that timm does not know is never called.

    Raises:
        ForeignError: an architecture that timm does not have; weights that are missing or do not fit.
    """
    name, architecture = folder.name, config.get("architecture")
    timm = needed("timm", "timm", name, _KIND)
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise ForeignError(f"WEIGHTS: expected the name of a network of timm {timm.__version__} as architecture in "
                           f"{folder / 'config.json'}, got {architecture!r}; install the timm that it was saved with, "
                           "or pass its factory as --network module:function")  # fmt: skip
    try:
        told = dict(config.get("pretrained_cfg") or {})
        mean, std = (tuple(map(float, told.get(key, ()))) for key in ("mean", "std"))
        settings, (channels, *sides) = _settings(timm, config, told), told.get("input_size") or (3, None, None)
        with torch.device("meta"):  # where nothing takes memory: weights that do not fit are seen before
            shell = timm.create_model(architecture, **settings)
        weights = load_file(folder / WEIGHTS)
        fix = "take config.json and weights from one place"
        with warnings.catch_warnings(action="ignore"):  # torch says that nothing is copied there
            state_dicts.fill(shell, weights, f"timm's {architecture}", fix)
        network = timm.create_model(architecture, **settings)
    except ForeignError:
        raise
    except (SafetensorError, OSError) as error:
        raise ForeignError(f"WEIGHTS: expected {WEIGHTS} in {folder}, got none that can be read ({said_by(error)}); "
                           "save it again with timm.models.save_for_hf") from None  # fmt: skip
    except Exception as error:  # of many kinds
        raise ForeignError(f"WEIGHTS: expected settings of timm's {architecture} in {folder / 'config.json'}, got ones "
                           f"that it can't be made with ({said_by(error)}); mend the file") from None  # fmt: skip
    notes = state_dicts.fill(network, weights, f"timm's {architecture}", fix)
    names = config.get("label_names") or ()
    return Other(network, f"{architecture} of timm", (channels, *sides), Convention(mean=mean, std=std),
                 tuple(map(str, names)) if isinstance(names, list) else (), tuple(notes))  # fmt: skip


def _settings(timm: Any, config: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """What a network is made with. What timm does beside making it (fetch, unpickle, write) can't be asked for.

    Raises:
        ValueError, TypeError, AttributeError: no such settings.
    """
    given = dict(config.get("model_args") or {})
    beside = given.keys() & (inspect.signature(timm.create_model).parameters.keys() | {"device", "dtype"})
    if beside:
        raise ValueError(f"model_args has {', '.join(sorted(beside))}")
    numbers = [n for value in given.values() for n in (value if isinstance(value, list) else [value])]
    if any(isinstance(n, int | float) and abs(n) > LARGEST for n in numbers):
        raise ValueError(f"model_args has a number above {LARGEST}")
    channels = (told.get("input_size") or [3])[0]
    return {"num_classes": config.get("num_classes") or told.get("num_classes"), "in_chans": channels} | given
