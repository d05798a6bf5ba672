"""Sums of the units of analysis, as of each look: an account is one unit, with the means of its
leads so far.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.scorer.effects.lift import F, Sums

I = NDArray[np.int64]  # noqa: E741 integers
B = NDArray[np.bool_]


class Entered(NamedTuple):
    """Leads in the order of their entry, all (N): whether they are treated, the number of their
    unit, what was known at entry (0 for all where nothing was), and whether they had the outcome.
    """

    treated: B
    unit: I
    known: F
    outcome: B


class Arms(NamedTuple):
    """Of both arms at each look: sums of units, and units with an outcome."""

    treated: Sums
    held_out: Sums
    treated_outcomes: F
    held_out_outcomes: F


def sums_at(leads: Entered, looks: I) -> Arms:
    """The sums after so many leads as each look says, (T). A lead that joins a unit changes the
    unit's means, so what is summed are changes.
    """
    order = np.argsort(leads.unit, kind="stable")
    first = np.r_[True, np.diff(leads.unit[order]) != 0] if len(order) else np.zeros(0, np.bool_)
    begin = np.flatnonzero(first)
    place = np.arange(len(order)) - np.repeat(begin, np.diff(np.r_[begin, len(order)]))

    def means(values: F) -> tuple[F, F]:
        """Of each lead's unit before and with it, (N)."""
        total = np.cumsum(values[order])
        total -= np.repeat(total[begin] - values[order][begin], np.diff(np.r_[begin, len(order)]))
        now = total / (place + 1)
        before, with_it = np.empty(len(order)), np.empty(len(order))
        before[order] = np.where(first, 0.0, np.r_[0.0, now[:-1]])
        with_it[order] = now
        return before, with_it

    joined = np.empty(len(order), np.bool_)
    joined[order] = first
    (x0, x1), (y0, y1) = means(leads.known), means(leads.outcome.astype(np.float64))
    changes = (joined.astype(float), x1 - x0, y1 - y0, x1 * x1 - x0 * x0, x1 * y1 - x0 * y0,
               y1 * y1 - y0 * y0)  # fmt: skip
    reached = ((y1 > 0) & (y0 == 0)).astype(float)

    def up_to(chosen: B, change: F) -> F:
        return np.r_[0.0, np.cumsum(np.where(chosen, change, 0.0))][looks]

    treated, held_out = leads.treated, ~leads.treated
    return Arms(
        Sums(*(up_to(treated, change) for change in changes)),
        Sums(*(up_to(held_out, change) for change in changes)),
        up_to(treated, reached),
        up_to(held_out, reached),
    )
