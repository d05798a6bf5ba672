"""What a lead of each source is worth, in leads of the best one and in money."""

import msgspec
import numpy as np

from services.scorer.reports.journeys import B, I, Journeys
from services.scorer.reports.shares import Interval, wilson

DAYS = 90.0
DRAWS = 4000
INTERVAL = (0.025, 0.975)
LEAST_OUTCOMES = 5  # of a source, to be the one that others are compared with


class Worth(msgspec.Struct, frozen=True):
    """A source: leads known for the whole time, outcomes within it and their share; how many of its
    leads are worth one of the reference, what a lead and what an outcome costs, with 95 %
    intervals. None where that cannot be given; `with_cost` are the leads whose cost is known.
    """

    source: str
    leads: int
    outcomes: int
    rate: float
    rate_interval: Interval
    leads_for_one: float | None
    leads_for_one_interval: Interval | None
    with_cost: int
    cost_per_lead: float | None
    cost_per_outcome: float | None
    cost_per_outcome_interval: Interval | None
    says: str


class Equivalence(msgspec.Struct, frozen=True):
    """The sources, the best first, and the one that others are compared with ("" for none);
    `too_young` are leads known for less than `days`, which do not count.
    """

    days: float
    leads: int
    too_young: int
    reference: str
    sources: list[Worth]
    says: list[str]


def equivalence(journeys: Journeys, days: float = DAYS, reference: str = "") -> Equivalence:
    """Compares the sources' outcomes within `days`, of leads that are known for so long; the
    reference, where none is named, is the source with the highest share among those with
    LEAST_OUTCOMES.

    Intervals are of ratios of shares that are drawn from Beta(outcomes + ½, rest + ½).
    """
    chosen = journeys.followed(days)
    counted = _Counted(journeys, chosen, chosen & (journeys.age <= days))
    best = counted.reference(reference)
    found = [counted.worth(place, best) for place in counted.present]
    found.sort(key=lambda one: (-one.rate, one.source))
    name = "" if best is None else journeys.sources[best]
    young = int((~chosen).sum())
    return Equivalence(
        days, int(chosen.sum()), young, name, found, _says(days, found, name, young, reference)
    )


class _Counted:
    """Leads and outcomes by source, and draws of each source's share."""

    def __init__(self, journeys: Journeys, chosen: B, reached: B) -> None:
        self._journeys, names = journeys, len(journeys.sources)
        self._leads: I = np.bincount(journeys.source[chosen], minlength=names)
        self._outcomes: I = np.bincount(journeys.source[reached], minlength=names)
        self._priced = chosen & ~np.isnan(journeys.cost)
        self.present = [place for place in range(names) if self._leads[place]]
        rng = np.random.default_rng(0)
        self._drawn = {
            place: rng.beta(
                self._outcomes[place] + 0.5,
                self._leads[place] - self._outcomes[place] + 0.5,
                DRAWS,
            )
            for place in self.present
        }

    def _rate(self, place: int) -> float:
        return float(self._outcomes[place] / self._leads[place])

    def reference(self, named: str) -> int | None:
        """The place of the source that others are compared with."""
        if named:
            return next((p for p in self.present if self._journeys.sources[p] == named), None)
        able = [place for place in self.present if self._outcomes[place] >= LEAST_OUTCOMES]
        return max(able, key=self._rate, default=None)

    def worth(self, place: int, best: int | None) -> Worth:
        """What a source is worth."""
        name, leads = self._journeys.sources[place], int(self._leads[place])
        outcomes, rate = int(self._outcomes[place]), self._rate(place)
        ratio = between = None
        if best is not None and place != best and outcomes:
            ratio = self._rate(best) / rate
            between = _interval(self._drawn[best] / self._drawn[place])
        paid = self._priced & (self._journeys.source == place)
        price = float(self._journeys.cost[paid].mean()) if paid.any() else None
        is_priced = price is not None and outcomes > 0
        return Worth(
            source=name,
            leads=leads,
            outcomes=outcomes,
            rate=rate,
            rate_interval=wilson(outcomes, leads),
            leads_for_one=ratio,
            leads_for_one_interval=between,
            with_cost=int(paid.sum()),
            cost_per_lead=price,
            cost_per_outcome=price / rate if price is not None and is_priced else None,
            cost_per_outcome_interval=(
                _interval(price / self._drawn[place]) if price is not None and is_priced else None
            ),
            says=sentence(name, ratio, between, "" if best is None else
                          self._journeys.sources[best]),
        )  # fmt: skip


def sentence(source: str, ratio: float | None, between: Interval | None, reference: str) -> str:
    """As people compare sources: "4 leads of webinar ≈ 1 of demo (3 to 6)"; "" where that cannot
    be given.
    """
    if ratio is None or between is None:
        return ""
    return (
        f"{ratio:.2g} leads of {source} ≈ 1 of {reference} ({between[0]:.2g} to {between[1]:.2g})"
    )


def _says(days: float, found: list[Worth], reference: str, young: int, asked: str) -> list[str]:
    if not found:
        return [
            f"No lead is known for {days:g} days: this says nothing yet. Ask for a shorter time."
        ]
    said = [f"Leads that are known for less than {days:g} days ({young}) do not count."]
    if not reference:
        said.append(
            f"No lead of {asked} is known for {days:g} days."
            if asked
            else f"No source has {LEAST_OUTCOMES} outcomes yet: none can be compared with another."
        )
    return said + [worth.says for worth in found if worth.says]


def _interval(drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, INTERVAL)
    return float(low), float(high)
