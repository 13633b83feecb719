"""What `fast`, `full` and `paper` mean, in one table (floor 0)."""

import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path


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

    @property
    def shipped(self) -> bool:
        """Whether the course has trained networks for it, on which its claims were measured."""
        return (self.data, self.network) == ("fashion-mnist", "lenet5")


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

    A name that ends with ``.toml`` is a file with a profile of your own (docs/instructor.md, "Another story").

    Raises:
        ValueError: unknown name; a file that can't be read, or lacks something.

    Example:
        >>> profile("fast").network
        'lenet5'
    """
    name = name or os.environ.get("BTLIB_PROFILE") or "fast"
    if name.endswith(".toml"):
        return _read(Path(name).expanduser().absolute())
    if name not in PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, got {name!r}; set BTLIB_PROFILE or PROFILE")
    return PROFILES[name]


def _read(path: Path) -> Profile:
    try:
        found = {"train_images": None, "repeats": 1, **tomllib.loads(path.read_text(encoding="utf-8"))}
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"profile: expected a TOML file, got {path} ({error}); see docs/instructor.md") from error
    wanted = {field.name for field in fields(Profile)} - {"name"}
    if set(found) != wanted:
        raise ValueError(f"{path}: expected {', '.join(sorted(wanted))}, got {', '.join(sorted(found))}; "
                         "see docs/instructor.md")  # fmt: skip
    return Profile(name=str(path), **found)
