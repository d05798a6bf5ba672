"""Reads the readers of programs and what they have had."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.exhaustion import Reader
from services.nurture.store.leads import LeadStore
from services.nurture.store.snapshots import LeadKey
from services.shared.db import rows

PART = 2_000  # leads that are read at once


async def readers(
    connection: AsyncConnection, leads: LeadStore, now: datetime
) -> AsyncIterator[list[Reader]]:
    """All leads, part by part."""
    after = uuid.UUID(int=0)
    while True:
        found = await rows(
            connection,
            "SELECT DISTINCT lead_id FROM nurture.lead WHERE lead_id > :after "
            f"ORDER BY lead_id LIMIT {PART}",
            after=after,
        )
        if not found:
            return
        ids = [row.lead_id for row in found]
        after = ids[-1]
        programs: dict[str, frozenset[str]] = {}  # of those who were ever in one
        for row in await rows(
            connection,
            "SELECT lead_id, program, state FROM nurture.enrolment WHERE lead_id = ANY(:ids)",
            ids=ids,
        ):
            own = frozenset({row.program} if row.state == "active" else ())
            programs[str(row.lead_id)] = programs.get(str(row.lead_id), frozenset()) | own
        known = await leads.leads((LeadKey(str(lead), "") for lead in ids), now)
        yield [Reader(lead, programs.get(key.lead)) for key, lead in known.items()]
