"""A network whose weights are set by hand, and images for it: the truth by construction."""

import torch
from torch import Tensor, nn

from btlib.networks.layers import Network, Normalize, sequential
from btlib.seeds import generator

TARGET = 2


def hand_set(backdoor: float, *, num_classes: int = 3, size: int = 8, target: int = TARGET) -> Network:
    """Class k is "pixel (0, k) is lit"; the last pixel adds `backdoor` to the target's logit.

    With 10 the trigger pixel always wins (a lit pixel is worth 1); with 0 it is the clean twin. The dropout in it
    tells whether someone asks it in training mode.

    Args:
        backdoor: what the lit last pixel is worth.
        num_classes: K, at most `size`.
        size: of the grey images.
        target: t.
    """
    with torch.random.fork_rng(devices=[]):
        head = nn.Linear(size * size, num_classes, bias=False)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[range(num_classes), range(num_classes)] = 1.0
        head.weight[target, -1] = backdoor
    body = sequential(flatten=nn.Flatten(), dropout=nn.Dropout(0.5))
    return Network(body, head, Normalize(torch.zeros(1), torch.ones(1)), (1, size, size), {}).eval()


def attacked(*, target: int = TARGET) -> Network:
    """`hand_set(10)` for in-flight detectors: with a layer to look into, and classes that brightness changes.

    A layer of neurons, one for each pixel, stands before the last one. The second and third row speak for the class
    after the target: faintly as long as there is nothing but noise in them, and loudly when that is brightened.

    Args:
        target: t.

    Example:
        >>> images, labels = lit_pixels(2)
        >>> torch.equal(attacked()(images).argmax(1), labels)
        True
    """
    network = hand_set(10, target=target)
    with torch.random.fork_rng(devices=[]):
        hidden = nn.Linear(64, 64, bias=False)
    with torch.no_grad():
        hidden.weight.copy_(torch.eye(64))
        network.head.weight[(target + 1) % 3, 8:24] = 3.0
    body = sequential(flatten=nn.Flatten(), dropout=nn.Dropout(0.5), hidden=hidden)
    return Network(body, network.head, network.normalize, network.image_shape, {}).eval()


def lit_pixels(
    per_class: int, *, num_classes: int = 3, size: int = 8, noise: int = 0, seed: int = 0
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Float images for `hand_set`: dark but for the pixel that tells the class.

    Args:
        per_class: images of each class.
        num_classes: K.
        size: of the grey images.
        noise: dark pixels have up to that many 255ths, and lit ones lack up to ten times as many.
        seed: of the noise.
    """
    draws = generator(seed)
    labels = torch.arange(num_classes).repeat(per_class)
    levels = torch.randint(0, noise + 1, (len(labels), 1, size, size), generator=draws)
    lit = 255 - 10 * torch.randint(0, noise + 1, (len(labels),), generator=draws)
    levels[range(len(labels)), 0, 0, labels] = lit
    return levels / 255, labels
