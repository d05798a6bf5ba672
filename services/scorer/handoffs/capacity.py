"""How many leads sales takes a week, and which those are. Pure."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from services.scorer.handoffs.records import Handoff


def week_of(now: datetime, zone: ZoneInfo) -> datetime:
    """The Monday's first instant of the week in which `now` is."""
    local = now.astimezone(zone)
    monday = local.date() - timedelta(days=local.weekday())
    return datetime.combine(monday, time(), zone)


def room(capacity: int | None, opened: int) -> int | None:
    """How many more the week takes after so many were opened in it; None where it takes all."""
    return None if capacity is None else max(capacity - opened, 0)


def best(waiting: Sequence[Handoff], left: int | None) -> list[Handoff]:
    """Of those that wait the likeliest, as many as there is room for; of equal ones those that have
    waited longest.
    """
    ranked = sorted(
        waiting, key=lambda each: (-(each.likelihood or 0.0), each.detected_at, str(each.id))
    )
    return ranked if left is None else ranked[:left]
