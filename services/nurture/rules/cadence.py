"""How much mail a lead gets: pauses, the pace that it asked for, gaps and caps. Pure.

Functions return what speaks against a touch at `now`, and where it is known until when, or None.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, NamedTuple

from services.shared.contracts.preferences import (
    GAPS,
    PACE,
    PAUSED_UNTIL,
    read_day,
    read_pace,
)
from services.shared.errors import Reject
from services.shared.playbook.sections import Cadence, Cap

# how far back touches are read for a decision: the slowest pace, and some room
LOOK_BACK = max(GAPS.values()) + timedelta(days=2)
# within it an address gets a thing that it asks for once
ANSWERED_FOR = timedelta(hours=1)
FARTHEST = timedelta(days=3660)  # a pause beyond it has no end
WITH_SALES = frozenset({"accepted", "opportunity"})


class Over(NamedTuple):
    """When what speaks against a touch has passed, and what it is."""

    at: datetime
    why: str


def paused_by_person(until: datetime | None, now: datetime) -> Over | None:
    """A pause that somebody of the company has set."""
    if until is None or now >= until:
        return None
    return Over(until, f"a person has paused the lead until {until:%Y-%m-%d}")


def with_sales(sales_status: str) -> str | None:
    """Nurture pauses while sales works with the lead (N8)."""
    return "sales is working with the lead" if sales_status in WITH_SALES else None


def endless_pause(traits: Mapping[str, Any], now: datetime) -> str | None:
    """A pause that the lead has asked for whose end is not understood, or is never (N9)."""
    if traits.get(PAUSED_UNTIL) is None:  # of nearly everybody
        return None
    try:
        until = read_day(traits[PAUSED_UNTIL])
    except Reject:
        return "the lead has asked for a pause until a day that cannot be read"
    if until and until > (now + FARTHEST).date():
        return f"the lead has asked for no mail before {until}"
    return None


def paused_by_lead(traits: Mapping[str, Any], zones: Sequence[tzinfo]) -> Over | None:
    """A pause that the lead has asked for, until that day in all of its zones (N9)."""
    if traits.get(PAUSED_UNTIL) is None:
        return None
    until = read_day(traits[PAUSED_UNTIL])
    if not until:
        return None
    begins = max(datetime.combine(until, time(), tzinfo=zone).astimezone(UTC) for zone in zones)
    return Over(begins, f"the lead has asked for no mail before {until}")


def most_careful(
    traits: Mapping[str, Any], others: Iterable[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The traits with the latest pause and the slowest pace that any of these ask for; what cannot
    be read asks for the most.
    """
    stricter: dict[str, Any] = {}
    for other in others:
        for name, demand in ((PAUSED_UNTIL, _pause), (PACE, _gap)):
            asked = stricter.get(name, traits.get(name))
            if other.get(name) is not None and demand(other[name]) > demand(asked):
                stricter[name] = other[name]
    return {**traits, **stricter} if stricter else traits


def _pause(value: object) -> float:
    """In days since the year 1, 0 for none."""
    try:
        day = read_day(value)
    except Reject:
        day = date.max
    return day.toordinal() if day else 0


def _gap(value: object) -> float:
    """In seconds, 0 for the usual one."""
    try:
        pace = read_pace(value)
    except Reject:
        return max(GAPS.values()).total_seconds()
    return GAPS[pace].total_seconds() if pace else 0


def slower_pace(traits: Mapping[str, Any], sends: Sequence[datetime], now: datetime) -> Over | None:
    """A slower pace that the lead has asked for, the slowest where it cannot be read (N9)."""
    try:
        pace = read_pace(traits.get(PACE))
    except Reject:
        pace = max(GAPS, key=lambda name: GAPS[name])
    if pace is None or not sends or now - max(sends) >= GAPS[pace]:
        return None
    return Over(max(sends) + GAPS[pace], f"the lead has asked for a {pace} mail at most")


def cap_reached(cadence: Cadence, sends: Sequence[datetime], now: datetime) -> Over | None:
    """The playbook's caps, over all programs, and its least gap between two touches (N5). A cap has
    passed when enough of the touches in its days have fallen out.
    """
    reached = [over for cap in cadence.all_caps if (over := _over_cap(cap, sends, now))]
    if reached:
        return max(reached)
    apart = timedelta(hours=cadence.min_hours_between)
    if sends and now - max(sends) < apart:
        why = f"the last touch was less than {cadence.min_hours_between:g} hours ago"
        return Over(max(sends) + apart, why)
    return None


def _over_cap(cap: Cap, sends: Sequence[datetime], now: datetime) -> Over | None:
    span = timedelta(days=cap.days)
    within = sorted(sent_at for sent_at in sends if now - sent_at < span)
    if len(within) < cap.max:
        return None
    days = "seven days" if cap.days == 7 else f"{cap.days} days"
    return Over(within[len(within) - cap.max] + span, f"{len(within)} touches in {days}")
