"""A seed is a whole number that torch takes, and what draws from it draws alone."""

import numpy as np
import pytest
import torch

from btlib.seeds import check_seed, generator


@pytest.mark.parametrize("seed", [0, 2**63 - 1, np.int32(7), np.uint64(7), torch.tensor(7)])
def test_whole_numbers_are_seeds(seed):
    assert type(check_seed(seed)) is int
    assert check_seed(seed) == int(seed)
    assert generator(seed).initial_seed() == int(seed)


@pytest.mark.parametrize("seed", [-1, 2**63, None, 1.0, 1.9, "1", True, [1], torch.tensor(1.0)])
def test_others_are_refused(seed):
    with pytest.raises(
        (TypeError, ValueError), match="seed: expected an integer from 0 to .*, got .*; 0 is the default"
    ):
        check_seed(seed)


def test_a_generator_leaves_torchs_random_state():
    before = torch.get_rng_state()
    torch.rand(3, generator=generator(5))
    assert torch.equal(torch.get_rng_state(), before)
