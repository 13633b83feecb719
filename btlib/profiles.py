"""What `fast`, `full` and `paper` mean, in one table (floor 0)."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """How much work a lesson does.

    Attributes:
        name: fast, full or paper.
        where: the machine it is made for.
        data: data set of the lesson's own experiments.
        network: its classifier.
        recipe: name of its training recipe in `btlib.training.RECIPES`.
        train_images: training images used when a lesson trains a network while you watch; None: all.
        repeats: seeds per experiment.
    """

    name: str
    where: str
    data: str
    network: str
    recipe: str
    train_images: int | None
    repeats: int


PROFILES = {
    p.name: p
    for p in (
        Profile("fast", "a laptop with two cores, no network", "fashion-mnist", "lenet5", "lenet5-quick", 20_000, 1),
        Profile("full", "the same machine, patient, or any GPU", "fashion-mnist", "lenet5", "lenet5", None, 3),
        Profile("paper", "a GPU, with the papers' data sets", "cifar10", "resnet18", "in-flight-cifar10", None, 3),
    )
}


def profile(name: str | None = None) -> Profile:
    """The profile of that name, or the one named by ``$BTLIB_PROFILE``, or ``fast``.

    Raises:
        ValueError: unknown name.

    Example:
        >>> profile("fast").network
        'lenet5'
    """
    name = name or os.environ.get("BTLIB_PROFILE") or "fast"
    if name not in PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, got {name!r}; set BTLIB_PROFILE or PROFILE")
    return PROFILES[name]
