"""Touches: decisions, and what became of them."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from asyncpg.pgproto.pgproto import UUID
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.store.snapshots import uuids
from services.shared.contracts.events import Touch
from services.shared.contracts.touch_reasons import TouchStatus
from services.shared.db import parsed, rows

# the columns that a decision fills
_DECISION = {
    "id": "uuid", "announcement_id": "uuid", "program": "text", "lead_id": "uuid",
    "product": "text", "stage": "text", "content": "text", "channel": "text", "status": "text",
    "reason": "text", "why": "text", "propensity": "float8", "decided_at": "timestamptz",
    "decision_ms": "float8", "due_at": "timestamptz", "cause_at": "timestamptz",
    "imported": "text", "requested": "boolean", "follows": "boolean", "persona": "text",
    "arm": "text",
}  # fmt: skip
# what a person holds is not due; a channel that is stopped is tried again at its time
_DUE = "status = 'due' AND held_at IS NULL"
_NOT_STOPPED = "channel NOT IN (SELECT channel FROM access.channel_stop WHERE retry_at > :now)"
COLUMNS = ", ".join((*_DECISION, "sent_at", "attempts"))
_INSERT = (
    f"INSERT INTO nurture.touch ({', '.join(_DECISION)}) SELECT * FROM unnest("
    + ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _DECISION.items())
    + ") ON CONFLICT DO NOTHING RETURNING id"
)


# the columns that checking a due touch writes
_CHECKED = {
    "id": "uuid", "status": "text", "reason": "text", "why": "text", "content": "text",
    "propensity": "float8", "due_at": "timestamptz", "address": "text",
    "receiver": "text",
}  # fmt: skip
_CHECK = (
    "UPDATE nurture.touch t SET status = c.status, reason = c.reason, why = c.why, "
    "content = c.content, propensity = c.propensity, due_at = c.due_at, "
    "address = coalesce(nullif(c.address, ''), t.address), "
    "receiver = coalesce(nullif(c.receiver, ''), t.receiver), "
    "attempts = t.attempts + (c.status = 'sending')::int, "
    "sending_since = CASE WHEN c.status = 'sending' THEN clock_timestamp() END FROM unnest("
    + ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _CHECKED.items())
    + f") AS c({', '.join(_CHECKED)}) WHERE t.id = c.id AND t.status = 'due'"
)


class Decision(NamedTuple):
    """A decided touch, and the milliseconds since the event behind it was posted, if known."""

    touch: Touch
    elapsed_ms: float | None


class PageEnd(NamedTuple):
    """The last touch of a page: when it was decided, in µs since 1970, and its id."""

    decided_at: int
    id: uuid.UUID


class TouchPage(NamedTuple):
    """Rows of `nurture.touch` in the order of their decisions, and whether more follow."""

    rows: list[Any]
    has_more: bool


class TouchStore:
    """Touches within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, decisions: Sequence[Decision]) -> set[str]:
        """Adds decisions; an announcement has one touch a program. Returns the ids of new ones."""
        values = [_decision_values(decision) for decision in decisions]
        columns = zip(*values, strict=True) if values else ([] for _ in _DECISION)
        found = await rows(
            self._connection,
            _INSERT,
            **{name: list(column) for name, column in zip(_DECISION, columns, strict=True)},
        )
        return {str(row.id) for row in found}

    async def decided(self, announcements: Iterable[str]) -> set[str]:
        """Those of the announcements that have a decision."""
        found = await rows(
            self._connection,
            "SELECT DISTINCT announcement_id FROM nurture.touch WHERE announcement_id = ANY(:ids)",
            ids=uuids(announcements),
        )
        return {str(row.announcement_id) for row in found}

    async def any_due(self, now: datetime) -> bool:
        """Whether the time of some touch has come."""
        found = await rows(
            self._connection,
            f"SELECT 1 FROM nurture.touch WHERE {_DUE} AND due_at <= :now "
            f"AND {_NOT_STOPPED} LIMIT 1",
            now=now,
        )
        return bool(found)

    async def due(self, now: datetime, limit: int) -> list[Touch]:
        """Locks touches whose time has come."""
        found = await rows(
            self._connection,
            f"SELECT {COLUMNS} FROM nurture.touch WHERE {_DUE} AND due_at <= :now "
            f"AND {_NOT_STOPPED} ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED",
            now=now, limit=limit,
        )  # fmt: skip
        return [touch_of_row(row) for row in found]

    async def urged(self, touches: Iterable[str]) -> set[str]:
        """Those of these touches that a person has asked to be sent at once."""
        found = await rows(
            self._connection,
            "SELECT id FROM nurture.touch WHERE id = ANY(:ids) AND urged_at IS NOT NULL",
            ids=uuids(touches),
        )
        return {str(row.id) for row in found}

    async def checked(self, touches: Sequence[tuple[Touch, str, str]]) -> None:
        """Writes what has become of due touches, which are locked: on the wire, due later, or
        withheld; each with the keyed hash of the address to which it goes, and its receiver.
        """
        if touches:
            columns = zip(*(_checked_values(*touch) for touch in touches), strict=True)
            await self._connection.execute(
                parsed(_CHECK),
                {name: list(column) for name, column in zip(_CHECKED, columns, strict=True)},
            )

    async def overdue(self, channel: str, before: datetime, limit: int) -> list[Touch]:
        """Locks touches of a channel that have been due since before then."""
        found = await rows(
            self._connection,
            f"SELECT {COLUMNS} FROM nurture.touch WHERE {_DUE} AND due_at <= :before "
            "AND channel = :channel ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED",
            channel=channel, before=before, limit=limit,
        )  # fmt: skip
        return [touch_of_row(row) for row in found]

    async def interrupted(self, seconds: float) -> list[Touch]:
        """Locks touches that have been `sending` for longer: their process ended meanwhile."""
        found = await rows(
            self._connection,
            f"SELECT {COLUMNS} FROM nurture.touch WHERE status = 'sending' AND sending_since < "
            "clock_timestamp() - make_interval(secs => :seconds) FOR UPDATE SKIP LOCKED",
            seconds=seconds,
        )
        return [touch_of_row(row) for row in found]

    async def update(
        self,
        touch: Touch,
        *,
        was: Sequence[TouchStatus],
        attempt: int = 0,
        address: str = "",
        bounced: bool = False,
    ) -> bool:
        """Writes status, reason, item and times of a touch whose status is one of `was`; returns
        whether it is. Adds `attempt` to its attempts; `address` is the keyed hash of where it goes;
        `bounced`: its receiver has not taken it.
        """
        done = await self._connection.execute(
            parsed(
                """UPDATE nurture.touch SET status = :status, reason = :reason, why = :why,
                    content = :content, propensity = :propensity,
                    due_at = :due_at, sent_at = :sent_at, attempts = attempts + :attempt,
                    address = coalesce(nullif(:address, ''), address),
                    bounced_at = CASE WHEN :bounced THEN coalesce(bounced_at, :now)
                        ELSE bounced_at END,
                    sending_since = CASE WHEN :status = 'sending' THEN clock_timestamp() END
                WHERE id = :id AND status = ANY(:was)"""
            ),
            {
                "id": uuid.UUID(touch.id), "status": touch.status, "reason": touch.reason,
                "why": touch.why, "content": touch.content, "propensity": touch.propensity,
                "due_at": touch.due_at, "sent_at": touch.sent_at,
                "attempt": attempt, "address": address,
                "bounced": bounced, "now": touch.sent_at or touch.due_at, "was": list(was),
            },
        )  # fmt: skip
        return bool(done.rowcount)

    async def move(self, touch_id: str, lead: str) -> None:
        """Gives a touch to another lead."""
        await self._connection.execute(
            parsed("UPDATE nurture.touch SET lead_id = :lead WHERE id = :id"),
            {"id": uuid.UUID(touch_id), "lead": uuid.UUID(lead)},
        )

    async def attempts(self, touch_id: str) -> int:
        """How often sending it was tried; 0 where it is gone."""
        found = await rows(
            self._connection,
            "SELECT attempts FROM nurture.touch WHERE id = :id",
            id=uuid.UUID(touch_id),
        )
        return int(found[0].attempts) if found else 0

    async def page(
        self,
        *,
        lead: uuid.UUID | None,
        status: TouchStatus | None,
        after: PageEnd | None,
        limit: int,
    ) -> TouchPage:
        """Touches of a lead, in a status, or all; those after the end of another page."""
        conditions: list[str] = ["true"]
        values: dict[str, Any] = {}
        if lead:
            conditions.append(
                "lead_id = coalesce((SELECT into_lead FROM nurture.merged WHERE lead_id = :lead), "
                ":lead)"
            )
            values["lead"] = lead
        if status:
            conditions.append("status = :status")
            values["status"] = status
        if after:
            conditions.append(
                "(decided_at, id) > (to_timestamp(0) + :at * interval '1 microsecond', "
                "CAST(:last AS uuid))"
            )
            values |= {"at": after.decided_at, "last": after.id}
        found = await rows(
            self._connection,
            f"SELECT {COLUMNS} FROM nurture.touch WHERE {' AND '.join(conditions)} "
            # as a number, or a plan for any limit is one for many rows
            f"ORDER BY decided_at, id LIMIT {limit + 1:d}",
            **values,
        )
        return TouchPage(found[:limit], len(found) > limit)


def _decision_values(decision: Decision) -> tuple[Any, ...]:
    """In the order of `_DECISION`."""
    touch = decision.touch
    return (
        UUID(touch.id), UUID(touch.follows or touch.announcement), touch.program,
        UUID(touch.lead), touch.product, touch.stage, touch.content, touch.channel,
        touch.status, touch.reason,
        touch.why, touch.propensity, touch.decided_at, decision.elapsed_ms, touch.due_at,
        touch.cause_at, touch.imported, touch.requested, bool(touch.follows), touch.persona,
        touch.arm,
    )  # fmt: skip


def _checked_values(touch: Touch, address: str, receiver: str) -> tuple[Any, ...]:
    """In the order of `_CHECKED`."""
    return (
        UUID(touch.id), touch.status, touch.reason, touch.why, touch.content,
        touch.propensity, touch.due_at, address, receiver,
    )  # fmt: skip


def touch_of_row(row: Any) -> Touch:
    """The touch of a row with `COLUMNS`."""
    return Touch(
        id=str(row.id), lead=str(row.lead_id), product=row.product,
        announcement="" if row.follows else str(row.announcement_id), program=row.program,
        stage=row.stage,
        content=row.content, channel=row.channel, status=row.status, reason=row.reason,
        why=row.why, propensity=row.propensity, decided_at=row.decided_at, due_at=row.due_at,
        sent_at=row.sent_at, cause_at=row.cause_at, imported=row.imported, requested=row.requested,
        follows=str(row.announcement_id) if row.follows else "", persona=row.persona,
        arm=row.arm,
    )  # fmt: skip
