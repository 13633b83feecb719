"""Everything that determines a trained network (floor 3)."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import index
from typing import Any

from btlib import poisoning, training, triggers
from btlib.datasets import DataSource, ImageDataset
from btlib.training import RECIPES, Recipe


@dataclass(frozen=True)
class Spec:
    """Everything that determines a trained network. Two equal specs give the same file.

    Attributes:
        network: name in `networks.NETWORKS`.
        data: a name, a `DataSource` or images, as `DataSource.of` takes them; kept as a `DataSource`.
        recipe: training settings.
        seed: of initial weights, batches, and the draw of poisoned images.
        trigger: name in `triggers.TRIGGERS`; None: a clean network.
        trigger_settings: keyword arguments of that trigger, such as ``{"amplitude": 15 / 255}``.
        target, sources, per_class, originals: as in `poisoning.poison`; one source class is kept as a tuple of one.
        train_images: train on a random part of this size, drawn before poisoning; None: all.
        covers, clean_label: as in `poisoning.poison`.

    Example:
        >>> Spec(trigger="box").clean_twin().trigger is None
        True
    """

    network: str = "lenet5"
    data: str | DataSource | ImageDataset = "fashion-mnist"
    recipe: Recipe = field(default_factory=lambda: RECIPES["lenet5"])
    seed: int = 0
    trigger: str | None = None
    trigger_settings: Mapping[str, float | int] = field(default_factory=dict)
    target: int = 9
    sources: str | int | Sequence[int] = "all"
    per_class: int = 100
    originals: poisoning.Originals = "replace"
    train_images: int | None = None
    covers: int = 0
    clean_label: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", DataSource.of(self.data))
        object.__setattr__(self, "trigger_settings", dict(self.trigger_settings))
        object.__setattr__(self, "target", index(self.target))
        if not isinstance(self.sources, str):
            several = self.sources if isinstance(self.sources, Iterable) else [self.sources]
            object.__setattr__(self, "sources", tuple(sorted({index(c) for c in several})))

    def __hash__(self) -> int:
        values = {**vars(self), "trigger_settings": frozenset(self.trigger_settings.items())}
        return hash(tuple(values.values()))

    @property
    def source(self) -> DataSource:
        """What loads its images: `data`."""
        return DataSource.of(self.data)

    def clean_twin(self) -> "Spec":
        """The same network trained on the same images without poison."""
        plain = Spec()
        attack = ("trigger_settings", "target", "sources", "per_class", "originals", "covers", "clean_label")
        return replace(self, trigger=None, **{name: getattr(plain, name) for name in attack})

    def clean_data(self) -> ImageDataset:
        """The data set before poisoning."""
        data = self.source.load()
        return data if self.train_images is None else data.subset(train=self.train_images, seed=self.seed)

    def make_trigger(self) -> triggers.AnyTrigger | None:
        """The attacker's trigger; None for a clean network."""
        if self.trigger is None:
            return None
        return triggers.build(self.trigger, self.source.image_shape, **self.trigger_settings)

    def training_data(self) -> ImageDataset:
        """What the network is trained on: poisoned, unless there is no trigger."""
        data, trigger = self.clean_data(), self.make_trigger()
        if trigger is None:
            return data
        return poisoning.poison(
            data, trigger, self.target, self.sources, per_class=self.per_class, originals=self.originals,
            covers=self.covers, clean_label=self.clean_label, seed=self.seed,
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The spec as plain JSON values; the training loop's version is part of it.

        Covers and clean labels are told only where there are some, so older files keep their names.
        """
        values = {k: v for k, v in vars(self).items() if v or k not in ("covers", "clean_label")}
        told = {**values, "data": self.source.as_json(), "recipe": asdict(self.recipe)}
        return json.loads(json.dumps({**told, "training_version": training.VERSION}))

    @property
    def file_name(self) -> str:
        """Readable name and hash of the whole spec."""
        digest = hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.source.label}-{self.network}-{self.trigger or 'clean'}-s{self.seed}-{digest}.safetensors"
