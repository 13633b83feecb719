"""Networks that are not ours: from a file to images in [0, 1] → logits, checked before a detector meets it.

A state dict is data: it is read with `weights_only=True` or by safetensors and fills a network whose code is known.
TorchScript, torch.export archives and factories bring code of their own, which runs: only for code you trust.
Hugging Face folders, ONNX and Keras files are read by packages that extras bring.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from btlib import networks, sealed
from btlib.cli import huggingface, keras_files, onnx_files, state_dicts
from btlib.cli.adapting import ForeignError
from btlib.cli.exported import layered
from btlib.cli.file_kinds import Kind, check_file, file_kind
from btlib.cli.preprocessing import Convention
from btlib.cli.probing import Foreign, Sealed, Told, by, check_shape, checked, said_by
from btlib.datasets import DataError, DataSource, Shape
from btlib.paths import from_here
from btlib.registry import imported
from btlib.repair import with_caps

EXPORT_AGAIN = (
    'export it again: torch.export.export(net.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)) '
    "with x of shape (2, C, H, W) and a net that returns logits"
)
SCRIPT_AGAIN = "save it again: torch.jit.script(net.eval()).save(path), with a net that returns logits (N, K)"
#: Who opens the files of other programs.
OTHERS: dict[str, Any] = {"huggingface": huggingface, "onnx": onnx_files, "keras": keras_files}
RETURN_LOGITS = "let the factory return a network from images (N, C, H, W) to logits (N, K)"


def load(path: Path, native: Shape, told: Told | None = None) -> Foreign:
    """Load anyone's network and make sure that it is one.

    Args:
        path: a sealed file of btlib, safetensors or state dict, TorchScript, torch.export archive, ONNX or Keras file,
            or a Hugging Face folder.
        native: (C, H, W) of the images as stored, for what the file does not say.
        told: what the user says of the network.

    Raises:
        ForeignError: one line that says what is wrong and how to mend it.
    """
    told = told or Told()
    check_file(path)
    kind = file_kind(path)
    if kind in ("torchscript", "export"):
        return _with_code(path, kind, native, told)
    if kind == "sealed":
        return _sealed(path, native, told)
    if kind in OTHERS:
        return _other(path, kind, native, told)
    shape = (native[0], told.size, told.size) if told.size else native
    return _filled(told.network, read_weights(path, kind), shape, told, "state dict")


def _other(path: Path, kind: Kind, native: Shape, told: Told) -> Foreign:
    """A network in the format of another program, with what its file says of images where the user says nothing."""
    found = OTHERS[kind].opened(path, told)
    channels, *sides = found.size
    if told.size and kind != "huggingface" and any(side not in (None, told.size) for side in sides):
        raise ForeignError(f"--size: expected {by(sides)}, what {path.name} is for, got {told.size}; leave --size out")
    height, width = (told.size or side or usual for side, usual in zip(sides, native[1:], strict=True))
    if found.convention is not None and told.convention == Convention():
        told = replace(told, convention=found.convention)
    loaded = checked(found.module, found.what, (channels or native[0], height, width), channels is not None, told,
                     "give its state dict, with --network module:function")  # fmt: skip
    classes = found.classes if len(found.classes) == loaded.num_classes else ()
    return replace(loaded, notes=(*found.notes, *loaded.notes), classes=classes)


def _filled(network: str | None, weights: dict[str, Tensor], shape: Shape, told: Told, what: str) -> Foreign:
    """Weights in the network that they belong to: one of ours by its name, or what a factory makes."""
    if network is None:
        raise ForeignError(f"--network: expected a name for the weights, got none; pass one of "
                           f"{', '.join(networks.NETWORKS)}, or module:function")  # fmt: skip
    if ":" not in network or network != told.network:  # a name in a file is never called
        return _ours(network, weights, shape, told, f"{what} of {network}")
    module = from_factory(network)
    notes = state_dicts.fill(
        with_caps(module, weights), weights, f"what {network} returns", "use the factory that they were trained with"
    )
    if state_dicts.half_precision(weights):
        notes.append("the weights were saved with sixteen bits and are computed with in 32")
    known = _known_shape(module)
    loaded = checked(module, f"{type(module).__name__} from {network}", known or shape, known is not None, told,
                     RETURN_LOGITS)  # fmt: skip
    return replace(loaded, notes=(*notes, *loaded.notes))


def _sealed(path: Path, native: Shape, told: Told) -> Foreign:
    """A file of btlib. Its card may name our own networks only: a card never runs code."""
    try:
        found = sealed.read(path, "checkpoint", "attack", "guard", "repaired")
    except sealed.SealError as error:
        raise ForeignError(f"WEIGHTS: {error}; take the file from its maker again") from None
    try:
        named, shape, weights = _inside(found, native, told.size)
    except (KeyError, TypeError, AttributeError):
        raise ForeignError(f"WEIGHTS: expected a card that says network and images in {path.name}, a {found.kind}, got "
                           "another; take the file from its maker again") from None  # fmt: skip
    if told.network not in (None, named) and named is not None:
        raise ForeignError(
            f"--network: expected none or {named}, as {path.name} says, got {told.network}; leave it out"
        )
    return _filled(named or told.network, weights, shape, told, f"btlib {found.kind}")


def _inside(found: sealed.Sealed, native: Shape, size: int | None) -> tuple[str | None, Shape, dict[str, Tensor]]:
    """Name, image shape and weights of the network in a sealed file; a guard's may have no name."""
    card, tensors = found.card, dict(found.tensors)
    if found.kind in ("guard", "repaired"):
        name = None if card["network"] is None else str(card["network"])
        within = sealed.part(tensors, "network.") if found.kind == "guard" else tensors
        return name, tuple(card["image_shape"]), within
    spec = card["spec"]["start"] if found.kind == "attack" else card["spec"]
    shape = (native[0], size, size) if size else _trained_on(spec["data"], native)
    return str(spec["network"]), shape, sealed.part(tensors, "network.") if found.kind == "attack" else tensors


def _trained_on(told: str | dict[str, Any], native: Shape) -> Shape:
    """The image shape of the data set in a card; that of the images at hand where nobody here knows it."""
    try:
        return DataSource.of(told).image_shape
    except (ValueError, TypeError, AttributeError, DataError):
        return native


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
            f"holds other Python objects or is damaged; it is never unpickled, {state_dicts.SAVE_AGAIN}"
        ) from None
    weights = state_dicts.unwrapped(found, path.name)
    state_dicts.check_plain(weights, path.stat().st_size, path.name)
    return weights


def _ours(name: str, weights: dict[str, Tensor], shape: Shape, told: Told, what: str) -> Foreign:
    """One of `networks.NETWORKS`; channels and classes are read from the weights."""
    if name not in networks.NETWORKS:
        raise ForeignError(f"--network: expected one of {', '.join(networks.NETWORKS)} or module:function, "
                           f"got {name!r}; check the spelling")  # fmt: skip
    if told.convention != Told().convention or told.output is not None:
        raise ForeignError(f"--mean, --std, --scale, --invert, --bgr, --output: expected none for btlib's own {name}, "
                           "which takes images in [0, 1] and returns logits; leave them out")  # fmt: skip
    weights = state_dicts.unprefixed(weights)
    head, mean = weights.get("head.weight"), weights.get("normalize.mean")
    if head is None or mean is None or head.ndim != 2:
        raise ForeignError(
            f"WEIGHTS: expected the weights of btlib's {name} (normalize.mean, …, head.weight), got "
            f"{', '.join(list(weights)[:3])}, …; pass your network as --network module:function"
        )
    shape = (mean.numel(), *shape[1:])
    check_shape(shape)
    if shape[1] != shape[2]:
        raise ForeignError(f"--size: {name} takes square images, these are {shape[1]}×{shape[2]}; pass --size")
    try:
        network = networks.build(name, image_shape=shape, num_classes=len(head), seed=0)
    except ValueError as error:
        raise ForeignError(f"{error}, here --size") from None
    what_for = f"{name} for images of {shape[1]}×{shape[2]}"
    notes = state_dicts.fill(with_caps(network, weights), weights, what_for, "pass the --size it was trained on")
    loaded = checked(network, what, shape, True, Told(), "use btlib's own weights")
    return replace(loaded, convention=None, notes=tuple(notes), ours=name)


def from_factory(name: str) -> nn.Module:
    """What ``module:function`` returns, in single precision, with the current directory on sys.path. Runs its code."""
    try:
        with from_here():
            network = imported(name)()
    except (Exception, SystemExit) as error:
        raise ForeignError(f"--network: expected a factory that returns a network, but {name} raised "
                           f"{type(error).__name__}: {said_by(error)}; check that it can be called without "
                           "arguments from here")  from None  # fmt: skip
    if not isinstance(network, nn.Module):
        raise ForeignError(f"--network: expected an nn.Module from {name}, got {type(network).__name__}; return one")
    if any(
        isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)
        for tensor in chain(network.parameters(), network.buffers())
    ):
        raise ForeignError(f"--network: expected layers that know their sizes from {name}, got lazy ones; let it "
                           "show its network an image before it returns it")  # fmt: skip
    return network.float()


def _with_code(path: Path, kind: Kind, native: Shape, told: Told) -> Foreign:
    """A TorchScript file or a torch.export archive: both bring code, which runs as soon as they are loaded."""
    what = "TorchScript" if kind == "torchscript" else "torch.export archive"
    if told.network is not None:
        raise ForeignError(f"--network: expected a state dict to go with {told.network!r}, got {path.name}, a {what}, "
                           "which brings its own code; leave --network out")  # fmt: skip
    if not told.trust:
        raise ForeignError(
            f"--trust: expected it for {path.name}, a {what}, got none; such a file brings code of its own, which runs "
            "on this machine when it is loaded: pass --trust if you trust its maker"
        )
    try:
        with _silent():
            loaded: Any = torch.jit.load(str(path), "cpu") if kind == "torchscript" else torch.export.load(path)
    except Exception as error:  # torch's errors have no common class
        again = SCRIPT_AGAIN if kind == "torchscript" else EXPORT_AGAIN
        raise ForeignError(f"WEIGHTS: expected a whole {kind} file, got {path}, which torch can't load "
                           f"({said_by(error)}); {again}") from None  # fmt: skip
    shape = (native[0], told.size, told.size) if told.size else native
    if kind == "torchscript":
        return checked(Sealed(loaded.eval().float()), what, shape, False, told, SCRIPT_AGAIN)
    shape, known = _exported_shape(loaded, shape, told.size)
    return checked(layered(loaded) if told.layers else Sealed(loaded.module()), what, shape, known, told, EXPORT_AGAIN)


@contextmanager
def _silent() -> Iterator[None]:
    """Inside, torch neither logs what its errors say anyway nor warns that TorchScript is deprecated; it is in use."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


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
