"""The hand-offs of a day: which are to be called and why, which were handled, and what follows."""

import uuid
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
GROUPED = "CASE WHEN again_on IS NULL THEN kind WHEN again_on < :today THEN '-' ELSE '+' END"
MEETINGS = "status = 'accepted' AND meeting_on >= :today"
ANSWERED = ("accepted", "rejected", "disqualified", "returned")


class Handled(NamedTuple):
    """A hand-off that was answered today, when, and until when that can be taken back."""

    handoff: Handoff
    at: datetime
    undo_until: datetime | None


class Day(NamedTuple):
    """`due` hand-offs, the likeliest of each group, of `waiting` in all, and for which of them
    sales had `named` a day; `handled` ones, the latest first; those to be called, or met, `later`,
    the earliest first; and those that are `next` when there is room, the likeliest first.
    """

    due: list[Handoff]
    named: dict[uuid.UUID, date]
    waiting: int
    handled: list[Handled]
    later: list[Handoff]
    next: list[Handoff]


def group_of(handoff: Handoff, today: date, named: date | None = None) -> Group:
    """Why a hand-off is to be called: the call agreed for today, or the day that sales had named;
    one that is overdue since nobody was reached; else its kind.
    """
    if handoff.again_on is None:
        return "follow_up" if named else handoff.kind
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
    in_turn = f"row_number() OVER (PARTITION BY {GROUPED} ORDER BY {likeliest})"
    urgent = "(kind = 'raised_hand') DESC"
    agreed = "CASE status WHEN 'open' THEN again_on ELSE meeting_on END, id"
    later = f"({is_open} AND again_on > :today) OR ({whose} AND {MEETINGS})"
    due = await read(is_due, f"{in_turn}, {urgent}, id", MOST_DUE, **at)
    return Day(
        due,
        await _named(connection, due),
        await value(connection, f"SELECT count(*) FROM scorer.handoff WHERE {is_due}", **at),
        await _handled(connection, whose, begun, today, given),
        await read(later, agreed, MOST_FOLLOWING, **at),
        await read(f"{whose} AND status = 'next'", likeliest, MOST_FOLLOWING, **given),
    )


async def _named(connection: AsyncConnection, due: Sequence[Handoff]) -> dict[uuid.UUID, date]:
    """Those that came back on the day that sales had named with its last answer."""
    found = await rows(
        connection,
        "SELECT h.id, before.until FROM scorer.handoff h JOIN scorer.handoff before "
        "ON before.lead_id = h.lead_id AND before.answered_at = h.opener_at "
        "WHERE h.id = ANY(:ids) AND h.kind = 'ready' AND before.until IS NOT NULL",
        ids=[each.id for each in due],
    )
    return {row.id: row.until for row in found}


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
    return [Handled(handoff_of(row), row.latest, row.undo_until) for row in found]
