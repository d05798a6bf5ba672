"""The tables of hand-offs; reads and writes inside the caller's transaction, never commits."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.handoffs.owners import Load
from services.scorer.handoffs.records import COLUMNS, Handoff, handoff_of
from services.scorer.handoffs.rules import Noted
from services.shared.db import rows, value

SELECTED = ", ".join(COLUMNS)
MOST_OPENED = 200  # at once
OF_ACCOUNT = 1_000  # leads of a company that are looked at
LATELY = timedelta(days=28)  # that count in the round robin
INSERT = (
    f"INSERT INTO scorer.handoff ({SELECTED}) VALUES "
    f"({', '.join(f':{name}' for name in COLUMNS)}) ON CONFLICT (id) DO NOTHING"
)
UPDATE = (
    "UPDATE scorer.handoff SET "
    + ", ".join(f"{name} = :{name}" for name in COLUMNS if name != "id")
    + " WHERE id = :id"
)


class NoticeRow(NamedTuple):
    """What is to be told of a hand-off: by mail to a recipient, or by webhook."""

    id: uuid.UUID
    handoff_id: uuid.UUID
    what: str
    channel: str
    recipient: str
    body: str
    attempts: int = 0


class Page(NamedTuple):
    """Hand-offs of a list, and whether more follow."""

    handoffs: list[Handoff]
    has_more: bool


class HandoffStore:
    """Access to hand-offs inside one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    # -- hand-offs --------------------------------------------------------------------------------

    async def of_lead(self, lead: uuid.UUID, events: Iterable[str] = ()) -> list[Handoff]:
        """All hand-offs of a lead, and those that were opened for one of these events, locked, in
        the order of their ids.
        """
        found = await rows(
            self._connection,
            f"SELECT {SELECTED} FROM scorer.handoff WHERE lead_id = :lead "
            "OR opener = ANY(:events) ORDER BY id FOR UPDATE",
            lead=lead,
            events=[uuid.UUID(uid) for uid in events],
        )
        return [handoff_of(row) for row in found]

    async def get(self, handoff: uuid.UUID) -> Handoff | None:
        """One hand-off as it is."""
        found = await rows(
            self._connection, f"SELECT {SELECTED} FROM scorer.handoff WHERE id = :id", id=handoff
        )
        return handoff_of(found[0]) if found else None

    async def locked(self, handoff: uuid.UUID) -> Handoff | None:
        """One hand-off, locked."""
        found = await rows(
            self._connection,
            f"SELECT {SELECTED} FROM scorer.handoff WHERE id = :id FOR UPDATE",
            id=handoff,
        )
        return handoff_of(found[0]) if found else None

    async def page(
        self,
        *,
        statuses: Sequence[str],
        owner: str = "",
        after: tuple[datetime, uuid.UUID] | None = None,
        limit: int = 50,
    ) -> Page:
        """Hand-offs of these statuses (none: of all), the first detected first."""
        conditions, values = ["true"], {"limit": limit + 1}
        given: dict[str, Any] = {}
        if statuses:
            conditions.append("status = ANY(:statuses)")
            given["statuses"] = list(statuses)
        if owner:
            conditions.append("owner = :owner")
            given["owner"] = owner
        if after:
            conditions.append("(coalesce(opened_at, detected_at), id) > (:at, :id)")
            given["at"], given["id"] = after
        found = await rows(
            self._connection,
            f"SELECT {SELECTED} FROM scorer.handoff WHERE {' AND '.join(conditions)} "
            "ORDER BY coalesce(opened_at, detected_at), id LIMIT :limit",
            **values, **given,
        )  # fmt: skip
        handoffs = [handoff_of(row) for row in found]
        return Page(handoffs[:limit], len(handoffs) > limit)

    async def write(self, handoffs: Iterable[Handoff], new: Handoff | None = None) -> None:
        """Writes hand-offs, those that no longer wait first: of a lead one at most may."""
        unique = {each.id: each for each in handoffs if new is None or each.id != new.id}
        for each in sorted(unique.values(), key=lambda handoff: (handoff.is_waiting, handoff.id)):
            await self._run(UPDATE, **_values(each))
        if new:
            await self._run(INSERT, **_values(new))

    async def note(self, noted: Iterable[Noted]) -> None:
        """Appends steps to the histories of their hand-offs."""
        for each in noted:
            each.handoff.steps += 1
            await self._run(
                "INSERT INTO scorer.handoff_step (handoff_id, step, at, what, by, reason, until, "
                "note) VALUES (:id, :step, :at, :what, :by, :reason, :until, :note)",
                id=each.handoff.id, step=each.handoff.steps, at=each.at, what=each.what,
                by=each.by, reason=each.reason, until=each.until, note=each.note,
            )  # fmt: skip

    async def steps(self, handoff: uuid.UUID) -> list[Any]:
        """The history of a hand-off, in order: at, what, by, reason, until, note."""
        return await rows(
            self._connection,
            "SELECT at, what, by, reason, until, note FROM scorer.handoff_step "
            "WHERE handoff_id = :id ORDER BY step",
            id=handoff,
        )

    # -- leads ------------------------------------------------------------------------------------

    async def leads_of_events(self, events: Iterable[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
        """By event the lead that has it."""
        found = await rows(
            self._connection,
            "SELECT uid, lead_id FROM scorer.event WHERE uid = ANY(:uids)",
            uids=list(events),
        )
        return {row.uid: row.lead_id for row in found}

    async def first_event(self, lead: uuid.UUID) -> Any:
        """The first event of a lead: occurred_at (µs), uid, received_at; None where it has none."""
        found = await rows(
            self._connection,
            "SELECT occurred_at, uid, received_at FROM scorer.event WHERE lead_id = :lead "
            "ORDER BY occurred_at, uid LIMIT 1",
            lead=lead,
        )
        return found[0] if found else None

    async def flags_of(self, events: Iterable[str]) -> dict[str, str]:
        """What is noted of the provenance of these events, by id."""
        found = await rows(
            self._connection,
            "SELECT uid, flags FROM scorer.event WHERE uid = ANY(:uids)",
            uids=[uuid.UUID(uid) for uid in events],
        )
        return {row.uid.hex: row.flags for row in found}

    async def move(self, lead: uuid.UUID, into: uuid.UUID) -> None:
        """Gives the hand-offs of a lead to the one into which it was merged."""
        await self._run(
            "UPDATE scorer.handoff SET lead_id = :into WHERE lead_id = :lead",
            lead=lead,
            into=into,
        )

    async def mark(self, lead: uuid.UUID, status: str) -> None:
        """Notes at a lead what its last hand-off is."""
        await self._run(
            "UPDATE scorer.lead SET handoff = :status WHERE id = :lead AND handoff <> :status",
            lead=lead,
            status=status,
        )

    # -- owners and capacity ----------------------------------------------------------------------

    async def loads(
        self, now: datetime, week: datetime, no_shows: Sequence[str]
    ) -> dict[str, Load]:
        """By owner what they were given in the last weeks, less those where nobody came, and since
        `week`.
        """
        found = await rows(
            self._connection,
            "SELECT owner, count(*) FILTER (WHERE reason <> ALL(:no_shows)) AS lately, "
            "count(*) FILTER (WHERE opened_at >= :week) AS this_week FROM scorer.handoff "
            "WHERE opened_at > :since AND owner <> '' "
            "AND status <> 'superseded' GROUP BY owner",
            since=now - LATELY, week=week, no_shows=list(no_shows),
        )  # fmt: skip
        return {row.owner: Load(row.lately, row.this_week) for row in found}

    async def opened_since(self, week: datetime) -> int:
        """How many hand-offs were opened since then."""
        found: int = await value(
            self._connection,
            "SELECT count(*) FROM scorer.handoff WHERE opened_at >= :week "
            "AND status <> 'superseded'",
            week=week,
        )
        return found

    async def waiting_for_room(self) -> list[Handoff]:
        """The likeliest of the hand-offs for which there was no room, locked, but for those that
        others have; also more than there is room for, as some may have to wait for an owner.
        """
        found = await rows(
            self._connection,
            f"SELECT {SELECTED} FROM scorer.handoff WHERE status = 'next' "
            "ORDER BY likelihood DESC NULLS LAST, detected_at, id LIMIT :most "
            "FOR UPDATE SKIP LOCKED",
            most=MOST_OPENED,
        )
        return [handoff_of(row) for row in found]

    async def account_owner(self, lead: uuid.UUID, product: str) -> str:
        """Who had another lead of the same company last; '' where nobody did."""
        found: str | None = await value(
            self._connection,
            "SELECT h.owner FROM scorer.handoff h WHERE h.owner <> '' AND h.lead_id IN ("
            "SELECT o.lead_id FROM scorer.lead_state s JOIN scorer.lead_state o "
            "ON o.product = s.product AND o.company_key = s.company_key AND o.lead_id <> s.lead_id "
            "WHERE s.lead_id = :lead AND s.product = :product AND s.company_key <> 0 AND o.listed "
            "AND o.last_event_at > -2305843009213693952 LIMIT :most) "
            "ORDER BY h.opened_at DESC NULLS LAST, h.id LIMIT 1",
            lead=lead,
            product=product,
            most=OF_ACCOUNT,
        )
        return found or ""

    # -- what is due ------------------------------------------------------------------------------

    async def examine_at(self, leads: Iterable[uuid.UUID], at: datetime) -> None:
        """Has leads examined from a moment on, or earlier where that is planned."""
        await self._run(
            "INSERT INTO scorer.handoff_due AS d (lead_id, due_at) "
            "SELECT lead, :at FROM unnest(CAST(:leads AS uuid[])) AS n(lead) ORDER BY lead "
            "ON CONFLICT (lead_id) DO UPDATE SET due_at = least(d.due_at, excluded.due_at)",
            leads=sorted(leads),
            at=at,
        )

    async def due_leads(self, now: datetime, limit: int) -> list[uuid.UUID]:
        """Leads that are to be examined, or whose clock has something to say."""
        found = await rows(
            self._connection,
            f"(SELECT lead_id FROM scorer.handoff_due WHERE due_at <= :now ORDER BY due_at "
            f"LIMIT {limit:d}) UNION (SELECT lead_id FROM scorer.handoff WHERE next_at <= :now "
            f"ORDER BY next_at LIMIT {limit:d})",
            now=now,
        )
        return [row.lead_id for row in found]

    async def put_off(self, lead: uuid.UUID, until: datetime) -> None:
        """Leaves a lead, and its clock, alone until then."""
        await self.examined(lead)
        await self.examine_at([lead], until)
        await self._run(
            "UPDATE scorer.handoff SET next_at = :until WHERE lead_id = :lead AND next_at < :until",
            lead=lead,
            until=until,
        )

    async def examined(self, lead: uuid.UUID) -> uuid.UUID | None:
        """Takes a lead out of those to be examined; returns the lead into which it was merged, if
        it was.
        """
        into: uuid.UUID | None = await value(
            self._connection,
            "WITH done AS (DELETE FROM scorer.handoff_due WHERE lead_id = :lead) "
            "SELECT merged_into FROM scorer.lead WHERE id = :lead",
            lead=lead,
        )
        return into

    # -- notices ----------------------------------------------------------------------------------

    async def tell(self, notices: Iterable[NoticeRow]) -> None:
        """Puts notices out, each id once."""
        for each in notices:
            await self._run(
                "INSERT INTO scorer.handoff_notice (id, handoff_id, what, channel, recipient, "
                "body) VALUES (:id, :handoff_id, :what, :channel, :recipient, :body) "
                "ON CONFLICT (id) DO NOTHING",
                **{name: each[i] for i, name in enumerate(NoticeRow._fields[:6])},
            )

    async def claim_notices(self, limit: int, lease_s: float) -> list[NoticeRow]:
        """Takes notices that are due; nobody else has them before the lease ends."""
        found = await rows(
            self._connection,
            "UPDATE scorer.handoff_notice n SET due_at = clock_timestamp() + "
            "make_interval(secs => :lease) FROM (SELECT id FROM scorer.handoff_notice "
            "WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT :limit "
            "FOR UPDATE SKIP LOCKED) AS due WHERE n.id = due.id "
            "RETURNING n.id, n.handoff_id, n.what, n.channel, n.recipient, n.body, n.attempts",
            lease=lease_s,
            limit=limit,
        )
        return [NoticeRow(*row) for row in found]

    async def was_told(self, notice: NoticeRow, now: datetime) -> None:
        """Notes that a notice has left, and when the owner was first told of the hand-off."""
        await self._run(
            "UPDATE scorer.handoff_notice SET sent_at = :now, due_at = NULL, problem = '' "
            "WHERE id = :id",
            id=notice.id,
            now=now,
        )
        await self._run(
            "UPDATE scorer.handoff SET told_at = coalesce(told_at, :now) WHERE id = :id",
            id=notice.handoff_id,
            now=now,
        )

    async def was_not_told(self, notice: NoticeRow, problem: str, again_in_s: float | None) -> None:
        """Notes why a notice has not left; None where it is given up."""
        again = "clock_timestamp() + make_interval(secs => :wait)" if again_in_s else "NULL"
        await self._run(
            f"UPDATE scorer.handoff_notice SET attempts = attempts + 1, problem = :problem, "
            f"due_at = {again} WHERE id = :id",
            id=notice.id,
            problem=problem[:500],
            **({"wait": again_in_s} if again_in_s else {}),
        )

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


def _values(handoff: Handoff) -> dict[str, Any]:
    return {name: getattr(handoff, name) for name in COLUMNS}
