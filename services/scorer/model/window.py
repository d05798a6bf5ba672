"""Which of a lead's events the fold weighs: all of most leads, the newest of those that have very
many.

The filter forgets, so what lies hundreds of events back hardly counts. What counts longer
(requests, answers, what sales reports) stands in the profile as milestones and is folded first. The
choice is a function of the set alone: the newest events begin at a rank that only their number
decides.
"""

from collections.abc import Iterable, Sequence

import msgspec

from services.scorer.model.profile import BEFORE_ALL, Profile, profile_of
from services.scorer.model.state import Event

KEPT = 384  # of the newest events at least so many are weighed one by one
BLOCK = 128  # the window moves on by so many, so that it seldom moves
WHOLE = KEPT + BLOCK  # of fewer events all are weighed


def start(stored: int) -> int:
    """The rank, from 0, of the first of the newest events of a lead that has so many."""
    return max(0, (stored - KEPT) // BLOCK * BLOCK)


def count(stored: int) -> int:
    """How many newest events are weighed: all of fewer than WHOLE, else KEPT to WHOLE − 1."""
    return stored - start(stored)


class Known(msgspec.Struct, frozen=True):
    """A lead's profile, and those of its events that the fold weighs, in its order."""

    profile: Profile
    events: list[Event]

    @property
    def before(self) -> Profile:
        """What is known from events before the newest."""
        return self.profile.before(self.profile.since)

    @property
    def unweighed(self) -> int:
        """How many older events are not weighed one by one."""
        return self.profile.stored - len(self.events)


def known(profile: Profile, newest: Sequence[Event], milestones: Iterable[Event]) -> Known:
    """Of a lead with this profile, from its newest events in order and its milestones; notes in the
    profile since when events are weighed one by one.
    """
    weighed = newest[max(0, len(newest) - count(profile.stored)) :]
    is_long = start(profile.stored) > 0 and len(weighed) > 0
    profile.since = place(weighed[0]) if is_long else BEFORE_ALL
    older = sorted((each for each in milestones if place(each) < profile.since), key=place)
    return Known(profile, [*older, *weighed])


def known_of(events: Sequence[Event], declared: frozenset[str] = frozenset()) -> Known:
    """Of a whole set in order: what every other way must come to."""
    profile = profile_of(events, declared)
    milestones = profile.milestones_before((1 << 62, ""))
    return known(profile, events, [event for event in events if place(event) in milestones])


def place(event: Event) -> tuple[int, str]:
    """Where an event stands in the order of the fold."""
    return event.at, event.uid
