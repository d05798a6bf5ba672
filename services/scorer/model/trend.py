"""Where a likelihood is going: what it is against what it was a week before."""

from math import log
from typing import Literal

from services.shared.clock import DAY

Trend = Literal["rising", "steady", "falling", "unclear"]
SPAN = 7 * DAY  # µs
LEAST = log(1.25)  # change of the log-odds that counts: the odds by a quarter
EDGE = 1e-6  # likelihoods nearer to 0 or 1 count as this far from it


def trend(now: float | None, before: float | None) -> Trend:
    """Compares likelihoods (0 to 1) by their log-odds; `unclear` where either is unknown."""
    if now is None or before is None:
        return "unclear"
    change = _log_odds(now) - _log_odds(before)
    if abs(change) < LEAST:
        return "steady"
    return "rising" if change > 0 else "falling"


def _log_odds(likelihood: float) -> float:
    bounded = min(1 - EDGE, max(EDGE, likelihood))
    return log(bounded / (1 - bounded))
