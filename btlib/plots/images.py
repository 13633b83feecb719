"""Images and triggers as figures."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from btlib.datasets import as_float
from btlib.triggers import Trigger


def image(picture: Tensor, *, ax: Axes | None = None, title: str = "") -> Axes:
    """One image (C, H, W), float in [0, 1] or uint8, on a fixed grey or RGB scale.

    Raises:
        TypeError, ValueError: neither float in [0, 1] nor uint8, or not (C, H, W) with 1 or 3 channels.

    Example:
        >>> import torch
        >>> image(torch.zeros(1, 4, 4)).get_title()
        ''
    """
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"picture: expected shape (1, H, W) or (3, H, W), got {tuple(picture.shape)}; "
                         "take one image from the batch")  # fmt: skip
    pixels = as_float(picture, name="picture", ndim=3).detach().cpu().float().clamp(0, 1).permute(1, 2, 0).numpy()
    ax = ax if ax is not None else plt.subplots(figsize=(2, 2), layout="constrained")[1]
    ax.imshow(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels, interpolation="nearest")
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])  # the frame stays: a white box on a white page has no edge
    ax.spines[:].set(color="0.6", linewidth=0.5)
    return ax


def image_grid(pictures: Tensor, titles: Sequence[str] | None = None, *, columns: int = 5, size: float = 1.5) -> Figure:
    """A grid of images (N, C, H, W), row by row, with a title each.

    Args:
        pictures: float in [0, 1] or uint8.
        titles: N of them, or None.
        columns: images per row.
        size: inches per image.

    Raises:
        TypeError, ValueError: neither float in [0, 1] nor uint8, no images, or a number of titles that differs.

    Example:
        >>> import torch
        >>> len(image_grid(torch.zeros(3, 1, 4, 4), columns=2).axes)
        4
    """
    count = len(pictures)
    if count == 0 or (titles is not None and len(titles) != count):
        raise ValueError(f"titles: expected one per image and at least one image, got {len(titles or [])} for {count}")
    pictures = as_float(pictures, name="pictures")  # before a figure is opened: it may complain
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + 0.25) * rows), squeeze=False,
                                layout="constrained")  # fmt: skip
    for index, ax in enumerate(axes.flat):
        if index < count:
            image(pictures[index], ax=ax, title=titles[index] if titles else "")
        else:
            ax.set_axis_off()
    return figure


def trigger_table(triggers: Mapping[str, Trigger], picture: Tensor) -> Figure:
    """Each trigger in a column: its pattern with the papers' 127/255 offset, and `picture` stamped with it.

    Args:
        triggers: title → trigger.
        picture: a clean image (C, H, W), float in [0, 1] or uint8.

    Raises:
        ValueError: no triggers.

    Example:
        >>> import torch
        >>> from btlib import triggers
        >>> len(trigger_table({"box": triggers.box((1, 8, 8))}, torch.zeros(1, 8, 8)).axes)
        2
    """
    if not triggers:
        raise ValueError("triggers: expected at least one, got none; pass {'box': trigger}")
    stamped = [trigger(picture) for trigger in triggers.values()]  # before a figure is opened: it may complain
    figure, axes = plt.subplots(2, len(triggers), figsize=(1.35 * len(triggers), 3.2), squeeze=False,
                                layout="constrained")  # fmt: skip
    for column, (name, trigger) in enumerate(triggers.items()):
        image(trigger.offset_display(), ax=axes[0, column], title=name.replace("_", "\n"))
        image(stamped[column], ax=axes[1, column])
    return figure
