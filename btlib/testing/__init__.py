"""Contract tests for detectors that are not ours, and the networks of known truth that they run on (floor 3)."""

from btlib.testing.contract import ContractError
from btlib.testing.detectors import check_detector
from btlib.testing.planted import TARGET, hand_set, lit_pixels

__all__ = ["TARGET", "ContractError", "check_detector", "hand_set", "lit_pixels"]
