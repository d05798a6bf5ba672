"""Has leads made again from their events."""

import uuid
from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.failing import FailingLeads
from services.shared.db import rows

CHOSEN = (
    "SELECT id FROM scorer.lead WHERE merged_into IS NULL AND (id = ANY(:leads) OR :failing "
    "AND id IN (SELECT lead_id FROM scorer.failing_lead))"
)


async def rebuild(engine: AsyncEngine, leads: Collection[uuid.UUID]) -> int:
    """Marks leads for the scorer's sweeper, all failing ones where none is named; returns how
    many.
    """
    async with engine.begin() as connection:
        found = await rows(connection, CHOSEN, leads=list(leads), failing=not leads)
        await FailingLeads(connection).ask_for(row.id for row in found)
    return len(found)
