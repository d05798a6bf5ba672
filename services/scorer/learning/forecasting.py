"""Expected outcomes of a list of leads, with an interval that past forecasts widen."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

Z = 1.96
UNPROVEN = 0.3  # relative error of a total whose forecasts nobody has compared yet (judgement)
LEAST = 3  # past forecasts that say how far such totals are off


class Forecast(NamedTuple):
    """Outcomes of `leads` within the horizon: how many are expected, and a 95 % interval."""

    leads: int
    expected: float
    low: float
    high: float


class Past(NamedTuple):
    """A past forecast and what came of it."""

    at: str
    leads: int
    expected: float
    low: float
    high: float
    happened: int


def forecast(leads: int, expected: float, spread: float, error: float) -> Forecast:
    """From the sum of the probabilities p, the sum of p·(1 − p), and the relative error of totals
    beyond that.
    """
    reach = Z * math.sqrt(spread + (error * expected) ** 2)
    return Forecast(leads, expected, max(0.0, expected - reach), min(leads, expected + reach))


def relative_error(past: Sequence[dict[str, Any]]) -> float:
    """How far past totals were off beyond what chance explains, as a share of the expected."""
    known = [each for each in past if each["expected"] > 0]
    if len(known) < LEAST:
        return UNPROVEN
    beyond = sum(
        ((each["happened"] - each["expected"]) ** 2 - each["spread"]) / each["expected"] ** 2
        for each in known
    )
    return math.sqrt(max(beyond / len(known), 0.0))


def compared(past: Sequence[dict[str, Any]]) -> list[Past]:
    """Past forecasts, each with the interval that the others would have given it."""
    out = []
    for place, each in enumerate(past):
        error = relative_error([*past[:place], *past[place + 1 :]])
        made = forecast(each["leads"], each["expected"], each["spread"], error)
        out.append(Past(each["at"], *made, each["happened"]))
    return out
