"""How far a service has applied its topics and published what came of it: by this others know that
they have been told all that it makes of records up to there.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import is_transient, rows
from services.shared.messaging.kafka import Log
from services.shared.messaging.progress import Schema
from services.shared.runtime import Heartbeat

log = structlog.get_logger()
EVERY_S = 0.2
_LOOK = """SELECT p.topic, p.topic_id, p.partition, p.next_offset, o.oldest, o.newest
    FROM (SELECT min(id) AS oldest, max(id) AS newest FROM {schema}.outbox) o
    LEFT JOIN {schema}.progress p ON p.topic = ANY(:topics)"""
# a log of which the broker lost the end is read again from an earlier offset
_SAVE = """INSERT INTO access.published AS known (service, topic, topic_id, partition, next_offset)
    SELECT :schema, given.*
    FROM unnest(CAST(:topics AS text[]), CAST(:ids AS uuid[]), CAST(:parts AS int[]),
        CAST(:offsets AS bigint[])) AS given(topic, topic_id, partition, next_offset)
    ON CONFLICT (service, topic, topic_id, partition) DO UPDATE SET next_offset = greatest(
        excluded.next_offset, least(known.next_offset, (SELECT p.next_offset
            FROM {schema}.progress p WHERE (p.topic, p.topic_id, p.partition)
                = (known.topic, known.topic_id, known.partition))))"""


class _Look(NamedTuple):
    """What was applied at a moment, and the outbox's first and last row, 0 where it was empty."""

    applied: dict[Log, int]
    oldest: int
    newest: int


class PublishedProgress:
    """Writes how far a service has published what it makes of these topics."""

    def __init__(self, engine: AsyncEngine, schema: Schema, topics: Sequence[str]) -> None:
        self._engine, self._schema, self._topics = engine, schema, list(topics)
        self._waiting: _Look | None = None
        self._saved: dict[Log, int] = {}

    async def run(self, heartbeat: Heartbeat) -> None:
        """Writes until cancelled."""
        while True:
            heartbeat()
            try:
                await self.note()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("published_progress_waits", reason=type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def note(self) -> None:
        """Writes what had been applied when this was called last, or now, where all that lay in the
        outbox then is published.
        """
        async with self._engine.connect() as connection:
            now = await self._look(connection)
        if not now.oldest:
            await self._save(now.applied)
            self._waiting = None
        elif self._waiting is None:
            self._waiting = now
        elif now.oldest > self._waiting.newest:
            await self._save(self._waiting.applied)
            self._waiting = now

    async def _look(self, connection: AsyncConnection) -> _Look:
        """One statement, for what is applied and the outbox are to be of one moment."""
        found = await rows(connection, _LOOK.format(schema=self._schema), topics=self._topics)
        applied = {Log(*row[:3]): row.next_offset for row in found if row.topic}
        return _Look(applied, found[0].oldest or 0, found[0].newest or 0)

    async def _save(self, applied: dict[Log, int]) -> None:
        if applied == self._saved:
            return
        logs = sorted(applied)
        async with self._engine.begin() as connection:
            await connection.execute(
                text(_SAVE.format(schema=self._schema)),
                {
                    "schema": self._schema,
                    "topics": [of.topic for of in logs],
                    "ids": [of.topic_id for of in logs],
                    "parts": [of.partition for of in logs],
                    "offsets": [applied[of] for of in logs],
                },
            )
        self._saved = applied


async def published(connection: AsyncConnection, schema: Schema, topic: str) -> dict[Log, int]:
    """The offset of each log up to where a service has published what it makes of a topic."""
    found = await rows(
        connection,
        "SELECT topic, topic_id, partition, next_offset FROM access.published "
        "WHERE service = :schema AND topic = :topic",
        schema=schema,
        topic=topic,
    )
    return {
        Log(row.topic, UUID(str(row.topic_id)), row.partition): row.next_offset for row in found
    }
