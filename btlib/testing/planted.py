"""A network whose weights are set by hand, and images for it: truth by construction (floor 3)."""

import torch
from torch import Tensor, nn

from btlib.networks.layers import Network, Normalize, sequential

TARGET = 2


def hand_set(backdoor: float, *, classes: int = 3, size: int = 8, spread: float = 0.0) -> Network:
    """Class k is "pixel (0, k) is lit"; the last pixel adds `backdoor` to the logit of class `TARGET`.

    Args:
        backdoor: with 10 the trigger pixel always wins (a lit pixel is worth about 1); with 0 it is the clean twin.
        classes: K.
        size: side of the images.
        spread: by how much the worth of a lit pixel differs between classes, as classes of trained networks differ.

    Returns:
        A network for images (1, size, size).

    Example:
        >>> x, y = lit_pixels()
        >>> attacked, clean = hand_set(10.0), hand_set(0.0)
        >>> x[:, 0, -1, -1] = 1
        >>> attacked(x).argmax(1).unique().tolist(), bool((clean(x).argmax(1) == y).all())
        ([2], True)
    """
    head = nn.Linear(size * size, classes, bias=False)
    worth = 1 + spread * ((7 * torch.arange(classes) % classes) / (classes - 1) - 0.5)  # in no order
    with torch.no_grad():
        head.weight.zero_()
        head.weight[range(classes), range(classes)] = worth
        head.weight[TARGET, -1] = backdoor
    body = sequential(flatten=nn.Flatten())
    return Network(body, head, Normalize(torch.zeros(1), torch.ones(1)), (1, size, size), {}).eval()


def lit_pixels(per_class: int = 4, *, classes: int = 3, size: int = 8) -> tuple[Tensor, Tensor]:
    """Images for `hand_set`, black but for the pixel that tells the class: float (N, 1, size, size), labels int64 (N,).

    Example:
        >>> x, y = lit_pixels(2)
        >>> x.shape, y.tolist()
        (torch.Size([6, 1, 8, 8]), [0, 1, 2, 0, 1, 2])
    """
    y = torch.arange(classes).repeat(per_class)
    x = torch.zeros(len(y), 1, size, size)
    x[range(len(y)), 0, 0, y] = 1.0
    return x, y
