"""What is known of a lead at a moment, in numbers that are carried on from event to event: decayed
counters, times, the filter's belief. Their log-odds layer adds them up.
"""

from typing import NamedTuple

import numpy as np

from services.scorer.learning.arrivals import Arrivals, Propagator
from services.scorer.learning.histories import Batch, F
from services.scorer.learning.moments import Moments

HALF_LIFE_DAYS = 7.0
SHORT_DAYS = 7.0  # of the nearer of the two probabilities of the outcome
CLIP = 1e-4


class Features(NamedTuple):
    """`values` (N, P) with the names of their columns; `outcome` (N) is the filter's own P(outcome
    within the horizon).
    """

    values: F
    names: list[str]
    outcome: F


class Filter:
    """The stage filter of a process, its evidence tempered by κ; P(outcome) is not tempered."""

    def __init__(self, process: Arrivals, kappa: float, horizon: float) -> None:
        self._process, self._start = process, process.start
        self._acts = process.rate.T[:, :, None] ** kappa * process.jump
        self._propagator = Propagator(process.quiet(kappa))
        self.states = len(process.start)
        self._soon, self._later = process.within(SHORT_DAYS), process.within(horizon)

    def beliefs(self, batch: Batch) -> list[F]:
        """Beliefs (alive, K) of the leads that have a j-th event right after it, for every j."""
        out: list[F] = []
        for j, n in enumerate(batch.alive):
            prior = (
                self._propagator.forward(out[-1][:n], batch.gaps[j, :n])
                if j
                else np.broadcast_to(self._start, (n, self.states))
            )
            state = np.einsum("nk,nkl->nl", prior, self._acts[batch.marks[j, :n]])
            out.append(state / state.sum(1, keepdims=True))
        return out

    def after(self, belief: F, days: F) -> F:
        """Belief (N, K) after `days` (N) without an event."""
        moved = self._propagator.forward(belief, days)
        return moved / moved.sum(1, keepdims=True)

    def outcome(self, belief: F) -> tuple[F, F]:
        """P(outcome) within SHORT_DAYS, and within the horizon (N)."""
        return belief @ self._soon, belief @ self._later


def features(filter_: Filter, batch: Batch, moments: Moments, marks: list[str]) -> Features:
    """Features at the moments of the histories of a batch; `marks` are the names of the marks."""
    place = np.empty(batch.size, np.int64)
    place[batch.order] = np.arange(batch.size)
    place = place[moments.lead]
    j = moments.events - 1
    counters = _counters(batch, len(marks))
    belief = np.empty((len(j), filter_.states))
    decayed = np.empty((len(j), len(marks)))
    for number, (state, counted) in enumerate(zip(filter_.beliefs(batch), counters, strict=True)):
        here = np.flatnonzero(j == number)
        belief[here], decayed[here] = state[place[here]], counted[place[here]]
    belief = filter_.after(belief, moments.since_event)
    decayed *= np.exp2(-moments.since_event / HALF_LIFE_DAYS)[:, None]
    soon, later = filter_.outcome(belief)
    began = batch.gaps.cumsum(0)
    age = began[j, place] + moments.since_event
    last = batch.marks[j, place][:, None] == np.arange(len(marks))
    times = (moments.since_event, age, moments.events.astype(np.float64))
    values = np.column_stack(
        [
            decayed, *times, *(np.log1p(time) for time in times), last.astype(np.float64),
            belief, np.log(belief + CLIP), log_odds(soon), log_odds(later),
        ]
    )  # fmt: skip
    states = [f"state {k}" for k in range(filter_.states)]
    names = [
        *(f"{mark}, half-life {HALF_LIFE_DAYS:g} days" for mark in marks),
        *("days since the last event", "age in days", "events"),
        *("days since the last event, log", "age in days, log", "events, log"),
        *(f"last was {mark}" for mark in marks),
        *(f"{state}" for state in states), *(f"{state}, log" for state in states),
        *("outcome soon by the filter", "outcome by the filter"),
    ]  # fmt: skip
    return Features(values, names, later)


def log_odds(p: F) -> F:
    """logit of p, clipped at CLIP."""
    kept = np.clip(p, CLIP, 1 - CLIP)
    return np.log(kept) - np.log1p(-kept)


def _counters(batch: Batch, marks: int) -> list[F]:
    """Decayed counts of each mark (alive, M) right after the j-th event."""
    out: list[F] = []
    for j, n in enumerate(batch.alive):
        counted = (
            out[-1][:n] * np.exp2(-batch.gaps[j, :n] / HALF_LIFE_DAYS)[:, None]
            if j
            else np.zeros((n, marks))
        )
        counted[np.arange(n), batch.marks[j, :n]] += 1
        out.append(counted)
    return out
