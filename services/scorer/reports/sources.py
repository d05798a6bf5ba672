"""What a lead of each source is worth, in leads of the best one and in money."""

from typing import NamedTuple

import numpy as np

from services.scorer.reports.journeys import Journeys
from services.scorer.reports.shares import wilson

DAYS = 90.0
DRAWS = 4000
INTERVAL = (0.025, 0.975)
LEAST_OUTCOMES = 5  # of a source, to be the one that others are compared with


class Worth(NamedTuple):
    """A source: leads known for the whole time, outcomes within it and their share; how many of its
    leads are worth one of the reference, and what an outcome costs, with 95 % intervals. None where
    that cannot be given.
    """

    source: str
    leads: int
    outcomes: int
    rate: float
    rate_interval: tuple[float, float]
    leads_for_one: float | None
    leads_for_one_interval: tuple[float, float] | None
    cost: float | None
    cost_of_outcome: float | None
    cost_of_outcome_interval: tuple[float, float] | None


class Equivalence(NamedTuple):
    """The sources, the best first, and the one that others are compared with ("" for none)."""

    days: float
    reference: str
    sources: list[Worth]


def equivalence(journeys: Journeys, days: float = DAYS, reference: str = "") -> Equivalence:
    """Compares the sources' outcomes within `days`; the reference, where none is named, is the
    source with the highest share among those with some outcomes.

    Intervals are of ratios of shares that are drawn from Beta(outcomes + ½, rest + ½).
    """
    chosen = journeys.followed(days)
    reached = chosen & (journeys.age <= days)
    names = len(journeys.sources)
    leads = np.bincount(journeys.source[chosen], minlength=names)
    outcomes = np.bincount(journeys.source[reached], minlength=names)
    present = [place for place in range(names) if leads[place]]
    if not reference:
        able = [place for place in present if outcomes[place] >= LEAST_OUTCOMES]
        best = max(able, key=lambda place: outcomes[place] / leads[place], default=None)
    else:
        best = next((place for place in present if journeys.sources[place] == reference), None)
    rng = np.random.default_rng(0)
    drawn = {
        place: rng.beta(outcomes[place] + 0.5, leads[place] - outcomes[place] + 0.5, DRAWS)
        for place in present
    }
    known_cost = ~np.isnan(journeys.cost) & chosen
    found = []
    for place in present:
        paid = known_cost & (journeys.source == place)
        cost = float(journeys.cost[paid].sum()) if paid.any() else None
        count, rate = int(outcomes[place]), outcomes[place] / leads[place]
        ratio = drawn[best] / drawn[place] if best is not None and count and place != best else None
        price = cost / (drawn[place] * leads[place]) if cost is not None and count else None
        found.append(
            Worth(
                journeys.sources[place],
                int(leads[place]),
                count,
                float(rate),
                wilson(count, int(leads[place])),
                _ratio(outcomes, leads, best, place) if ratio is not None else None,
                _interval(ratio),
                cost,
                cost / count if cost is not None and count else None,
                _interval(price),
            )
        )
    found.sort(key=lambda one: (-one.rate, one.source))
    return Equivalence(days, journeys.sources[best] if best is not None else "", found)


def sentence(worth: Worth, reference: str) -> str:
    """As people compare sources: "4 webinar leads ≈ 1 demo lead (3 to 6)"; "" where that cannot be
    given.
    """
    if worth.leads_for_one is None or worth.leads_for_one_interval is None:
        return ""
    low, high = worth.leads_for_one_interval
    return (
        f"{worth.leads_for_one:.2g} leads of {worth.source} ≈ 1 of {reference} "
        f"({low:.2g} to {high:.2g})"
    )


def _ratio(outcomes: np.ndarray, leads: np.ndarray, best: int | None, place: int) -> float:
    assert best is not None
    return float((outcomes[best] / leads[best]) / (outcomes[place] / leads[place]))


def _interval(drawn: np.ndarray | None) -> tuple[float, float] | None:
    if drawn is None:
        return None
    low, high = np.quantile(drawn, INTERVAL)
    return float(low), float(high)
