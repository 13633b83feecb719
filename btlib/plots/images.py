"""Images and triggers as figures."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from btlib.datasets import as_float
from btlib.detection import Detection
from btlib.plots.lines import COLORS
from btlib.plots.panels import SMALL, Drawn, finish, panels
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
    ax.set_title(title, fontsize=SMALL)
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


def estimates(
    about: str, detections: Mapping[str, Detection], classes: Sequence[str], *, target: int | None = None,
    true: Trigger | None = None, shown: Sequence[int] | None = None,
) -> Drawn:  # fmt: skip
    """Estimated masks and patterns, one column per class, with the size of each; the target's have a frame.

    Args:
        about: what is seen, in a sentence.
        detections: name → what a detector returned; each takes two rows.
        classes: names of the classes.
        target: the attacker's class.
        true: the attacker's trigger, for the first column of the first two rows.
        shown: only these classes.

    Example:
        >>> import torch
        >>> from btlib import detection, networks
        >>> net = networks.build("lenet5", image_shape=(1, 28, 28), num_classes=3)
        >>> found = detection.red_u(net, torch.rand(6, 1, 28, 28), torch.arange(6) % 3, per_class=None)
        >>> len(estimates("Patterns", {"new": found}, ("a", "b", "c"))[0].axes)
        6
    """
    columns = list(next(iter(detections.values())).estimates) if shown is None else list(shown)
    first = int(true is not None)
    wide = len(columns) + first
    axes = np.array(panels(2 * len(detections) * wide, width=1.1, height=1.25, columns=wide)).reshape(-1, wide)
    words = []
    for ax in axes.flat:
        ax.set_axis_off()
    for row, (name, found) in enumerate(detections.items()):
        for column, t in enumerate(columns, start=first):
            one, title = found.estimates[t], f"{classes[t].split('/')[0]}\n{found.estimates[t].norm:.1f}"
            for ax, picture in zip(
                axes[2 * row : 2 * row + 2, column], (one.mask, one.trigger.offset_display()), strict=True
            ):
                _framed(ax, picture, title if ax is axes[2 * row, column] else "", COLORS[1] if t == target else "")
        for ax, what in zip(axes[2 * row : 2 * row + 2, first], ("mask", "pattern"), strict=True):
            ax.set_ylabel(f"{name}\n{what}", fontsize=SMALL)
        words.append(f"{name}: " + ", ".join(f"{classes[t]} {found.estimates[t].norm:.1f}" for t in columns))
    if true is not None:
        for ax, picture, title in zip(axes[:2, 0], (true.mask, true.offset_display()),
                                      (f"true\n{float(true.mask.sum()):.1f}", ""), strict=True):  # fmt: skip
            _framed(ax, picture, title, COLORS[2])
    return finish(list(axes.flat), about, words)


def _framed(ax: Axes, picture: Tensor, title: str, color: str) -> None:
    """An image, with a coloured frame where one is named."""
    ax.set_axis_on()
    image(picture, ax=ax, title=title)
    if color:
        ax.spines[:].set(color=color, linewidth=2)


def judged_image(
    about: str, picture: Tensor, values: Mapping[str, float], *, title: str, xlabel: str, highlight: str = "",
    judged: str = "", xlim: tuple[float, float] | None = None,
) -> Drawn:  # fmt: skip
    """An image beside one lying bar for each class.

    Args:
        about: what is seen, and what it means, in a sentence.
        picture: the image (C, H, W).
        values: class → length of its bar.
        title: of the image.
        xlabel: what the bars are, with their unit.
        highlight: the class whose bar is coloured.
        judged: title of the bars.
        xlim: range of the bars, where several figures are compared; None: that of the values.

    Example:
        >>> import torch
        >>> judged_image("A coat", torch.zeros(1, 4, 4), {"coat": 0.9}, title="seen", xlabel="probability")[1]
        'A coat. coat 0.9.'
    """
    figure, (left, bars) = plt.subplots(1, 2, figsize=(8.2, 3.3), width_ratios=(1, 1.9), layout="constrained")
    image(picture, ax=left, title=title)
    names = list(values)
    bars.barh(
        range(len(names)), list(values.values()), color=[COLORS[1] if n == highlight else COLORS[5] for n in names]
    )
    bars.set_yticks(range(len(names)), names, fontsize=SMALL)
    bars.invert_yaxis()
    bars.axvline(0, color="black", linewidth=0.8)
    bars.set(xlabel=xlabel, xlim=xlim)
    bars.set_title(judged, fontsize=10)
    return finish([left, bars], about, [", ".join(f"{name} {value:.3g}" for name, value in values.items())])
