"""Results on disk: one JSON per measurement, with what it takes to believe it (floor 1)."""

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from btlib import paths
from btlib.files import write_text


def environment() -> dict[str, Any]:
    """Commit, versions, device and threads of this process, for a result's JSON.

    Example:
        >>> sorted(environment())
        ['commit', 'device', 'threads', 'versions']
    """
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "scipy")
    return {
        "commit": commit(paths.CHECKOUT),
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def save(path: str | Path, result: Mapping[str, Any]) -> Path:
    """Write a result as JSON, whole or not at all.

    Args:
        path: a relative one is below `paths.root`: the repository, or the current folder outside of one.
        result: plain JSON values.

    Raises:
        TypeError: something in the result is not JSON.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/a.json", {"x": 1}).name
        'a.json'
    """
    text = json.dumps(result, indent=2, sort_keys=True)
    return write_text(paths.root() / path, text + "\n")  # an absolute path stays as it is


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
    whole = paths.root() / path
    return json.loads(whole.read_text(encoding="utf-8")) if whole.exists() else {}


def commit(folder: Path | None) -> str:
    """The commit of a checkout, with "+changes" where the tree differs from it; "unknown" without a checkout or git.

    What was measured (``results/``) and what is written about it (``docs/``) are no changes: they decide no number.

    Example:
        >>> commit(None)
        'unknown'
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if folder is not None:
            changed = git("diff", "--name-only", "HEAD", "--", ".", ":!results", ":!docs")
            return git("describe", "--always", "--abbrev=12") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
