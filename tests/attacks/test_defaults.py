"""Settings as the papers and docs/choices.md have them."""

from dataclasses import replace

import torch

from btlib.attacks import GeneratedTrigger
from btlib.attacks.input_aware import ORIGINAL, InputAwareRecipe
from btlib.attacks.invisible import InvisibleRecipe
from btlib.attacks.stealthy import COURSE, QUICK, StealthyRecipe
from btlib.datasets import ImageDataset
from btlib.networks.generator import Generator


def test_the_stealthy_attack_as_printed() -> None:
    """Stealthy attack 2.3 and 3: rates, ε, λ1 … λ4, class 8; hiding from the first epoch on, with one kept mask."""
    paper = StealthyRecipe()
    assert (paper.target, paper.epsilon, paper.lambdas) == (8, 0.01, (1.0, 1.0, 0.1, 1.0))
    assert (paper.lr_network, paper.lr_generator, paper.decay) == (1e-4, 1e-3, False)
    assert (paper.adversarial, paper.hide_from, paper.restart, paper.inversion_steps) == (True, 1, 0, 2)
    assert (paper.train_images, paper.until, paper.watch_mask) == (None, None, False)


def test_the_shorter_stealthy_attacks() -> None:
    """docs/choices.md, "The stealthy attack"."""
    quick = StealthyRecipe(epochs=6, batch_size=32, train_images=20_000, lr_network=1e-3, lr_generator=1e-3, decay=True)
    assert quick == QUICK
    course = replace(quick, epsilon=0.02, epochs=10, hide_from=7, inversion_lr=0.2, restart=100, watch_mask=True)
    assert course == COURSE


def test_the_input_aware_attack_as_printed_and_for_two_cores() -> None:
    """docs/choices.md, "The stealthy attack's baselines": rates fall tenfold after these epochs."""
    short = InputAwareRecipe()
    assert (short.mask_epochs, short.epochs, short.scratch) == (1, 6, False)
    assert (short.mask_drops, short.network_drops, short.generator_drops) == ((), (5,), (4,))
    assert (short.density, short.mask_norm, short.diversity, short.batch_size) == (0.032, 100.0, 1.0, 128)
    assert (ORIGINAL.mask_epochs, ORIGINAL.epochs, ORIGINAL.scratch, ORIGINAL.mask_norm) == (25, 600, True, 50.0)
    assert ORIGINAL.mask_drops == (10, 20)
    assert ORIGINAL.network_drops == (100, 200, 300, 400)
    assert ORIGINAL.generator_drops == (200, 300, 400, 500)


def test_the_invisible_attack() -> None:
    """docs/choices.md: 30 dB, the 8 strongest neurons at twice what the target does, 600 images of each class."""
    recipe = InvisibleRecipe()
    assert (recipe.psnr, recipe.anchors, recipe.scale, recipe.per_class) == (30.0, 8, 2.0, 600)
    assert (recipe.training.epochs, recipe.training.lr) == (5, 2e-3)


def test_without_a_seed_a_trigger_is_seed_0s(data: ImageDataset) -> None:
    x = data.x_test[:2].float() / 255
    trigger = StealthyRecipe().fresh_trigger(data.image_shape)
    assert isinstance(trigger, GeneratedTrigger)
    assert torch.equal(trigger.patterns(x), Generator(data.image_shape[0], seed=0).eval()(x).detach())
