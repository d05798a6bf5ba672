"""Events that are marked as a test: what would come of them is noted by address, and nothing of it
stays.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.records import IncomingEvent
from services.shared.contracts.identity import Kind
from services.shared.db import rows

KEPT = "interval '1 hour'"  # how long a result waits for whoever made the test
_LEADS = """SELECT i.value AS address, i.lead_id, s.stage,
    (SELECT count(*) FROM scorer.event e WHERE e.lead_id = i.lead_id) AS events
    FROM scorer.identifier i JOIN scorer.lead_state s ON s.lead_id = i.lead_id
    WHERE i.kind = :kind AND i.value = ANY(:addresses)"""
_KEEP = """INSERT INTO scorer.trial AS t (address, lead_id, stage, events)
    VALUES (:address, :lead_id, :stage, :events)
    ON CONFLICT (address) DO UPDATE SET lead_id = excluded.lead_id, stage = excluded.stage,
    events = t.events + excluded.events, at = excluded.at"""

Apply = Callable[[AsyncConnection, Sequence[IncomingEvent]], Awaitable[int]]


async def attempt(
    connection: AsyncConnection, events: Sequence[IncomingEvent], apply: Apply
) -> None:
    """Applies events as any others, reads the leads that they made, and rolls all of it back."""
    savepoint = await connection.begin_nested()
    try:
        await apply(connection, events)
        found = await rows(
            connection, _LEADS, kind=int(Kind.EMAIL), addresses=sorted(_addresses(events))
        )
    finally:
        if savepoint.is_active:
            await savepoint.rollback()
    await connection.execute(text(f"DELETE FROM scorer.trial WHERE at < now() - {KEPT}"))
    if found:
        await connection.execute(text(_KEEP), [dict(row._mapping) for row in found])


def _addresses(events: Iterable[IncomingEvent]) -> set[str]:
    return {
        identifier.value
        for event in events
        for identifier in event.identifiers
        if identifier.kind == Kind.EMAIL
    }
