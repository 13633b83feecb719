"""Kinds of measurement for the tests of sweeps, named "sweep_jobs:…": quick, and made to be disturbed."""

import os
import time
from pathlib import Path

import torch

from btlib.papers import Measurement


def note(measurement: Measurement) -> None:
    """One line for every start, in the file that the measurement names."""
    with open(measurement.settings["log"], "a", encoding="utf-8") as log:
        log.write(f"{measurement.seed}\n")


def square(measurement: Measurement, device: torch.device) -> dict:
    """The seed squared, after a while."""
    note(measurement)
    time.sleep(measurement.settings.get("seconds", 0.0))
    return {"square": measurement.seed**2, "threads": torch.get_num_threads(), "pid": os.getpid()}


def fail(measurement: Measurement, device: torch.device) -> dict:
    raise RuntimeError("two\nlines")


def wait_to_be_killed(measurement: Measurement, device: torch.device) -> dict:
    """Leaves its process number and waits; whoever runs it again finds that and returns at once."""
    note(measurement)
    place = Path(measurement.settings["pid"])
    if place.exists():
        return {"killed": int(place.read_text())}
    part = place.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.replace(place)
    time.sleep(60)
    raise RuntimeError("nobody killed this process")
