"""The resume file of a training: its last finished epoch, whole or absent (floor 1)."""

import json
from collections.abc import MutableMapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from btlib.datasets import ImageDataset
from btlib.files import written_whole

History = list[dict[str, float]]
#: What can be kept: what has a state, and dicts of tensors.
Part = nn.Module | torch.optim.Optimizer | MutableMapping[str, Tensor]


class ResumeFile:
    """Keeps the state of a training after every epoch, the random state included, and gives it back.

    Args:
        path: the file; None: nothing is kept.
        recipe: the settings, a dataclass.
        seed: of the training.
        data: what it trains on. Recipe, seed and data are what a file is of; another one is refused.
        device: whose random state is kept beside the CPU's.
        version: of the code that trains.

    Example:
        >>> import tempfile
        >>> from btlib.datasets import load
        >>> from btlib.training import Recipe
        >>> data, net = load("fashion-mnist").subset(train=10), nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = ResumeFile(f"{folder}/state", Recipe(epochs=2), 0, data)
        ...     file.save([{"epoch": 1}], network=net)
        ...     file.restore(network=net)
        [{'epoch': 1}]
    """

    def __init__(
        self, path: str | Path | None, recipe: Any, seed: int, data: ImageDataset,
        device: torch.device | None = None, version: int = 1,
    ) -> None:  # fmt: skip
        self.path = None if path is None else Path(path)
        self.device = device or torch.device("cpu")
        self.identity = json.dumps({"recipe": asdict(recipe), "seed": seed, "version": version,
                                    "data": data.fingerprint if path else ""})  # fmt: skip

    def save(self, history: History, **parts: Part) -> None:
        """Replace the file by the state of now."""
        if self.path is None:
            return
        state: dict[str, Any] = {name: _state(part) for name, part in parts.items()}
        state |= {"identity": self.identity, "history": history, "random": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        with written_whole(self.path) as part:
            torch.save(state, part)

    def restore(self, **parts: Part) -> History:
        """Put the parts and torch's random state where the file has them; the epochs that are done, [] without a file.

        Raises:
            ValueError: a file of another recipe, seed or data set.
        """
        if self.path is None or not self.path.exists():
            return []
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["identity"] != self.identity:
            raise ValueError(f"resume: expected a state of this recipe, seed and data set, got another in {self.path}; "
                             "delete the file or choose another")  # fmt: skip
        for name, part in parts.items():
            if isinstance(part, MutableMapping):
                part.update({key: value.to(part[key].device) for key, value in state[name].items()})
            else:
                part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        return list(state["history"])


def _state(part: Part) -> Any:
    return dict(part) if isinstance(part, MutableMapping) else part.state_dict()
