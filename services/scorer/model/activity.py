"""What a lead did, in numbers that are carried on from act to act: a decayed count of each mark,
when the first and the last were. The log-odds layer of a learned model reads them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from services.scorer.model.stage_filter import NEVER, B, F, I
from services.shared.clock import DAY

HALF_LIFE_DAYS = 7.0
NO_MARK = -1


class Activity(NamedTuple):
    """Of L leads: `counts` (M, L) of each mark, decayed as of its last act at `counted_at` (M, L,
    µs); when the first and the last act was, how many there were, and the `last` mark or NO_MARK. A
    restart of the stage filter forgets them.
    """

    counts: F
    counted_at: I
    first_at: I
    last_at: I
    acts: I
    last: I

    @classmethod
    def none(cls, marks: int, leads: int) -> "Activity":
        """Of leads that did nothing."""
        never = np.full(leads, NEVER, np.int64)
        return cls(
            np.zeros((marks, leads)), np.full((marks, leads), NEVER, np.int64), never,
            never.copy(), np.zeros(leads, np.int64), np.full(leads, NO_MARK, np.int64),
        )  # fmt: skip

    def of(self, some: I) -> "Activity":
        """That of the leads at these indices."""
        return self.map(lambda each: np.ascontiguousarray(each[..., some]))

    def map(self, of: Callable[[Any], Any]) -> "Activity":
        """The same with each array replaced."""
        return Activity(*(of(each) for each in self))

    def forget(self, who: I) -> None:
        """Forgets what these did, in place."""
        self.counts[:, who], self.acts[who], self.last[who] = 0.0, 0, NO_MARK
        self.counted_at[:, who] = self.first_at[who] = self.last_at[who] = NEVER

    def note(self, who: I, at: I, mark: I) -> None:
        """One act each of leads `who`, in place."""
        before, first = self.counted_at[mark, who], self.first_at[who]
        elapsed = np.where(before > NEVER, at - before, 0)
        self.counts[mark, who] = self.counts[mark, who] * remaining(elapsed) + 1.0
        self.counted_at[mark, who] = at
        self.first_at[who] = np.where(first > NEVER, first, at)
        self.last_at[who], self.last[who] = at, mark
        self.acts[who] += 1

    def step(self, who: I, at: I, mark: I, restart: B) -> None:
        """A step each that the filter takes: an act where `mark` is none of NO_MARK."""
        if restart.any():
            self.forget(who[restart])
        marked = mark != NO_MARK
        if marked.all():
            self.note(who, at, mark)
        elif marked.any():
            self.note(who[marked], at[marked], mark[marked])

    def values(self, until: I) -> F:
        """Numbers (2M + 6, L) as of `until` (L, µs), in the order of `names`."""
        known = self.last_at > NEVER
        elapsed = np.where(known, until - self.last_at, 0)
        age = np.where(known, until - self.first_at, 0)
        times = np.stack([elapsed / DAY, age / DAY, self.acts.astype(np.float64)])
        marks = np.arange(len(self.counts))[:, None]
        counted = self.counted_at > NEVER
        counts = self.counts * remaining(np.where(counted, until - self.counted_at, 0))
        return np.concatenate([counts, times, np.log1p(times), (self.last == marks) * 1.0])


def names(marks: list[str]) -> list[str]:
    """What `Activity.values` are."""
    times = ("days since the last act", "days since the first act", "acts")
    return [
        *(f"{mark}, half-life {HALF_LIFE_DAYS:g} days" for mark in marks),
        *times, *(f"{time}, log" for time in times), *(f"last was {mark}" for mark in marks),
    ]  # fmt: skip


def remaining(elapsed: I) -> F:
    """What is left of counts after so many µs."""
    return np.exp2(-(elapsed / (HALF_LIFE_DAYS * DAY)))
