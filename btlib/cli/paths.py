"""Where the repository keeps things. The course is used from a checkout, so all of it is found from here."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
