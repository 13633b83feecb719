"""What a network says of many images."""

import torch
from torch import Tensor, nn

from btlib.datasets import as_float
from btlib.memory import enough_memory
from btlib.metrics.modes import evaluating
from btlib.networks import images_at_once, reference

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
        for batch in images.split(images_at_once(_BATCH, like.device)):
            batch = as_float(batch).to(like)  # its device and dtype
            said = ask(network, batch) if layer is None else network.features(batch, layer).flatten(1)  # type: ignore[operator]
            out.append(said.float().cpu())
    return torch.cat(out) if out else torch.zeros(0)


def ask(network: nn.Module, images: Tensor) -> Tensor:
    """What a network gives for a batch: a tensor with a row for each image, or an error that says what was wrong.

    Args:
        network: images in [0, 1] → logits; in whatever mode it is.
        images: (N, C, H, W), in the network's dtype and on its device.

    Raises:
        TypeError: it gives no tensor.
        ValueError: it can't take these images, or gives another number of rows.
        MemoryError: there is not enough for the pass.

    Example:
        >>> ask(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """
    shape = getattr(network, "image_shape", None)
    if shape is not None and tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(f"images: expected shape (N, {', '.join(map(str, shape))}) for this network, got "
                         f"{tuple(images.shape)}; resize them, or load the data set it was trained on")  # fmt: skip
    try:
        with enough_memory("a pass through the network"):
            said = network(images)
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # a network's own error, which says what it means
            raise
        raise ValueError(f"images: expected such as the network takes, got {images.dtype} {tuple(images.shape)}, of "
                         f"which it says: {str(error).splitlines()[0]}; "
                         "pass its own size and channels") from error  # fmt: skip
    if not isinstance(said, Tensor):
        raise TypeError(f"network: expected a tensor of logits, got {type(said).__name__}; "
                        "wrap it in a module that returns logits only")  # fmt: skip
    if said.ndim == 0 or len(said) != len(images):
        raise ValueError(f"network: expected logits (N, K) for {len(images)} images, got {tuple(said.shape)}; "
                         "give one row per image")  # fmt: skip
    return said


def logits_of(network: nn.Module, images: Tensor, *, least: int = 2) -> tuple[Tensor, tuple[str, ...]]:
    """What a network says of a few images, once it is seen to be a classifier, and what is odd about that, in words.

    Args:
        network: images in [0, 1] → logits (N, K); left as it was found.
        images: float (N, C, H, W) in [0, 1].
        least: the smallest K that will do.

    Raises:
        TypeError, ValueError: what it gives is no tensor (N, K).

    Example:
        >>> logits_of(nn.Sequential(nn.Flatten(), nn.Softmax(1)), torch.rand(2, 1, 1, 3))[1][0][:45]
        "the network's outputs look like probabilities"
    """
    with evaluating(network):
        logits = ask(network, images.to(reference(network)))
    expected = f"network: expected logits (N, K) with K of at least {least} for images {tuple(images.shape)}"
    mend = "wrap it in a module that returns logits only"
    if logits.ndim != 2 or logits.shape[1] < least:
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
