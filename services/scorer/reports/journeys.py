"""Leads from their first sign to the outcome."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]
I = NDArray[np.int64]  # noqa: E741 integers
B = NDArray[np.bool_]
UNKNOWN_SOURCE = "unknown"


class Journeys(NamedTuple):
    """Leads, all (N): when they began and when they had the outcome (NaN where they had none), in
    days since 1970; which of `sources` brought them; what that cost (NaN where unknown). `until` is
    the day up to which all is known.
    """

    began: F
    reached: F
    source: I
    sources: list[str]
    cost: F
    until: float

    @property
    def age(self) -> F:
        """Days from the beginning to the outcome, (N); NaN without one."""
        return np.maximum(self.reached - self.began, 0.0)

    def followed(self, days: float) -> B:
        """Whether a lead has been known for so many days, (N)."""
        return self.began <= self.until - days
