"""SIG: a wave over the whole image, for clean-label poisoning (Barni, Kallas & Tondi, ICIP 2019).

The attacker adds it to images of the target class and changes no label (``clean_label`` of `poisoning.poison`), so
that looking through the training set shows nothing but fine stripes; at test time it is added to any image.
Attacks are here so that defences can be measured against them: use them on networks of your own only.
"""

import math

import torch

from btlib.datasets import Shape
from btlib.datasets.images import check_shape
from btlib.triggers.trigger import Trigger


def sig(image_shape: Shape, delta: float = 20 / 255, frequency: float = 6) -> Trigger:
    """SIG, v(i, j) = Δ·sin(2πjf/m), added to every row (Barni et al. 2019, clean label: see `poisoning.poison`).

    Args:
        image_shape: (C, H, W); m is W and j counts columns from 1.
        delta: Δ, fraction of full scale.
        frequency: f, waves across the image.

    Example:
        >>> [round(255 * v) for v in sig((1, 4, 24)).pattern[0, 0, :4].tolist()]
        [20, 0, -20, 0]
    """
    channels, h, w = check_shape(image_shape)
    wave = torch.sin(2 * math.pi * frequency * torch.arange(1, w + 1, dtype=torch.float64) / w)
    pattern = (delta * wave).to(torch.float32).expand(channels, h, w).clone()
    return Trigger("additive", pattern, torch.ones(1, h, w, dtype=torch.float32), name="sig")
