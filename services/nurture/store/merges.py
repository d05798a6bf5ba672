"""Merges of leads: who goes on under whose id, and what follows."""

import uuid
from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.store.enrolments import EnrolmentStore
from services.nurture.store.lead_locks import lock_against_merges
from services.nurture.store.snapshots import SnapshotStore, uuids
from services.shared.db import rows


class LeadMerges:
    """Merges within one transaction; `inherited` are the identifiers that leads took over, by
    lead.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.inherited: dict[str, set[str]] = defaultdict(set)

    async def lock(self, leads: Iterable[str], merging: Iterable[str]) -> None:
        """Has nobody else merge these leads, or those under which they go on, until the end of the
        transaction; those that are `merging` here nobody else takes up either.
        """
        exclusive = {*merging}
        asked = exclusive.union(leads)
        locked: set[str] = set()
        while True:
            ids = await self.surviving(asked)
            wanted = asked | {*ids.values()}
            if wanted <= locked:
                return
            merged = exclusive | {ids[lead] for lead in exclusive}
            await lock_against_merges(self._connection, wanted, merged)
            locked |= wanted

    async def surviving(self, leads: Iterable[str]) -> dict[str, str]:
        """The id under which each lead goes on after merges."""
        ids = {lead: lead for lead in leads}
        found = await rows(
            self._connection,
            """WITH RECURSIVE step AS (
                SELECT lead_id, into_lead FROM nurture.merged WHERE lead_id = ANY(:ids)
                UNION SELECT s.lead_id, m.into_lead
                FROM step s JOIN nurture.merged m ON m.lead_id = s.into_lead)
            SELECT lead_id, into_lead FROM step s
            WHERE NOT EXISTS (SELECT 1 FROM nurture.merged m WHERE m.lead_id = s.into_lead)""",
            ids=uuids(ids),
        )
        return ids | {str(row.lead_id): str(row.into_lead) for row in found}

    async def merge(self, old: str, new: str) -> None:
        """Touches and content seen follow the person; merges may come twice and in any order."""
        new = (await self.surviving([new]))[new]
        if old == new:
            return
        for row in (await SnapshotStore(self._connection).stored([old])).values():
            self.inherited[new] |= row.snapshot.names
        self.inherited[new] |= self.inherited.pop(old, set())
        pair = {"old": uuid.UUID(old), "new": uuid.UUID(new)}
        for statement in _MERGE:
            await self._connection.execute(text(statement), pair)
        await EnrolmentStore(self._connection).merge(old, new)


_MERGE = (
    """INSERT INTO nurture.merged VALUES (:old, :new)
    ON CONFLICT (lead_id) DO UPDATE SET into_lead = :new""",
    "UPDATE nurture.merged SET into_lead = :new WHERE into_lead = :old",
    "DELETE FROM nurture.merged WHERE lead_id = into_lead",
    "UPDATE nurture.touch SET lead_id = :new WHERE lead_id = :old",
    """INSERT INTO nurture.seen AS s (lead_id, content, done_at)
    SELECT :new, content, done_at FROM nurture.seen WHERE lead_id = :old
    ON CONFLICT (lead_id, content) DO UPDATE SET done_at = greatest(s.done_at, excluded.done_at)""",
    "DELETE FROM nurture.seen WHERE lead_id = :old",
    """INSERT INTO nurture.pause AS p SELECT :new, until FROM nurture.pause WHERE lead_id = :old
    ON CONFLICT (lead_id) DO UPDATE SET until = greatest(p.until, excluded.until)""",
    "DELETE FROM nurture.pause WHERE lead_id = :old",
    """INSERT INTO nurture.asserted_stage AS s
    SELECT :new, stage, until FROM nurture.asserted_stage WHERE lead_id = :old
    ON CONFLICT (lead_id) DO UPDATE SET stage = excluded.stage, until = excluded.until
    WHERE (s.until, s.stage) < (excluded.until, excluded.stage)""",
    "DELETE FROM nurture.asserted_stage WHERE lead_id = :old",
    """INSERT INTO nurture.address_lead SELECT address, :new FROM nurture.address_lead
    WHERE lead_id = :old ON CONFLICT DO NOTHING""",
    "DELETE FROM nurture.address_lead WHERE lead_id = :old",
    "DELETE FROM nurture.lead WHERE lead_id = :old",
)
