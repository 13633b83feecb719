"""Sealed files: tensors and a card in one safetensors file that is whole, unchanged, and of a known kind (floor 1).

Checkpoints, attacks and guards are kept so. One file instead of two, because two can come apart; a digest over all
of it, because a card that says what its weights do not is worse than none.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from btlib.files import written_whole


class SealError(RuntimeError):
    """A file is not sealed, of another kind, or was changed; the message says which and what to do."""


@dataclass(frozen=True, eq=False)
class Sealed:
    """What a sealed file holds.

    Attributes:
        kind: what it is of: ``"checkpoint"``, ``"attack"``, ``"guard"`` or ``"repaired"`` here.
        card: what its writer says of the tensors, plain JSON values.
        tensors: by name, on the CPU.
    """

    kind: str
    card: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def write(path: str | Path, kind: str, card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a sealed file, whole or not at all.

    Args:
        path: the file; its folder is made where missing.
        kind: what it is of.
        card: plain JSON values.
        tensors: by name, on any device.

    Raises:
        TypeError, ValueError: a card that is not JSON.
        OSError: no room on the disk, or not allowed.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = write(f"{folder}/a.safetensors", "toy", {"x": 1}, {"w": torch.ones(2)})
        ...     dict(read(file, "toy").card)
        {'x': 1}
    """
    text = json.dumps(card, sort_keys=True, allow_nan=True)  # a history may hold NaN
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as part:
        try:
            save_file(kept, part, metadata={"kind": kind, "card": text, "digest": _digest(kind, text, kept)})
        except SafetensorError as error:  # the system's error, as text
            if (number := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    return Path(path)


def read(path: str | Path, *kinds: str) -> Sealed:
    """The contents of a sealed file, after its seal was checked.

    Args:
        path: the file.
        kinds: which will do; none: any.

    Raises:
        SealError: it can't be read, is of another kind, or its contents do not match its digest.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read(write(f"{folder}/a.safetensors", "toy", {}, {"w": torch.ones(2)})).tensors["w"].tolist()
        [1.0, 1.0]
    """
    with _opened(path) as file:
        kind, text, digest = _metadata(path, file, kinds)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if digest != _digest(kind, text, tensors):
        raise SealError(f"{path}: its contents do not match its digest: it was changed after it was written")
    return Sealed(kind, json.loads(text), tensors)


def read_card(path: str | Path, *kinds: str) -> Sealed:
    """Kind and card of a sealed file without its tensors; the digest is not checked.

    Raises:
        SealError: it can't be read, or is of another kind.
    """
    with _opened(path) as file:
        kind, text, _ = _metadata(path, file, kinds)
    return Sealed(kind, json.loads(text), {})


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it.

    Example:
        >>> sorted(part({"net.w": None, "net.b": None, "scorer.w": None}, "net."))
        ['b', 'w']
    """
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _opened(path: str | Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise SealError(f"{path}: it is not a whole safetensors file ({error})") from error


def _metadata(path: str | Path, file: Any, kinds: tuple[str, ...]) -> tuple[str, str, str]:
    found = file.metadata() or {}
    try:
        kind, text, digest = (found[key] for key in ("kind", "card", "digest"))
        card = json.loads(text)
    except (KeyError, ValueError, RecursionError) as error:
        raise SealError(f"{path}: it has no card of btlib ({type(error).__name__}: {error})") from error
    if not isinstance(card, dict):
        raise SealError(f"{path}: expected a card of names and values, got {type(card).__name__}")
    if kinds and kind not in kinds:
        raise SealError(f"{path}: expected a file of kind {' or '.join(kinds)}, got {kind}")
    return kind, text, digest


def _digest(kind: str, card: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over kind, card and tensors, so that none can be changed or exchanged alone."""
    digest = hashlib.sha256(f"{kind}\n{card}\n".encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()
