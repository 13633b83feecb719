"""Load an attack, or run it once and remember it (floor 4): what `checkpoints` is for poisoned networks.

One safetensors file holds the network, what makes the trigger, and a card with the whole history.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from torch import nn

from btlib import checkpoints, networks, sealed
from btlib.attacks import stealthy
from btlib.attacks.attack import AttackRecipe, run
from btlib.attacks.input_aware import InputAwareRecipe
from btlib.attacks.invisible import InvisibleRecipe
from btlib.attacks.outcome import AttackResult, trained_tensors
from btlib.attacks.stealthy import StealthyRecipe
from btlib.checkpoints import Spec
from btlib.registry import Registry
from btlib.results import environment
from btlib.training import RECIPES

KIND = "attack"
#: The attacks by the names that files and the papers' tables call them; another one is added here.
ATTACKS: Registry[Callable[..., AttackRecipe]] = Registry(
    {"stealthy": StealthyRecipe, "input_aware": InputAwareRecipe, "invisible": InvisibleRecipe}
)


@dataclass(frozen=True)
class AttackSpec:
    """Everything that determines an attack. Two equal specs give the same file.

    Attributes:
        recipe: the attack's settings; their type says which attack.
        start: the clean network that is attacked; its data and its seed are the attack's.

    Example:
        >>> AttackSpec(StealthyRecipe()).name
        'stealthy'
    """

    recipe: AttackRecipe
    start: Spec = field(default_factory=lambda: Spec("littlenet", recipe=RECIPES["littlenet"]))

    @property
    def name(self) -> str:
        """The attack's name in `ATTACKS`.

        Raises:
            ValueError: it has none.
        """
        for name, kind in ATTACKS.items():
            if type(self.recipe) is kind:
                return name
        own = type(self.recipe).__name__
        raise ValueError(
            f"recipe: expected one of {', '.join(ATTACKS)}, got {own}; ATTACKS.register(name, {own}) adds it"
        )

    def as_json(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        recipe = asdict(self.recipe)  # type: ignore[call-overload]
        return json.loads(json.dumps({"attack": self.name, "recipe": recipe, "start": self.start.as_json()}))

    @property
    def file_name(self) -> str:
        """Readable name and hash of the whole spec."""
        digest = hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.start.source.label}-{self.start.network}-{self.name}-s{self.start.seed}-{digest}.safetensors"


def load_or_run(
    spec: AttackSpec, *, progress: bool = False, folder: str | Path | None = None, device: str | None = None
) -> AttackResult:
    """The attack of a spec: from its file where there is one, else run now and remembered.

    A run that was killed goes on from its last finished epoch. ``BTLIB_RETRAIN=1`` runs it anew in any case.

    Args:
        spec: what to run.
        progress: show a bar.
        folder: where to look and write; default: ``data/checkpoints/attacks``, then as in `checkpoints.load_or_train`.
        device: where to run; default: the GPU when there is one, else the CPU.

    Returns:
        the `AttackResult`, on the CPU.

    Raises:
        CheckpointError: the file is of other data, was changed, or can't be read.

    Example:
        >>> import tempfile
        >>> tiny = AttackSpec(StealthyRecipe(epochs=1, train_images=128, watch=50), checkpoints.shipped()["clean"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first, again = (load_or_run(tiny, progress=False, folder=folder) for _ in range(2))
        >>> first.history == again.history
        True
    """
    path = checkpoints.remembered(spec, lambda path: _run_and_save(spec, path, progress, device), folder=folder)
    return _read(path, spec)


def shipped() -> dict[str, AttackSpec]:
    """The attacks in ``data/checkpoints/attacks``, by the name that the lessons use: Fashion-MNIST, LeNet-5, class 9.

    Example:
        >>> shipped()["stealthy"].recipe.adversarial, shipped()["stealthy-plain"].recipe.adversarial
        (True, False)
    """
    clean, course = checkpoints.shipped()["clean"], replace(stealthy.COURSE, target=9, precision="float32")
    recipes: dict[str, AttackRecipe] = {
        "stealthy": course,
        "stealthy-plain": replace(course, adversarial=False),
        "input-aware": InputAwareRecipe(target=9, precision="float32"),
        "invisible": InvisibleRecipe(target=9),
    }
    return {name: AttackSpec(recipe, clean) for name, recipe in recipes.items()}


def make_shipped(*, progress: bool = False, force: bool = False) -> list[Path]:
    """Run every shipped attack that is missing (all of them with `force`), and remove files of attacks that are not.

    Returns:
        the files, in the order of `shipped`.
    """
    return checkpoints.make_files(
        shipped().values(), checkpoints.SHIPPED / "attacks",
        lambda spec, path: _run_and_save(spec, path, progress, None), _read,
        title="shipped attacks", progress=progress, force=force,
    )  # fmt: skip


def _run_and_save(spec: AttackSpec, path: Path, progress: bool, device: str | None) -> None:
    clean = checkpoints.load_or_train(spec.start, progress=progress)
    data = spec.start.source.load()
    result = run(data, spec.recipe, spec.start.seed, network=clean, progress=progress, device=device,
                 resume=checkpoints.unfinished(path))  # fmt: skip
    tensors = {f"network.{key}": value for key, value in result.network.state_dict().items()}
    tensors |= {f"trigger.{key}": value for key, value in trained_tensors(result.trigger).items()}
    card = {
        "spec": spec.as_json(), "data_hash": data.fingerprint, "baseline": result.baseline,
        "history": [dict(epoch) for epoch in result.history], "made": date.today().isoformat(),
        "environment": environment(),
    }  # fmt: skip
    sealed.write(path, KIND, card, tensors)
    checkpoints.forget(path)


def _read(path: Path, spec: AttackSpec) -> AttackResult:
    with checkpoints.refused(path):
        found = sealed.read(path, KIND)
    card, data = found.card, spec.start.source
    checkpoints.check_origin(path, card["spec"], spec.as_json(), card["data_hash"], data)
    # a seed: the first weights do not matter, but without one they come from the caller's random state
    network = networks.build(spec.start.network, image_shape=data.image_shape, num_classes=data.num_classes, seed=0)
    network.load_state_dict(sealed.part(found.tensors, "network."))
    trigger = spec.recipe.fresh_trigger(data.image_shape)
    for name, tensor in trained_tensors(trigger).items():
        tensor.copy_(found.tensors[f"trigger.{name}"])
    for part in vars(trigger).values():
        if isinstance(part, nn.Module):
            part.eval()
    return AttackResult(network.eval(), trigger, spec.recipe.target, card["baseline"], tuple(card["history"]),
                        spec.recipe, spec.start.seed)  # fmt: skip
