"""What a file holds, told by its content, before any of it is loaded."""

import stat
import zipfile
from pathlib import Path
from typing import Literal

from btlib import sealed
from btlib.cli import state_dicts
from btlib.cli.adapting import ForeignError
from btlib.cli.huggingface import CONFIG
from btlib.cli.probing import said_by

Kind = Literal["sealed", "safetensors", "torchscript", "export", "pickle", "huggingface", "onnx", "keras"]

READ = "state dict, safetensors, file of btlib, TorchScript, torch.export, ONNX, Keras, folder of Hugging Face or timm"
_HDF, _ONNX = b"\x89HDF", b"\x08"  # the second: the first field of an ONNX model, its version
_OTHERS = {
    b"version https://git-lfs": "a pointer to a file in Git LFS; run `git lfs pull` where it comes from",
    b"<": "a page (HTML or XML), not the file it was to be; download it again",
    b"PAR1": "a table of numbers (Parquet)",
    b"\x93NUMPY": "an array of numpy",
    b"\x1f\x8b": "packed with gzip; unpack it",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"\x7fELF": "a program",
    b"GGUF": "a language model (GGUF)",
}


def check_file(path: Path) -> None:
    """Whether a path leads to a plain file or a Hugging Face folder; who opens a pipe waits for ever.

    Raises:
        ForeignError: it does not.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ForeignError(f"WEIGHTS: expected a file, got {path} ({said_by(error)}); check the path") from None
    if not stat.S_ISREG(mode) and not (path / CONFIG).is_file():
        got = "a folder; name the file in it" if stat.S_ISDIR(mode) else "no plain file but a pipe or device; copy it"
        raise ForeignError(f"WEIGHTS: expected a file, got {path}, {got}")


def file_kind(path: Path) -> Kind:
    """What a file holds, by its content; its name says little.

    Raises:
        ForeignError: it is something that is not read.
    """
    if path.is_dir():
        return "huggingface"
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(_HDF):
        return "keras"
    if start[:1] == _ONNX and start[8:9] != b"{":
        return "onnx"
    what = next((what for beginning, what in _OTHERS.items() if start.lstrip().startswith(beginning)), "")
    if not start or (what and start[8:9] != b"{"):
        raise ForeignError(f"WEIGHTS: expected {READ}, got {path.name}, {what or 'an empty file; copy it again'}")
    names = _packed(path)
    if names is not None:
        if names & {"archive_format", "serialized_exported_program.json"}:
            return "export"
        if names & {"config.json", "model.weights.h5"} == {"config.json", "model.weights.h5"}:
            return "keras"
        return "torchscript" if "constants.pkl" in names else "pickle"
    if start[8:9] != b"{":
        return "pickle"
    try:
        sealed.read_card(path)
    except sealed.SealError:
        return "safetensors"
    return "sealed"


def _packed(path: Path) -> set[str] | None:
    """The names in a zip, which torch's files are, without their first folder; None: it is none."""
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # the second: a zip on several disks
        raise ForeignError(f"WEIGHTS: expected {READ}, got {path.name}, a damaged one; copy it again") from None
    size, whole = path.stat().st_size, sum(part.file_size for part in parts)
    if whole > state_dicts.TIGHTEST * size:
        raise ForeignError(f"WEIGHTS: expected {READ}, got {path.name}, whose {size:,} bytes unpack to {whole:,}; no "
                           "weights pack so tightly, get them elsewhere")  # fmt: skip
    return {part.filename.split("/", 1)[-1] for part in parts}
