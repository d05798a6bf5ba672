"""Records to publish that a transaction writes beside its own tables, and the relay that publishes
them.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import Table, copy, is_transient, rows, value
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Outgoing, Publisher
from services.shared.messaging.progress import REASON_CHARACTERS, Schema
from services.shared.runtime import Heartbeat, fault_point
from services.shared.telemetry import OUTBOX_AGE, OUTBOX_PUBLISHED, OUTBOX_SET_ASIDE

log = structlog.get_logger()
BATCH = 1_000  # records that the relay publishes at once
COLUMNS = {"topic": "text", "key": "text", "value": "bytea"}  # of the outbox, with their types
MEASURE_S = 1.0  # between looks at the oldest record's age
OLD_S = 30.0  # a record that waits longer makes the service not ready


async def enqueue(connection: AsyncConnection, schema: Schema, records: Sequence[Outgoing]) -> None:
    """Puts records into the outbox, from where they are published after the commit."""
    if records:
        await copy(connection, Table(schema, "outbox", COLUMNS), records)


class OutboxRelay:
    """Publishes what is in the outbox and deletes it after the acknowledgement. A crash in between
    publishes it again, which receivers know by the ids. What can never be published is set aside
    alone. `problem` is why nothing is published now, in a sentence, and '' where it is.
    """

    def __init__(
        self, engine: AsyncEngine, publisher: Publisher, schema: Schema, poll_seconds: float
    ) -> None:
        self._engine, self._publisher, self._schema = engine, publisher, schema
        self._poll_seconds = poll_seconds
        self._notified = asyncio.Event()
        self._measured = -MEASURE_S
        self.problem = ""

    def notify(self) -> None:
        """Ends the wait for the next poll: a transaction has put records into the outbox."""
        self._notified.set()

    async def run(self, heartbeat: Heartbeat) -> None:
        """Publishes until cancelled."""
        while True:
            heartbeat()
            reason, published = "", 0
            try:
                published = await self.publish_batch()
            except Exception as error:
                if not isinstance(error, Retry) and not is_transient(error):
                    raise
                reason = _reason(error)
                log.warning("relay_waits", schema=self._schema, reason=reason)
            await self._measure(reason)
            if reason:
                await asyncio.sleep(self._poll_seconds)
            if published < BATCH:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._notified.wait()
                self._notified.clear()

    async def publish_batch(self) -> int:
        """Publishes one batch, the oldest first; returns its size. Raises Retry while the broker is
        away.
        """
        async with self._engine.begin() as connection:
            found = await rows(
                connection,
                f"DELETE FROM {self._schema}.outbox WHERE id = ANY(ARRAY(SELECT id FROM "
                f"{self._schema}.outbox ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED)) "
                "RETURNING id, topic, key, value, created_at",
            )
            if found:  # the deletion holds only if the broker acknowledges
                found.sort(key=attrgetter("id"))
                await self._publish(connection, found)
                fault_point("between_publish_and_mark")
        OUTBOX_PUBLISHED.labels(self._schema).inc(len(found))
        return len(found)

    async def _publish(self, connection: AsyncConnection, found: list[Any]) -> None:
        """Publishes rows in their order, by halves around what can never be published."""
        try:
            await self._publisher.publish(
                [Outgoing(row.topic, row.key, row.value) for row in found]
            )
        except Reject as error:
            if len(found) == 1:
                await self._set_aside(connection, found[0], str(error))
                return
            middle = len(found) // 2
            await self._publish(connection, found[:middle])
            await self._publish(connection, found[middle:])

    async def _set_aside(self, connection: AsyncConnection, row: Any, reason: str) -> None:
        await connection.execute(
            text(
                f"INSERT INTO {self._schema}.unsendable "
                "(id, topic, key, value, created_at, reason) VALUES "
                "(:id, :topic, :key, :value, :created_at, :reason)"
            ),
            {**row._mapping, "reason": reason[:REASON_CHARACTERS]},
        )
        log.error("unsendable", schema=self._schema, id=row.id, topic=row.topic, reason=reason)
        OUTBOX_SET_ASIDE.labels(self._schema).inc()

    async def _measure(self, reason: str) -> None:
        """Sets the metric of the oldest record's age, and says what is wrong where it is too
        old; once a second.
        """
        if time.monotonic() - self._measured < MEASURE_S:
            return
        self._measured = time.monotonic()
        try:
            async with self._engine.connect() as connection:
                age = await value(
                    connection,
                    f"SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 "
                    f"FROM {self._schema}.outbox ORDER BY id LIMIT 1",
                )
        except Exception as error:
            if not is_transient(error):
                raise
            self.problem = _reason(error)
            return
        OUTBOX_AGE.labels(self._schema).set(age or 0)
        self.problem = ""
        if age and age > OLD_S:
            self.problem = f"the oldest record waits for {age:.0f} s" + (reason and f": {reason}")


def _reason(error: Exception) -> str:
    if isinstance(error, Retry):
        return str(error)
    return f"the database is away or refuses: {type(error).__name__}"
