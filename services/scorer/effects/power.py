"""What a company of some size can hope to see. Two-sided tests of two shares."""

from math import ceil
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from services.scorer.effects.lift import Plan, half_width

POWER = 0.8
GREATEST = 20.0  # times the base: larger effects are not looked for


class Experiment(NamedTuple):
    """Shares, 0–1: of units that have the outcome without nurturing, and of units held out."""

    base: float
    held_out: float
    alpha: float = 0.05


def needed(of: Experiment, relative: float, *, daily: bool = False) -> int:
    """Units of both arms together for a lift of `relative` of the base to be found at the power;
    `daily` where the interval is looked at every day instead of once.
    """
    treated = min(of.base * (1 + relative), 1.0)
    variance = treated * (1 - treated) / (1 - of.held_out) + of.base * (1 - of.base) / of.held_out
    width = _daily_width(of.alpha) if daily else NormalDist().inv_cdf(1 - of.alpha / 2)
    deviations = width + NormalDist().inv_cdf(POWER)
    return ceil(deviations**2 * variance / (treated - of.base) ** 2)


def detectable(of: Experiment, units: float, *, daily: bool = False) -> float | None:
    """The least lift, relative to the base, that so many units show; None where none does."""
    low, high = 0.0, min(GREATEST, 1 / of.base - 1)
    if high <= 0 or needed(of, high, daily=daily) > units:
        return None
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if needed(of, middle, daily=daily) <= units else (middle, high)
    return high


def _daily_width(alpha: float) -> float:
    """Half the width of the sequence at its planned end, in standard errors."""
    plan = Plan(alpha)
    return float(half_width(np.array(float(plan.units)), plan)) * plan.units**0.5
