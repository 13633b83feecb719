"""A row as a measurement: everything that determines it, in plain values with a stable hash (floor 5)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from btlib import training
from btlib.checkpoints import Spec
from btlib.datasets import DataSource
from btlib.papers.published import PROFILES, Row, merged, row

#: Part of every hash: raised when a change to `jobs` changes what is measured.
VERSION = 1
#: Networks that a processor would train for days.
WANT_A_GPU = frozenset({"resnet18", "resnet34", "mobilenet_v2", "densenet", "vgg16"})
_OF_THE_SPEC = ("network", "data", "trigger", "trigger_settings", "target", "sources", "per_class", "originals",
                "train_images")  # fmt: skip
_NOT_MEASURED = ("differs", "skip", "kind", "random_place", "training")


@dataclass(frozen=True)
class Measurement:
    """One measurement: same measurement, same numbers (on one CPU, with the same number of threads).

    Attributes:
        kind: what to do: a name in `jobs.KINDS`, or your own function as ``"module:function"``.
        settings: its settings, JSON values only; ``"spec"`` says which network (`spec`).
        seed: of everything random.

    Raises:
        TypeError: settings that are not JSON.

    Example:
        >>> Measurement("detection", {"layers": (1, 2)}).digest == Measurement("detection", {"layers": [1, 2]}).digest
        True
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        # Through JSON and back: tuples become lists and keys strings, so that equal measurements have equal hashes.
        object.__setattr__(self, "settings", json.loads(json.dumps(dict(self.settings), allow_nan=False)))

    def as_json(self) -> dict[str, Any]:
        """Plain values; `Measurement(**values)` is the measurement again."""
        return {"kind": self.kind, "settings": dict(self.settings), "seed": self.seed}

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits of the SHA-256 of all of it, and of the versions of training and measuring."""
        whole = {**self.as_json(), "version": VERSION, "training_version": training.VERSION}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def spec(self) -> Spec:
        """The network, as `checkpoints.load_or_train` wants it.

        Raises:
            ValueError: a measurement without a network.
        """
        if "spec" not in self.settings:
            raise ValueError(f"settings: expected 'spec' for kind {self.kind}, got {list(self.settings)}; "
                             "take that of a papers.plan, or add with_network(…)")  # fmt: skip
        told = self.settings["spec"]
        return Spec(**{**told, "recipe": training.Recipe(**told["recipe"])}, seed=self.seed)

    @property
    def wants_gpu(self) -> bool:
        """Whether its network is one that a processor would train for days."""
        return self.settings.get("spec", {}).get("network") in WANT_A_GPU

    @property
    def data(self) -> DataSource | None:
        """Its data set; None for a kind of one's own."""
        return DataSource.of(self.settings["spec"]["data"]) if "spec" in self.settings else None


def with_network(spec: Spec, **settings: Any) -> dict[str, Any]:
    """Settings of a measurement on this network; the measurement's seed replaces the spec's.

    Example:
        >>> Measurement("inflight", with_network(Spec(trigger="box"), layers=0)).spec.file_name == Spec(
        ...     trigger="box").file_name
        True
    """
    told = {key: value for key, value in spec.as_json().items() if key not in ("seed", "training_version")}
    return {"spec": told, **settings}


@dataclass(frozen=True)
class Plan:
    """How a row is run in a profile.

    Attributes:
        measurement: what is measured.
        home: key of the row in whose name the result is kept; several tables may show one job's numbers.
        differs: what is not as in the paper, in words; empty: nothing.
    """

    measurement: Measurement
    home: str
    differs: str


def plan(key: str | Row, profile: str = "full", seed: int = 0) -> Plan | str:
    """The measurement of a row in a profile, or why there is none.

    Args:
        key: the row or its key, such as ``inflight-4/mnist-cb``.
        profile: ``paper``: the paper's data, network and settings; ``full``: what two cores can do; ``fast``:
            the embedded data and shipped networks; ``minutes``: the paper's network on a GPU, with a short recipe.
        seed: of everything random.

    Raises:
        ValueError: unknown row or profile.

    Example:
        >>> plan("inflight-4/fmnist-wb").measurement.spec.trigger
        'box'
        >>> plan("inflight-4/mnist-wb", "fast")
        'MNIST is not embedded'
    """
    if profile not in PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, got {profile!r}; check the spelling")
    found = key if isinstance(key, Row) else row(key)
    home = found if found.job == found.key else row(found.job)
    settings = merged(home.settings["paper"], home.settings.get(profile, {}) if profile != "paper" else {})
    if profile == "minutes":
        settings |= _in_minutes(settings)
    if "skip" in settings:
        return str(settings["skip"])
    measurement = Measurement(settings["kind"], _settings(settings, seed), seed)
    return Plan(measurement, home.key, settings.get("differs", ""))


def _in_minutes(paper: Mapping[str, Any]) -> dict[str, Any]:
    """What is changed so that a GPU needs minutes where the paper's recipe takes it hours, and that in words."""
    changed: dict[str, Any] = {}
    differs = []
    if paper.get("network") in WANT_A_GPU and "training" in paper:
        changed["training"] = "minutes"
        epochs = training.RECIPES["minutes"].epochs
        differs.append(f"{epochs} epochs of 512 images with one cycle instead of the paper's recipe")
    if paper.get("data") == "cifar10":
        changed["data"] = "folder:cifar10-jpg"
        differs.append("CIFAR-10 from JPEG")
    if paper.get("search") == "faithful":
        changed["search"] = "fast"
        differs.append("the fast search")
    return {**changed, "differs": "; ".join(differs)}


def _settings(told: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The merged layers of a row as settings: names looked up, fractions worked out, places drawn."""
    spec: dict[str, Any] = {k: told[k] for k in _OF_THE_SPEC if k in told and k != "trigger_settings"}
    named = told["training"]
    spec["recipe"] = training.RECIPES[named] if isinstance(named, str) else training.Recipe(**named)
    if "trigger" in told:
        place = {"seed": seed} if told.get("random_place") else {}
        spec["trigger_settings"] = {k: _number(v) for k, v in told.get("trigger_settings", {}).items()} | place
    else:  # of a clean network these say nothing, and would give it another name
        for unused in ("target", "sources", "per_class", "originals"):
            spec.pop(unused, None)
    rest = {k: v for k, v in told.items() if k not in (*_OF_THE_SPEC, *_NOT_MEASURED)}
    target = {"target": told["target"]} if "attack" in told else {}
    return with_network(Spec(**spec, seed=seed), **rest, **target)


def _number(value: float | str) -> float:
    """``"15/255"`` → 15 / 255; numbers as they are."""
    return float(Fraction(value)) if isinstance(value, str) else value
