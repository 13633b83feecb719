"""Backdoor patterns and how they are embedded in an image (floor 1).

A trigger is data (pattern, mask) and one pure function g(x, Δ). Who is poisoned and how labels change
is another matter: `btlib.poisoning`.
"""

from collections.abc import Callable

from btlib.triggers.faint import chessboard, cross, global_grid, l_shape, local_chessboard, local_square, single_pixel
from btlib.triggers.trigger import Kind, Shape, Trigger, quantize
from btlib.triggers.visible import blend, box, trojan_square, watermark

__all__ = [
    "TRIGGERS", "Kind", "Shape", "Trigger", "blend", "box", "build", "chessboard", "cross", "global_grid", "l_shape",
    "local_chessboard", "local_square", "quantize", "single_pixel", "trojan_square", "watermark",
]  # fmt: skip

#: Every pattern of the papers by name. To add one, write a factory in `faint` or `visible` and list it here.
TRIGGERS: dict[str, Callable[..., Trigger]] = {
    factory.__name__: factory
    for factory in (
        chessboard, single_pixel, box, global_grid, local_square, local_chessboard,
        cross, l_shape, trojan_square, watermark, blend,
    )
}  # fmt: skip


def build(name: str, image_shape: Shape, **settings: object) -> Trigger:
    """Make a trigger by its name in `TRIGGERS`, as recipes and checkpoints record it.

    Raises:
        ValueError: unknown name.

    Example:
        >>> build("box", (1, 28, 28), size=2).name
        'box'
    """
    if name not in TRIGGERS:
        raise ValueError(f"trigger: expected one of {', '.join(TRIGGERS)}, got {name!r}; check the spelling")
    return TRIGGERS[name](image_shape, **settings)
