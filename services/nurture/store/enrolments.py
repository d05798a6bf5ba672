"""People in programs."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from asyncpg.pgproto.pgproto import UUID
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.enrolment import Enrolment, merged
from services.nurture.store.snapshots import uuids
from services.shared.contracts.touch_reasons import WaitReason
from services.shared.db import parsed, rows

# the columns of an enrolment, in the order of its fields
_COLUMNS = {
    "lead_id": "uuid", "program": "text", "product": "text", "entered_at": "timestamptz",
    "state": "text", "place": "int", "last_touch": "uuid", "next_at": "timestamptz",
    "reason": "text", "why": "text", "left_at": "timestamptz",
}  # fmt: skip
_NAMES = ", ".join(_COLUMNS)
_KEPT = _COLUMNS | {"next_touch": "uuid"}
SOON = timedelta(seconds=10)  # in which several pieces of news of a lead are one
# what passes or begins with news of the lead
CHANGED_BY_NEWS: tuple[WaitReason, ...] = (
    "preference", "paused", "with_sales", "silence", "after_loss",
)  # fmt: skip


class ProgramKey(NamedTuple):
    """A person in a program."""

    lead: str
    program: str


class EnrolmentPage(NamedTuple):
    """Enrolments, and whether more follow."""

    enrolments: list[Enrolment]
    has_more: bool


class EnrolmentStore:
    """Enrolments within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def of(self, leads: Iterable[str]) -> dict[ProgramKey, Enrolment]:
        """All of these leads, which are locked."""
        found = await rows(
            self._connection,
            f"SELECT {_NAMES} FROM nurture.enrolment WHERE lead_id = ANY(:ids)",
            ids=uuids({*leads}),
        )
        enrolments = (_enrolment(row) for row in found)
        return {ProgramKey(one.lead, one.program): one for one in enrolments}

    async def leads_due(self, now: datetime, limit: int) -> list[str]:
        """Leads of which something is to be decided, as many as these many enrolments are of."""
        found = await rows(
            self._connection,
            "SELECT lead_id FROM nurture.enrolment WHERE next_at <= :now "
            f"ORDER BY next_at LIMIT {limit:d}",
            now=now,
        )
        return list(dict.fromkeys(str(row.lead_id) for row in found))

    async def lock_due(self, leads: Iterable[str], now: datetime) -> list[Enrolment]:
        """Locks those of these leads, which are locked themselves, that are due."""
        found = await rows(
            self._connection,
            f"SELECT {_NAMES} FROM nurture.enrolment WHERE lead_id = ANY(:ids) "
            "AND next_at <= :now ORDER BY lead_id, program FOR UPDATE",
            ids=uuids(leads), now=now,
        )  # fmt: skip
        return [_enrolment(row) for row in found]

    async def lock_next(self, touch: uuid.UUID) -> Enrolment | None:
        """Locks the one, of a lead that is locked, whose next touch has this id."""
        found = await rows(
            self._connection,
            f"SELECT {_NAMES} FROM nurture.enrolment WHERE next_touch = :touch FOR UPDATE",
            touch=touch,
        )
        return _enrolment(found[0]) if found else None

    async def lead_of_next(self, touch: uuid.UUID) -> str | None:
        """The lead whose next touch in some program has this id."""
        found = await rows(
            self._connection,
            "SELECT lead_id FROM nurture.enrolment WHERE next_touch = :touch",
            touch=touch,
        )
        return str(found[0].lead_id) if found else None

    async def keep(self, enrolments: Iterable[Enrolment], playbook: str) -> None:
        """Writes enrolments, as decided by the playbook of this hash."""
        values = [_values(one) for one in enrolments]
        if not values:
            return
        columns = zip(*values, strict=True)
        await self._connection.execute(
            parsed(_KEEP),
            {name: list(column) for name, column in zip(_KEPT, columns, strict=True)}
            | {"playbook": playbook},
        )

    async def call(self, leads: Collection[str], now: datetime) -> None:
        """Has what comes next for these leads decided, soon: there is news of them, and there may
        be more. What waits for a ground that passes is asked again at once.
        """
        if not leads:
            return
        ids = uuids(leads)
        values = {"ids": ids, "now": now, "soon": now + SOON, "reasons": [*CHANGED_BY_NEWS]}
        await self._connection.execute(parsed(_CALL), values)

    async def call_after(self, touches: Collection[str], now: datetime) -> None:
        """The same after touches have their outcome, of the leads to which they belong by now."""
        if touches:
            await self._connection.execute(parsed(_CALL_AFTER), {"ids": uuids(touches), "now": now})

    async def outside(self, after: uuid.UUID, limit: int) -> list[str]:
        """Leads that no program has, for there was none for them or they are through with theirs;
        by id, those after another.
        """
        found = await rows(self._connection, _OUTSIDE, after=after, limit=limit)
        return [str(row.lead_id) for row in found]

    async def call_edited(self, playbook: str, now: datetime, limit: int) -> int:
        """The same for some that were decided by another playbook; returns how many."""
        found = await rows(self._connection, _CALL_EDITED, playbook=playbook, now=now, limit=limit)
        return len(found)

    async def page(
        self,
        *,
        lead: uuid.UUID | None,
        program: str,
        state: str,
        after: ProgramKey | None,
        limit: int,
    ) -> EnrolmentPage:
        """Those of a lead, in a program, in a state, or all, by lead and program; those after the
        end of another page.
        """
        conditions, values = ["true"], dict[str, Any]()
        if lead:
            conditions.append(
                "lead_id = coalesce((SELECT into_lead FROM nurture.merged WHERE lead_id = :lead), "
                ":lead)"
            )
            values["lead"] = lead
        for name, value in (("program", program), ("state", state)):
            if value:
                conditions.append(f"{name} = :{name}")
                values[name] = value
        if after:
            conditions.append("(lead_id, program) > (CAST(:after AS uuid), :name)")
            values |= {"after": uuid.UUID(after.lead), "name": after.program}
        found = await rows(
            self._connection,
            f"SELECT {_NAMES} FROM nurture.enrolment WHERE {' AND '.join(conditions)} "
            f"ORDER BY lead_id, program LIMIT {limit + 1:d}",
            **values,
        )
        return EnrolmentPage([_enrolment(row) for row in found[:limit]], len(found) > limit)

    async def merge(self, old: str, new: str) -> None:
        """Two people are one: of each program the enrolments of both become one."""
        known = await self.of([old, new])
        if not any(key.lead == old for key in known):
            return
        by_program: dict[str, list[Enrolment]] = defaultdict(list)
        for one in known.values():
            by_program[one.program].append(one)
        await self._connection.execute(
            parsed("DELETE FROM nurture.enrolment WHERE lead_id = ANY(:ids)"),
            {"ids": [uuid.UUID(old), uuid.UUID(new)]},
        )
        await self.keep([merged(of_one, new) for of_one in by_program.values()], "")

    async def pending(self, leads: Iterable[str]) -> set[ProgramKey]:
        """The programs of which a touch waits or is on the wire."""
        found = await rows(
            self._connection,
            "SELECT DISTINCT lead_id, program FROM nurture.touch WHERE lead_id = ANY(:ids) "
            "AND status IN ('due', 'sending') AND requested IS NOT TRUE",
            ids=uuids({*leads}),
        )
        return {ProgramKey(str(row.lead_id), row.program) for row in found}


def _values(one: Enrolment) -> tuple[Any, ...]:
    """In the order of `_KEPT`."""
    return (
        UUID(one.lead), one.program, one.product, one.entered_at, one.state, one.place,
        UUID(one.last_touch) if one.last_touch else None, one.next_at, one.reason, one.why,
        one.left_at, UUID(one.next_touch()),
    )  # fmt: skip


def _enrolment(row: Any) -> Enrolment:
    return Enrolment(
        lead=str(row.lead_id), program=row.program, product=row.product,
        entered_at=row.entered_at, state=row.state, place=row.place,
        last_touch=str(row.last_touch) if row.last_touch else "", next_at=row.next_at,
        reason=row.reason, why=row.why, left_at=row.left_at,
    )  # fmt: skip


_KEEP = (
    f"INSERT INTO nurture.enrolment ({', '.join(_KEPT)}, playbook) SELECT *, :playbook FROM unnest("
    + ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _KEPT.items())
    + ") ON CONFLICT (lead_id, program) DO UPDATE SET playbook = excluded.playbook, "
    + ", ".join(f"{name} = excluded.{name}" for name in _KEPT if name != "program")
)
# touches that a scheduler has locked are asked at this moment
_CALL = """WITH asked AS (UPDATE nurture.touch SET due_at = :now WHERE id IN (
        SELECT id FROM nurture.touch WHERE lead_id = ANY(:ids) AND status = 'due' AND due_at > :now
        AND reason = ANY(:reasons) FOR UPDATE SKIP LOCKED))
    UPDATE nurture.enrolment e SET next_at = least(next_at, :soon)
    WHERE lead_id = ANY(:ids) AND state IN ('active', 'left') AND NOT EXISTS (
        SELECT 1 FROM nurture.touch t
        WHERE t.id = e.last_touch AND t.status IN ('due', 'sending'))"""
_CALL_AFTER = """UPDATE nurture.enrolment e SET next_at = :now FROM nurture.touch t
    WHERE t.id = ANY(:ids) AND e.lead_id = t.lead_id AND e.program = t.program
    AND e.state IN ('active', 'left')"""
_OUTSIDE = """WITH bare AS MATERIALIZED (
        SELECT DISTINCT lead_id FROM nurture.touch t WHERE program = ''
        AND reason = 'nothing_suitable' AND lead_id > :after AND NOT EXISTS (
            SELECT 1 FROM nurture.enrolment e WHERE e.lead_id = t.lead_id)
        ORDER BY lead_id LIMIT :limit),
    last AS MATERIALIZED (SELECT lead_id FROM bare ORDER BY lead_id OFFSET :limit - 1)
    SELECT lead_id FROM (
        SELECT lead_id FROM bare
        UNION
        (SELECT lead_id FROM nurture.enrolment WHERE lead_id > :after AND lead_id <= coalesce(
            (SELECT lead_id FROM last), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        GROUP BY lead_id
        HAVING bool_and(state IN ('completed', 'ended')) ORDER BY lead_id LIMIT :limit)) o
    ORDER BY lead_id LIMIT :limit"""
_CALL_EDITED = """UPDATE nurture.enrolment SET next_at = least(next_at, :now), playbook = :playbook
    WHERE (lead_id, program) IN (SELECT lead_id, program FROM nurture.enrolment
        WHERE playbook <> :playbook AND state IN ('active', 'left') LIMIT :limit
        FOR UPDATE SKIP LOCKED) RETURNING 1"""
