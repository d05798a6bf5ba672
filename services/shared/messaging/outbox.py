"""What a service's transaction leaves behind for others: outgoing records, dead letters, and how
far it has read.
"""

import asyncio
from collections.abc import Sequence
from operator import attrgetter
from typing import Literal

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
BATCH = 1_000
WAITING = {"topic": "text", "key": "text", "value": "bytea"}


async def put(connection: AsyncConnection, schema: Schema, records: Sequence[Outgoing]) -> None:
    """Leaves records to be published after the commit."""
    if records:
        await copy(connection, Table(schema, "outbox", WAITING), records)


async def bury(connection: AsyncConnection, schema: Schema, record: Record, reason: str) -> None:
    """Keeps a record that can never be applied, with its raw bytes and the reason; twice is
    once.
    """
    await connection.execute(
        text(
            f'INSERT INTO {schema}.dead_letter (topic, partition, "offset", key, value, reason) '
            "VALUES (:topic, :partition, :offset, :key, :value, :reason) ON CONFLICT DO NOTHING"
        ),
        {**record._asdict(), "reason": reason[:2000]},
    )


async def advance(connection: AsyncConnection, schema: Schema, records: Sequence[Record]) -> None:
    """Notes in the same transaction how far each partition has been applied."""
    furthest: dict[tuple[str, int], int] = {}
    for record in records:
        at = record.topic, record.partition
        furthest[at] = max(furthest.get(at, 0), record.offset + 1)
    parts = sorted(furthest)
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
            "offsets": [furthest[part] for part in parts],
        },
    )


class Relay:
    """Publishes what is in the outbox and takes it out after the acknowledgement; a repetition does
    no harm.
    """

    def __init__(
        self, engine: AsyncEngine, publisher: Publisher, schema: Schema, poll_seconds: float
    ) -> None:
        self._engine, self._publisher, self._schema = engine, publisher, schema
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that something was put."""
        self._woken.set()

    async def run(self, heartbeat: Heartbeat) -> None:
        """Relays until cancelled."""
        while True:
            heartbeat()
            try:
                sent = await self.relay()
            except Exception as error:
                if not isinstance(error, Retry) and not is_transient(error):
                    raise
                why = (
                    str(error)
                    if isinstance(error, Retry)
                    else f"the database is away: {type(error).__name__}"
                )
                log.warning("relay_waits", schema=self._schema, reason=why)
                sent = 0
                await asyncio.sleep(self._poll_seconds)
            if sent < BATCH:
                try:
                    await asyncio.wait_for(self._woken.wait(), self._poll_seconds)
                except TimeoutError:
                    pass
                self._woken.clear()

    async def relay(self) -> int:
        """Publishes one batch, the oldest first; returns its size."""
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
