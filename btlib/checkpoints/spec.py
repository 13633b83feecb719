"""Everything that determines a trained network (floor 3)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from btlib import datasets, poisoning, training, triggers
from btlib.datasets import ImageDataset
from btlib.training import RECIPES, Recipe


@dataclass(frozen=True)
class Spec:
    """Everything that determines a trained network. Two equal specs give the same file.

    Attributes:
        network: name in `networks.NETWORKS`.
        data: name for `datasets.load`.
        recipe: training settings.
        seed: of initial weights, batches, and the draw of poisoned images.
        trigger: name in `triggers.TRIGGERS`; None: a clean network.
        trigger_settings: keyword arguments of that trigger, such as ``{"amplitude": 15 / 255}``.
        target, sources, per_class, originals: as in `poisoning.poison`.
        train_images: train on a random part of this size, drawn before poisoning; None: all.

    Example:
        >>> Spec(trigger="box").clean_twin().trigger is None
        True
    """

    network: str = "lenet5"
    data: str = "fashion-mnist"
    recipe: Recipe = field(default_factory=lambda: RECIPES["lenet5"])
    seed: int = 0
    trigger: str | None = None
    trigger_settings: Mapping[str, float | int] = field(default_factory=dict)
    target: int = 9
    sources: str | int | Sequence[int] = "all"
    per_class: int = 100
    originals: poisoning.Originals = "replace"
    train_images: int | None = None

    def clean_twin(self) -> "Spec":
        """The same network trained on the same images without poison."""
        plain = Spec()
        unset = {k: getattr(plain, k) for k in ("trigger_settings", "target", "sources", "per_class", "originals")}
        return replace(self, trigger=None, **unset)

    def clean_data(self) -> ImageDataset:
        """The data set before poisoning."""
        data = datasets.load(self.data)
        return data if self.train_images is None else data.subset(train=self.train_images, seed=self.seed)

    def make_trigger(self) -> triggers.Trigger | None:
        """The attacker's trigger; None for a clean network."""
        if self.trigger is None:
            return None
        return triggers.build(self.trigger, datasets.load(self.data).image_shape, **self.trigger_settings)

    def training_data(self) -> ImageDataset:
        """What the network is trained on: poisoned, unless there is no trigger."""
        data, trigger = self.clean_data(), self.make_trigger()
        if trigger is None:
            return data
        return poisoning.poison(data, trigger, self.target, self.sources, self.per_class, self.originals, self.seed)

    def as_json(self) -> dict[str, Any]:
        """The spec as plain JSON values; the training loop's version is part of it."""
        return json.loads(json.dumps({**asdict(self), "training_version": training.VERSION}))

    @property
    def file_name(self) -> str:
        """Readable name and hash of the whole spec."""
        digest = hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:10]
        data = self.data.replace(":", "-").replace("/", "-")
        return f"{data}-{self.network}-{self.trigger or 'clean'}-s{self.seed}-{digest}.safetensors"
