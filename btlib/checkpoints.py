"""Load a trained network, or train it once and remember it (floor 3).

A checkpoint is one safetensors file. Its header carries a card: the spec it was made from, the hash of the
data, versions, and the accuracy and success rate measured after training. One file is whole or absent, so
weights and card can't come apart; a digest over both refuses files that were changed by hand.
"""

import glob
import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from btlib import datasets, metrics, networks, poisoning, training, triggers
from btlib.datasets import ImageDataset
from btlib.files import alone, written_whole
from btlib.networks import Network
from btlib.results import environment
from btlib.training import RECIPES, Recipe

SHIPPED = Path(__file__).resolve().parents[1] / "data" / "checkpoints"


class CheckpointError(RuntimeError):
    """A checkpoint is stale, tampered with or unreadable; the message says which and what to do."""


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


@dataclass(frozen=True)
class Card:
    """What is known of a checkpoint.

    Attributes:
        spec: the spec as JSON values.
        data_hash: fingerprint of the clean data set.
        accuracy: on the clean test images, in [0, 1].
        success: attack success rate on the test images of the source classes, in [0, 1]; None for a clean network.
        history: per epoch, as in `training.TrainingRun`.
        made: date, ISO.
        environment: versions, device, threads, commit.
    """

    spec: Mapping[str, Any]
    data_hash: str
    accuracy: float
    success: float | None
    history: Sequence[Mapping[str, float]]
    made: str
    environment: Mapping[str, Any]


def load_or_train(spec: Spec, *, progress: bool = True, folder: str | Path | None = None) -> Network:
    """The network of a spec: from its checkpoint where there is one, else trained now and remembered.

    A training that was killed goes on from its last finished epoch. ``BTLIB_RETRAIN=1`` trains anew in any case.

    Args:
        spec: what to train.
        progress: show a progress bar while training.
        folder: where to look and write. Default: the shipped ``data/checkpoints`` is looked at first, new
            files go to ``$BTLIB_CHECKPOINTS`` or ``data/cache/checkpoints``.

    Returns:
        the network in evaluation mode on the CPU, with `.card`, a `Card`.

    Raises:
        CheckpointError: the file is of other data, was changed, or can't be read.
        ValueError: a spec that can't be built.

    Example:
        >>> round(load_or_train(Spec(trigger="box")).card.success, 1)
        1.0
    """
    path = remembered(spec, lambda path: _train_and_save(spec, path, progress), folder=folder)
    return _read(path, spec)


class Named(Protocol):
    """What has a file: `Spec`, and an attack's."""

    @property
    def file_name(self) -> str:
        """Readable name and hash."""
        ...


N = TypeVar("N", bound=Named)


def remembered(spec: Named, make: Callable[[Path], None], *, folder: str | Path | None = None) -> Path:
    """The file of a spec: where it lies, or made now; ``BTLIB_RETRAIN=1`` makes it anew in any case.

    Args:
        spec: whose file.
        make: writes it to the path that it is given; may go on from a file beside it, see `unfinished`.
        folder: where to look and write, as in `load_or_train`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     remembered(Spec(seed=12345), lambda path: path.touch(), folder=folder).exists()
        True
    """
    retrain = _retrain()
    path = find(spec, folder=folder)
    if path is None or retrain:
        path = cache_folder(folder) / spec.file_name
        with alone(path):
            if retrain:
                forget(path)
            if retrain or not path.exists():  # another process may have made it meanwhile
                make(path)
    return path


def _retrain() -> bool:
    return os.environ.get("BTLIB_RETRAIN", "0") not in ("", "0")


def find(spec: Named, *, folder: str | Path | None = None) -> Path | None:
    """The file of a spec, or None where it has not been made yet.

    Example:
        >>> find(Spec(trigger="box", seed=12345)) is None
        True
    """
    places = [Path(folder)] if folder else [SHIPPED, SHIPPED / "attacks", cache_folder(None)]
    return next((place / spec.file_name for place in places if (place / spec.file_name).exists()), None)


def seconds_spent(spec: Named) -> float:
    """Seconds of the epochs that a network or an attack has on disk, finished or not, and need not be spent again.

    0 where there are none, or none that can be read: who loads them says what is wrong.

    Example:
        >>> seconds_spent(Spec(trigger="box")) > 1, seconds_spent(Spec(trigger="box", seed=12345))
        (True, 0.0)
    """
    path, history = None if _retrain() else find(spec), []
    with suppress(Exception):
        if path is not None:
            with safe_open(str(path), framework="pt") as file:
                history = json.loads(file.metadata()["card"])["history"]
        elif not _retrain():
            part = unfinished(cache_folder(None) / spec.file_name)
            history = torch.load(part, map_location="cpu", weights_only=True)["history"]
    return float(sum(epoch["seconds"] for epoch in history))


def read_card(path: str | Path) -> Card:
    """The card in a checkpoint's header, without loading its weights.

    Raises:
        CheckpointError: not a checkpoint of btlib.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return Card(**json.loads((file.metadata() or {})["card"]))
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise refusal(Path(path), f"it is not a whole checkpoint of btlib ({error})") from error


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where new files go: `folder`, else ``$BTLIB_CHECKPOINTS``, else ``data/cache/checkpoints``.

    Example:
        >>> cache_folder("here").name
        'here'
    """
    if folder:
        return Path(folder)
    named = os.environ.get("BTLIB_CHECKPOINTS")
    return Path(named).expanduser() if named else SHIPPED.parent / "cache" / "checkpoints"


def refusal(path: Path, what: str) -> CheckpointError:
    """The error that refuses a file: which one, why, and what to do.

    Example:
        >>> str(refusal(Path("net.safetensors"), "it is stale"))[:28]
        'net.safetensors: it is stale'
    """
    return CheckpointError(f"{path}: {what}, so it is not used. Delete it, or set BTLIB_RETRAIN=1 to train it anew "
                           "(shipped files come back with `git checkout -- data/checkpoints`).")  # fmt: skip


def _read(path: Path, spec: Spec) -> Network:
    card = read_card(path)
    with safe_open(str(path), framework="pt") as file:
        digest = file.metadata().get("digest", "none")
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if digest != content_digest(_header(card), weights):
        raise refusal(path, "its contents do not match its digest: it was changed after it was written")
    if card.spec != spec.as_json():
        raise refusal(path, "it was made from another spec than its name says")
    data = datasets.load(spec.data)
    if card.data_hash != data.fingerprint:
        raise refusal(path, f"it is stale: it was trained on other {spec.data} images than those found now")
    # a seed: the first weights do not matter, but without one they come from the caller's random state
    network = networks.build(spec.network, image_shape=data.image_shape, num_classes=data.num_classes, seed=0)
    network.load_state_dict(weights)
    network.card = card
    return network.eval()


def _train_and_save(spec: Spec, path: Path, progress: bool) -> None:
    data = spec.training_data()
    network = networks.build(spec.network, spec.clean_data(), seed=spec.seed)
    run = training.fit(network, data, spec.recipe, seed=spec.seed, progress=progress, resume=unfinished(path))
    network.cpu()
    trigger = spec.make_trigger()
    success = None
    if trigger is not None:
        success = metrics.attack_success_rate(network, trigger, data.x_test, data.y_test, spec.target, spec.sources)
    accuracy = metrics.accuracy(network, data.x_test, data.y_test)
    card = Card(spec.as_json(), datasets.load(spec.data).fingerprint, accuracy, success,
                [dict(epoch) for epoch in run.history], date.today().isoformat(), environment())  # fmt: skip
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with written_whole(path) as part:
        digest = content_digest(_header(card), weights)
        save_file(weights, part, metadata={"card": json.dumps(asdict(card)), "digest": digest})
    forget(path)


def unfinished(path: Path) -> Path:
    """Where the making of a file keeps its last finished epoch.

    Example:
        >>> unfinished(Path("net.safetensors")).name
        'net.unfinished'
    """
    return path.with_suffix(".unfinished")


def forget(path: Path) -> None:
    """Remove what an unfinished making of a file left beside it.

    Example:
        >>> forget(Path("no-such-file.safetensors"))
    """
    for left in path.parent.glob(glob.escape(unfinished(path).name) + "*"):
        left.unlink(missing_ok=True)


def _header(card: Card) -> str:
    """What is digested of a card; its keys are sorted, because files may have them in any order."""
    return json.dumps(asdict(card), sort_keys=True)


def content_digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over a file's header and its tensors, so that neither can be changed or exchanged alone.

    Args:
        header: any text.
        tensors: by name, on the CPU; their order does not matter.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> import torch
        >>> content_digest("a", {"w": torch.zeros(2)}) == content_digest("a", {"w": torch.zeros(2).int()})
        False
    """
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------- shipped networks


@lru_cache(maxsize=1)
def shipped() -> dict[str, Spec]:
    """The networks in ``data/checkpoints``, by the name that the lessons use.

    Example:
        >>> shipped()["box"].trigger
        'box'
    """
    box = Spec(trigger="box")
    specs = {"box": box, "clean": box.clean_twin()}
    for seed in (1, 2):
        specs |= {f"box-{seed}": replace(box, seed=seed), f"clean-{seed}": replace(box.clean_twin(), seed=seed)}
    chessboard = Spec(trigger="chessboard", trigger_settings={"amplitude": 15 / 255})
    specs["chessboard"] = chessboard
    specs["one-source"] = replace(chessboard, sources=(0,), per_class=900)
    specs["box-one-source"] = replace(box, sources=(0,), per_class=900)
    local = Spec(trigger="local_chessboard", trigger_settings={"amplitude": 80 / 255})
    specs["three-sources"] = replace(local, sources=(0, 3, 6), per_class=300)
    return specs


def make_shipped(*, progress: bool = True, force: bool = False) -> list[Path]:
    """Train every shipped network that is missing (all of them with `force`) into ``data/checkpoints``.

    Returns:
        the files, in the order of `shipped`.
    """
    return make_files(
        shipped().values(), SHIPPED, lambda spec, path: _train_and_save(spec, path, progress), _read,
        title="shipped networks", progress=progress, force=force,
    )  # fmt: skip


def make_files(
    specs: Collection[N], folder: Path, make: Callable[[N, Path], object], read: Callable[[Path, N], object], *,
    title: str, progress: bool, force: bool,
) -> list[Path]:  # fmt: skip
    """Have the files of these specs in a folder, and no others.

    Args:
        specs: whose files.
        folder: where.
        make: writes the file of a spec; called where there is none, and with `force` for all, from the beginning.
        read: refuses a file that is not whole.
        title, progress: of the bar, and whether to show it.
        force: make them all again.

    Returns:
        the files, in the order of the specs.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = make_files([Spec()], Path(folder), lambda spec, path: path.touch(), lambda path, spec: None,
        ...                        title="", progress=False, force=False)
        ...     [path.exists() for path in files]
        [True]
    """
    files = []
    for spec in tqdm(specs, title, disable=not progress, unit="file"):
        path = folder / spec.file_name
        if force:
            forget(path)
        if force or not path.exists():
            make(spec, path)
        read(path, spec)
        files.append(path)
    for stale in set(folder.glob("*.safetensors")) - set(files):
        stale.unlink()
    return files
