"""Networks that are not ours: from a file to images in [0, 1] → logits, checked before a detector meets it.

A state dict is data: it is read with `weights_only=True` or by safetensors and fills a network whose code is known.
TorchScript, torch.export archives and factories bring code of their own, which runs: only for code you trust.
"""

import importlib
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from btlib import networks, sealed
from btlib.cli.probing import Foreign, ForeignError, Sealed, checked, first_line
from btlib.datasets import DataError, DataSource, Shape
from btlib.paths import from_here

Kind = Literal["sealed", "safetensors", "torchscript", "export", "pickle"]

EXPORT_AGAIN = (
    'export it again: torch.export.export(net.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)) '
    "with x of shape (2, C, H, W) and a net that returns logits"
)
SCRIPT_AGAIN = "save it again: torch.jit.script(net.eval()).save(path), with a net that returns logits (N, K)"
RETURN_LOGITS = "let the factory return a network from images (N, C, H, W) to logits (N, K)"


def load(
    path: Path, network: str | None, native: Shape, size: int | None = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Foreign:  # fmt: skip
    """Load anyone's network and make sure that it is one.

    Args:
        path: a btlib checkpoint, safetensors or state dict, TorchScript, or torch.export archive.
        network: a name in `networks.NETWORKS` or ``module:function`` for a state dict; None where the file says it.
        native: (C, H, W) of the images as stored, for what the file does not say.
        size: side of the network's square input, where the file does not say it.
        normalize: mean and standard deviation per channel that a network expects to be applied outside.

    Raises:
        ForeignError: one line that says what is wrong and how to mend it.
    """
    if not path.is_file():
        raise ForeignError(f"WEIGHTS: expected a file, got {path}, where there is none; check the path")
    kind = file_kind(path)
    shape = (native[0], size, size) if size else native
    if kind in ("torchscript", "export"):
        if network is not None:
            raise ForeignError(
                f"--network: expected a state dict to go with {network!r}, got {path.name}, which brings its own code "
                "(TorchScript or torch.export); leave --network out if you trust it"
            )
        return _with_code(path, kind, shape, size, normalize)
    if kind == "sealed":
        return _sealed(path, native, size)
    weights = read_weights(path, kind)
    if network is None:
        raise ForeignError(f"--network: expected a name for the weights in {path.name}, got none; pass one of "
                           f"{', '.join(networks.NETWORKS)}, or module:function")  # fmt: skip
    if ":" in network:
        module = from_factory(network)
        _fill(module, weights, f"what {network} returns", "use the factory that they were trained with")
        known = _known_shape(module)
        return checked(module, f"{type(module).__name__} from {network}", known or shape, known is not None,
                        normalize, RETURN_LOGITS)  # fmt: skip
    return _ours(network, weights, shape, f"state dict of {network}")


def _sealed(path: Path, native: Shape, size: int | None) -> Foreign:
    """A checkpoint, an attack or a guard of btlib. Its card may name our own networks only: a card never runs code."""
    try:
        found = sealed.read(path, "checkpoint", "attack", "guard")
    except sealed.SealError as error:
        raise ForeignError(f"WEIGHTS: {error}; take the file from its maker again") from None
    card, tensors = found.card, dict(found.tensors)
    if found.kind == "guard":
        name, shape = str(card["network"]), tuple(card["image_shape"])
        tensors = sealed.part(tensors, "net.")
    else:
        spec = card["spec"]["start"] if found.kind == "attack" else card["spec"]
        name, shape = str(spec["network"]), (native[0], size, size) if size else _trained_on(spec["data"], native)
        tensors = sealed.part(tensors, "network.") if found.kind == "attack" else tensors
    return _ours(name, tensors, shape, f"btlib {found.kind} of {name}")


def _trained_on(told: str | dict[str, Any], native: Shape) -> Shape:
    """The image shape of the data set in a card; that of the images at hand where nobody here knows it."""
    try:
        return DataSource.of(told).image_shape
    except (ValueError, TypeError, DataError):
        return native


def file_kind(path: Path) -> Kind:
    """What a file holds, by its content; its name says little."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.split("/", 1)[-1] for name in archive.namelist()}
        if names & {"archive_format", "serialized_exported_program.json"}:
            return "export"
        return "torchscript" if "constants.pkl" in names else "pickle"
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] != b"{":
        return "pickle"
    try:
        sealed.read_card(path)
    except sealed.SealError:
        return "safetensors"
    return "sealed"


def read_weights(path: Path, kind: Kind) -> dict[str, Tensor]:
    """Names → tensors. Nothing but tensors and plain containers is ever unpickled."""
    try:
        if kind == "pickle":
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
        else:
            found = load_file(path)
    except (SafetensorError, OSError):
        raise ForeignError(f"WEIGHTS: expected whole safetensors, got a damaged {path}; copy it again") from None
    except Exception:  # torch.load's errors have no common class
        raise ForeignError(
            f"WEIGHTS: expected a state dict, safetensors, TorchScript or torch.export archive, got {path}, which "
            "holds other Python objects or is damaged; it is never unpickled, save torch.save(net.state_dict(), path)"
        ) from None
    for key in ("state_dict", "model_state_dict", "model"):  # what training scripts wrap it in
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise ForeignError(f"WEIGHTS: expected a state dict (names and tensors), got {type(found).__name__} in {path}; "
                           "save torch.save(net.state_dict(), path)")  # fmt: skip
    parallel = all(name.startswith("module.") for name in found)  # nn.DataParallel's names
    return {name.removeprefix("module.") if parallel else name: tensor for name, tensor in found.items()}


def _ours(name: str, weights: dict[str, Tensor], shape: Shape, what: str) -> Foreign:
    """One of `networks.NETWORKS`; channels and classes are read from the weights."""
    if name not in networks.NETWORKS:
        raise ForeignError(f"--network: expected one of {', '.join(networks.NETWORKS)} or module:function, "
                           f"got {name!r}; check the spelling")  # fmt: skip
    head, mean = weights.get("head.weight"), weights.get("normalize.mean")
    if head is None or mean is None:
        raise ForeignError(
            f"WEIGHTS: expected the weights of btlib's {name} (normalize.mean, …, head.weight), got "
            f"{', '.join(list(weights)[:3])}, …; pass your network as --network module:function"
        )
    if shape[1] != shape[2]:
        raise ForeignError(f"--size: {name} takes square images, these are {shape[1]}×{shape[2]}; pass --size")
    shape = (mean.numel(), *shape[1:])
    try:
        network = networks.build(name, image_shape=shape, num_classes=len(head), seed=0)
    except ValueError as error:
        raise ForeignError(f"{error}, here --size") from None
    _fill(network, weights, f"{name} for images of {shape[1]}×{shape[2]}", "pass the --size it was trained on")
    return checked(network, what, shape, True, None, "use btlib's own weights")


def _fill(network: nn.Module, weights: dict[str, Tensor], what: str, fix: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip().rstrip(".")
        raise ForeignError(f"WEIGHTS: expected the weights of {what}, got others ({detail[:200]}); {fix}") from None


def from_factory(name: str) -> nn.Module:
    """What ``module:function`` returns, with the current directory on sys.path. Runs its code."""
    where, _, function = name.partition(":")
    try:
        with from_here():
            network = getattr(importlib.import_module(where), function)()
    except Exception as error:
        raise ForeignError(f"--network: expected a factory that returns a network, but {name} raised "
                           f"{type(error).__name__}: {first_line(error)}; check that it can be called without "
                           "arguments from here")  from None  # fmt: skip
    if not isinstance(network, nn.Module):
        raise ForeignError(f"--network: expected an nn.Module from {name}, got {type(network).__name__}; return one")
    return network


def _with_code(
    path: Path, kind: Kind, shape: Shape, size: int | None, normalize: tuple[Sequence[float], Sequence[float]] | None
) -> Foreign:
    """A TorchScript file or a torch.export archive."""
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # TorchScript is deprecated, but in use
            loaded: Any = torch.jit.load(str(path), "cpu") if kind == "torchscript" else torch.export.load(path)
    except Exception as error:  # torch's errors have no common class
        again = SCRIPT_AGAIN if kind == "torchscript" else EXPORT_AGAIN
        raise ForeignError(f"WEIGHTS: expected a whole {kind} file, got {path}, which torch can't load "
                           f"({first_line(error)}); {again}") from None  # fmt: skip
    if kind == "torchscript":
        loaded.eval()
        return checked(Sealed(loaded), "TorchScript", shape, False, normalize, SCRIPT_AGAIN)
    shape, known = _exported_shape(loaded, shape, size)
    return checked(Sealed(loaded.module()), "torch.export archive", shape, known, normalize, EXPORT_AGAIN)


def _exported_shape(program: torch.export.ExportedProgram, shape: Shape, size: int | None) -> tuple[Shape, bool]:
    """(C, H, W) that the archive was exported for, where it is fixed; refuses a batch size that is."""
    inputs = set(program.graph_signature.user_inputs)
    values = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in inputs]
    if len(values) != 1 or not isinstance(values[0], Tensor) or values[0].ndim != 4:
        got = [tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for v in values]
        raise ForeignError(f"WEIGHTS: expected a network of one input (N, C, H, W), got inputs {got}; {EXPORT_AGAIN}")
    batch, *rest = list[Any](values[0].shape)
    ends = [r.upper for symbol, r in program.range_constraints.items() if str(symbol) == str(batch)]
    if isinstance(batch, int) or any(end < 10**6 for end in ends):
        most = f"at most {ends[0]}" if ends else str(batch)
        raise ForeignError(
            f"WEIGHTS: expected a network for batches of any size, got batch size {most}; {EXPORT_AGAIN}"
        )
    if not all(isinstance(n, int) for n in rest):
        return shape, False
    if size and rest[1:] != [size, size]:
        raise ForeignError(f"--size: expected {rest[1]}×{rest[2]}, what the archive was exported for, got {size}; "
                           "leave --size out")  # fmt: skip
    return (int(rest[0]), int(rest[1]), int(rest[2])), True


def _known_shape(module: nn.Module) -> Shape | None:
    """The input's shape where a network carries it, as btlib's do."""
    shape: Any = getattr(module, "image_shape", None)
    return tuple(shape) if isinstance(shape, (tuple, list)) and len(shape) == 3 else None
