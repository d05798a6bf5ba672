"""What nurture knows of leads: snapshots, content seen, merges, and what a person has set."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.cadence import LOOK_BACK
from services.nurture.rules.consent import latest
from services.nurture.rules.lead import Lead
from services.nurture.store.consents import CHANNEL, PURPOSE, ConsentStore
from services.shared.contracts.consent import snapshot_key
from services.shared.contracts.events import Change, Snapshot, keyed_hash
from services.shared.db import rows

pack = msgspec.msgpack.Encoder().encode
_CONSENT = snapshot_key(CHANNEL, PURPOSE)
unpack = msgspec.msgpack.Decoder(Snapshot).decode


class LeadKey(NamedTuple):
    """State is kept for each lead and product."""

    lead: str
    product: str


class SeenContent(NamedTuple):
    """Content that a lead has had, sent by us or found by itself."""

    lead: str
    content: str


class LeadStore:
    """Leads within one transaction; `pepper` hashes addresses as ingest does, touches of
    `request_programs` count towards no cap.
    """

    def __init__(
        self, connection: AsyncConnection, pepper: bytes, request_programs: Sequence[str]
    ) -> None:
        self._connection, self._pepper = connection, pepper
        self._request_programs = list(request_programs)

    async def surviving(self, leads: Iterable[str]) -> dict[str, str]:
        """The id under which each lead goes on after merges."""
        ids = {lead: lead for lead in leads}
        found = await rows(
            self._connection,
            "SELECT lead_id, into_lead FROM nurture.merged WHERE lead_id = ANY(:ids)",
            ids=_uuids(ids),
        )
        return ids | {str(row.lead_id): str(row.into_lead) for row in found}

    async def merge(self, old: str, new: str) -> None:
        """Touches and content seen follow the person; merges may come twice and in any order."""
        new = (await self.surviving([new]))[new]
        if old == new:
            return
        pair = {"old": uuid.UUID(old), "new": uuid.UUID(new)}
        for statement in _MERGE:
            await self._connection.execute(text(statement), pair)

    async def lock(self, leads: Iterable[str]) -> None:
        """Locks these leads, so that whoever decides or sends for them next sees what is done
        here.
        """
        await self._run(
            "SELECT 1 FROM nurture.lead WHERE lead_id = ANY(:ids) "
            "ORDER BY lead_id, product FOR UPDATE",
            ids=_uuids(sorted(set(leads))),
        )

    async def keep_snapshots(self, changes: Iterable[Change]) -> None:
        """Keeps the newest snapshot of each lead and product."""
        newest: dict[LeadKey, Change] = {}
        for change in changes:
            key = LeadKey(change.lead, change.product)
            if change.snapshot and change.version >= (newest[key].version if key in newest else -1):
                newest[key] = change
        kept = [newest[key] for key in sorted(newest)]
        await self._run(
            """INSERT INTO nurture.lead AS l SELECT * FROM unnest(CAST(:leads AS uuid[]),
                CAST(:products AS text[]), CAST(:versions AS bigint[]), CAST(:snapshots AS bytea[]))
            ON CONFLICT (lead_id, product) DO UPDATE
                SET version = excluded.version, snapshot = excluded.snapshot
                WHERE l.version <= excluded.version""",
            leads=_uuids(change.lead for change in kept),
            products=[change.product for change in kept],
            versions=[change.version for change in kept],
            snapshots=[pack(change.snapshot) for change in kept],
        )

    async def keep_seen(self, seen: Iterable[SeenContent]) -> None:
        """Adds content to what leads have had."""
        new = sorted(set(seen))
        if new:
            await self._run(
                """INSERT INTO nurture.seen SELECT * FROM unnest(CAST(:leads AS uuid[]),
                    CAST(:content AS text[])) ON CONFLICT DO NOTHING""",
                leads=_uuids(item.lead for item in new),
                content=[item.content for item in new],
            )

    async def leads(self, wanted: Iterable[LeadKey], now: datetime) -> dict[LeadKey, Lead]:
        """What is known of these leads for a decision; those without a snapshot are left out."""
        ids = sorted({key.lead for key in wanted})
        if not ids:
            return {}
        stages, pauses = await self._asserted_stages(ids, now), await self._pauses(ids, now)
        snapshots = await self._snapshots(ids)
        seen = await self._by_lead(
            "SELECT lead_id, content AS value FROM nurture.seen WHERE lead_id = ANY(:ids)", ids
        )
        sends = await self._by_lead(_SENDS, ids, since=now - LOOK_BACK,
            request_programs=self._request_programs)  # fmt: skip
        consents = await self._consents(snapshots.values())
        known = {}
        for key, snapshot in snapshots.items():
            if stage := stages.get(key.lead):
                snapshot = msgspec.structs.replace(snapshot, stage=stage)
            known[key] = Lead(
                id=key.lead,
                snapshot=snapshot,
                consent=latest([snapshot.consents.get(_CONSENT), consents.get(snapshot.email)]),
                seen=frozenset(seen.get(key.lead, ())),
                recent_sends=tuple(sends.get(key.lead, ())),
                paused_until=pauses.get(key.lead),
            )
        return known

    async def _snapshots(self, ids: Sequence[str]) -> dict[LeadKey, Snapshot]:
        found = await rows(
            self._connection,
            "SELECT lead_id, product, snapshot FROM nurture.lead WHERE lead_id = ANY(:ids)",
            ids=_uuids(ids),
        )
        return {LeadKey(str(row.lead_id), row.product): unpack(row.snapshot) for row in found}

    async def _asserted_stages(self, ids: Sequence[str], now: datetime) -> dict[str, str]:
        """Stages that a person asserted, while they hold."""
        found = await rows(
            self._connection,
            "SELECT lead_id, stage FROM nurture.asserted_stage "
            "WHERE lead_id = ANY(:ids) AND until > :now",
            ids=_uuids(ids), now=now,
        )  # fmt: skip
        return {str(row.lead_id): row.stage for row in found}

    async def _pauses(self, ids: Sequence[str], now: datetime) -> dict[str, datetime]:
        """Until when a person has paused leads, while that holds."""
        found = await rows(
            self._connection,
            "SELECT lead_id, until FROM nurture.pause WHERE lead_id = ANY(:ids) AND until > :now",
            ids=_uuids(ids), now=now,
        )  # fmt: skip
        return {str(row.lead_id): row.until for row in found}

    async def _consents(self, snapshots: Iterable[Snapshot]) -> dict[str, Any]:
        """Consents by address, as `lead.consents` brought them."""
        hashes = {
            snapshot.email: keyed_hash(self._pepper, f"email:{snapshot.email}")
            for snapshot in snapshots
            if snapshot.email
        }
        found = await ConsentStore(self._connection).latest(hashes.values())
        return {email: found[hashed] for email, hashed in hashes.items() if hashed in found}

    async def _by_lead(
        self, statement: str, ids: Sequence[str], **values: Any
    ) -> dict[str, list[Any]]:
        """Every `value` of a statement, by `lead_id`."""
        grouped: dict[str, list[Any]] = defaultdict(list)
        for row in await rows(self._connection, statement, ids=_uuids(ids), **values):
            grouped[str(row.lead_id)].append(row.value)
        return grouped

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


_SENDS = """SELECT lead_id, coalesce(sent_at, due_at) AS value FROM nurture.touch
    WHERE lead_id = ANY(:ids) AND status IN ('sending', 'sent', 'unknown')
    AND coalesce(sent_at, due_at) > :since
    AND program <> ALL(CAST(:request_programs AS text[]))"""
_MERGE = (
    """INSERT INTO nurture.merged VALUES (:old, :new)
    ON CONFLICT (lead_id) DO UPDATE SET into_lead = :new""",
    "UPDATE nurture.merged SET into_lead = :new WHERE into_lead = :old",
    "DELETE FROM nurture.merged WHERE lead_id = into_lead",
    "UPDATE nurture.touch SET lead_id = :new WHERE lead_id = :old",
    """INSERT INTO nurture.seen SELECT :new, content FROM nurture.seen WHERE lead_id = :old
    ON CONFLICT DO NOTHING""",
    "DELETE FROM nurture.seen WHERE lead_id = :old",
    """INSERT INTO nurture.pause AS p SELECT :new, until FROM nurture.pause WHERE lead_id = :old
    ON CONFLICT (lead_id) DO UPDATE SET until = greatest(p.until, excluded.until)""",
    "DELETE FROM nurture.pause WHERE lead_id = :old",
    """INSERT INTO nurture.asserted_stage AS s
    SELECT :new, stage, until FROM nurture.asserted_stage WHERE lead_id = :old
    ON CONFLICT (lead_id) DO UPDATE SET stage = excluded.stage, until = excluded.until
    WHERE (s.until, s.stage) < (excluded.until, excluded.stage)""",
    "DELETE FROM nurture.asserted_stage WHERE lead_id = :old",
    "DELETE FROM nurture.lead WHERE lead_id = :old",
)


def _uuids(texts: Iterable[str]) -> list[uuid.UUID]:
    return [uuid.UUID(text) for text in texts]
