"""Seeds, and what draws from them (floor 0)."""

from operator import index

import torch

_MOST = 2**63 - 1


def check_seed(seed: int) -> int:
    """A seed as a plain integer.

    Raises:
        TypeError: no integer.
        ValueError: below 0, or above what torch takes.

    Example:
        >>> check_seed(1.9)
        Traceback (most recent call last):
        ...
        TypeError: seed: expected an integer from 0 to 2^63 - 1, got 1.9; 0 is the default
    """
    said = f"seed: expected an integer from 0 to 2^63 - 1, got {seed!r}; 0 is the default"
    try:
        number = index(seed)
    except TypeError:
        raise TypeError(said) from None
    if not 0 <= number <= _MOST or isinstance(seed, bool):
        raise ValueError(said)
    return number


def generator(seed: int) -> torch.Generator:
    """A CPU generator of one's own: what it draws leaves torch's random state as it was.

    Raises:
        TypeError, ValueError: no seed.

    Example:
        >>> round(torch.rand((), generator=generator(0)).item(), 3)
        0.496
    """
    return torch.Generator().manual_seed(check_seed(seed))
