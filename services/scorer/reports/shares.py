"""Shares with their intervals."""

from statistics import NormalDist
from typing import Annotated

import msgspec

Z = NormalDist().inv_cdf(0.975)
# low and high; an array of two numbers in JSON schemas that any tool reads
Interval = Annotated[tuple[float, ...], msgspec.Meta(min_length=2, max_length=2)]


class Share(msgspec.Struct, frozen=True):
    """A share `found / of`, with its 95 % interval (Wilson, 1927)."""

    found: int
    of: int
    share: float
    interval: Interval


def share_of(found: int, of: int) -> Share | None:
    """The share; None of nothing."""
    return Share(found, of, found / of, wilson(found, of)) if of else None


def wilson(found: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share; (0, 1) of nothing."""
    if not of:
        return 0.0, 1.0
    share, spread = found / of, Z * Z / of
    middle = (share + spread / 2) / (1 + spread)
    half = Z * ((share * (1 - share) + spread / 4) / of) ** 0.5 / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)
