"""Settings as the papers and docs/choices.md ("Repair") have them; results/repair.json was measured with these."""

import math

import pytest

from btlib.repair import REPAIRS, Repair
from btlib.repair.implicit import AS_PUBLISHED, ImplicitUnlearning


@pytest.mark.parametrize(("name", "settings"), [
    ("fine-pruning", {"max_drop": 0.04}),  # Fine-Pruning's tables: about .04
    # ANP's own ε and α; 400 steps instead of 2,000, and the largest threshold that costs no more than .03
    ("adversarial neuron pruning", {"steps": 400, "lr": 0.2, "epsilon": 0.4, "alpha": 0.2, "batch_size": 128,
                                    "max_drop": 0.03}),
    # One round, ascents of eight steps to a bound of 3, worn by 3 % of each batch, one term
    ("implicit unlearning", {"rounds": 1, "ascents": 8, "bound": 3.0, "share": 0.03, "terms": 1, "by_class": True,
                             "clip": True, "soft": True, "longest": 5.0}),
    ("activation caps", {"epochs": 30, "lr": 0.03, "weight": 1.0, "batch_size": 100, "max_drop": 0.03}),
    ("channel Lipschitzness", {"u": 3.0}),  # CLP: u = 3
])  # fmt: skip
def test_settings_are_those_that_were_measured(name: str, settings: dict[str, float]) -> None:
    repair: Repair = REPAIRS[name]()
    assert {setting: getattr(repair, setting) for setting in settings} == settings


def test_recipes_are_those_that_were_measured() -> None:
    for name in ("fine-tuning", "unlearning", "fine-pruning"):  # 20 epochs, batches of 256, SGD, peak 5·10⁻³, one cycle
        recipe = REPAIRS[name]().recipe  # type: ignore[attr-defined]
        assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.lr) == (20, 256, "sgd", 5e-3)
        assert recipe.schedule == "one_cycle"
    assert REPAIRS["unlearning"]().share == 0.05  # type: ignore[attr-defined]
    recipe = ImplicitUnlearning().recipe  # SGD, peak .01, one cycle, batches of 200
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.lr) == (20, 200, "sgd", 0.01)


def test_the_authors_form_of_i_bau_is_at_hand() -> None:
    """Their code: 5 rounds, 50 steps up to a bound of 10, δ on 1 % of each batch, K = 5; Adam at 10⁻³."""
    published = ImplicitUnlearning(rounds=5, ascents=50, bound=10.0, share=0.01, terms=5, by_class=False, clip=False,
                                   soft=False, longest=math.inf, recipe=AS_PUBLISHED.recipe)  # fmt: skip
    assert published == AS_PUBLISHED
    recipe = AS_PUBLISHED.recipe
    assert (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.epochs) == ("adam", 1e-3, 100, 1)
