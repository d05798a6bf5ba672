"""How long a likelihood lasts under silence, and how much of it hangs on a single event."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.scorer.model.explanation import Ledger, Line
from services.scorer.model.fold import Fold
from services.scorer.model.state import Event, FoldState
from services.shared.clock import DAY

# days ahead at which silence is looked at first; between two of them each day is
AHEAD = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 365)
LONGEST = AHEAD[-1]


class Person(NamedTuple):
    """Points of fit, and what is known of a person in log-odds: None where the points say it."""

    fit: float
    effect: float | None


class Without(NamedTuple):
    """The strongest line, and the likelihood had its event not happened; None after an outcome."""

    line: Line
    likelihood: float | None


def lasts_until(
    fold: Fold, state: FoldState, now: int, person: Person, threshold: float
) -> int | None:
    """The first instant (µs), in whole days from `now`, at which silence alone has taken the
    likelihood below `threshold`; None where a year does not.
    """
    before = 0
    for day, likelihood in zip(AHEAD, _ahead(fold, state, now, person, AHEAD), strict=True):
        if likelihood < threshold:
            between = range(before + 1, day)
            each = _ahead(fold, state, now, person, between)
            first = next((d for d, p in zip(between, each, strict=True) if p < threshold), day)
            return now + first * DAY
        before = day
    return None


def _ahead(
    fold: Fold, state: FoldState, now: int, person: Person, days: Sequence[int]
) -> list[float]:
    """Likelihoods so many days after `now`; NaN of a lead without one."""
    if not days:
        return []
    count = len(days)
    effects = None if person.effect is None else [person.effect] * count
    views = fold.view([state] * count, [now + d * DAY for d in days], [person.fit] * count, effects)
    return [np.nan if view.likelihood is None else view.likelihood for view in views]


def without_strongest(
    fold: Fold, ledger: Ledger, events: Sequence[Event], person: Person
) -> Without | None:
    """What is left without the event that raised the likelihood most, the person being who it is;
    None where none raised it.
    """
    raising = [line for line in ledger.counting if line.kind == "event" and line.uid]
    line = max(raising, key=lambda line: (line.delta, line.at), default=None)
    if line is None or line.delta <= 0:
        return None
    others = [event for event in events if event.uid != line.uid]
    (state,) = fold.refold(ledger.product, [others])
    effects = None if person.effect is None else [person.effect]
    (view,) = fold.view([state], [ledger.as_of], [person.fit], effects)
    return Without(line, view.likelihood)
