"""The file of a repaired network: opened again before it gets its name."""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from btlib import __version__, metrics, sealed
from btlib.cli import foreign
from btlib.cli.adapting import unadapted
from btlib.cli.probing import Foreign, Told
from btlib.files import written_whole
from btlib.repair import Repaired


def with_network(loaded: Foreign, module: nn.Module) -> Foreign:
    """The same network repaired: `module` is a changed copy of ``loaded.module``."""
    bare = module if loaded.bare is loaded.module else module.get_submodule("network")
    return replace(loaded, module=module, bare=bare, what=f"repaired {loaded.what}")


def write(path: Path, network: Foreign, done: Repaired, told: Told, weights: Path) -> None:
    """Write a repaired network, whole or not at all.

    One of ours is a sealed file that says what it is; a stranger's is a state dict for what its factory makes.

    Args:
        path: the file.
        network: repaired.
        done: how.
        told: what the user said of the network.
        weights: the file of the given network.

    Raises:
        ValueError: what was written doesn't give the network again.
    """
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in unadapted(network.bare).state_dict().items()}
    of = hashlib.sha256(weights.read_bytes()).hexdigest()
    said = {"method": done.method.name, "summary": done.summary, "repaired from": of, "btlib": __version__}
    with written_whole(path) as part:
        if network.ours is None:
            save_file(tensors, part, metadata={"format": "pt", **said})
        else:
            card = {"network": network.ours, "image_shape": list(network.image_shape), **said}
            sealed.write(part, "repaired", card, tensors)
        _check(part, network, told)


def _check(path: Path, network: Foreign, told: Told) -> None:
    """Whether a file, opened as `scan` does, says what the network says."""
    again = foreign.load(path, network.image_shape, replace(told, network=network.ours or told.network))
    noise = torch.rand(8, *network.image_shape, generator=torch.Generator().manual_seed(0))
    one, other = (metrics.predict(each.module, noise) for each in (network, again))
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max())):
        raise ValueError("--out: expected a state dict that gives the repaired network again, got another network; "
                         "does what --network makes keep numbers outside its state dict?")  # fmt: skip
