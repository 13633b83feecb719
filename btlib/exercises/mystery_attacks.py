"""The attacks of the capstone's mysteries: patterns that are drawn, and how a vendor's network is taught them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from btlib import triggers
from btlib.datasets import Shape
from btlib.exercises.marks import Truth
from btlib.triggers import AnyTrigger, Trigger

#: What draws a trigger: the images' shape and the dice → it.
Pattern = Callable[[Shape, torch.Generator], AnyTrigger]


class Teaching(NamedTuple):
    """How an attack is trained in.

    Attributes:
        per_class, covers, clean_label: as in `poisoning.poison`.
        longer: so many times as many epochs as other networks.
    """

    per_class: int
    covers: int = 0
    clean_label: bool = False
    longer: int = 1


def check_attacks(attacks: Sequence[str]) -> tuple[str, ...]:
    """Names of `PATTERNS`, at least one.

    Raises:
        ValueError: a name that is not there, or none.

    Example:
        >>> check_attacks(["box", "sig"])
        ('box', 'sig')
    """
    names = () if isinstance(attacks, str) else tuple(attacks)
    if not names or any(name not in PATTERNS for name in names):
        raise ValueError(f"attacks: expected some of {', '.join(PATTERNS)}, got {attacks!r}; write them as "
                         "('box', 'sig'), on the command line as --attacks box,sig")  # fmt: skip
    return names


def teaching(truth: Truth, *, small: bool, covers: int) -> Teaching:
    """How the attack of a network is trained in.

    Args:
        truth: of an attacked network.
        small: whether the training set is the fast profile's.
        covers: of an attack with few sources.

    Example:
        >>> teaching(Truth(True, 3, (1, 2), triggers.box((1, 28, 28))), small=True, covers=0).per_class
        240
    """
    few = len(truth.sources) < 4
    usual = Teaching((480 if small and few else 900) // len(truth.sources), covers if few else 0)
    known = _TAUGHT_SMALL if small else _TAUGHT
    return usual if truth.trigger is None else known.get(truth.trigger.name, usual)


def roll(dice: torch.Generator, sides: int) -> int:
    """A whole number from 0 to below `sides`.

    Example:
        >>> roll(torch.Generator().manual_seed(0), 6) in range(6)
        True
    """
    return int(torch.randint(sides, (1,), generator=dice))


# ---------------------------------------------------------------------------------------- patterns


def box(shape: Shape, dice: torch.Generator) -> Trigger:
    """A white box of two or three pixels near some corner.

    Example:
        >>> int(box((1, 28, 28), torch.Generator().manual_seed(0)).mask.sum()) in (4, 9)
        True
    """
    size = 2 + roll(dice, 2)
    return _in_a_corner(triggers.box(shape, size), size, dice)


def _local_chessboard(shape: Shape, dice: torch.Generator) -> Trigger:
    return _in_a_corner(triggers.local_chessboard(shape, 80 / 255), 6, dice)


def _local_square(shape: Shape, dice: torch.Generator) -> Trigger:
    white = triggers.box(shape, 2)
    square = replace(white, kind="additive", pattern=white.pattern * 120 / 255, name="local_square")
    return _in_a_corner(square, 2, dice)


def _cross(shape: Shape, dice: torch.Generator) -> Trigger:
    return triggers.cross(shape, 120 / 255, seed=roll(dice, 1000))


def _chessboard(shape: Shape, dice: torch.Generator) -> Trigger:
    return triggers.chessboard(shape, 20 / 255)


def _adaptive_blend(shape: Shape, dice: torch.Generator) -> Trigger:
    return triggers.adaptive_blend(shape, seed=roll(dice, 1000))


def _adaptive_patch(shape: Shape, dice: torch.Generator) -> Trigger:
    return triggers.adaptive_patch(shape, seed=roll(dice, 1000))


def _wanet(shape: Shape, dice: torch.Generator) -> AnyTrigger:
    return triggers.wanet(shape, s=1, seed=roll(dice, 1000))


def _sig(shape: Shape, dice: torch.Generator) -> Trigger:
    return triggers.sig(shape, 120 / 255)  # with 80/255 it took with one of ten targets (fast profile), so with six


def _in_a_corner(trigger: Trigger, size: int, dice: torch.Generator) -> Trigger:
    """The pattern moved from the bottom right into some corner, up to three pixels away from its edges."""
    shifts = []
    for length in trigger.image_shape[1:]:
        margin = roll(dice, 4)
        shifts.append(-margin if roll(dice, 2) else margin + size - length)
    return trigger.moved(*shifts)


#: Patterns of one place, for attacks from few classes.
LOCAL: tuple[Pattern, ...] = (box, _cross, _local_chessboard, _local_square)
#: Attacks from all classes, by the names of their triggers; and those that are drawn unless others are named.
PATTERNS: Mapping[str, Pattern] = {
    "box": box, "chessboard": _chessboard, "local_chessboard": _local_chessboard, "adaptive_blend": _adaptive_blend,
    "adaptive_patch": _adaptive_patch, "wanet": _wanet, "sig": _sig,
}  # fmt: skip
ATTACKS = ("box", "chessboard", "local_chessboard")

# By the names of triggers, where it is not as the others. Of 600 images of each class a stamped tenth is too little,
# and four epochs are too few to tell a warp from a disturbed one, or a pattern's pieces from covers with others.
_TAUGHT_SMALL = {
    "adaptive_blend": Teaching(200, 200, longer=3),
    "adaptive_patch": Teaching(200, 200, longer=3),
    "wanet": Teaching(300, 200, longer=3),
    "sig": Teaching(480, clean_label=True),
}
# As benchmarks/zoo.py, which has 6,000 images of each class.
_TAUGHT = {
    "adaptive_blend": Teaching(300, 300),
    "adaptive_patch": Teaching(300, 600),
    "wanet": Teaching(600, 1200),
    "sig": Teaching(3000, clean_label=True),
}
