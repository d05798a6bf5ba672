"""Nurture's tables: snapshots, permissions, content seen, touches; in batches, never commits."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.choice import Lead, latest
from services.shared.contracts.consent import snapshot_key
from services.shared.contracts.events import (
    Change,
    ConsentChanged,
    ConsentEvent,
    ConsentState,
    Snapshot,
    Touch,
    keyed_hash,
)
from services.shared.contracts.preferences import GAPS
from services.shared.db import rows

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Snapshot).decode
TOUCH_COLUMNS = (
    "id, announcement_id, program, lead_id, product, stage, content, channel, status, reason, "
    "why, propensity, "
    "decided_at, decision_ms, due_at, sent_at, attempts"
)
EMAIL, PURPOSE = "email", "marketing"
SENT_WITHIN = max(GAPS.values()) + timedelta(days=2)  # the longest look back that a decision takes


class Store:
    """Access inside one transaction; `pepper` hashes addresses as ingest does, `service` programs
    count towards no cap.
    """

    def __init__(
        self, connection: AsyncConnection, pepper: bytes, service: Sequence[str] = ()
    ) -> None:
        self._connection, self._pepper, self._service = connection, pepper, list(service)

    async def living(self, leads: Iterable[str]) -> dict[str, str]:
        """Under which id each lead lives on."""
        ids = {lead: lead for lead in leads}
        found = await rows(
            self._connection,
            "SELECT lead_id, into_lead FROM nurture.merged WHERE lead_id = ANY(:ids)",
            ids=_uuids(ids),
        )
        return ids | {str(row.lead_id): str(row.into_lead) for row in found}

    async def merge(self, old: str, new: str) -> None:
        """Touches and content seen follow the person; merging twice is merging once, in any
        order.
        """
        new = (await self.living([new]))[new]
        if old == new:
            return
        pair = {"old": uuid.UUID(old), "new": uuid.UUID(new)}
        for statement in (
            "INSERT INTO nurture.merged VALUES (:old, :new) ON CONFLICT (lead_id) DO UPDATE "
            "SET into_lead = :new",
            "UPDATE nurture.merged SET into_lead = :new WHERE into_lead = :old",
            "DELETE FROM nurture.merged WHERE lead_id = into_lead",
            "UPDATE nurture.touch SET lead_id = :new WHERE lead_id = :old",
            "INSERT INTO nurture.seen SELECT :new, content FROM nurture.seen WHERE lead_id = "
            ":old ON CONFLICT DO NOTHING",
            "DELETE FROM nurture.seen WHERE lead_id = :old",
            "INSERT INTO nurture.override SELECT :new, stage, paused, until FROM "
            "nurture.override WHERE lead_id = :old "
            "ON CONFLICT DO NOTHING",
            "DELETE FROM nurture.override WHERE lead_id = :old",
            "DELETE FROM nurture.lead WHERE lead_id = :old",
        ):
            await self._connection.execute(text(statement), pair)

    async def keep_snapshots(self, changes: Sequence[Change]) -> None:
        """Keeps the newest snapshot of each (lead, product)."""
        newest: dict[tuple[str, str], Change] = {}
        for change in changes:
            key = change.lead, change.product
            if change.snapshot and change.version >= (newest[key].version if key in newest else -1):
                newest[key] = change
        kept = [newest[key] for key in sorted(newest)]
        await self._run(
            "INSERT INTO nurture.lead AS l SELECT * FROM unnest(CAST(:leads AS uuid[]), "
            "CAST(:products AS text[]), "
            "CAST(:versions AS bigint[]), CAST(:snapshots AS bytea[])) ON CONFLICT (lead_id, "
            "product) DO UPDATE SET "
            "version = excluded.version, snapshot = excluded.snapshot WHERE l.version <= "
            "excluded.version",
            leads=_uuids(change.lead for change in kept),
            products=[change.product for change in kept],
            versions=[change.version for change in kept],
            snapshots=[pack(change.snapshot) for change in kept],
        )

    async def keep_seen(self, seen: Iterable[tuple[str, str]]) -> None:
        """Notes content that a lead has had, sent by us or found by itself."""
        pairs = sorted(set(seen))
        if pairs:
            await self._run(
                "INSERT INTO nurture.seen SELECT * FROM unnest(CAST(:leads AS uuid[]), "
                "CAST(:content AS text[])) ON CONFLICT DO NOTHING",
                leads=_uuids(lead for lead, _ in pairs),
                content=[content for _, content in pairs],
            )

    async def unheard(self, events: Sequence[ConsentEvent]) -> list[ConsentChanged]:
        """What the events say; of a word without a date of its own only what was heard first."""
        first: dict[str, ConsentEvent] = {}
        for event in events:
            if event.data.undated:
                first.setdefault(event.id, event)
        found = await rows(
            self._connection,
            "INSERT INTO nurture.undated_word SELECT * FROM unnest(CAST(:ids AS uuid[])) ON "
            "CONFLICT DO NOTHING RETURNING id",
            ids=_uuids(sorted(first)),
        )
        new = {str(row.id) for row in found}
        return [
            event.data
            for event in events
            if not event.data.undated or (event is first[event.id] and event.id in new)
        ]

    async def keep_consents(self, consents: Sequence[ConsentChanged]) -> None:
        """Keeps the last word for each address, channel and purpose; at equal times the refusal."""
        if not consents:
            return
        newest: dict[tuple[str, str, str], ConsentChanged] = {}
        for said in consents:
            key = said.address, said.channel, said.purpose
            if key not in newest or _rank(said) > _rank(newest[key]):
                newest[key] = said
        kept = [newest[key] for key in sorted(newest)]
        await self._run(
            "INSERT INTO nurture.consent AS c SELECT * FROM unnest(CAST(:addresses AS text[]), "
            "CAST(:channels AS text[]), "
            "CAST(:purposes AS text[]), CAST(:refused AS boolean[]), CAST(:bases AS text[]), "
            "CAST(:ats AS timestamptz[])) "
            "ON CONFLICT (address, channel, purpose) DO UPDATE SET refused = excluded.refused, "
            "basis = excluded.basis, "
            "said_at = excluded.said_at WHERE (c.said_at, c.refused) < (excluded.said_at, "
            "excluded.refused)",
            addresses=[said.address for said in kept],
            channels=[said.channel for said in kept],
            purposes=[said.purpose for said in kept],
            refused=[said.state == "withdrawn" for said in kept],
            bases=[said.basis for said in kept],
            ats=[said.at for said in kept],
        )

    async def leads(
        self, wanted: Iterable[tuple[str, str]], now: datetime
    ) -> dict[tuple[str, str], Lead]:
        """What is known of these (lead, product)s for a decision."""
        ids = sorted({lead for lead, _ in wanted})
        found = await rows(
            self._connection,
            "SELECT lead_id, product, snapshot FROM nurture.lead WHERE lead_id = ANY(:ids)",
            ids=_uuids(ids),
        )
        words = {
            str(row.lead_id): row
            for row in await rows(
                self._connection,
                "SELECT lead_id, stage, paused, until FROM nurture.override WHERE lead_id = "
                "ANY(:ids) AND until > :now",
                ids=_uuids(ids),
                now=now,
            )
        }
        snapshots = {(str(row.lead_id), row.product): unpack(row.snapshot) for row in found}
        for (lead, product), snapshot in snapshots.items():
            if lead in words and words[lead].stage:
                snapshots[lead, product] = msgspec.structs.replace(
                    snapshot, stage=words[lead].stage
                )
        addresses = {
            s.email: keyed_hash(self._pepper, f"email:{s.email}")
            for s in snapshots.values()
            if s.email
        }
        consents = await self._consents(addresses.values())
        seen = await self._grouped(
            "SELECT lead_id, content AS one FROM nurture.seen WHERE lead_id = ANY(:ids)", ids
        )
        sent = await self._grouped(
            "SELECT lead_id, coalesce(sent_at, due_at) AS one FROM nurture.touch WHERE lead_id "
            "= ANY(:ids) "
            "AND status IN ('sending', 'sent', 'unknown') AND coalesce(sent_at, due_at) > :since "
            "AND program <> ALL(CAST(:service AS text[]))",
            ids, since=now - SENT_WITHIN,
            service=self._service,
        )  # fmt: skip
        return {
            (lead, product): Lead(
                id=lead,
                snapshot=snapshot,
                consent=latest([
                    snapshot.consents.get(snapshot_key(EMAIL, PURPOSE)),
                    consents.get(addresses.get(snapshot.email, ""))
                ]),
                seen=frozenset(seen.get(lead, ())),
                sent=tuple(sent.get(lead, ())),
                paused_until=words[lead].until if lead in words and words[lead].paused else None,
            )
            for (lead, product), snapshot in snapshots.items()
        }  # fmt: skip

    async def _consents(self, addresses: Iterable[str]) -> dict[str, ConsentState]:
        found = await rows(
            self._connection,
            "SELECT address, refused, basis, said_at FROM nurture.consent "
            "WHERE address = ANY(:addresses) AND channel = :channel AND purpose = :purpose",
            addresses=list(addresses), channel=EMAIL, purpose=PURPOSE,
        )  # fmt: skip
        return {
            r.address: ConsentState("withdrawn" if r.refused else "given", r.said_at, r.basis)
            for r in found
        }

    async def _grouped(
        self, statement: str, ids: Sequence[str], **values: Any
    ) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = defaultdict(list)
        for row in await rows(self._connection, statement, ids=_uuids(ids), **values):
            out[str(row.lead_id)].append(row.one)
        return out

    async def decide(self, touches: Sequence[tuple[Touch, float | None]]) -> set[str]:
        """Adds decisions; one announcement has one touch a program. Returns the ids that
        are new.
        """
        found = await rows(
            self._connection,
            "INSERT INTO nurture.touch (id, announcement_id, program, lead_id, product, stage, "
            "content, channel, status, "
            "reason, why, propensity, decided_at, decision_ms, due_at) SELECT * FROM "
            "unnest(CAST(:ids AS uuid[]), "
            "CAST(:announcements AS uuid[]), CAST(:programs AS text[]), CAST(:leads AS "
            "uuid[]), CAST(:products AS text[]), "
            "CAST(:stages AS text[]), CAST(:contents AS text[]), CAST(:channels AS text[]), "
            "CAST(:statuses AS text[]), "
            "CAST(:reasons AS text[]), CAST(:whys AS text[]), CAST(:propensities AS float8[]), "
            "CAST(:decided AS timestamptz[]), CAST(:ms AS float8[]), CAST(:dues AS timestamptz[])) "
            "ON CONFLICT DO NOTHING RETURNING id",
            ids=_uuids(touch.id for touch, _ in touches),
            announcements=_uuids(touch.announcement for touch, _ in touches),
            programs=[touch.program for touch, _ in touches],
            leads=_uuids(touch.lead for touch, _ in touches),
            products=[touch.product for touch, _ in touches],
            stages=[touch.stage for touch, _ in touches],
            contents=[touch.content for touch, _ in touches],
            channels=[touch.channel for touch, _ in touches],
            statuses=[touch.status for touch, _ in touches],
            reasons=[touch.reason for touch, _ in touches],
            whys=[touch.why for touch, _ in touches],
            propensities=[touch.propensity for touch, _ in touches],
            decided=[touch.decided_at for touch, _ in touches],
            ms=[ms for _, ms in touches],
            dues=[touch.due_at for touch, _ in touches],
        )
        return {str(row.id) for row in found}

    async def due(self, now: datetime, limit: int) -> list[Touch]:
        """Locks touches whose time has come."""
        found = await rows(
            self._connection,
            f"SELECT {TOUCH_COLUMNS} FROM nurture.touch WHERE status = 'due' AND due_at <= :now "
            "ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED",
            now=now, limit=limit,
        )  # fmt: skip
        return [touch_of(row) for row in found]

    async def interrupted(self, seconds: float) -> list[Touch]:
        """Locks touches that were on the wire when their process ended."""
        found = await rows(
            self._connection,
            f"SELECT {TOUCH_COLUMNS} FROM nurture.touch WHERE status = 'sending' "
            "AND sending_since < clock_timestamp() - make_interval(secs => :seconds) FOR "
            "UPDATE SKIP LOCKED",
            seconds=seconds,
        )
        return [touch_of(row) for row in found]

    async def lock(self, leads: Iterable[str]) -> None:
        """Holds these leads until the end of the transaction: who decides or sends for them next
        sees what is done here.
        """
        await self._run(
            "SELECT 1 FROM nurture.lead WHERE lead_id = ANY(:ids) ORDER BY lead_id, product "
            "FOR UPDATE",
            ids=_uuids(sorted(set(leads))),
        )

    async def answered(self, announcements: Iterable[str]) -> set[str]:
        """Announcements that have a decision."""
        found = await rows(
            self._connection,
            "SELECT DISTINCT announcement_id FROM nurture.touch WHERE announcement_id = ANY(:ids)",
            ids=_uuids(announcements),
        )
        return {str(row.announcement_id) for row in found}

    async def mark(self, touch: Touch, *, was: Sequence[str], attempt: int = 0) -> bool:
        """Writes a touch's status, reason and times, if it still is what it `was`."""
        done = await self._connection.execute(
            text(
                "UPDATE nurture.touch SET status = :status, reason = :reason, why = :why, "
                "due_at = :due_at, sent_at = :sent_at, "
                "sending_since = CASE WHEN :status = 'sending' THEN clock_timestamp() END, "
                "attempts = attempts + :attempt WHERE id = :id AND status = ANY(:was)"
            ),
            {
                "id": uuid.UUID(touch.id),
                "status": touch.status,
                "reason": touch.reason,
                "why": touch.why,
                "due_at": touch.due_at,
                "sent_at": touch.sent_at,
                "attempt": attempt,
                "was": list(was),
            },
        )
        return bool(done.rowcount)

    async def anything_due(self, now: datetime) -> bool:
        """Whether the time of some touch has come."""
        return bool(
            await rows(
                self._connection,
                "SELECT 1 FROM nurture.touch WHERE status = 'due' AND due_at <= :now LIMIT 1",
                now=now,
            )
        )

    async def braked(self) -> bool:
        """Whether all sending is stopped."""
        return bool(await rows(self._connection, "SELECT 1 FROM nurture.brake"))

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


def touch_of(row: Any) -> Touch:
    """A row of `nurture.touch`."""
    return Touch(
        id=str(row.id), lead=str(row.lead_id), product=row.product,
        announcement=str(row.announcement_id),
        program=row.program, stage=row.stage, content=row.content, channel=row.channel,
        status=row.status,
        reason=row.reason, why=row.why, propensity=row.propensity, decided_at=row.decided_at,
        due_at=row.due_at,
        sent_at=row.sent_at,
    )  # fmt: skip


def _uuids(texts: Iterable[str]) -> list[uuid.UUID]:
    return [uuid.UUID(one) for one in texts]


def _rank(said: ConsentChanged) -> tuple[datetime, bool]:
    return said.at, said.state == "withdrawn"
