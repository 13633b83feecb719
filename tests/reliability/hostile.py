"""Files made to harm who reads them, of every kind that is read: what is said, whether code ran, how much memory went.

A file that is new: write a function that makes it, and add a line to `HOSTILE` (or to `odd_files`).
"""

import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import odd_files
import torch
from odd import Net
from safetensors.torch import save_file

from reliability.jobs import command, handed_in, network
from reliability.processes import Started, apart, forked, killed, surroundings

MOST_MB = 200  # above what the process held before
_ODD, _MEMORY = Path("odd.bin"), 10**12


@dataclass(frozen=True)
class Hostile:
    """One file, and the command that is given it.

    Attributes:
        make: writes it to ``odd.bin``, or into the current folder.
        arguments: of btlib.
        says: what its one sentence must hold.
        marked: whether it is a student's, which is marked beside the others'; else it is refused with status 2.
    """

    make: Callable[[Path], object]
    arguments: tuple[str, ...]
    says: str
    marked: bool = False


def sparse(path: Path, size: int = 2**30) -> None:
    """A gigabyte of zeros that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def nested(path: Path) -> None:
    """Lists in lists."""
    path.write_text("[" * 10**6)


def inside(make: Callable[[Path], object], name: str) -> Callable[[Path], None]:
    """The file under another name, in folders of its own."""

    def write(path: Path) -> None:
        whole = path.parent / name
        whole.parent.mkdir(parents=True, exist_ok=True)
        make(whole)

    return write


def picture(content: bytes) -> Callable[[Path], object]:
    """A picture that is all there is of its class."""

    def write(path: Path) -> None:
        for other in path.parent.iterdir():
            other.unlink()
        path.write_bytes(content)

    return inside(write, "pictures/bar 0/a.png")


def packed(path: Path) -> None:
    """A Keras file whose words unpack to a gigabyte."""
    odd_files.zipped("config.json", "model.weights.h5", "metadata.json", content=bytes(2**28))(path)


def folder(path: Path, make: Callable[[Path], object]) -> None:
    """A folder of Hugging Face with a strange config.json."""
    path.mkdir()
    make(path / "config.json")
    save_file({"w": torch.ones(1)}, path / "model.safetensors")


def answer(body: str) -> Callable[[Path], object]:
    """A student's notebook with an answer that does something else first."""

    def write(path: Path) -> None:
        cells = [nbformat.v4.new_code_cell(text) for text in (
            "from btlib.exercises import exercise",
            f'@exercise("asr")\ndef asr(p, y, t):\n    {body}\n    return (p == t).float().mean()',
        )]  # fmt: skip
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)

    return inside(write, "class/eve/00_start_here.ipynb")


_SCAN = ("scan", "odd.bin", "--network", "stranger:make", "--images", "pictures", "--methods", "red-a")
_MARK = ("answers", "class", "--out", "out", "--lesson", "00", "--seconds", "5")
_WORDS = zlib.compress(bytes(2**27))
HOSTILE: dict[str, dict[str, Hostile]] = {
    "a network's file": {
        **{name: Hostile(make, _SCAN[:2] + _SCAN[4:] if says == "--trust" else _SCAN, says)
           for name, (make, says) in odd_files.FILES.items()},
        "a Keras zip that unpacks to three times 256 MB": Hostile(packed, _SCAN, "unpack"),
        "a folder with a config.json of a gigabyte": Hostile(partial(folder, make=sparse), _SCAN, "at most"),
        "a folder with a nested config.json": Hostile(partial(folder, make=nested), _SCAN, "too many lists"),
    },
    "a card inside a file of btlib's kind": {
        name: Hostile(make, _SCAN[:2] + _SCAN[4:], says) for name, (make, says) in odd_files.CARDS.items()
    },
    "a picture": {
        "30,000 × 30,000": Hostile(picture(odd_files.png_of(30_000, 30_000)), ("scan", "net.safetensors", *_SCAN[4:]),
                                   "a.png"),
        "all the pixels there are": Hostile(picture(odd_files.png_of(2**31 - 1, 2**31 - 1)),
                                            ("scan", "net.safetensors", *_SCAN[4:]), "a.png"),
        "128 MB of words": Hostile(picture(odd_files.png_of(8, 8, (b"zTXt", b"a\0\0" + _WORDS))),
                                   ("scan", "net.safetensors", *_SCAN[4:]), "a.png"),
    },
    "the JSON of a scan": {
        f"{what}, for {command}": Hostile(inside(make, "odd.json"), (*arguments, "--images", "pictures"), says)
        for what, make, says in (("a gigabyte", sparse, "at most"), ("nested", nested, "too many lists"),
                                 ("a pipe", os.mkfifo, "a pipe"))
        for command, arguments in (
            ("guard", ("guard", "odd.json", "net.safetensors")),
            ("repair --scanned", ("repair", "net.safetensors", "--scanned", "odd.json")),
            ("scan --reference", ("scan", "net.safetensors", "--reference", "odd.json")),
        )
    },
    "a student's notebook": {
        "a gigabyte": Hostile(inside(sparse, "class/eve/00_start_here.ipynb"), _MARK, "at most", True),
        "nested": Hostile(inside(nested, "class/eve/00_start_here.ipynb"), _MARK, "expected a notebook", True),
        "an answer that takes all memory": Hostile(answer(f"bytearray({_MEMORY})"), _MARK, "more than 2 GiB", True),
        "an answer that never ends": Hostile(answer("while True: pass"), _MARK, "5 seconds", True),
        "an answer that writes": Hostile(answer("open('ran', 'w')"), _MARK, "forbidden", True),
        "an answer that starts a program": Hostile(answer("__import__('os').system('touch ran')"), _MARK, "forbidden",
                                                   True),
    },
}  # fmt: skip


def ended(process: Started) -> Started:
    """The same, once it has come to its end."""
    if process.wait(120) is None:
        killed(process)
    return process


def in_a_copy(run: Callable[[], object], home: Path) -> Started:
    """A copy of this process that did something in a home of its own."""
    return ended(forked(run, home, surroundings(home)))


def given(one: Hostile, home: Path) -> Started:
    """The command, which has ended; that for students' answers in a Python of its own, as it starts others."""

    def run() -> None:
        sys.modules["stranger"] = SimpleNamespace(make=Net)  # type: ignore[assignment]
        command(*one.arguments)

    if one.marked:
        return ended(apart(["-m", "btlib", *one.arguments], home, surroundings(home)))
    return in_a_copy(run, home)


def said_in(home: Path, one: Hostile) -> str:
    """The sentence: the last line of what it wrote, or the student's mark."""
    if one.marked and (home / "out" / "table.csv").exists():
        return (home / "out" / "table.csv").read_text(encoding="utf-8").splitlines()[-1]
    return ((home / "said").read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]


def tried(one: Hostile, home: Path, ready: Path) -> dict[str, Any]:
    """What one file did."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(ready, home)
    in_a_copy(partial(one.make, _ODD), home)  # what it takes to make is not held by this process
    process = given(one, home)
    left, said = process.outlived(), said_in(home, one)
    raw = "Traceback" in (home / "said").read_text(encoding="utf-8", errors="replace")
    checks = {
        f"status {process.status}": process.status == (0 if one.marked else 2), "a traceback": not raw,
        f"left {left}": not left, f"it says: {said[-200:]}": one.says in said,
        "its code ran": not list(home.rglob("ran")),
    }  # fmt: skip
    return {"peak_mb": process.peak_mb, "wrong": [what for what, well in checks.items() if not well]}


def run(folder: Path) -> list[dict[str, Any]]:
    """Each file, given to its command.

    Args:
        folder: to work in.

    Returns:
        for each kind: how many, what was wrong with which, and MiB above what the process held before, at most.
    """
    torch.set_num_threads(1)
    home, ready = folder / "home", folder / "ready"
    for place in (home, ready):
        shutil.rmtree(place, ignore_errors=True)
    ready.mkdir(parents=True)
    for prepare in (network, handed_in):
        if (process := in_a_copy(prepare, ready)).status != 0:
            raise RuntimeError(f"a home could not be prepared: {process.status}")
    harmless = HOSTILE["a network's file"]["empty"], Hostile(answer("pass"), _MARK, "", True)
    usual = [tried(one, home, ready)["peak_mb"] for one in harmless]
    found = []
    for kind, files in HOSTILE.items():
        each = {name: tried(one, home, ready) for name, one in files.items()}
        wrong = [f"{name}: {what}" for name, told in each.items() for what in told["wrong"]]
        most, name = max((told["peak_mb"] - usual[files[name].marked], name) for name, told in each.items())
        if most > MOST_MB:
            wrong.append(f"{name}: {most:.0f} MiB")
        found.append({"kind": kind, "files": len(files), "wrong": wrong, "most_mb": round(max(0.0, most)), "by": name})
    return found


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1])), indent=1))
