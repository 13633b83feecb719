"""Files that are no network or harm who reads them, each made on the spot, with what must be said of it."""

import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from odd import SHAPE, Net, Shallow
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from btlib import sealed


def written(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def torn(save: Callable[[Path], None], part: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        save(path)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])

    return write


def zipped(*names: str, content: bytes = b"x") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, content)

    return write


def broken_zip(path: Path) -> None:
    """The end of a zip, and nothing that it speaks of."""
    zipped("a/data.pkl", "a/version")(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") : content.index(b"PK\x05\x06")] = bytes(
        content.index(b"PK\x05\x06") - content.index(b"PK\x01\x02")
    )
    path.write_bytes(content)


def zip_on_two_disks(path: Path) -> None:
    zipped("a/data.pkl")(path)
    body, end, rest = path.read_bytes().partition(b"PK\x05\x06")
    path.write_bytes(body + b"PK\x06\x07" + struct.pack("<LQL", 1, 0, 2) + end + rest)


def bomb(path: Path) -> None:
    """A state dict of a gigabyte of zeros, packed into a megabyte."""
    torch.save({"head.weight": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, bytes(2**27) if name.endswith("data/0") else content)


def script(path: Path) -> None:
    torch.jit.trace(Shallow(), torch.rand(2, *SHAPE)).save(str(path))


def export(path: Path) -> None:
    torch.export.save(torch.export.export(Shallow().eval(), (torch.rand(2, *SHAPE),)), path)


def pickled(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


class Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def safetensors(path: Path) -> None:
    save_file({"w": torch.ones(100)}, path)


def carded(kind: str, card: Any, **tensors: Tensor) -> Callable[[Path], None]:
    """A sealed file of any card, also one that `sealed.write` would not write."""

    def write(path: Path) -> None:
        sealed.write(path, kind, card, tensors or {"head.weight": torch.zeros(3, 4), "normalize.mean": torch.zeros(1)})

    return write


def text_card(text: str) -> Callable[[Path], None]:
    return lambda path: save_file({"w": torch.ones(1)}, path, {"kind": "checkpoint", "card": text, "digest": "0"})


HEADER = json.dumps({"w": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}).encode()
SPEC = {"network": "lenet5", "data": "mnist"}
FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (written(b""), "empty"),
    "one byte": (written(b"\x80"), "damaged"),
    "zeros": (written(bytes(4096)), "damaged"),
    "words": (written(b"these are the weights\n" * 9), "damaged"),
    "JSON": (written(b'{"w": [1, 2, 3]}'), "damaged"),
    "torn state dict": (torn(lambda p: torch.save(Net().state_dict(), p), 0.6), "damaged"),
    "torn old state dict": (torn(lambda p: torch.save(
        Net().state_dict(), p, _use_new_zipfile_serialization=False), 0.6), "damaged"),
    "torn safetensors": (torn(safetensors, 0.6), "damaged"),
    "a huge header": (written(struct.pack("<Q", 2**62) + b"{" + bytes(99)), "damaged"),
    "a header of 99 MB": (written(struct.pack("<Q", 99_000_000) + b"{" + bytes(99)), "damaged"),
    "nested headers": (written(struct.pack("<Q", 10**5) + b'{"a":' * 20_000), "damaged"),
    "a huge shape": (written(struct.pack("<Q", len(HEADER)) + HEADER + bytes(4)), "damaged"),
    "a zip bomb": (bomb, "unpack"),
    "a broken zip": (broken_zip, "damaged"),
    "a zip on two disks": (zip_on_two_disks, "damaged"),
    "an empty zip": (zipped(), "damaged"),
    "a zip of pictures": (zipped("a.png", "b.png"), "damaged"),
    "a zip with a state dict inside": (zipped("net.pth"), "damaged"),
    "Keras zip": (zipped("config.json", "model.weights.h5", "metadata.json"), "Keras"),
    "Keras HDF5": (written(b"\x89HDF\r\n\x1a\n" + bytes(64)), "Keras"),
    "ONNX": (written(b"\x08\x08\x12\x07pytorch" + bytes(64)), "ONNX"),
    "a page": (written(b"<!DOCTYPE html><html>404"), "a page"),
    "a page after blanks": (written(b"\n\n  <html>404"), "a page"),
    "Git LFS": (written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    "GGUF": (written(b"GGUF\x03" + bytes(64)), "GGUF"),
    "numpy": (lambda p: np.save(p.open("wb"), np.ones(4)), "numpy"),
    "gzip": (written(b"\x1f\x8b\x08" + bytes(64)), "gzip"),
    "a picture": (lambda p: Image.new("L", (4, 4)).save(p, "PNG"), "a picture"),
    "a program": (written(b"\x7fELF" + bytes(64)), "a program"),
    "pickled network": (pickled, "never unpickled"),
    "pickle payload": (lambda p: p.write_bytes(pickle.dumps(Payload())) and None, "never unpickled"),
    "payload in a torch file": (lambda p: torch.save({"w": Payload()}, p), "never unpickled"),
    "numpy in a torch file": (lambda p: torch.save({"w": np.ones(3)}, p), "never unpickled"),
    "TorchScript": (script, "--trust"),
    "export": (export, "--trust"),
}  # fmt: skip


CARDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a nested card": (text_card("[" * 10**5), "--network"),
    "a card of a list": (text_card("[1, 2]"), "--network"),
    "a card of nothing": (text_card(""), "--network"),
    "a changed card": (text_card(json.dumps({"spec": SPEC})), "digest"),
    "no spec": (carded("checkpoint", {}), "card"),
    "spec a list": (carded("checkpoint", {"spec": [1]}), "card"),
    "spec a word": (carded("checkpoint", {"spec": "lenet5"}), "card"),
    "network a number": (carded("checkpoint", {"spec": {"network": 7, "data": "mnist"}}), "got '7'"),
    "network a list": (carded("checkpoint", {"spec": {"network": ["lenet5"], "data": "mnist"}}), "--network"),
    "no data": (carded("checkpoint", {"spec": {"network": "lenet5"}}), "card"),
    "data a number": (carded("checkpoint", {"spec": {"network": "lenet5", "data": 7}}), "--size"),
    "data nested": (carded("checkpoint", {"spec": {"network": "lenet5", "data": {"name": {"name": []}}}}), "--size"),
    "attack without a start": (carded("attack", {"spec": SPEC}), "card"),
    "guard without a shape": (carded("guard", {"network": "lenet5"}), "card"),
    "guard of a word's shape": (carded("guard", {"network": "lenet5", "image_shape": "big"}), "weights"),
    "guard of a number's shape": (carded("guard", {"network": "lenet5", "image_shape": 7}), "card"),
    "guard of a huge shape": (carded("guard", {"network": "lenet5", "image_shape": [1, 10**6, 10**6]}, **{
        "network.head.weight": torch.zeros(3, 4), "network.normalize.mean": torch.zeros(1)}), "1000000"),
    "guard without tensors": (carded("guard", {"network": "lenet5", "image_shape": [1, 28, 28]}), "weights"),
    "kind unknown": (lambda p: save_file(
        {"w": torch.ones(1)}, p, {"kind": "cake", "card": "{}", "digest": "0"}), "cake"),
    "guard of a network's number": (carded("guard", {"network": 7, "image_shape": [1, 28, 28]}), "got '7'"),
    "guard that names code": (carded("guard", {"network": "odd:make", "image_shape": [1, 28, 28]}), "got 'odd:make'"),
    "guard of no name": (carded("guard", {"network": None, "image_shape": [1, 28, 28]}), "--network"),
}  # fmt: skip


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rest = b"".join(chunk(*each) for each in (*chunks, (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + head + rest
