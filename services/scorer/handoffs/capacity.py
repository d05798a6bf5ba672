"""How many leads sales takes a week. Pure."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo


def week_of(now: datetime, zone: ZoneInfo) -> datetime:
    """The Monday's first instant of the week in which `now` is."""
    local = now.astimezone(zone)
    monday = local.date() - timedelta(days=local.weekday())
    return datetime.combine(monday, time(), zone)


def room(capacity: int | None, opened: int) -> int | None:
    """How many more the week takes after so many were opened in it; None where it takes all."""
    return None if capacity is None else max(capacity - opened, 0)
