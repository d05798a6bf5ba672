"""What a consumer's transaction writes beside its own tables: records to publish, dead letters, and
how far it has read; and the relay that publishes those records.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Literal, NamedTuple

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import Table, copy, is_transient, rows
from services.shared.errors import Retry
from services.shared.messaging.kafka import Outgoing, Publisher, Record
from services.shared.runtime import Heartbeat, fault_point
from services.shared.telemetry import OUTBOX_PUBLISHED

log = structlog.get_logger()
Schema = Literal["scorer", "nurture"]
BATCH = 1_000  # records that the relay publishes at once
COLUMNS = {"topic": "text", "key": "text", "value": "bytea"}  # of the outbox, with their types
REASON_CHARACTERS = 2_000  # of a dead letter's reason that are kept


class DeadLetter(NamedTuple):
    """A record that can never be applied, and why."""

    record: Record
    reason: str


async def enqueue(connection: AsyncConnection, schema: Schema, records: Sequence[Outgoing]) -> None:
    """Puts records into the outbox, from where they are published after the commit."""
    if records:
        await copy(connection, Table(schema, "outbox", COLUMNS), records)


async def add_dead_letter(connection: AsyncConnection, schema: Schema, letter: DeadLetter) -> None:
    """Keeps a dead letter with its raw bytes; the same record again changes nothing."""
    await connection.execute(
        text(
            f'INSERT INTO {schema}.dead_letter (topic, partition, "offset", key, value, reason) '
            "VALUES (:topic, :partition, :offset, :key, :value, :reason) ON CONFLICT DO NOTHING"
        ),
        {**letter.record._asdict(), "reason": letter.reason[:REASON_CHARACTERS]},
    )


async def save_progress(
    connection: AsyncConnection, schema: Schema, records: Sequence[Record]
) -> None:
    """Writes the next offset of each partition of the records; an earlier one changes nothing."""
    next_offset: dict[tuple[str, int], int] = {}
    for record in records:
        part = record.topic, record.partition
        next_offset[part] = max(next_offset.get(part, 0), record.offset + 1)
    parts = sorted(next_offset)
    await connection.execute(
        text(
            f"INSERT INTO {schema}.progress (topic, partition, next_offset) SELECT * FROM unnest("
            "CAST(:topics AS text[]), CAST(:parts AS int[]), CAST(:offsets AS bigint[])) "
            "ON CONFLICT (topic, partition) DO UPDATE SET "
            "next_offset = greatest(progress.next_offset, excluded.next_offset)"
        ),
        {
            "topics": [topic for topic, _ in parts],
            "parts": [part for _, part in parts],
            "offsets": [next_offset[part] for part in parts],
        },
    )


class OutboxRelay:
    """Publishes what is in the outbox and deletes it after the acknowledgement. A crash in between
    publishes it again, which receivers know by the ids.
    """

    def __init__(
        self, engine: AsyncEngine, publisher: Publisher, schema: Schema, poll_seconds: float
    ) -> None:
        self._engine, self._publisher, self._schema = engine, publisher, schema
        self._poll_seconds = poll_seconds
        self._notified = asyncio.Event()

    def notify(self) -> None:
        """Ends the wait for the next poll: a transaction has put records into the outbox."""
        self._notified.set()

    async def run(self, heartbeat: Heartbeat) -> None:
        """Publishes until cancelled."""
        while True:
            heartbeat()
            try:
                published = await self.publish_batch()
            except Exception as error:
                if not isinstance(error, Retry) and not is_transient(error):
                    raise
                log.warning("relay_waits", schema=self._schema, reason=_reason(error))
                published = 0
                await asyncio.sleep(self._poll_seconds)
            if published < BATCH:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._notified.wait(), self._poll_seconds)
                self._notified.clear()

    async def publish_batch(self) -> int:
        """Publishes one batch, the oldest first; returns its size. Raises Retry while the broker is
        away.
        """
        async with self._engine.begin() as connection:
            found = await rows(
                connection,
                f"DELETE FROM {self._schema}.outbox WHERE id = ANY(ARRAY(SELECT id FROM "
                f"{self._schema}.outbox ORDER BY id "
                f"LIMIT {BATCH} FOR UPDATE SKIP LOCKED)) RETURNING id, topic, key, value",
            )
            if found:  # the deletion holds only if the broker acknowledges
                found.sort(key=attrgetter("id"))
                await self._publisher.publish(
                    [Outgoing(topic, key, value) for _, topic, key, value in found]
                )
                fault_point("between_publish_and_mark")
        OUTBOX_PUBLISHED.labels(self._schema).inc(len(found))
        return len(found)


def _reason(error: Exception) -> str:
    if isinstance(error, Retry):
        return str(error)
    return f"the database is away: {type(error).__name__}"
