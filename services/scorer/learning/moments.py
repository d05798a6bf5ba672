"""The moments from which the outcome is predicted: landmarks, just after an event, at random.

A model that learns from landmarks alone is wrong right after an event, where it is looked at most
(`science.md`: ECE .036 instead of .015), so it learns and is judged at all three.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.scorer.learning.histories import B, F, History, I

LANDMARK, AFTER_EVENT, RANDOM = range(3)
KINDS = ("landmark", "after_event", "random")
PER_LEAD = 5  # moments after events, and at random, of one lead


class Moments(NamedTuple):
    """N moments: `lead` is the place of a history, `at` and `since_event` are in days, `events` how
    many it had, at least one, `outcome` whether it follows within the horizon, `kind` is of KINDS.
    """

    lead: I
    at: F
    since_event: F
    events: I
    outcome: B
    kind: I

    def only(self, chosen: B | I) -> "Moments":
        """Those that are chosen, by place or as a mask."""
        lead, at, since, events, outcome, kind = self
        return Moments(
            lead[chosen], at[chosen], since[chosen], events[chosen], outcome[chosen], kind[chosen]
        )


def moments(
    histories: Sequence[History],
    landmarks: Sequence[float],
    horizon: float,
    until: float,
    rng: np.random.Generator | None = None,
) -> Moments:
    """Landmarks in days of a lead's life; with `rng` also moments of the other kinds.

    A moment counts where the lead had not reached the outcome by then, and its horizon ends before
    `until`, the end of what is known.
    """
    parts = []
    for lead, history in enumerate(histories):
        first, reached = history.times[0], history.end if history.converted else np.inf
        at = [first + np.asarray(landmarks, np.float64)]
        if rng is not None:
            last = min(first + max(landmarks, default=0) + horizon, until - horizon)
            shown = rng.permutation(len(history.times))[:PER_LEAD]
            at += [history.times[np.sort(shown)], first + (last - first) * rng.random(PER_LEAD)]
        kind = np.repeat(np.arange(len(at)), [len(part) for part in at])
        when = np.concatenate(at)
        kept = (when < reached) & (when + horizon <= until) & (when >= first)
        when, kind = when[kept], kind[kept]
        seen = np.searchsorted(history.times, when, side="right")
        since = when - history.times[np.maximum(seen, 1) - 1]
        parts.append(
            Moments(np.full(len(when), lead), when, since, seen, reached <= when + horizon, kind)
        )
    if not parts:
        parts = [_empty()]
    return Moments(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _empty() -> Moments:
    numbers, places = np.zeros(0), np.zeros(0, np.int64)
    return Moments(places, numbers, numbers, places, np.zeros(0, np.bool_), places)
