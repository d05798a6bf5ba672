"""The scorer's tables: events, leads and their states; reads and writes in batches, never commits."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.arrival import Arrival, Known
from services.scorer.journey import Event, Lane, View
from services.scorer.profile import Profile
from services.shared.db import rows
from services.shared.events import Touch, decode_interaction, encode_bytes
from services.shared.identity import Identifier, Kind
from services.shared.playbook import UNKNOWN

pack = msgspec.msgpack.Encoder().encode
unpack_profile = msgspec.msgpack.Decoder(Profile).decode
STATE_COLUMNS = (
    "lead_id, product, fold_hash, record, pending, last_at, last_uid, stage, likelihood, qualified, "
    "announced_stage, announced_seq, announced_at, as_of, next_review_at"
)


class Announced(NamedTuple):
    """What was last said of a (lead, product)."""

    stage: str = UNKNOWN
    seq: int = 0
    at: datetime | None = None


class State(msgspec.Struct):
    """A stored (lead, product): its lane, what was announced, and what the lists show."""

    lane: Lane
    fold_hash: str
    announced: Announced
    qualified: bool = False
    view: View | None = None
    as_of: int = 0


class LeadRow(msgspec.Struct):
    """A lead in hand: its row, its states by product, its identifiers."""

    id: uuid.UUID
    version: int = 0
    profile: Profile = msgspec.field(default_factory=Profile)
    provisional: bool = False
    excluded: str = ""
    engaged_at: datetime | None = None
    states: dict[str, State] = {}
    identifiers: list[Identifier] = []


def lead_row(row: Any) -> LeadRow:
    """A row of `scorer.lead` in hand."""
    return LeadRow(row.id, row.version, unpack_profile(row.profile), row.provisional, row.excluded, row.engaged_at)


class Store:
    """Access to the scorer's tables inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def known(self, uids: Iterable[str]) -> dict[str, Known]:
        """Stored events under these ids."""
        found = await rows(
            self._connection,
            "SELECT uid, occurred_at, digest, lead_id, anchor, weaker, conflict FROM scorer.event WHERE uid = ANY(:uids)",
            uids=[uuid.UUID(uid) for uid in uids],
        )
        return {r.uid.hex: Known(r.uid, r.occurred_at, r.digest.hex(), r.lead_id, r.anchor, r.weaker, r.conflict) for r in found}

    async def flag_conflicts(self, uids: Iterable[uuid.UUID]) -> None:
        """Marks events whose id came with another body."""
        await self._run("UPDATE scorer.event SET conflict = true WHERE uid = ANY(:uids)", uids=list(uids))

    async def remove(self, losers: Iterable[Known]) -> None:
        """Takes the losing bodies out of the set."""
        await self._run("DELETE FROM scorer.event WHERE uid = ANY(:uids)", uids=[loser.uid for loser in losers])

    async def insert(self, arrivals: Sequence[Arrival], ids: dict[Identifier, int]) -> set[str]:
        """Adds events in id order; returns those that were new, for another process may have been faster."""
        arrivals = sorted(arrivals, key=lambda arrival: arrival.uid)
        found = await rows(
            self._connection,
            "INSERT INTO scorer.event (uid, lead_id, anchor, weaker, occurred_at, received_at, source, digest, conflict, "
            "flags, body) SELECT uid, lead, anchor, CAST(weaker AS bigint[]), at, received, source, digest, conflict, "
            "flags, body FROM unnest(CAST(:uids AS uuid[]), CAST(:leads AS uuid[]), CAST(:anchors AS bigint[]), "
            "CAST(:weaker AS text[]), CAST(:ats AS bigint[]), CAST(:received AS timestamptz[]), CAST(:sources AS text[]), "
            "CAST(:digests AS bytea[]), CAST(:conflicts AS boolean[]), CAST(:flags AS text[]), CAST(:bodies AS text[])) "
            "AS n(uid, lead, anchor, weaker, at, received, source, digest, conflict, flags, body) "
            "ON CONFLICT (uid) DO NOTHING RETURNING uid",
            uids=[uuid.UUID(a.uid) for a in arrivals],
            leads=[a.lead for a in arrivals],
            anchors=[ids[a.ids[0]] for a in arrivals],
            weaker=["{" + ",".join(str(ids[one]) for one in a.ids[1:]) + "}" for a in arrivals],
            ats=[a.at for a in arrivals],
            received=[a.received_at for a in arrivals],
            sources=[a.source for a in arrivals],
            digests=[bytes.fromhex(a.digest) for a in arrivals],
            conflicts=[a.conflict for a in arrivals],
            flags=[a.flags for a in arrivals],
            bodies=[a.body for a in arrivals],
        )
        return {row.uid.hex for row in found}

    async def events(self, leads: Iterable[uuid.UUID], until: int | None = None) -> dict[uuid.UUID, list[Event]]:
        """All events of these leads (up to `until`), in the order of the fold."""
        found = await rows(
            self._connection,
            "SELECT lead_id, occurred_at, uid, body FROM scorer.event WHERE lead_id = ANY(:leads) "
            "AND occurred_at <= :until ORDER BY lead_id, occurred_at, uid",
            leads=list(leads), until=until if until is not None else (1 << 62),
        )  # fmt: skip
        out: dict[uuid.UUID, list[Event]] = defaultdict(list)
        for row in found:
            out[row.lead_id].append(Event(row.occurred_at, row.uid.hex, decode_interaction(row.body)))
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
            "SELECT lead_id, kind, value FROM scorer.identifier WHERE lead_id = ANY(:leads) ORDER BY kind, value",
            leads=list(leads),
        )
        out: dict[uuid.UUID, list[Identifier]] = defaultdict(list)
        for row in found:
            out[row.lead_id].append(Identifier(Kind(row.kind), row.value))
        return out

    async def write(self, leads: Sequence[LeadRow], fold_hash: str) -> None:
        """Upserts leads and their states, a version on."""
        leads = sorted(leads, key=lambda lead: lead.id)
        await self._run(
            "INSERT INTO scorer.lead AS l (id, version, profile, provisional, excluded, engaged_at) SELECT * FROM unnest("
            "CAST(:ids AS uuid[]), CAST(:versions AS bigint[]), CAST(:profiles AS bytea[]), CAST(:provisional AS boolean[]), "
            "CAST(:excluded AS text[]), CAST(:engaged AS timestamptz[])) ON CONFLICT (id) DO UPDATE SET "
            "version = excluded.version, profile = excluded.profile, provisional = excluded.provisional, "
            "excluded = excluded.excluded, engaged_at = excluded.engaged_at, merged_into = NULL",
            ids=[lead.id for lead in leads],
            versions=[lead.version for lead in leads],
            profiles=[pack(lead.profile) for lead in leads],
            provisional=[lead.provisional for lead in leads],
            excluded=[lead.excluded for lead in leads],
            engaged=[lead.engaged_at for lead in leads],
        )
        pairs = [(lead, state, view) for lead in leads for state in lead.states.values() if (view := state.view)]
        await self._run(
            "INSERT INTO scorer.lead_state (lead_id, product, fold_hash, record, pending, last_at, last_uid, stage, "
            "likelihood, fit, engagement, qualified, listed, last_event_at, as_of, next_review_at, announced_stage, "
            "announced_seq, announced_at) SELECT * FROM unnest(CAST(:leads AS uuid[]), CAST(:products AS text[]), "
            "CAST(:hashes AS text[]), CAST(:records AS bytea[]), CAST(:pendings AS bytea[]), CAST(:last_ats AS bigint[]), "
            "CAST(:last_uids AS text[]), CAST(:stages AS text[]), CAST(:likelihoods AS float8[]), CAST(:fits AS float8[]), "
            "CAST(:engagements AS float8[]), CAST(:qualified AS boolean[]), CAST(:listed AS boolean[]), "
            "CAST(:last_events AS bigint[]), CAST(:as_ofs AS bigint[]), CAST(:reviews AS bigint[]), "
            "CAST(:announced AS text[]), CAST(:seqs AS int[]), CAST(:announced_ats AS timestamptz[])) "
            "ON CONFLICT (lead_id, product) DO UPDATE SET fold_hash = excluded.fold_hash, record = excluded.record, "
            "pending = excluded.pending, last_at = excluded.last_at, last_uid = excluded.last_uid, stage = excluded.stage, "
            "likelihood = excluded.likelihood, fit = excluded.fit, engagement = excluded.engagement, "
            "qualified = excluded.qualified, listed = excluded.listed, last_event_at = excluded.last_event_at, "
            "as_of = excluded.as_of, next_review_at = excluded.next_review_at, announced_stage = excluded.announced_stage, "
            "announced_seq = excluded.announced_seq, announced_at = excluded.announced_at",
            leads=[lead.id for lead, _, _ in pairs],
            products=[state.lane.product for _, state, _ in pairs],
            hashes=[fold_hash for _ in pairs],
            records=[state.lane.record for _, state, _ in pairs],
            pendings=[state.lane.pending for _, state, _ in pairs],
            last_ats=[state.lane.last_at for _, state, _ in pairs],
            last_uids=[state.lane.last_uid for _, state, _ in pairs],
            stages=[view.stage for _, _, view in pairs],
            likelihoods=[view.likelihood for _, _, view in pairs],
            fits=[view.fit for _, _, view in pairs],
            engagements=[view.engagement for _, _, view in pairs],
            qualified=[state.qualified for _, state, _ in pairs],
            listed=[not lead.excluded for lead, _, _ in pairs],
            last_events=[lead.profile.last_at for lead, _, _ in pairs],
            as_ofs=[state.as_of for _, state, _ in pairs],
            reviews=[view.next_review_at for _, _, view in pairs],
            announced=[state.announced.stage for _, state, _ in pairs],
            seqs=[state.announced.seq for _, state, _ in pairs],
            announced_ats=[state.announced.at for _, state, _ in pairs],
        )

    async def merge(self, emptied: dict[uuid.UUID, uuid.UUID]) -> None:
        """Notes where emptied leads went; their history stays, their states and touches follow."""
        for old, new in sorted(emptied.items()):
            await self._run("DELETE FROM scorer.lead_state WHERE lead_id = :old", old=old)
            await self._run("UPDATE scorer.touch SET lead_id = :new WHERE lead_id = :old", old=old, new=new)
            await self._run("UPDATE scorer.lead SET merged_into = :new WHERE id = :old OR merged_into = :old", old=old, new=new)

    async def peopled(self, leads: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Those of the leads that still have an identifier or an event."""
        found = await rows(
            self._connection,
            "SELECT id FROM unnest(CAST(:leads AS uuid[])) AS w(id) WHERE EXISTS (SELECT 1 FROM scorer.identifier i "
            "WHERE i.lead_id = w.id) OR EXISTS (SELECT 1 FROM scorer.event e WHERE e.lead_id = w.id)",
            leads=list(leads),
        )
        return {row.id for row in found}

    async def announce(self, said: Sequence[dict[str, Any]]) -> None:
        """Appends announcements; a number is given once."""
        if said:
            await self._connection.execute(
                text(
                    "INSERT INTO scorer.announcement (id, lead_id, product, seq, from_stage, stage, cause, cause_at, "
                    "cause_event, likelihood, fold_hash, announced_at) VALUES (:id, :lead_id, :product, :seq, :from_stage, "
                    ":stage, :cause, :cause_at, :cause_event, :likelihood, :fold_hash, :announced_at)"
                ),
                list(said),
            )

    async def keep_touches(self, touches: Sequence[tuple[str, datetime, Touch]]) -> None:
        """What became of touches, for timelines: the later word of each; under the lead that lives."""
        latest = {touch.id: (touch, at) for _, at, touch in sorted(touches, key=lambda one: (one[1], one[0]))}
        for touch, at in latest.values():
            await self._run(
                "INSERT INTO scorer.touch AS t (id, lead_id, status, reason, content, at, body) VALUES (:id, "
                "coalesce((SELECT merged_into FROM scorer.lead WHERE id = :lead), :lead), :status, :reason, :content, :at, "
                ":body) ON CONFLICT (id) DO UPDATE SET status = excluded.status, reason = excluded.reason, "
                "at = excluded.at, body = excluded.body WHERE t.status NOT IN ('sent', 'failed') "
                "AND (t.at <= excluded.at OR excluded.status = 'sent') AND (t.status <> 'unknown' OR excluded.status = 'sent')",
                id=uuid.UUID(touch.id), lead=uuid.UUID(touch.lead), status=touch.status, reason=touch.reason,
                content=touch.content, at=at, body=encode_bytes(touch).decode(),
            )  # fmt: skip

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


def state_of(row: Any) -> State:
    """A row of `scorer.lead_state` in hand."""
    lane = Lane(row.product, row.record, row.pending, row.last_at, row.last_uid)
    announced = Announced(row.announced_stage, row.announced_seq, row.announced_at)
    return State(lane, row.fold_hash, announced, row.qualified, None, row.as_of)
