"""Is a detector of your own a detector? Contract tests that anyone can import (floor 4).

They use networks whose weights are set by hand, so that the truth is known, and take seconds.
"""

from btlib.testing.detectors import check_detector
from btlib.testing.errors import ContractError
from btlib.testing.inflight import check_in_flight_detector

__all__ = ["ContractError", "check_detector", "check_in_flight_detector"]
