"""Load a trained network, or train it once and remember it (floor 3).

A checkpoint is a sealed file: weights, and a card with the spec it was made from, the hash of the data, versions, and
the accuracy and success rate measured after training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from btlib import metrics, networks, sealed, training
from btlib.checkpoints.remembering import SHIPPED, check_origin, forget, make_files, refused, remembered, unfinished
from btlib.checkpoints.spec import Spec
from btlib.memory import enough_memory
from btlib.networks import Network
from btlib.results import environment

KIND = "checkpoint"


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


@enough_memory("a network")
def load_or_train(spec: Spec, *, progress: bool = False, folder: str | Path | None = None) -> Network:
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


def read_card(path: str | Path) -> Card:
    """The card in a checkpoint's header, without loading its weights.

    Raises:
        CheckpointError: not a checkpoint of btlib.
    """
    with refused(path):
        return Card(**sealed.read_card(path, KIND).card)


def _read(path: Path, spec: Spec) -> Network:
    with refused(path):
        found = sealed.read(path, KIND)
        card = Card(**found.card)
    data = spec.source
    check_origin(path, card.spec, spec.as_json(), card.data_hash, data)
    # a seed: the first weights do not matter, but without one they come from the caller's random state
    network = networks.build(spec.network, image_shape=data.image_shape, num_classes=data.num_classes, seed=0)
    network.load_state_dict(found.tensors)
    network.card = card
    return network.eval()


def _train_and_save(spec: Spec, path: Path, progress: bool) -> None:
    data = spec.training_data()
    network = networks.build(spec.network, spec.clean_data(), seed=spec.seed)
    run = training.fit(network, data, spec.recipe, seed=spec.seed, progress=progress, resume=unfinished(path))
    trigger = spec.make_trigger()
    success = None
    if trigger is not None:
        success = metrics.attack_success_rate(network, trigger, data.x_test, data.y_test, spec.target, spec.sources)
    accuracy = metrics.accuracy(network, data.x_test, data.y_test)
    card = Card(spec.as_json(), spec.source.fingerprint, accuracy, success,
                [dict(epoch) for epoch in run.history], date.today().isoformat(), environment())  # fmt: skip
    sealed.write(path, KIND, asdict(card), network.cpu().state_dict())
    forget(path)


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


def make_shipped(*, progress: bool = False, force: bool = False) -> list[Path]:
    """Train every shipped network that is missing (all of them with `force`) into ``data/checkpoints``.

    Returns:
        the files, in the order of `shipped`.
    """
    return make_files(
        shipped().values(), SHIPPED, lambda spec, path: _train_and_save(spec, path, progress), _read,
        title="shipped networks", progress=progress, force=force,
    )  # fmt: skip
