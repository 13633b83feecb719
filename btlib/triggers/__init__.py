"""Backdoor patterns and how they are embedded in an image (floor 1).

A trigger is data (pattern, mask) and one pure function g(x, Δ). Who is poisoned and how labels change
is another matter: `btlib.poisoning`. Some triggers look otherwise in training: they have ``in_training`` beside it.
"""

from collections.abc import Callable

from btlib.datasets import Shape
from btlib.registry import Registry
from btlib.triggers.faint import chessboard, cross, global_grid, l_shape, local_chessboard, local_square, single_pixel
from btlib.triggers.partial import PartialTrigger, adaptive_blend, adaptive_patch
from btlib.triggers.trigger import Kind, Trigger, quantize
from btlib.triggers.visible import blend, box, trojan_square, watermark
from btlib.triggers.warping import WarpTrigger, wanet
from btlib.triggers.wave import sig

__all__ = [
    "TRIGGERS", "AnyTrigger", "Kind", "PartialTrigger", "Trigger", "WarpTrigger", "adaptive_blend", "adaptive_patch",
    "blend", "box", "build", "chessboard", "cross", "global_grid", "l_shape", "local_chessboard", "local_square",
    "quantize", "sig", "single_pixel", "trojan_square", "wanet", "watermark",
]  # fmt: skip

#: What a factory makes: both have ``image_shape``, ``name``, ``bits`` and ``faded``, and are called on images.
AnyTrigger = Trigger | WarpTrigger

#: Every pattern of the papers by name; `TRIGGERS.register(name, factory)` adds one.
TRIGGERS: Registry[Callable[..., AnyTrigger]] = Registry(
    {
        factory.__name__: factory
        for factory in (
            chessboard, single_pixel, box, global_grid, local_square, local_chessboard, cross, l_shape,
            trojan_square, watermark, blend, sig, wanet, adaptive_blend, adaptive_patch,
        )
    }
)  # fmt: skip


def build(name: str, image_shape: Shape, **settings: object) -> AnyTrigger:
    """Make a trigger by its name in `TRIGGERS`, as recipes and checkpoints record it.

    Raises:
        ValueError: unknown name.

    Example:
        >>> build("box", (1, 28, 28), size=2).name
        'box'
    """
    return TRIGGERS.find(name, argument="trigger")(image_shape, **settings)
