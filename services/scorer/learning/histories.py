"""Histories of leads as padded arrays: the j-th event of every lead is worked on at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F = npt.NDArray[np.float64]
I = npt.NDArray[np.int64]  # noqa: E741  # beside F and B
B = npt.NDArray[np.bool_]


class History(NamedTuple):
    """One lead: `times` of its events in days, ascending, with the `marks` as numbers from 0; seen
    until `end`, where the outcome happened if `converted`.
    """

    times: F
    marks: I
    end: float
    converted: bool


class Batch:
    """Histories sorted by their number of events, the longest first.

    `gaps` and `marks` are (J, L): days since the event before, and the mark, of the j-th event of
    each of L leads; `alive[j]` is how many leads have a j-th event: they are the first ones. `tail`
    (L) are the days from the last event to the end. `order` are the leads' places as given.
    """

    def __init__(self, histories: Sequence[History]) -> None:
        lengths = np.array([len(history.times) for history in histories], np.int64)
        self.order: I = np.argsort(-lengths, kind="stable")
        self.lengths: I = lengths[self.order]
        self.size = len(histories)
        depth = int(self.lengths[0]) if self.size else 0
        self.gaps: F = np.zeros((depth, self.size))
        self.marks: I = np.zeros((depth, self.size), np.int64)
        self.tail: F = np.zeros(self.size)
        self.converted: B = np.zeros(self.size, np.bool_)
        for place, number in enumerate(self.order):
            times, marks, end, converted = histories[number]
            self.gaps[1 : len(times), place] = np.diff(times)
            self.marks[: len(times), place] = marks
            self.tail[place], self.converted[place] = end - times[-1], converted
        self.alive: I = np.searchsorted(-self.lengths, -np.arange(depth), side="left")

    def last(self, states: Sequence[F]) -> F:
        """Of `states[j]` (alive[j], K) after each j-th event those after the last ones (L, K)."""
        ends = [*self.alive[1:], 0]
        parts = [state[end:] for state, end in zip(states, ends, strict=True)]
        return np.concatenate(parts[::-1])
