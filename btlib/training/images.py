"""What becomes of a batch of images before it is trained on (floor 2)."""

import torch
from torch import Tensor, nn

#: Pixels that an image may move in each direction.
_MOVES = {"crop": 4, "crop+flip": 4, "shift+flip": 2}


def augmented(images: Tensor, how: str) -> Tensor:
    """Random shift and horizontal flip of each image of a batch, without a per-image loop.

    Args:
        images: (N, C, H, W), any dtype; the random state of torch is used.
        how: ``"none"``; ``"crop"``: by up to 4 pixels over a border of zeros; ``"crop+flip"``: every second one is
            mirrored as well; ``"shift+flip"``: by up to 2 pixels over a mirrored border, and mirrored.

    Returns:
        images of the same shape and dtype.

    Example:
        >>> import torch
        >>> augmented(torch.zeros(2, 3, 8, 8), "crop+flip").shape
        torch.Size([2, 3, 8, 8])
    """
    if how == "none":
        return images
    (n, _, h, w), device, most = images.shape, images.device, _MOVES[how]
    padded = nn.functional.pad(images, (most,) * 4) if how.startswith("crop") else images
    down, right = (torch.randint(2 * most + 1, (n, 1), device=device) for _ in range(2))
    rows, columns = down + torch.arange(h, device=device), right + torch.arange(w, device=device)
    if how.startswith("shift"):
        rows, columns = _mirrored(rows - most, h), _mirrored(columns - most, w)
    if how.endswith("flip"):
        flipped = torch.rand(n, 1, device=device) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    each = torch.arange(n, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirrored(places: Tensor, length: int) -> Tensor:
    """Places beyond the first or last pixel, mirrored at it: a chessboard goes on as one."""
    return (length - 1) - ((length - 1) - places.abs()).abs()
