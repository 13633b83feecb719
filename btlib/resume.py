"""The resume file of a training: its last finished epoch, whole or absent (floor 1)."""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from btlib.datasets import ImageDataset
from btlib.files import written_whole

History = list[dict[str, float]]
_SMALL = 16 * 10**6
#: What can be kept: what has a state, dicts of tensors, and tensors, which are filled in place.
Part = nn.Module | torch.optim.Optimizer | MutableMapping[str, Tensor] | Tensor


class ResumeFile:
    """Keeps the state of a training between epochs, the random state included, and gives it back.

    Args:
        path: the file; None: nothing is kept.
        recipe: the settings, a dataclass.
        seed: of the training.
        data: what it trains on.
        start: the network before it, whose weights count. A file is of recipe, seed, data and start; another one is
            refused.
        device: whose random state is kept beside the CPU's.
        version: of the code that trains.
        every: seconds between two writes of a state of more than 16 MB, see `due`.

    Example:
        >>> import tempfile
        >>> net = nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = ResumeFile(f"{folder}/state", seed=3, start=net)
        ...     file.save([{"epoch": 1}], network=net)
        ...     file.restore(network=net)
        [{'epoch': 1}]
    """

    def __init__(
        self, path: str | Path | None, *, recipe: Any = None, seed: int = 0, data: ImageDataset | None = None,
        start: nn.Module | None = None, device: torch.device | None = None, version: int = 1,
        every: float = 60.0,
    ) -> None:  # fmt: skip
        self.path = None if path is None else Path(path)
        self.device = device or torch.device("cpu")
        self.every, self._written, self._bytes = every, 0.0, 0
        self.identity = ""
        if self.path is not None:  # hashing takes its time
            self.identity = json.dumps({
                "recipe": recipe and asdict(recipe), "seed": seed, "version": version,
                "data": data and data.fingerprint, "start": start and _digest(start.state_dict()),
            })  # fmt: skip

    def due(self) -> bool:
        """Whether to write now: a small state always is, a large one when `every` seconds of work would be lost.

        A ResNet-18 with Adam's moments has 134 MB; on a GPU an epoch may take less time than writing them does.
        """
        return self._bytes <= _SMALL or time.monotonic() - self._written >= self.every

    def save(self, history: History, **parts: Part) -> None:
        """Replace the file by the state of now."""
        if self.path is None:
            return
        state: dict[str, Any] = {name: _state(part) for name, part in parts.items()}
        state |= {"identity": self.identity, "history": history, "random": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        content = io.BytesIO()
        torch.save(state, content)  # into a file, it would say of a full disk: "unexpected pos"
        with written_whole(self.path) as part:
            part.write_bytes(content.getbuffer())
        self._written, self._bytes = time.monotonic(), self.path.stat().st_size

    def restore(self, **parts: Part) -> History:
        """Put the parts and torch's random state where the file has them; the epochs that are done, [] without a file.

        Raises:
            ValueError: a file of another recipe, seed, data set or starting network, or no whole resume file.
        """
        if self.path is None or not self.path.exists():
            return []
        with self._readable():
            with zipfile.ZipFile(self.path) as whole:
                if (changed := whole.testzip()) is not None:  # torch reads on over a changed byte
                    raise ValueError(f"{changed} does not fit its checksum")
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            identity = state["identity"]
        if identity != self.identity:
            raise ValueError("resume: expected a state of this recipe, seed, data set and starting network, got "
                             f"another in {self.path}; delete the file or choose another")  # fmt: skip
        with self._readable():
            for name, part in parts.items():
                _fill(part, state[name])
            torch.set_rng_state(state["random"])
            if "cuda" in state and self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda"], self.device)
            return list(state["history"])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # a folder, or a file that may not be read
            raise
        except Exception as error:  # whatever a damaged file makes torch, zipfile or pickle say
            raise ValueError("resume: expected the state of a training, got an empty, damaged or foreign file in "
                             f"{self.path} ({type(error).__name__}); delete it to begin anew") from error  # fmt: skip


def _state(part: Part) -> Any:
    if isinstance(part, Tensor):
        return part
    return dict(part) if isinstance(part, MutableMapping) else part.state_dict()


def _fill(part: Part, kept: Any) -> None:
    if isinstance(part, Tensor):
        part.copy_(kept)
    elif isinstance(part, MutableMapping):
        part.update({key: value.to(part[key].device) for key, value in kept.items()})
    else:
        part.load_state_dict(kept)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
