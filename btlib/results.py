"""Results on disk: one JSON per measurement, with what it takes to believe it (floor 1)."""

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from btlib.files import written_whole

REPOSITORY = Path(__file__).resolve().parents[1]


def environment() -> dict[str, Any]:
    """Commit, versions, device and threads of this process, for a result's JSON.

    Example:
        >>> sorted(environment())
        ['commit', 'device', 'threads', 'versions']
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "scipy")
    return {
        "commit": _commit(),
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def save(path: str | Path, result: Mapping[str, Any]) -> Path:
    """Write a result as JSON, whole or not at all. A relative path is taken below the repository.

    Raises:
        TypeError: something in the result is not JSON.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/a.json", {"x": 1}).name
        'a.json'
    """
    text = json.dumps(result, indent=2, sort_keys=True)
    whole = REPOSITORY / path  # an absolute path stays as it is
    with written_whole(whole) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return whole


def load(path: str | Path) -> dict[str, Any]:
    """A saved result; empty where nothing was measured yet, so that a benchmark can go on where it stopped.

    Args:
        path: as in `save`.

    Raises:
        ValueError: the file is not JSON.

    Example:
        >>> load("results/never-measured.json").get("rows", {})
        {}
    """
    whole = REPOSITORY / path
    return json.loads(whole.read_text(encoding="utf-8")) if whole.exists() else {}


def _commit() -> str:
    """The commit the code comes from, with "+changes" where the tree differs from it; "unknown" without git."""
    try:
        described = subprocess.run(["git", "describe", "--always", "--abbrev=12", "--dirty=+changes"], cwd=REPOSITORY,
                                   capture_output=True, text=True, check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
