"""Trained networks, loaded or made once and remembered (floor 3)."""

from btlib.checkpoints.colour import COLOUR, colour_images, in_colour, open_in_colour
from btlib.checkpoints.remembering import (
    SHIPPED,
    CheckpointError,
    Named,
    cache_folder,
    check_origin,
    find,
    forget,
    make_files,
    refused,
    remembered,
    seconds_spent,
    unfinished,
)  # fmt: skip
from btlib.checkpoints.spec import Spec
from btlib.checkpoints.trained import Card, load_or_train, make_shipped, read_card, shipped

__all__ = [
    "COLOUR", "SHIPPED", "Card", "CheckpointError", "Named", "Spec", "cache_folder", "check_origin", "colour_images",
    "find", "forget", "in_colour", "load_or_train", "make_files", "make_shipped", "open_in_colour", "read_card",
    "refused", "remembered", "seconds_spent", "shipped", "unfinished",
]  # fmt: skip
