"""The scorer's tables: events, leads and their states; reads and writes in batches, never
commits.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
from asyncpg import UniqueViolationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.failing import NOT_FAILING
from services.scorer.list_keys import NO_STATUS, SALES_RANKS
from services.scorer.model.search_words import search_text
from services.scorer.records import (
    Announcement,
    IncomingEvent,
    LastAnnounced,
    LeadRow,
    StageChange,
    State,
    StoredEvent,
    lead_row,
    state_of,
)
from services.shared.clock import from_us
from services.shared.contracts.event_types import MILESTONES
from services.shared.contracts.events import (
    Touch,
    TouchEvent,
    decode_interaction,
    derived,
    encode_bytes,
)
from services.shared.contracts.identity import KINDS, OURS, Identifier
from services.shared.contracts.provenance import decode_provenance, encode_provenance
from services.shared.db import Table, copy, overwrite, rows
from services.shared.errors import Retry
from services.shared.telemetry import STAGE_CHANGES

SLICE = 1_000  # stored events in hand at once
USUAL = 16  # identifiers that few leads have more of
MOST_OF_A_KIND = 1_001  # identifiers; whoever has more than a thousand is no person
STRONGEST_FIRST = attrgetter("rank")
pack = msgspec.msgpack.Encoder().encode
EVENT = Table("scorer", "event", {
    "uid": "uuid", "lead_id": "uuid", "anchor": "bigint", "weaker": "bigint[]",
    "occurred_at": "bigint", "received_at": "timestamptz", "source": "text", "digest": "bytea",
    "conflict": "boolean", "flags": "text", "body": "text",
})  # fmt: skip
LEAD = Table("scorer", "lead", {
    "id": "uuid", "version": "bigint", "profile": "bytea", "provisional": "boolean",
    "excluded": "text", "engaged_at": "timestamptz", "publish_at": "bigint",
    "merged_into": "uuid", "search": "text", "account": "bigint", "draw": "float8",
}, key=("id",))  # fmt: skip
STATE = Table("scorer", "lead_state", {
    "lead_id": "uuid", "product": "text", "fold_hash": "text", "record": "bytea",
    "pending": "bytea", "last_at": "bigint", "last_uid": "text", "stage": "text",
    "likelihood": "float8", "fit": "float8", "engagement": "float8", "qualified": "boolean",
    "listed": "boolean", "last_event_at": "bigint", "as_of": "bigint", "next_review_at": "bigint",
    "announced_stage": "text", "announced_seq": "int", "announced_at": "timestamptz",
    "sales_rank": "smallint", "company_key": "bigint",
}, key=("lead_id", "product"))  # fmt: skip
ANNOUNCEMENT = Table("scorer", "announcement", {
    "id": "uuid", "lead_id": "uuid", "product": "text", "seq": "int", "from_stage": "text",
    "stage": "text", "cause": "text", "cause_at": "timestamptz", "cause_event": "text",
    "likelihood": "float8", "fold_hash": "text", "announced_at": "timestamptz",
    "previous_at": "timestamptz",
})  # fmt: skip
LEAD_COLUMNS = "id, version, profile, provisional, excluded, engaged_at, publish_at, handoff"
STATE_COLUMNS = (
    "lead_id, product, fold_hash, record, pending, last_at, last_uid, stage, likelihood, "
    "qualified, announced_stage, announced_seq, announced_at, as_of, next_review_at"
)

_PAIRS = "unnest(CAST(:old AS uuid[]), CAST(:new AS uuid[])) AS m(old, new)"
_MERGE = (
    "DELETE FROM scorer.lead_state WHERE lead_id = ANY(:old)",
    f"UPDATE scorer.touch t SET lead_id = m.new FROM {_PAIRS} WHERE t.lead_id = m.old",
    f"UPDATE scorer.touch_result r SET lead_id = m.new FROM {_PAIRS} WHERE r.lead_id = m.old",
    "INSERT INTO scorer.entry AS e SELECT DISTINCT ON (m.new) m.new, o.entered_at, "
    f"o.announcement_id FROM scorer.entry o JOIN {_PAIRS} ON o.lead_id = m.old "
    "ORDER BY m.new, o.entered_at, o.lead_id ON CONFLICT (lead_id) DO UPDATE "
    "SET entered_at = excluded.entered_at, announcement_id = excluded.announcement_id "
    "WHERE excluded.entered_at < e.entered_at",
    "DELETE FROM scorer.entry WHERE lead_id = ANY(:old)",
    # those that were merged into them before, then themselves
    f"UPDATE scorer.lead l SET merged_into = m.new FROM {_PAIRS} WHERE l.merged_into = m.old",
    f"UPDATE scorer.lead l SET merged_into = m.new, publish_at = NULL FROM {_PAIRS} "
    "WHERE l.id = m.old",
)


class Store:
    """Access to the scorer's tables inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @property
    def connection(self) -> AsyncConnection:
        """The transaction's connection."""
        return self._connection

    # -- events -----------------------------------------------------------------------------------

    async def stored(self, uids: Iterable[str]) -> dict[str, StoredEvent]:
        """Stored events under these ids, by id."""
        found = await rows(
            self._connection,
            "SELECT uid, occurred_at, digest, lead_id, anchor, weaker, conflict, received_at "
            "FROM scorer.event WHERE uid = ANY(:uids)",
            uids=list(uids),
        )
        return {
            row.uid.hex: StoredEvent(
                row.uid, row.occurred_at, row.digest.hex(), row.lead_id, row.anchor, row.weaker,
                row.conflict, row.received_at,
            )
            for row in found
        }  # fmt: skip

    async def flag_conflicts(self, uids: Iterable[uuid.UUID]) -> None:
        """Marks events whose id came with another body. Raises Retry where another process took
        one of them away.
        """
        wanted = set(uids)
        marked = await rows(
            self._connection,
            "UPDATE scorer.event SET conflict = true WHERE uid = ANY(:uids) RETURNING uid",
            uids=list(wanted),
        )
        if len(marked) < len(wanted):
            raise Retry("another process took an event away whose id came with another body")

    async def remove(self, events: Iterable[StoredEvent]) -> list[Any]:
        """Takes events out of the set; returns their rows. Raises Retry where another process
        marked or took one meanwhile.
        """
        conflicts = {event.uid: event.conflict for event in events}
        removed = await rows(
            self._connection,
            "DELETE FROM scorer.event WHERE uid = ANY(:uids) "
            "RETURNING uid, lead_id, occurred_at, received_at, conflict, body",
            uids=list(conflicts),
        )
        if {row.uid: row.conflict for row in removed} != conflicts:
            raise Retry("another process changed an event that another body replaces")
        await self._run("DELETE FROM scorer.milestone WHERE uid = ANY(:uids)", uids=list(conflicts))
        return removed

    async def insert(
        self, events: Sequence[IncomingEvent], numbers: Mapping[Identifier, int]
    ) -> None:
        """Adds events in id order, their identifiers by the numbers of their rows.

        Raises Retry where another process was faster with one of them.
        """
        new = [
            (
                event.uid, event.lead, numbers[event.strongest],
                [numbers[identifier] for identifier in event.linked], event.at, event.received_at,
                event.source, bytes.fromhex(event.digest), event.conflict,
                encode_provenance(event.provenance), event.body,
            )
            for event in sorted(events, key=attrgetter("uid"))
        ]  # fmt: skip
        try:
            await copy(self._connection, EVENT, new)
        except UniqueViolationError as error:
            raise Retry("another process was faster with some of these events") from error
        if milestones := [event for event in events if event.data.type in MILESTONES]:
            await self._run(
                "INSERT INTO scorer.milestone SELECT * FROM unnest("
                "CAST(:uids AS uuid[]), CAST(:types AS text[])) "
                "ON CONFLICT (uid) DO UPDATE SET type = excluded.type",
                uids=[event.uid for event in milestones],
                types=[event.data.type for event in milestones],
            )

    async def received_since(
        self, lead: uuid.UUID, moment: datetime
    ) -> AsyncIterator[IncomingEvent]:
        """Events of one lead that were received from `moment` on, in the order of the fold; without
        their identifiers.
        """
        at, uid = -(1 << 62), uuid.UUID(int=0)
        while found := await rows(
            self._connection,
            "SELECT uid, occurred_at, digest, received_at, source, flags, conflict, body "
            "FROM scorer.event WHERE lead_id = :lead AND received_at >= :moment "
            "AND (occurred_at, uid) > (:at, :uid) ORDER BY occurred_at, uid LIMIT :slice",
            lead=lead, moment=moment, at=at, uid=uid, slice=SLICE,
        ):  # fmt: skip
            for row in found:
                yield IncomingEvent(
                    row.uid.hex, row.occurred_at, row.digest.hex(), row.received_at, row.source,
                    decode_provenance(row.flags), 0.0, decode_interaction(row.body), row.body, [],
                    row.conflict,
                )  # fmt: skip
            at, uid = found[-1].occurred_at, found[-1].uid

    # -- leads ------------------------------------------------------------------------------------

    async def lock(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, LeadRow]:
        """Locks these leads in the order of their ids; returns those that exist."""
        return await self._locked(leads, "FOR UPDATE")

    async def lock_free(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, LeadRow]:
        """The same, but for leads that others have locked."""
        return await self._locked(leads, "FOR UPDATE SKIP LOCKED")

    async def _locked(self, leads: Iterable[uuid.UUID], lock: str) -> dict[uuid.UUID, LeadRow]:
        found = await rows(
            self._connection,
            f"SELECT {LEAD_COLUMNS} FROM scorer.lead WHERE id = ANY(:ids) ORDER BY id {lock}",
            ids=sorted(leads),
        )
        return {row.id: lead_row(row) for row in found}

    async def due(self, now: int, limit: int) -> list[uuid.UUID]:
        """Leads of states whose review is due (µs), and leads that are to be published, of each the
        longest due first; none that fails.
        """
        found = await rows(
            self._connection,
            f"(SELECT lead_id FROM scorer.lead_state s WHERE next_review_at <= :now AND "
            f"{NOT_FAILING} ORDER BY next_review_at LIMIT {limit:d}) UNION ALL "
            "(SELECT s.lead_id FROM (SELECT id AS lead_id, publish_at FROM scorer.lead) s "
            f"WHERE publish_at <= :now AND {NOT_FAILING} ORDER BY publish_at LIMIT {limit:d})",
            now=now,
        )
        return [row.lead_id for row in found]

    async def outdated(
        self, fold_hash: str, products: Sequence[str], limit: int
    ) -> list[uuid.UUID]:
        """Leads of states of these products under another playbook or model; none that fails."""
        found = await rows(
            self._connection,
            "SELECT lead_id FROM scorer.lead_state s WHERE fold_hash <> :fold_hash "
            f"AND product = ANY(:products) AND {NOT_FAILING} LIMIT {limit:d}",
            fold_hash=fold_hash,
            products=list(products),
        )
        return [row.lead_id for row in found]

    async def retire_products(self, products: Sequence[str], limit: int) -> int:
        """So many states of other products than these are neither listed nor reviewed from here
        on; they stay, for the numbers of their announcements must not be given again. Returns how
        many there were.
        """
        found = await rows(
            self._connection,
            "UPDATE scorer.lead_state SET listed = false, next_review_at = NULL "
            "WHERE (lead_id, product) IN (SELECT lead_id, product FROM scorer.lead_state "
            "WHERE product <> ALL(:products) AND (listed OR next_review_at IS NOT NULL) "
            f"LIMIT {limit:d}) RETURNING 1",
            products=list(products),
        )
        return len(found)

    async def states(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, dict[str, State]]:
        """Stored states of these leads by product."""
        found = await rows(
            self._connection,
            f"SELECT {STATE_COLUMNS} FROM scorer.lead_state WHERE lead_id = ANY(:leads)",
            leads=list(leads),
        )
        states: dict[uuid.UUID, dict[str, State]] = defaultdict(dict)
        for row in found:
            states[row.lead_id][row.product] = state_of(row)
        return states

    async def identifiers(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[Identifier]]:
        """Identifiers by lead, strongest first, of each kind MOST_OF_A_KIND at most, those of our
        touches last; an anonymous id split by time is nobody's alone.
        """
        wanted = list(leads)
        most = MOST_OF_A_KIND + USUAL * len(wanted)
        found = await rows(
            self._connection,
            "SELECT lead_id, kind, value FROM scorer.identifier WHERE lead_id = ANY(:leads) "
            f"LIMIT {most:d}",
            leads=wanted,
        )
        if len(found) > MOST_OF_A_KIND and _has_more(found, most):
            found = await self._first_identifiers(wanted)
        identifiers: dict[uuid.UUID, list[Identifier]] = defaultdict(list)
        for lead, kind, value in found:
            identifiers[lead].append(Identifier.from_text(KINDS[kind], value))
        for names in identifiers.values():
            names.sort(key=STRONGEST_FIRST)
        return identifiers

    async def _first_identifiers(self, leads: Sequence[uuid.UUID]) -> list[Any]:
        return await rows(
            self._connection,
            "SELECT lead_id, kind, value FROM (SELECT lead_id, kind, value, row_number() OVER ("
            'PARTITION BY lead_id, kind ORDER BY starts_with(value, :ours), value COLLATE "C") '
            "AS place FROM scorer.identifier WHERE lead_id = ANY(:leads)) i WHERE place <= :most",
            leads=leads,
            ours=OURS,
            most=MOST_OF_A_KIND,
        )

    async def merged_into(self, lead: uuid.UUID) -> dict[uuid.UUID, datetime | None]:
        """The leads that were merged into this one, with when others were last told of each."""
        found = await rows(
            self._connection,
            "SELECT id, engaged_at FROM scorer.lead WHERE merged_into = :lead ORDER BY id",
            lead=lead,
        )
        return {row.id: row.engaged_at for row in found}

    async def in_use(self, leads: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Those of the leads that still have an identifier or an event."""
        found = await rows(
            self._connection,
            # EXISTS might be a hash of the whole table; in the order of its index none is needed
            "SELECT id FROM unnest(CAST(:leads AS uuid[])) AS w(id) WHERE coalesce("
            "(SELECT true FROM scorer.identifier i WHERE i.lead_id = w.id LIMIT 1), "
            "(SELECT true FROM scorer.event e WHERE e.lead_id = w.id "
            "ORDER BY occurred_at, uid LIMIT 1))",
            leads=list(leads),
        )
        return {row.id for row in found}

    async def write(self, leads: Sequence[LeadRow], fold_hash: str) -> None:
        """Leads and their states: the created ones appended, the others written over."""
        leads = sorted(leads, key=attrgetter("id"))
        created = [lead for lead in leads if lead.created]
        known = [lead for lead in leads if not lead.created]
        if created:
            await copy(self._connection, LEAD, map(_lead_values, created))
            await copy(self._connection, STATE, _state_values(created, fold_hash))
        await overwrite(self._connection, LEAD, [*map(_lead_values, known)])
        await overwrite(self._connection, STATE, [*_state_values(known, fold_hash)])

    async def merge(self, merged_away: Mapping[uuid.UUID, uuid.UUID]) -> None:
        """Notes into which leads others were merged; their history stays, their states and touches
        follow.
        """
        if not merged_away:
            return
        old, new = (list(column) for column in zip(*sorted(merged_away.items()), strict=True))
        for statement in _MERGE:
            values = {"old": old} | ({"new": new} if ":new" in statement else {})
            await self._run(statement, **values)

    # -- announcements and touches ----------------------------------------------------------------

    async def announce(
        self,
        leads: Mapping[uuid.UUID, LeadRow],
        changes: Sequence[StageChange],
        now: datetime,
        fold_hash: str,
    ) -> list[Announcement]:
        """Numbers stage changes of leads in hand and appends them; a number is given once."""
        announcements = []
        for change in changes:
            state = leads[change.lead].states[change.product]
            before = state.announced
            state.announced = LastAnnounced(change.stage, before.seq + 1, now)
            announcements.append(_numbered(change, before, now, fold_hash))
            STAGE_CHANGES.labels(change.stage, change.cause).inc()
        if announcements:
            await copy(self._connection, ANNOUNCEMENT, map(_announcement_values, announcements))
        return announcements

    async def keep_announced(self, lead: uuid.UUID, announced: Mapping[str, LastAnnounced]) -> None:
        """Notes by product what was announced last of a lead whose states cannot be written."""
        for product, last in sorted(announced.items()):
            await self._run(
                "INSERT INTO scorer.lead_state (lead_id, product, fold_hash, record, pending, "
                "last_at, last_uid, stage, fit, engagement, qualified, listed, last_event_at, "
                "as_of, announced_stage, announced_seq, announced_at) VALUES (:lead, :product, '', "
                "'', '', 0, '', :stage, 0, 0, false, false, 0, 0, :stage, :seq, :at) "
                "ON CONFLICT (lead_id, product) DO UPDATE SET announced_stage = :stage, "
                "announced_at = :at",
                lead=lead,
                product=product,
                stage=last.stage,
                seq=last.seq,
                at=last.at,
            )

    async def keep_touches(self, touches: Iterable[TouchEvent]) -> None:
        """What became of touches, for timelines: the later event of each; under the lead that they
        were merged into.
        """
        in_order = sorted(touches, key=lambda event: (event.time, event.type))
        latest = {event.data.id: event for event in in_order}
        for event in latest.values():
            await self._keep_touch(event.data, event.time)

    async def _keep_touch(self, touch: Touch, at: datetime) -> None:
        await self._run(
            "INSERT INTO scorer.touch AS t (id, lead_id, status, reason, content, at, body) "
            "VALUES (:id, coalesce((SELECT merged_into FROM scorer.lead WHERE id = :lead), :lead), "
            ":status, :reason, :content, :at, :body) ON CONFLICT (id) DO UPDATE SET "
            "status = excluded.status, reason = excluded.reason, at = excluded.at, "
            "body = excluded.body WHERE t.status NOT IN ('sent', 'failed') "
            "AND (t.at <= excluded.at OR excluded.status = 'sent') "
            "AND (t.status <> 'unknown' OR excluded.status = 'sent')",
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


def _has_more(found: Sequence[Any], limit: int) -> bool:
    """Whether these identifiers may not be all, or are more of a kind than one lead shows."""
    if len(found) == limit:
        return True
    return max(Counter((row.lead_id, row.kind) for row in found).values()) > MOST_OF_A_KIND


def _numbered(
    change: StageChange, before: LastAnnounced, now: datetime, fold_hash: str
) -> Announcement:
    seq = before.seq + 1
    return Announcement(
        id=derived(change.lead, change.product, seq),
        lead_id=change.lead,
        product=change.product,
        seq=seq,
        from_stage=change.from_stage,
        stage=change.stage,
        cause=change.cause,
        cause_at=from_us(change.cause_at),
        cause_event=change.cause_event,
        likelihood=change.likelihood,
        fold_hash=fold_hash,
        announced_at=now,
        previous_at=before.at,
    )


def _announcement_values(announcement: Announcement) -> tuple[Any, ...]:
    return msgspec.structs.astuple(announcement)


def _lead_values(lead: LeadRow) -> tuple[Any, ...]:
    """A row of LEAD: what is written is merged into no other, wherever it was before."""
    return (
        lead.id, lead.version, pack(lead.profile), lead.provisional, lead.excluded,
        lead.engaged_at, lead.publish_at, None,
        search_text(lead.profile.known_traits(), lead.profile.email), lead.account, lead.draw,
    )  # fmt: skip


def _state_values(leads: Iterable[LeadRow], fold_hash: str) -> Iterator[tuple[Any, ...]]:
    """Rows of STATE of leads whose states have been viewed."""
    for lead in leads:
        for state in lead.states.values():
            if view := state.view:
                fold, announced = state.fold, state.announced
                yield (
                    lead.id, fold.product, fold_hash, fold.record, fold.pending, fold.last_at,
                    fold.last_uid, view.stage, view.likelihood, view.fit, view.engagement,
                    state.qualified, not lead.excluded, lead.profile.last_at, state.as_of,
                    view.next_review_at, announced.stage, announced.seq, announced.at,
                    SALES_RANKS[state.sales.status] if state.sales else NO_STATUS,
                    lead.company_key,
                )  # fmt: skip
