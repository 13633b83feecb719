"""What a network says of many images."""

import torch
from torch import Tensor, nn

from btlib.datasets import as_float
from btlib.metrics.modes import evaluating
from btlib.networks import reference

_BATCH = 1000


def predict(network: nn.Module, images: Tensor, *, layer: str | None = None) -> Tensor:
    """Logits of many images, in batches, on the network's own device.

    Args:
        network: images in [0, 1] → logits.
        images: float in [0, 1] or uint8, (N, C, H, W).
        layer: return `network.features(x, layer)`, flattened, instead of logits.

    Returns:
        float32 (N, K), or (N, D) features, on the CPU.

    Raises:
        TypeError, ValueError: images that are neither uint8 nor float in [0, 1], or not (N, C, H, W).

    Example:
        >>> from btlib import networks
        >>> import torch
        >>> predict(networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10), torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 10])
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:  # bytes become floats a batch at a time
        images = as_float(images)
    like = reference(network)
    out = []
    with evaluating(network):
        for batch in images.split(_BATCH):
            batch = as_float(batch).to(like)  # its device and dtype
            result = network(batch) if layer is None else network.features(batch, layer).flatten(1)  # type: ignore[operator]
            out.append(result.float().cpu())
    return torch.cat(out) if out else torch.zeros(0)


def logits_of(network: nn.Module, images: Tensor, *, least: int = 2) -> tuple[Tensor, tuple[str, ...]]:
    """What a network says of a few images, once it is seen to be a classifier, and what is odd about that, in words.

    Args:
        network: images in [0, 1] → logits (N, K); left as it was found.
        images: float (N, C, H, W) in [0, 1].
        least: the smallest K that will do.

    Raises:
        TypeError, ValueError: what it gives is no tensor (N, K).
    """
    with evaluating(network):
        logits = network(images.to(reference(network)))
    expected = f"network: expected logits (N, K) with K of at least {least} for images {tuple(images.shape)}"
    mend = "wrap it in a module that returns logits only"
    if not isinstance(logits, Tensor):
        raise TypeError(f"{expected}, got {type(logits).__name__}; {mend}")
    if logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < least:
        raise ValueError(f"{expected}, got {tuple(logits.shape)}; {mend}")
    if not probabilities(logits):
        return logits, ()
    return logits, ("the network's outputs look like probabilities (none is negative, they sum to 1), so backdoors are "
                    "missed; let it return logits, such as log(p)",)  # fmt: skip


def probabilities(outputs: Tensor) -> bool:
    """Whether a network's outputs look like probabilities: none is negative, and those of an image sum to 1.

    Args:
        outputs: (N, K).

    Example:
        >>> probabilities(torch.tensor([[0.2, 0.8]])), probabilities(torch.tensor([[2.0, 8.0]]))
        (True, False)
    """
    sums = bool((outputs >= 0).all()) and bool(((outputs.double().sum(1) - 1).abs() < 1e-3).all())
    # Ones and zeros alone are more likely a hand-made network's logits than a softmax that is certain of every image.
    return sums and not bool(((outputs == 0) | (outputs == 1)).all())
