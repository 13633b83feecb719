"""How much a trigger changes an image."""

import numpy as np
from torch import Tensor

from btlib.datasets import as_float


def psnr(clean: Tensor, stamped: Tensor) -> float:
    """Peak signal-to-noise ratio in dB (stealthy attack 3.2), the mean over images.

    An image that does not change has an infinite one, and so then has the batch: leave such images out.

    Args:
        clean, stamped: float in [0, 1] or uint8, (N, C, H, W).

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import torch
        >>> round(psnr(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.1)), 1)
        20.0
    """
    from skimage.metrics import peak_signal_noise_ratio

    a, b = _pairs(clean, stamped)
    if np.array_equal(a, b):
        return float("inf")
    with np.errstate(divide="ignore"):
        each = [peak_signal_noise_ratio(one, other, data_range=1.0) for one, other in zip(a, b, strict=True)]
    return float(np.mean(each))


def ssim(clean: Tensor, stamped: Tensor) -> float:
    """Structural similarity in [-1, 1] (stealthy attack 3.2), the mean over images; 1 for equal images.

    Args:
        clean, stamped: float in [0, 1] or uint8, (N, C, H, W), at least 7×7 pixels.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import torch
        >>> round(ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)), 3)
        1.0
    """
    from skimage.metrics import structural_similarity

    a, b = _pairs(clean, stamped)
    if min(a.shape[2:]) < 7:
        raise ValueError(f"clean: expected images of at least 7×7 pixels, the window of SSIM, got {a.shape[2:]}; "
                         "use psnr for smaller ones")  # fmt: skip
    each = [structural_similarity(one, other, data_range=1.0, channel_axis=0) for one, other in zip(a, b, strict=True)]
    return float(np.mean(each))


def perturbation_norms(clean: Tensor, stamped: Tensor) -> dict[str, float]:
    """Norms of stamped - clean, the mean over images: ``l0`` (pixels changed), ``l1``, ``l2``, ``linf``.

    Args:
        clean, stamped: float in [0, 1] or uint8, (N, C, H, W).

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
    clean, stamped = as_float(clean, name="clean"), as_float(stamped, name="stamped")
    if clean.shape != stamped.shape or len(clean) == 0:
        raise ValueError(f"stamped: expected the shape of clean {tuple(clean.shape)} and at least one image, "
                         f"got {tuple(stamped.shape)}; pass matching pairs")  # fmt: skip
    return clean.detach().cpu().double().numpy(), stamped.detach().cpu().double().numpy()
