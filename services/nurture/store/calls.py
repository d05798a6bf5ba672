"""Calls that people are asked to make, and what came of them."""

import uuid
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.calls import Call
from services.shared.db import rows

CallState = Literal["open", "done", ""]
_TASK = """SELECT c.*, t.lead_id, t.product, t.program, t.content, t.stage
    FROM nurture.call_task c JOIN nurture.touch t ON t.id = c.touch_id"""


class CallPage(NamedTuple):
    """Calls, oldest first."""

    rows: list[Any]
    has_more: bool


class CallStore:
    """Calls within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, call: Call) -> None:
        """Adds the call of a touch, once."""
        await self._connection.execute(
            text(
                """INSERT INTO nurture.call_task (touch_id, recipient, phone, assignee, reasons,
                    opening, created_at, due_at, expires_at)
                VALUES (:touch, :recipient, :phone, :assignee, :reasons, :opening, :created_at,
                    :due_at, :expires_at) ON CONFLICT DO NOTHING"""
            ),
            call._asdict() | {"touch": uuid.UUID(call.touch)},
        )

    async def page(
        self,
        *,
        lead: uuid.UUID | None,
        assignee: str,
        state: CallState,
        after: tuple[datetime, uuid.UUID] | None,
        limit: int,
    ) -> CallPage:
        """Calls of a lead, an assignee, in a state, or all; those after the end of a page."""
        at, last = after or (None, None)
        found = await rows(
            self._connection,
            f"""{_TASK} WHERE (CAST(:lead AS uuid) IS NULL OR t.lead_id = coalesce((SELECT into_lead
                    FROM nurture.merged WHERE lead_id = :lead), :lead))
                AND (:assignee = '' OR c.assignee = :assignee)
                AND (:state = '' OR (c.outcome = '') = (:state = 'open'))
                AND (CAST(:at AS timestamptz) IS NULL OR (c.created_at, c.touch_id) > (:at, :last))
            ORDER BY c.created_at, c.touch_id LIMIT {limit + 1:d}""",
            lead=lead, assignee=assignee, state=state, at=at, last=last,
        )  # fmt: skip
        return CallPage(found[:limit], len(found) > limit)

    async def locked(self, touch: uuid.UUID) -> Any | None:
        """The call of a touch, locked; None where there is none."""
        found = await rows(
            self._connection, f"{_TASK} WHERE c.touch_id = :touch FOR UPDATE OF c", touch=touch
        )
        return found[0] if found else None

    async def expired(self, now: datetime, limit: int) -> list[Any]:
        """Locks open calls whose time is over."""
        return await rows(
            self._connection,
            f"{_TASK} WHERE c.outcome = '' AND c.expires_at <= :now ORDER BY c.expires_at "
            "LIMIT :limit FOR UPDATE OF c SKIP LOCKED",
            now=now, limit=limit,
        )  # fmt: skip

    async def answer(self, touch: uuid.UUID, outcome: str, note: str, at: datetime) -> None:
        """Writes an outcome."""
        await self._connection.execute(
            text(
                "UPDATE nurture.call_task SET outcome = :outcome, note = :note, answered_at = :at "
                "WHERE touch_id = :touch"
            ),
            {"touch": touch, "outcome": outcome, "note": note, "at": at},
        )
