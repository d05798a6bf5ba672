"""Consumes batches from Kafka, one transaction each; what can never be applied is bisected out
and becomes a dead letter; the group's offset follows the commit.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Record, Subscription, TopicPartition
from services.shared.messaging.outbox import DeadLetter, Schema
from services.shared.runtime import Heartbeat, fault_point, retry_with_backoff
from services.shared.telemetry import BATCH_SECONDS, DEAD_LETTERS

log = structlog.get_logger()
MAX_CONCURRENT = 4  # transactions at once: one folds while the others' statements run
MIN_RECORDS = 500  # so many records are worth a transaction of their own
POLL_MS = 200
RESUBSCRIBE_S = 1.0
D = TypeVar("D")


class Handler(Protocol[D]):
    """What a service does with records; decoding is pure and apart from the transaction."""

    def decode(self, record: Record) -> D:
        """Reads one record; raises Reject for what can never be applied."""
        ...

    async def apply(self, connection: AsyncConnection, decoded: Sequence[D]) -> int:
        """Applies a batch in the caller's transaction; returns how many records it put into the
        outbox.
        """
        ...

    async def apply_apart(self, connection: AsyncConnection, decoded: D, error: Exception) -> int:
        """Applies a single record that fails by `error`, where others' data are at fault; raises
        `error` where the record's own are. Returns as `apply` does.
        """
        ...


class Consumer(Generic[D]):
    """Feeds a handler from topics. Correctness rests on the handler's transaction; the group's
    offset says only where to go on.

    `on_commit` is called after the transactions of a poll with the number of records that they put
    into the outbox.
    """

    def __init__(
        self, engine: AsyncEngine, subscription: Callable[[], Subscription], handler: Handler[D],
        schema: Schema,
        *, batch: int, on_commit: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._engine, self._subscription, self._handler = engine, subscription, handler
        self._schema: Schema = schema
        self._batch, self._on_commit = batch, on_commit
        self.ready = False

    async def run(self, heartbeat: Heartbeat) -> None:
        """Consumes until cancelled; a transaction under way then is rolled back and its records are
        read again.
        """
        while True:
            subscription = self._subscription()
            try:
                await subscription.start()
                self.ready = True
                while True:
                    heartbeat()
                    polled = await subscription.poll(self._batch, POLL_MS)
                    if polled:
                        await self._process_poll(subscription, polled, heartbeat)
            except Retry as error:
                log.warning("consumer_waits", reason=str(error))
                heartbeat()
                await asyncio.sleep(RESUBSCRIBE_S)
            finally:
                self.ready = False
                await subscription.close()

    async def _process_poll(
        self,
        subscription: Subscription,
        polled: Mapping[TopicPartition, list[Record]],
        heartbeat: Heartbeat,
    ) -> None:
        batches = _divided(polled)
        put = await asyncio.gather(*(self.process(records, heartbeat) for records in batches))
        fault_point("between_database_and_offset_commit")
        self._on_commit(sum(put))
        await subscription.commit(
            {part: records[-1].offset + 1 for part, records in polled.items()}
        )

    async def process(self, records: list[Record], heartbeat: Heartbeat) -> int:
        """Applies records in one transaction, or bisects them around what can never be applied;
        returns how many records were put into the outbox.
        """
        began = time.perf_counter()
        decoded, rejected = self._decode(records)
        try:
            put = await retry_with_backoff(
                lambda: self._attempt(records, decoded, rejected), "batch", heartbeat
            )
        except _PoisonedBatch:
            middle = len(records) // 2
            put = await self.process(records[:middle], heartbeat)
            put += await self.process(records[middle:], heartbeat)
        BATCH_SECONDS.labels(self._schema).observe(time.perf_counter() - began)
        return put

    def _decode(self, records: list[Record]) -> tuple[list[D], list[DeadLetter]]:
        decoded: list[D] = []
        rejected: list[DeadLetter] = []
        for record in records:
            try:
                decoded.append(self._handler.decode(record))
            except Reject as error:
                rejected.append(DeadLetter(record, str(error)))
        return decoded, rejected

    async def _attempt(
        self, records: list[Record], decoded: list[D], rejected: list[DeadLetter]
    ) -> int:
        """One transaction. Raises Retry for what passes by itself, _PoisonedBatch where the data
        are at fault; a single record at fault becomes a dead letter.
        """
        try:
            return await self._commit(records, decoded, rejected)
        except Retry:
            raise
        except Exception as error:
            if is_transient(error):
                raise Retry(f"the database is away or busy: {type(error).__name__}") from error
            if len(records) > 1:
                raise _PoisonedBatch from error
            if (put := await self._commit_apart(records, decoded, error)) is not None:
                return put
            log.error("record_failed", offset=records[0].offset, exc_info=error)
            reason = f"{type(error).__name__}: {error}"
            return await self._commit(records, [], [DeadLetter(records[0], reason)])

    async def _commit_apart(
        self, records: list[Record], decoded: list[D], error: Exception
    ) -> int | None:
        """Applies a single record that failed by `error`; None where its own data are at fault."""
        try:
            async with self._engine.begin() as connection:
                put = await self._handler.apply_apart(connection, decoded[0], error)
                await outbox.save_progress(connection, self._schema, records)
        except Exception as again:
            if isinstance(again, Retry) or is_transient(again):
                raise Retry(f"the database is away or busy: {type(again).__name__}") from again
            return None
        return put

    async def _commit(
        self, records: list[Record], decoded: list[D], rejected: list[DeadLetter]
    ) -> int:
        async with self._engine.begin() as connection:
            for letter in rejected:
                topic, partition, offset, *_ = letter.record
                log.error("dead_letter", topic=topic, partition=partition, offset=offset)
                await outbox.add_dead_letter(connection, self._schema, letter)
            put = await self._handler.apply(connection, decoded) if decoded else 0
            await outbox.save_progress(connection, self._schema, records)
            fault_point("before_commit")
        DEAD_LETTERS.labels(self._schema).inc(len(rejected))
        return put


class _PoisonedBatch(Exception):
    """Something in this batch can never be applied; look for it by halves."""


def _divided(polled: Mapping[TopicPartition, list[Record]]) -> list[list[Record]]:
    """The polled records in up to MAX_CONCURRENT batches; a partition's stay together, in order."""
    parts = sorted(polled)
    count = min(MAX_CONCURRENT, len(parts), 1 + sum(map(len, polled.values())) // MIN_RECORDS)
    return [
        [record for part in parts[first::count] for record in polled[part]]
        for first in range(count)
    ]
