"""What all attacks have in common."""

import copy
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
import torch

from btlib import attacks
from btlib.attacks import AttackRecipe
from btlib.attacks.input_aware import InputAwareRecipe
from btlib.attacks.invisible import InvisibleRecipe
from btlib.attacks.outcome import trained_tensors
from btlib.attacks.stealthy import StealthyRecipe
from btlib.datasets import ImageDataset
from btlib.networks import Network
from btlib.training import Recipe
from btlib.triggers import box

STAGES = Recipe(epochs=1, batch_size=64)
RECIPES: dict[str, AttackRecipe] = {
    "stealthy": StealthyRecipe(target=2, epochs=1, watch=60, adversarial=False),
    "input_aware": InputAwareRecipe(target=2, mask_epochs=1, epochs=1, watch=60),
    "invisible": InvisibleRecipe(target=2, steps=2, per_class=20, training=STAGES, watch=60),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_state_of_another_starting_network_is_refused(
    tmp_path: Path, data: ImageDataset, clean: Network, name: str
) -> None:
    other = copy.deepcopy(clean)
    with torch.no_grad():
        other.head.bias += 1
    settings = {"progress": False, "device": "cpu", "resume": tmp_path / "state"}
    first = attacks.run(data, RECIPES[name], network=clean, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"starting network, got another in {tmp_path / 'state'}"):
        attacks.run(data, RECIPES[name], network=other, **settings)  # type: ignore[arg-type]
    again = attacks.run(data, RECIPES[name], network=clean, **settings)  # type: ignore[arg-type]
    assert repr(again.history) == repr(first.history)  # a NaN is not equal to itself
    ours, theirs = again.network.state_dict(), first.network.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize("name", RECIPES)
def test_every_attack_says_the_same_of_its_epochs(data: ImageDataset, clean: Network, name: str) -> None:
    result = attacks.run(data, RECIPES[name], network=clean, progress=False)
    assert {"epoch", "loss", "bma", "asr", "cbma", "seconds"} <= set(result.history[-1])
    assert result.curve("epoch") == [1]
    assert 0 <= result.curve("cbma")[0] <= 1
    assert all(epoch["seconds"] > 0 for epoch in result.history)
    assert attacks.ATTACKS[name] is type(result.recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_the_run_of_an_attacks_module_needs_no_recipe(data: ImageDataset, clean: Network, name: str) -> None:
    module, default = getattr(attacks, name), attacks.ATTACKS[name]()
    assert signature(module.run) == signature(attacks.run)
    with pytest.raises(ValueError, match=f"target: expected a class in 0…2, got {default.target}; classes count"):
        module.run(data, network=clean)
    with pytest.raises(ValueError, match="target: .* got 7"):
        module.run(data, replace(RECIPES[name], target=7), 0, network=clean)


def test_filling_a_triggers_tensors_changes_it() -> None:
    one, other = box((1, 8, 8)), box((1, 8, 8), value=0.5)
    for name, tensor in trained_tensors(one).items():
        tensor.copy_(trained_tensors(other)[name])
    assert torch.equal(one(torch.zeros(1, 1, 8, 8)), other(torch.zeros(1, 1, 8, 8)))
