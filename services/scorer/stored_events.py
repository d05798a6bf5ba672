"""Stored events of one lead in the order of the fold, read some at a time."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.model.profile import BEFORE_ALL, Position
from services.scorer.model.state import Event
from services.shared.clock import to_us
from services.shared.contracts.events import decode_interaction
from services.shared.db import rows

COLUMNS = "occurred_at, uid, received_at, body"
AFTER_ALL = (1 << 62) - 1, "f" * 32
ALL = 1 << 62
SLICE = 1000  # events in hand at once


async def events_between(
    connection: AsyncConnection,
    lead: uuid.UUID,
    after: Position = BEFORE_ALL,
    until: Position = AFTER_ALL,
    most: int = ALL,
) -> AsyncIterator[Event]:
    """A lead's events after one place in the order, up to another; the first of them where there
    are more than `most`.
    """
    while most:
        size = min(SLICE, most)
        found = await rows(
            connection,
            f"SELECT {COLUMNS} FROM scorer.event WHERE lead_id = :lead "
            "AND (occurred_at, uid) > (:after, :after_uid) "
            "AND (occurred_at, uid) <= (:until, :until_uid) "
            "ORDER BY occurred_at, uid LIMIT :slice",
            lead=lead, after=after[0], after_uid=uid_of(after), until=until[0],
            until_uid=uid_of(until), slice=size,
        )  # fmt: skip
        for row in found:
            yield event_of(*row)
        if len(found) < size:
            return
        most -= size
        after = found[-1].occurred_at, found[-1].uid.hex


def event_of(at: int, uid: Any, received: datetime, body: str) -> Event:
    """A row of COLUMNS as the fold sees it. Raises msgspec.MsgspecError."""
    return Event(at, uid.hex, decode_interaction(body), to_us(received))


def uid_of(place: Position) -> uuid.UUID:
    """The id in a place in the order, as the database compares it."""
    return uuid.UUID(place[1] or "0" * 32)
