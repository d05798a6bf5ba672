"""Reads the readers of programs and what they have had."""

import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.exhaustion import LOOK_BACK, Reader
from services.nurture.rules.lead import Lead
from services.nurture.store.snapshots import SnapshotStore
from services.shared.db import rows
from services.shared.playbook.sections import UNKNOWN

PART = 2_000  # leads that are read at once


async def readers(connection: AsyncConnection, now: datetime) -> AsyncIterator[list[Reader]]:
    """All leads who can be written to at all, part by part."""
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
        yield await _part(connection, ids, now)


async def _part(
    connection: AsyncConnection, ids: Sequence[uuid.UUID], now: datetime
) -> list[Reader]:
    seen: dict[str, set[str]] = defaultdict(set)
    for row in await _of(connection, "SELECT lead_id, content FROM nurture.seen", ids):
        seen[str(row.lead_id)].add(row.content)
    sent: Counter[str] = Counter()
    for row in await _of(
        connection,
        "SELECT lead_id, count(*) AS touches FROM nurture.touch",
        ids,
        "AND status IN ('sent', 'unknown') AND sent_at > :since GROUP BY lead_id",
        since=now - LOOK_BACK,
    ):
        sent[str(row.lead_id)] = row.touches
    programs: dict[str, frozenset[str]] = {}  # of those who were ever in one
    for row in await _of(connection, "SELECT lead_id, program, state FROM nurture.enrolment", ids):
        own = frozenset({row.program} if row.state == "active" else ())
        programs[str(row.lead_id)] = programs.get(str(row.lead_id), frozenset()) | own
    stored = await SnapshotStore(connection).stored(map(str, ids))
    return [
        Reader(
            Lead(key.lead, row.snapshot, seen=frozenset(seen[key.lead])),
            sent[key.lead],
            programs.get(key.lead),
        )
        for key, row in stored.items()
        if row.snapshot.stage != UNKNOWN and row.snapshot.email and not row.snapshot.excluded
    ]


async def _of(
    connection: AsyncConnection,
    select: str,
    ids: Sequence[uuid.UUID],
    rest: str = "",
    **values: Any,
) -> Sequence[Any]:
    statement = f"{select} WHERE lead_id = ANY(:ids) {rest}"
    return await rows(connection, statement, ids=list(ids), **values)
