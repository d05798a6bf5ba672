"""Consuming: batches from Kafka, one transaction each, poison bisected, the group offset after the
commit.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Record, Subscription, TopicPartition
from services.shared.messaging.outbox import Schema
from services.shared.runtime import Heartbeat, fault_point, retry_with_backoff
from services.shared.telemetry import BATCH_SECONDS, BURIED

log = structlog.get_logger()
LANES = 4  # batches under way at once: one folds while the others' statements run
WORTH = 500  # records that are worth a lane of their own
D = TypeVar("D")


class Applier(Protocol[D]):
    """What a service does with records; pure decoding apart from the transaction."""

    def decode(self, record: Record) -> D:
        """Reads one record; raises Reject for what can never be applied."""
        ...

    async def apply(self, connection: AsyncConnection, decoded: Sequence[D]) -> int:
        """Applies a batch; returns how many records it left in the outbox."""
        ...


class Consumer(Generic[D]):
    """Feeds an applier from topics; correctness rests on its transaction, the offset is only where
    to go on.
    """

    def __init__(
        self, engine: AsyncEngine, subscription: Callable[[], Subscription], applier: Applier[D],
        schema: Schema,
        *, batch: int, after: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._engine, self._subscription, self._applier = engine, subscription, applier
        self._schema: Schema = schema
        self._batch, self._after = batch, after
        self.ready = False

    async def run(self, heartbeat: Heartbeat) -> None:
        """Consumes until cancelled; what is under way then is finished or repeated, never half
        done.
        """
        while True:
            subscription = self._subscription()
            try:
                await subscription.start()
                self.ready = True
                while True:
                    heartbeat()
                    await self._turn(
                        subscription, await subscription.poll(self._batch, 200), heartbeat
                    )
            except Retry as error:
                log.warning("consumer_waits", reason=str(error))
                heartbeat()
                await asyncio.sleep(1)
            finally:
                self.ready = False
                await subscription.close()

    async def _turn(
        self,
        subscription: Subscription,
        polled: dict[TopicPartition, list[Record]],
        heartbeat: Heartbeat,
    ) -> None:
        if not polled:
            return
        parts = sorted(polled)
        lanes = min(LANES, len(parts), 1 + sum(map(len, polled.values())) // WORTH)
        work = [
            [record for part in parts[lane::lanes] for record in polled[part]]
            for lane in range(lanes)
        ]
        left = await asyncio.gather(*(self.take(records, heartbeat) for records in work))
        fault_point("between_database_and_offset_commit")
        self._after(sum(left))
        await subscription.commit(
            {part: records[-1].offset + 1 for part, records in polled.items()}
        )

    async def take(self, records: list[Record], heartbeat: Heartbeat) -> int:
        """Applies records in one transaction, bisecting around what can never be applied."""
        began = time.perf_counter()
        sound, rejected = self._decode(records)

        async def attempt() -> int:
            try:
                return await self._commit(records, sound, rejected)
            except Retry:
                raise
            except Exception as error:
                if is_transient(error):
                    raise Retry(f"the database is away or busy: {type(error).__name__}") from error
                if len(records) == 1:
                    log.error(
                        "record_buried",
                        topic=records[0].topic,
                        offset=records[0].offset,
                        exc_info=error,
                    )
                    reason = f"{type(error).__name__}: {error}"
                    return await self._commit(records, [], [(records[0], reason)])
                raise _Poisoned from error

        try:
            left: int = await retry_with_backoff(attempt, "batch", heartbeat)
        except _Poisoned:
            middle = len(records) // 2
            left = await self.take(records[:middle], heartbeat) + await self.take(
                records[middle:], heartbeat
            )
        BATCH_SECONDS.labels(self._schema).observe(time.perf_counter() - began)
        return left

    def _decode(self, records: list[Record]) -> tuple[list[D], list[tuple[Record, str]]]:
        sound: list[D] = []
        rejected: list[tuple[Record, str]] = []
        for record in records:
            try:
                sound.append(self._applier.decode(record))
            except Reject as error:
                rejected.append((record, str(error)))
        return sound, rejected

    async def _commit(
        self, records: list[Record], sound: list[D], rejected: list[tuple[Record, str]]
    ) -> int:
        async with self._engine.begin() as connection:
            for record, reason in rejected:
                log.error(
                    "record_buried",
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                )
                await outbox.bury(connection, self._schema, record, reason)
            left = await self._applier.apply(connection, sound) if sound else 0
            await outbox.advance(connection, self._schema, records)
            fault_point("before_commit")
        BURIED.labels(self._schema).inc(len(rejected))
        return left


class _Poisoned(Exception):
    """Something in this batch can never be applied; look for it by halves."""
