"""The hand-offs of a day: which are to be called and why, which were handled, and what follows."""

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.handoffs.answers import UNDO_FOR, UNDOABLE
from services.scorer.handoffs.records import Handoff, handoff_of
from services.scorer.handoffs.store import SELECTED
from services.shared.db import rows, value

Group = Literal["raised_hand", "ready", "reawakened", "not_reached", "follow_up"]
MOST_DUE, MOST_HANDLED, MOST_FOLLOWING = 50, 30, 10
ANSWERED = ("accepted", "rejected", "disqualified", "returned")


class Handled(NamedTuple):
    """A hand-off that was answered today, when, and until when that can be taken back."""

    handoff: Handoff
    at: datetime
    undo_until: datetime


class Day(NamedTuple):
    """`due` hand-offs, the raised hands first and then the likeliest, of `waiting` in all;
    `handled` ones, the latest first; those to be called `later`, the earliest first; and those
    that are `next` when there is room, the likeliest first.
    """

    due: list[Handoff]
    waiting: int
    handled: list[Handled]
    later: list[Handoff]
    next: list[Handoff]


def group_of(handoff: Handoff, today: date) -> Group:
    """Why a hand-off is to be called: the call agreed for today, one that is overdue since nobody
    was reached, else its kind.
    """
    if handoff.again_on is None:
        return handoff.kind
    return "not_reached" if handoff.again_on < today else "follow_up"


async def version(connection: AsyncConnection, now: datetime, zone: ZoneInfo) -> str:
    """A text that is another one once hand-offs have changed, or the day has."""
    latest = await value(connection, "SELECT max(at) FROM scorer.handoff_step")
    count = await value(
        connection, "SELECT count(*) FROM scorer.handoff WHERE status IN ('open', 'next')"
    )
    return f"{latest.isoformat() if latest else ''} {count} {now.astimezone(zone).date()}"


async def day_of(
    connection: AsyncConnection, owners: Sequence[str], now: datetime, zone: ZoneInfo
) -> Day:
    """The day of these owners ('' is nobody's; none: of all)."""
    today = now.astimezone(zone).date()
    begun = min(datetime.combine(today, time(), zone), now - UNDO_FOR)
    whose = "owner = ANY(:owners)" if owners else "true"
    given = {"owners": list(owners)} if owners else {}
    is_open = f"{whose} AND status = 'open' AND (expires_at IS NULL OR expires_at > :now)"
    is_due = f"{is_open} AND (again_on IS NULL OR again_on <= :today)"
    at = given | {"now": now, "today": today}

    async def read(condition: str, order: str, most: int, **values: Any) -> list[Handoff]:
        found = await rows(
            connection,
            f"SELECT {SELECTED} FROM scorer.handoff WHERE {condition} ORDER BY {order} "
            f"LIMIT {most:d}",
            **values,
        )
        return [handoff_of(row) for row in found]

    likeliest = "likelihood DESC NULLS LAST, coalesce(opened_at, detected_at), id"
    urgent = "(kind = 'raised_hand') DESC"
    return Day(
        await read(is_due, f"{urgent}, {likeliest}", MOST_DUE, **at),
        await value(connection, f"SELECT count(*) FROM scorer.handoff WHERE {is_due}", **at),
        await _handled(connection, whose, begun, today, given),
        await read(f"{is_open} AND again_on > :today", "again_on, id", MOST_FOLLOWING, **at),
        await read(f"{whose} AND status = 'next'", likeliest, MOST_FOLLOWING, **given),
    )


async def _handled(
    connection: AsyncConnection, whose: str, begun: datetime, today: date, given: dict[str, Any]
) -> list[Handled]:
    columns = ", ".join(f"h.{name.strip()}" for name in SELECTED.split(","))
    found = await rows(
        connection,
        f"SELECT {columns}, s.latest FROM (SELECT handoff_id, max(at) AS latest "
        "FROM scorer.handoff_step WHERE at >= :begun AND what = ANY(:undoable) "
        "GROUP BY handoff_id) AS s JOIN scorer.handoff h ON h.id = s.handoff_id "
        f"WHERE {whose} AND h.answer <> '' AND (h.status = ANY(:answered) OR (h.status = 'open' "
        "AND h.answer = 'not_reached' AND h.again_on > :today)) "
        f"ORDER BY s.latest DESC, h.id LIMIT {MOST_HANDLED:d}",
        begun=begun, undoable=list(UNDOABLE), answered=list(ANSWERED), today=today, **given,
    )  # fmt: skip
    return [Handled(handoff_of(row), row.latest, row.latest + UNDO_FOR) for row in found]
