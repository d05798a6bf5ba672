"""Consumes batches from Kafka, from where the database says, and applies each in one transaction;
the group's offset follows for others to see.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.errors import Retry
from services.shared.messaging.batches import Batch, Batches, Handler
from services.shared.messaging.kafka import (
    NOTHING,
    Polled,
    Record,
    Subscription,
    TopicPartition,
)
from services.shared.messaging.progress import Progress, ProgressMoved, Schema
from services.shared.runtime import RETRY_FIRST_S, RETRY_LONGEST_S, Heartbeat, fault_point

log = structlog.get_logger()
MAX_CONCURRENT = 4  # transactions at once: one folds while the others' statements run
MIN_RECORDS = 500  # so many records are worth a transaction of their own
POLL_MS = 200
RESUBSCRIBE_S = 1.0
D = TypeVar("D")


class Consumer(Generic[D]):
    """Feeds a handler from topics. Correctness rests on the handler's transaction, which keeps the
    progress too.

    `on_commit` is called after the transactions of a poll with the number of records that they put
    into the outbox.
    """

    def __init__(
        self, engine: AsyncEngine, subscription: Callable[[], Subscription], handler: Handler[D],
        schema: Schema,
        *, batch: int, on_commit: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._subscription = subscription
        self._batches = Batches(engine, handler, schema)
        self._progress = Progress(engine, schema)
        self._batch, self._on_commit = batch, on_commit
        self._absent = "it has not joined its group yet"
        self._pause = 0.0

    @property
    def problem(self) -> str:
        """Why nothing is consumed now, in a sentence; '' where it is."""
        return self._absent or self._batches.problem

    async def run(self, heartbeat: Heartbeat) -> None:
        """Consumes until cancelled; a transaction under way then is rolled back and its records are
        read again.
        """
        while True:
            subscription = self._subscription()
            try:
                await subscription.start(self._progress)
                while True:
                    heartbeat()
                    polled = await subscription.poll(self._batch, POLL_MS)
                    self._absent = "" if polled.is_assigned else "its group assigns it nothing"
                    if polled.records:
                        await self._process_poll(subscription, polled, heartbeat)
            except (Retry, ProgressMoved) as error:
                self._absent = str(error)
                log.warning("consumer_waits", reason=str(error))
                heartbeat()
                await asyncio.sleep(RESUBSCRIBE_S)
            finally:
                self._absent = self._absent or "it has left its group"
                await subscription.close()

    async def _process_poll(
        self, subscription: Subscription, polled: Polled, heartbeat: Heartbeat
    ) -> None:
        results = await asyncio.gather(
            *(
                self._batches.apply(records, polled, heartbeat)
                for records in _divided(polled.records)
            ),
            return_exceptions=True,  # so that none runs on while the reading begins again
        )
        if failed := [result for result in results if isinstance(result, BaseException)]:
            raise failed[0]
        batches = [result for result in results if isinstance(result, Batch)]
        held = await self._batches.finish(batches, polled, heartbeat)
        fault_point("between_database_and_offset_commit")
        self._on_commit(sum(batch.put for batch in batches))
        next_offsets = {part: found[-1].offset + 1 for part, found in polled.records.items()}
        await subscription.commit(next_offsets | held)
        subscription.rewind(held)
        await self._wait_for(held, heartbeat)

    async def _wait_for(self, held: Mapping[TopicPartition, int], heartbeat: Heartbeat) -> None:
        """Pauses before records that have to wait are read again, from 0.2 to 5 seconds."""
        if not held:
            self._pause = 0.0
            return
        self._pause = min(2 * self._pause or RETRY_FIRST_S, RETRY_LONGEST_S)
        heartbeat()
        await asyncio.sleep(self._pause)

    async def process(self, records: list[Record], heartbeat: Heartbeat) -> int:
        """Applies records that no broker sent; returns how many were put into the outbox. Raises
        Retry where some of them have to wait.
        """
        batch = await self._batches.apply(records, NOTHING, heartbeat)
        if await self._batches.finish([batch], NOTHING, heartbeat):
            raise Retry(self._batches.problem)
        return batch.put


def _divided(polled: Mapping[TopicPartition, list[Record]]) -> list[list[Record]]:
    """The polled records in up to MAX_CONCURRENT batches; a partition's stay together, in order."""
    parts = sorted(polled)
    count = min(MAX_CONCURRENT, len(parts), 1 + sum(map(len, polled.values())) // MIN_RECORDS)
    return [
        [record for part in parts[first::count] for record in polled[part]]
        for first in range(count)
    ]
