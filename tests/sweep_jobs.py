"""Kinds of measurement for the tests of sweeps, named "sweep_jobs:…" in recipes: quick, and made to be disturbed."""

import os
import time
from pathlib import Path

import torch

from btlib.papers import Recipe


def note(recipe: Recipe) -> None:
    """One line for every start, in the file that the recipe names."""
    with open(recipe.settings["log"], "a", encoding="utf-8") as log:
        log.write(f"{recipe.seed}\n")


def square(recipe: Recipe, device: torch.device) -> dict:
    """The seed squared, after a while."""
    note(recipe)
    time.sleep(recipe.settings.get("seconds", 0.0))
    return {"square": recipe.seed**2, "threads": torch.get_num_threads(), "pid": os.getpid()}


def fail(recipe: Recipe, device: torch.device) -> dict:
    raise RuntimeError("two\nlines")


def wait_to_be_killed(recipe: Recipe, device: torch.device) -> dict:
    """Leaves its process number and waits; whoever runs it again finds that and returns at once."""
    note(recipe)
    place = Path(recipe.settings["pid"])
    if place.exists():
        return {"killed": int(place.read_text())}
    part = place.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.replace(place)
    time.sleep(60)
    raise RuntimeError("nobody killed this process")
