"""The scorer's tables: events, leads and their states; reads and writes in batches, never
commits.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
from asyncpg import UniqueViolationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.model.state import Event
from services.scorer.records import Arrival, Known, LeadRow, State, state_of
from services.shared.contracts.events import Touch, decode_interaction, encode_bytes
from services.shared.contracts.identity import KINDS, Identifier
from services.shared.db import Table, copy, overwrite, rows
from services.shared.errors import Retry

pack = msgspec.msgpack.Encoder().encode
EVENT = Table("scorer", "event", {
    "uid": "uuid", "lead_id": "uuid", "anchor": "bigint", "weaker": "bigint[]",
    "occurred_at": "bigint",
    "received_at": "timestamptz", "source": "text", "digest": "bytea", "conflict": "boolean",
    "flags": "text", "body": "text",
})  # fmt: skip
LEAD = Table("scorer", "lead", {
    "id": "uuid", "version": "bigint", "profile": "bytea", "provisional": "boolean",
    "excluded": "text",
    "engaged_at": "timestamptz", "merged_into": "uuid",
}, key=("id",))  # fmt: skip
STATE = Table("scorer", "lead_state", {
    "lead_id": "uuid", "product": "text", "fold_hash": "text", "record": "bytea",
    "pending": "bytea", "last_at": "bigint",
    "last_uid": "text", "stage": "text", "likelihood": "float8", "fit": "float8",
    "engagement": "float8",
    "qualified": "boolean", "listed": "boolean", "last_event_at": "bigint", "as_of": "bigint",
    "next_review_at": "bigint",
    "announced_stage": "text", "announced_seq": "int", "announced_at": "timestamptz",
}, key=("lead_id", "product"))  # fmt: skip
ANNOUNCEMENT = Table("scorer", "announcement", {
    "id": "uuid", "lead_id": "uuid", "product": "text", "seq": "int", "from_stage": "text",
    "stage": "text", "cause": "text",
    "cause_at": "timestamptz", "cause_event": "text", "likelihood": "float8", "fold_hash": "text",
    "announced_at": "timestamptz",
})  # fmt: skip
STATE_COLUMNS = (
    "lead_id, product, fold_hash, record, pending, last_at, last_uid, stage, likelihood, "
    "qualified, "
    "announced_stage, announced_seq, announced_at, as_of, next_review_at"
)


class Store:
    """Access to the scorer's tables inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def known(self, uids: Iterable[str]) -> dict[str, Known]:
        """Stored events under these ids."""
        found = await rows(
            self._connection,
            "SELECT uid, occurred_at, digest, lead_id, anchor, weaker, conflict FROM "
            "scorer.event WHERE uid = ANY(:uids)",
            uids=list(uids),
        )
        return {
            r.uid.hex: Known(
                r.uid, r.occurred_at, r.digest.hex(), r.lead_id, r.anchor, r.weaker, r.conflict
            )
            for r in found
        }

    async def flag_conflicts(self, uids: Iterable[uuid.UUID]) -> None:
        """Marks events whose id came with another body."""
        await self._run(
            "UPDATE scorer.event SET conflict = true WHERE uid = ANY(:uids)", uids=list(uids)
        )

    async def remove(self, losers: Iterable[Known]) -> None:
        """Takes the losing bodies out of the set."""
        await self._run(
            "DELETE FROM scorer.event WHERE uid = ANY(:uids)", uids=[loser.uid for loser in losers]
        )

    async def insert(self, arrivals: Sequence[Arrival], ids: dict[Identifier, int]) -> None:
        """Adds events in id order. Raises Retry where another process was faster with one
        of them.
        """
        new = [
            (
                a.uid, a.lead, ids[a.ids[0]], [ids[one] for one in a.ids[1:]], a.at, a.received_at,
                a.source,
                bytes.fromhex(a.digest), a.conflict, a.flags, a.body,
            )
            for a in sorted(arrivals, key=attrgetter("uid"))
        ]  # fmt: skip
        try:
            await copy(self._connection, EVENT, new)
        except UniqueViolationError as error:
            raise Retry("another process was faster with some of these events") from error

    async def events(
        self, leads: Iterable[uuid.UUID], until: int | None = None
    ) -> dict[uuid.UUID, list[Event]]:
        """All events of these leads (up to `until`), in the order of the fold."""
        found = await rows(
            self._connection,
            "SELECT lead_id, occurred_at, uid, body FROM scorer.event WHERE lead_id = ANY(:leads) "
            "AND occurred_at <= :until ORDER BY lead_id, occurred_at, uid",
            leads=list(leads), until=until if until is not None else (1 << 62),
        )  # fmt: skip
        out: dict[uuid.UUID, list[Event]] = defaultdict(list)
        for row in found:
            out[row.lead_id].append(
                Event(row.occurred_at, row.uid.hex, decode_interaction(row.body))
            )
        return out

    async def states(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, dict[str, State]]:
        """Stored states of these leads by product."""
        found = await rows(
            self._connection,
            f"SELECT {STATE_COLUMNS} FROM scorer.lead_state WHERE lead_id = ANY(:leads)",
            leads=list(leads),
        )
        out: dict[uuid.UUID, dict[str, State]] = defaultdict(dict)
        for row in found:
            out[row.lead_id][row.product] = state_of(row)
        return out

    async def identifiers(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[Identifier]]:
        """Identifiers by lead, strongest first; an anonymous id split by time is nobody's alone."""
        found = await rows(
            self._connection,
            "SELECT lead_id, kind, value FROM scorer.identifier WHERE lead_id = ANY(:leads)",
            leads=list(leads),
        )
        out: dict[uuid.UUID, list[Identifier]] = defaultdict(list)
        for lead, kind, value in found:
            out[lead].append(Identifier(KINDS[kind], value))
        for theirs in out.values():
            theirs.sort()
        return out

    async def write(self, leads: Sequence[LeadRow], fold_hash: str) -> None:
        """Leads and their states: the new ones appended, the others written over."""
        leads = sorted(leads, key=attrgetter("id"))
        born = [lead for lead in leads if lead.born]
        known = [lead for lead in leads if not lead.born]
        if born:
            await copy(self._connection, LEAD, map(_lead_values, born))
            await copy(self._connection, STATE, _state_values(born, fold_hash))
        await overwrite(self._connection, LEAD, [*map(_lead_values, known)])
        await overwrite(self._connection, STATE, [*_state_values(known, fold_hash)])

    async def merge(self, emptied: dict[uuid.UUID, uuid.UUID]) -> None:
        """Notes where emptied leads went; their history stays, their states and touches follow."""
        for old, new in sorted(emptied.items()):
            await self._run("DELETE FROM scorer.lead_state WHERE lead_id = :old", old=old)
            await self._run(
                "UPDATE scorer.touch SET lead_id = :new WHERE lead_id = :old", old=old, new=new
            )
            await self._run(
                "UPDATE scorer.lead SET merged_into = :new WHERE id = :old OR merged_into = :old",
                old=old,
                new=new,
            )

    async def peopled(self, leads: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Those of the leads that still have an identifier or an event."""
        found = await rows(
            self._connection,
            "SELECT id FROM unnest(CAST(:leads AS uuid[])) AS w(id) WHERE EXISTS (SELECT 1 "
            "FROM scorer.identifier i "
            "WHERE i.lead_id = w.id) OR EXISTS (SELECT 1 FROM scorer.event e WHERE e.lead_id = "
            "w.id)",
            leads=list(leads),
        )
        return {row.id for row in found}

    async def announce(self, said: Sequence[dict[str, Any]]) -> None:
        """Appends announcements; a number is given once."""
        if said:
            await copy(
                self._connection,
                ANNOUNCEMENT,
                [tuple(map(one.__getitem__, ANNOUNCEMENT.types)) for one in said],
            )

    async def keep_touches(self, touches: Sequence[tuple[str, datetime, Touch]]) -> None:
        """What became of touches, for timelines: the later word of each; under the lead
        that lives.
        """
        latest = {
            touch.id: (touch, at)
            for _, at, touch in sorted(touches, key=lambda one: (one[1], one[0]))
        }
        for touch, at in latest.values():
            await self._run(
                "INSERT INTO scorer.touch AS t (id, lead_id, status, reason, content, at, "
                "body) VALUES (:id, "
                "coalesce((SELECT merged_into FROM scorer.lead WHERE id = :lead), :lead), "
                ":status, :reason, :content, :at, "
                ":body) ON CONFLICT (id) DO UPDATE SET status = excluded.status, reason = "
                "excluded.reason, "
                "at = excluded.at, body = excluded.body WHERE t.status NOT IN ('sent', 'failed') "
                "AND (t.at <= excluded.at OR excluded.status = 'sent') AND (t.status <> "
                "'unknown' OR excluded.status = 'sent')",
                id=uuid.UUID(touch.id),
                lead=uuid.UUID(touch.lead),
                status=touch.status,
                reason=touch.reason,
                content=touch.content,
                at=at,
                body=encode_bytes(touch).decode(),
            )

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


def _lead_values(lead: LeadRow) -> tuple[Any, ...]:
    """A row of LEAD: what is written lives, wherever it was merged before."""
    return (
        lead.id,
        lead.version,
        pack(lead.profile),
        lead.provisional,
        lead.excluded,
        lead.engaged_at,
        None,
    )


def _state_values(leads: Iterable[LeadRow], fold_hash: str) -> Iterator[tuple[Any, ...]]:
    """Rows of STATE of the leads that were looked at."""
    for lead in leads:
        for state in lead.states.values():
            if view := state.view:
                folded, said = state.fold, state.announced
                yield (
                    lead.id, folded.product, fold_hash, folded.record, folded.pending,
                    folded.last_at,
                    folded.last_uid, view.stage,
                    view.likelihood, view.fit, view.engagement, state.qualified, not lead.excluded,
                    lead.profile.last_at,
                    state.as_of, view.next_review_at, said.stage, said.seq, said.at,
                )  # fmt: skip
