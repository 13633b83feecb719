"""What is reported about an attack: accuracy, success, and how visible it is (floor 2)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from btlib.datasets import check_images, to_float
from btlib.networks import anchor
from btlib.poisoning import source_classes

_BATCH = 1000


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode without gradients, each of its modules left in the mode it was found in.

    Example:
        >>> with evaluating(nn.Linear(1, 1)) as network:
        ...     network.training
        False
    """
    with _evaluation_mode(network), torch.inference_mode():
        yield network


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode with gradients for its inputs only; modes and `requires_grad` are put back.

    Inversion differentiates with respect to images; gradients for the weights would cost a third of its time.

    Example:
        >>> with frozen(nn.Linear(1, 1)) as network:
        ...     network.weight.requires_grad
        False
    """
    wanted = {parameter: parameter.requires_grad for parameter in network.parameters()}
    with _evaluation_mode(network), torch.enable_grad():
        try:
            for parameter in wanted:
                parameter.requires_grad_(False)
            yield network
        finally:
            for parameter, mode in wanted.items():
                parameter.requires_grad_(mode)


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


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
    if images.dtype == torch.uint8:
        if images.ndim != 4:
            raise ValueError(f"images: expected shape (N, C, H, W), got {tuple(images.shape)}; use images[None]")
    else:
        check_images(images)
    place = anchor(network)
    out = []
    with evaluating(network):
        for batch in images.split(_BATCH):
            batch = (to_float(batch) if batch.dtype == torch.uint8 else batch).to(place)  # its device and dtype
            result = network(batch) if layer is None else network.features(batch, layer).flatten(1)  # type: ignore[operator]
            out.append(result.float().cpu())
    return torch.cat(out) if out else torch.zeros(0)


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images classified as labelled (ACC, CTA, BMA in the three papers), in [0, 1].

    Raises:
        ValueError: no images, or a label count that differs.

    Example:
        >>> from btlib import networks
        >>> import torch
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
        >>> 0 <= accuracy(net, torch.rand(3, 1, 28, 28), torch.tensor([0, 1, 2])) <= 1
        True
    """
    _check_labels(images, labels)
    return (predict(network, images).argmax(1) == labels.cpu()).float().mean().item()


def attack_success_rate(
    network: nn.Module, trigger: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, target: int,
    sources: str | int | Sequence[int] | None = None,
) -> float:  # fmt: skip
    """Share of triggered source-class images classified as the target (ASR: L-RED 4.2, in-flight 5.2), in [0, 1].

    Images whose true class is the target are left out: they would be classified so without any trigger.

    Args:
        network: the classifier.
        trigger: the true or an estimated pattern: images in, triggered images out.
        images: clean float or uint8 images (N, C, H, W).
        labels: true classes (N,).
        target: t*.
        sources: S*; None or ``"all"``: every class but the target.

    Raises:
        ValueError: no image of a source class.

    Example:
        >>> from btlib import networks, triggers
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=10)
        >>> x, y = torch.rand(3, 1, 28, 28), torch.tensor([0, 1, 2])
        >>> 0 <= attack_success_rate(net, triggers.box((1, 28, 28)), x, y, target=9) <= 1
        True
    """
    rates = success_by_class(network, trigger, images, labels, target)
    counts = torch.bincount(labels.cpu(), minlength=len(rates))
    chosen = source_classes("all" if sources is None else sources, target, len(rates))
    weights = counts[list(chosen)].double()
    if weights.sum() == 0:
        raise ValueError(f"labels: expected images of the source classes {chosen}, got none; check the labels")
    present = weights > 0
    return float((rates[list(chosen)].double()[present] * weights[present]).sum() / weights.sum())


def success_by_class(
    network: nn.Module, trigger: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, target: int
) -> Tensor:
    """Share of each class's triggered images classified as the target: collateral damage (L-RED A.5, Figure 2a).

    Returns:
        float32 (K,) in [0, 1]; NaN for the target itself and for classes without images.

    Raises:
        ValueError: bad target or labels.

    Example:
        >>> from btlib import networks, triggers
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> x, y = torch.rand(3, 1, 28, 28), torch.tensor([0, 1, 2])
        >>> success_by_class(net, triggers.box((1, 28, 28)), x, y, target=2).isnan().tolist()
        [False, False, True]
    """
    _check_labels(images, labels)
    labels = labels.cpu()
    stamped = trigger(to_float(images) if images.dtype == torch.uint8 else images)
    logits = predict(network, stamped)
    classes = logits.shape[1]
    source_classes("all", target, classes)  # complains about a target that does not exist
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels: expected classes in 0…{classes - 1}, got {int(labels.min())}…{int(labels.max())}; "
                         "use the labels the network was trained on")  # fmt: skip
    hit = (logits.argmax(1) == target).float()
    counts = torch.bincount(labels, minlength=classes)
    rates = torch.bincount(labels, weights=hit, minlength=classes).float() / counts
    rates[target] = torch.nan
    return rates


def _check_labels(images: Tensor, labels: Tensor) -> None:
    if len(images) == 0 or labels.shape != images.shape[:1]:
        raise ValueError(f"labels: expected one label per image and at least one image, got {tuple(labels.shape)} "
                         f"for {len(images)} images; pass matching tensors")  # fmt: skip


# ---------------------------------------------------------------------------------------------- visibility


def psnr(clean: Tensor, stamped: Tensor) -> float:
    """Peak signal-to-noise ratio in dB (stealthy attack 3.2), the mean over images.

    An image that does not change has an infinite one, and so then has the batch: leave such images out.

    Args:
        clean, stamped: float (N, C, H, W) in [0, 1].

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import torch
        >>> round(psnr(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.1)), 1)
        20.0
    """
    a, b = _pairs(clean, stamped)
    if np.array_equal(a, b):
        return float("inf")
    with np.errstate(divide="ignore"):
        each = [peak_signal_noise_ratio(one, other, data_range=1.0) for one, other in zip(a, b, strict=True)]
    return float(np.mean(each))


def ssim(clean: Tensor, stamped: Tensor) -> float:
    """Structural similarity in [-1, 1] (stealthy attack 3.2), the mean over images; 1 for equal images.

    Args:
        clean, stamped: float (N, C, H, W) in [0, 1], at least 7×7 pixels.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import torch
        >>> round(ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)), 3)
        1.0
    """
    a, b = _pairs(clean, stamped)
    each = [structural_similarity(one, other, data_range=1.0, channel_axis=0) for one, other in zip(a, b, strict=True)]
    return float(np.mean(each))


def perturbation_norms(clean: Tensor, stamped: Tensor) -> dict[str, float]:
    """Norms of stamped - clean, the mean over images: ``l0`` (pixels changed), ``l1``, ``l2``, ``linf``.

    Args:
        clean, stamped: float (N, C, H, W) in [0, 1].

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import torch
        >>> perturbation_norms(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))["l2"]
        2.0
    """
    a, b = _pairs(clean, stamped)
    flat = (b - a).reshape(len(a), -1)
    changed = (np.abs(b - a).max(axis=1) > 1e-6).reshape(len(a), -1)
    return {
        "l0": float(changed.sum(1).mean()),
        "l1": float(np.abs(flat).sum(1).mean()),
        "l2": float(np.sqrt((flat**2).sum(1)).mean()),
        "linf": float(np.abs(flat).max(1).mean()),
    }


def _pairs(clean: Tensor, stamped: Tensor) -> tuple[np.ndarray, np.ndarray]:
    check_images(clean, name="clean")
    check_images(stamped, name="stamped")
    if clean.shape != stamped.shape or len(clean) == 0:
        raise ValueError(f"stamped: expected the shape of clean {tuple(clean.shape)} and at least one image, "
                         f"got {tuple(stamped.shape)}; pass matching pairs")  # fmt: skip
    return clean.detach().cpu().double().numpy(), stamped.detach().cpu().double().numpy()
