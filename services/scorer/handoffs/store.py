"""The tables of hand-offs; reads and writes inside the caller's transaction, never commits."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.handoffs.owners import LATELY, Load
from services.scorer.handoffs.records import COLUMNS, Handoff, handoff_of
from services.scorer.handoffs.rules import Noted
from services.shared.db import rows, value
from services.shared.errors import Reject

SELECTED = ", ".join(COLUMNS)
MOST_OPENED = 200  # at once
OF_ACCOUNT = 1_000  # leads of a company that are looked at
ORDER = "coalesce(opened_at, detected_at)"  # of lists
# rows as one JSON array: their columns hold arrays, which no array of a column can
GIVEN = "json_populate_recordset(NULL::scorer.handoff, CAST(:rows AS json))"
INSERT = (
    f"INSERT INTO scorer.handoff ({SELECTED}) SELECT {SELECTED} FROM {GIVEN} "
    "ON CONFLICT (id) DO NOTHING"
)
UPDATE = (
    "UPDATE scorer.handoff h SET "
    + ", ".join(f"{name} = n.{name}" for name in COLUMNS if name != "id")
    + f" FROM {GIVEN} n WHERE h.id = n.id"
)
STEP = {
    "handoff_id": "uuid", "step": "int", "at": "timestamptz", "what": "text", "by": "text",
    "reason": "text", "until": "date", "note": "text",
}  # fmt: skip
NOTICE = {
    "id": "uuid", "handoff_id": "uuid", "what": "text", "channel": "text", "recipient": "text",
    "body": "text",
}  # fmt: skip
PAIRS = "unnest(CAST(:old AS uuid[]), CAST(:new AS uuid[])) AS m(old, new)"


class NoticeRow(NamedTuple):
    """What is to be sent of a hand-off: by mail to a recipient, or by webhook."""

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

    async def of_leads(
        self, leads: Iterable[uuid.UUID], events: Iterable[str] = ()
    ) -> list[Handoff]:
        """All hand-offs of leads, and those that were opened for one of these events, locked, in
        the order of their ids.
        """
        found = await rows(
            self._connection,
            f"SELECT {SELECTED} FROM scorer.handoff WHERE lead_id = ANY(:leads) "
            "OR opener = ANY(:events) ORDER BY id FOR UPDATE",
            leads=list(leads),
            events=[uuid.UUID(uid) for uid in events],
        )
        return [handoff_of(row) for row in found]

    async def get(self, handoff: uuid.UUID, *, lock: bool = False) -> Handoff:
        """One hand-off. Raises Reject `not-found`."""
        found = await rows(
            self._connection,
            f"SELECT {SELECTED} FROM scorer.handoff WHERE id = :id{' FOR UPDATE' if lock else ''}",
            id=handoff,
        )
        if not found:
            raise Reject(
                "no such hand-off", where="path.handoff_id",
                remedy="use an `id` of /v1/handoffs", kind="not-found",
            )  # fmt: skip
        return handoff_of(found[0])

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
            conditions.append(f"({ORDER}, id) > (:at, :id)")
            given["at"], given["id"] = after
        found = await rows(
            self._connection,
            f"SELECT {SELECTED} FROM scorer.handoff WHERE {' AND '.join(conditions)} "
            f"ORDER BY {ORDER}, id LIMIT :limit",
            **values, **given,
        )  # fmt: skip
        handoffs = [handoff_of(row) for row in found]
        return Page(handoffs[:limit], len(handoffs) > limit)

    async def write(self, handoffs: Iterable[Handoff], new: Iterable[Handoff] = ()) -> None:
        """Writes hand-offs over their rows, and new ones."""
        added = {each.id: each for each in new}
        changed = {each.id: each for each in handoffs if each.id not in added}
        for statement, written in ((UPDATE, changed), (INSERT, added)):
            if written:
                in_order = [written[id_] for id_ in sorted(written)]
                await self._run(statement, rows=msgspec.json.encode(in_order).decode())

    async def note(self, noted: Iterable[Noted]) -> None:
        """Appends steps to the histories of their hand-offs."""
        appended = []
        for each in noted:
            each.handoff.steps += 1
            appended.append((
                each.handoff.id, each.handoff.steps, each.at, each.what, each.by, each.reason,
                each.until, each.note,
            ))  # fmt: skip
        await self._append("handoff_step", STEP, appended)

    async def steps(self, handoff: uuid.UUID) -> list[Any]:
        """The history of a hand-off, in order: at, what, by, reason, until, note."""
        return await rows(
            self._connection,
            "SELECT at, what, by, reason, until, note FROM scorer.handoff_step "
            "WHERE handoff_id = :id ORDER BY step",
            id=handoff,
        )

    async def unpublished(self, handoffs: Iterable[Handoff]) -> list[Noted]:
        """The steps of these hand-offs that are to be put out still, each one's in order."""
        wanted = {each.id: each for each in handoffs if each.unpublished}
        if not wanted:
            return []
        found = await rows(
            self._connection,
            "SELECT s.handoff_id, s.what, s.at, s.by, s.reason, s.until, s.note "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:after AS int[])) AS w(id, after) "
            "JOIN scorer.handoff_step AS s ON s.handoff_id = w.id AND s.step > w.after "
            "ORDER BY s.handoff_id, s.step",
            ids=list(wanted),
            after=[each.steps - each.unpublished for each in wanted.values()],
        )
        return [Noted(wanted[handoff], *step) for handoff, *step in found]

    # -- leads ------------------------------------------------------------------------------------

    async def leads_of_events(self, events: Iterable[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
        """By event the lead that has it."""
        found = await rows(
            self._connection,
            "SELECT uid, lead_id FROM scorer.event WHERE uid = ANY(:uids)",
            uids=list(events),
        )
        return {row.uid: row.lead_id for row in found}

    async def first_events(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, Any]:
        """The first event of each lead that has one: occurred_at (µs), uid, received_at."""
        found = await rows(
            self._connection,
            "SELECT w.id, e.* FROM unnest(CAST(:leads AS uuid[])) AS w(id) CROSS JOIN LATERAL ("
            "SELECT occurred_at, uid, received_at FROM scorer.event WHERE lead_id = w.id "
            "ORDER BY occurred_at, uid LIMIT 1) e",
            leads=list(leads),
        )
        return {row.id: row for row in found}

    async def flags_of(self, events: Iterable[str]) -> dict[str, str]:
        """What is noted of the provenance of these events, by id."""
        found = await rows(
            self._connection,
            "SELECT uid, flags FROM scorer.event WHERE uid = ANY(:uids)",
            uids=[uuid.UUID(uid) for uid in events],
        )
        return {row.uid.hex: row.flags for row in found}

    async def move(self, merged: Mapping[uuid.UUID, uuid.UUID]) -> None:
        """Gives the hand-offs of leads to those into which they were merged."""
        await self._run(
            f"UPDATE scorer.handoff h SET lead_id = m.new FROM {PAIRS} WHERE h.lead_id = m.old",
            old=list(merged),
            new=list(merged.values()),
        )

    async def mark(self, statuses: Mapping[uuid.UUID, str]) -> None:
        """Notes at leads what their last hand-off is."""
        if statuses:
            await self._run(
                "UPDATE scorer.lead l SET handoff = m.status FROM "
                "unnest(CAST(:leads AS uuid[]), CAST(:statuses AS text[])) AS m(id, status) "
                "WHERE l.id = m.id AND l.handoff <> m.status",
                leads=list(statuses),
                statuses=list(statuses.values()),
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
            "ORDER BY coalesce(likelihood, 0) DESC, detected_at, id LIMIT :most "
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
        await self.examine_each(dict.fromkeys(leads, at))

    async def examine_each(self, moments: Mapping[uuid.UUID, datetime]) -> None:
        """The same, each lead from a moment of its own on."""
        if moments:
            await self._run(
                "INSERT INTO scorer.handoff_due AS d (lead_id, due_at) SELECT * FROM "
                "unnest(CAST(:leads AS uuid[]), CAST(:moments AS timestamptz[])) "
                "ON CONFLICT (lead_id) DO UPDATE SET due_at = least(d.due_at, excluded.due_at)",
                leads=sorted(moments),
                moments=[moments[lead] for lead in sorted(moments)],
            )

    async def due_leads(self, now: datetime, limit: int) -> list[uuid.UUID]:
        """Leads that are to be examined, or whose clock has something to say, the longest due
        first.
        """
        found = await rows(
            self._connection,
            "SELECT lead_id FROM ((SELECT lead_id, due_at FROM scorer.handoff_due "
            f"WHERE due_at <= :now ORDER BY due_at LIMIT {limit:d}) UNION ALL "
            "(SELECT lead_id, next_at FROM scorer.handoff WHERE next_at <= :now "
            f"ORDER BY next_at LIMIT {limit:d})) d GROUP BY lead_id "
            f"ORDER BY min(due_at), lead_id LIMIT {limit:d}",
            now=now,
        )
        return [row.lead_id for row in found]

    async def put_off(self, lead: uuid.UUID, until: datetime) -> None:
        """Leaves a lead, and its clock, alone until then."""
        await self.examined([lead])
        await self.examine_at([lead], until)
        await self._run(
            "UPDATE scorer.handoff SET next_at = :until WHERE lead_id = :lead AND next_at < :until",
            lead=lead,
            until=until,
        )

    async def examined(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, uuid.UUID]:
        """Takes leads out of those to be examined; returns, of those that were merged, the lead
        into which each was.
        """
        found = await rows(
            self._connection,
            "WITH done AS (DELETE FROM scorer.handoff_due WHERE lead_id = ANY(:leads)) "
            "SELECT id, merged_into FROM scorer.lead WHERE id = ANY(:leads) "
            "AND merged_into IS NOT NULL",
            leads=list(leads),
        )
        return {row.id: row.merged_into for row in found}

    # -- notices ----------------------------------------------------------------------------------

    async def add_notices(self, notices: Iterable[NoticeRow]) -> None:
        """Puts notices out, each id once."""
        added = [each[: len(NOTICE)] for each in notices]
        await self._append("handoff_notice", NOTICE, added, "ON CONFLICT (id) DO NOTHING")

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

    async def was_sent(self, notice: NoticeRow, now: datetime) -> None:
        """Notes that a notice has left, and when its owner was first notified."""
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

    async def was_not_sent(self, notice: NoticeRow, problem: str, again_in_s: float | None) -> None:
        """Notes why a notice has not left; None where it is given up."""
        again = "clock_timestamp() + make_interval(secs => :wait)" if again_in_s else "NULL"
        await self._run(
            f"UPDATE scorer.handoff_notice SET attempts = attempts + 1, problem = :problem, "
            f"due_at = {again} WHERE id = :id",
            id=notice.id,
            problem=problem[:500],
            **({"wait": again_in_s} if again_in_s else {}),
        )

    async def _append(
        self,
        table: str,
        types: Mapping[str, str],
        added: Sequence[tuple[Any, ...]],
        again: str = "",
    ) -> None:
        """Appends rows; `again` is what becomes of those whose key is there."""
        if added:
            arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in types.items())
            columns = map(list, zip(*added, strict=True))
            await self._run(
                f"INSERT INTO scorer.{table} ({', '.join(types)}) "
                f"SELECT * FROM unnest({arrays}) {again}",
                **dict(zip(types, columns, strict=True)),
            )

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)
