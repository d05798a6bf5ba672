"""Publishes records and waits for their acknowledgement."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    PolicyViolationError,
    RecordListTooLargeError,
    UnknownProducerId,
)

from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka.closing import close
from services.shared.messaging.kafka.records import Outgoing, partition_of
from services.shared.settings import Settings

ACKNOWLEDGE_S = 5.0
BATCH_BYTES = 128 * 1024
MAX_RECORD_BYTES = 1_000_000  # of key and value; brokers take a little more
# what a broker answers about records, whenever they come
REFUSALS = (
    InvalidTimestampError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
)
MAX_SINGLE = 32  # up to so many records are sent one by one, so that requests share batches


class Publisher:
    """An idempotent producer that waits until all in-sync replicas have the records.

    `away` says that the last attempt failed: the broker could not be reached or did not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._probing = False
        self.away = False

    async def publish(
        self,
        records: Sequence[Outgoing],
        timeout: float = ACKNOWLEDGE_S,  # noqa: ASYNC109  # a refusal of its own
    ) -> None:
        """Returns when the broker has acknowledged every record; raises Retry when it has not in
        `timeout` seconds, and Reject where one of them can never be published; after either, some
        records may still get through: whoever publishes them again relies on their ids.

        While the broker is away one call at a time tries it, and all others raise Retry at once, so
        that nothing piles up in the producer.
        """
        if not records:
            return
        _check(records)
        if not self.away:
            await self._send(records, timeout)
            return
        if self._probing:
            raise Retry("the broker is away")
        self._probing = True
        try:
            await self._send(records, timeout)
        finally:
            self._probing = False

    async def _send(self, records: Sequence[Outgoing], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                producer = await self._connected()
                send = _send_singly if len(records) <= MAX_SINGLE else _send_in_batches
                await asyncio.gather(*await send(producer, records))
            self.away = False
        except (OutOfOrderSequenceNumber, UnknownProducerId) as error:
            await self.close()
            raise Retry("the producer lost its sequence") from error
        except REFUSALS as error:
            await self.close()  # its sequence has a hole where the refused records were
            raise Reject(
                f"the broker does not take it: {type(error).__name__}", kind="too-large"
            ) from error
        except (KafkaError, OSError, TimeoutError) as error:
            self.away = True
            raise Retry(f"the broker did not acknowledge: {type(error).__name__}") from error

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                self._producer = await _connect(self._settings)
            return self._producer

    async def close(self) -> None:
        """Closes the producer, in bounded time also while the broker is away."""
        producer, self._producer = self._producer, None
        if producer:
            await close(producer.stop())


def _check(records: Sequence[Outgoing]) -> None:
    """Raises Reject for the first record that no broker takes, before it harms the others."""
    for record in records:
        if len(record.key) + len(record.value) > MAX_RECORD_BYTES:
            raise Reject(
                f"a record of {record.topic} has {len(record.value)} bytes",
                remedy=f"make it smaller than {MAX_RECORD_BYTES}",
                kind="too-large",
            )


async def _connect(settings: Settings) -> AIOKafkaProducer:
    compression = settings.kafka_compression
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap,
        enable_idempotence=True,
        acks="all",
        linger_ms=2,
        max_batch_size=BATCH_BYTES,
        compression_type=None if compression == "none" else compression,
        request_timeout_ms=10_000,
        metadata_max_age_ms=60_000,
    )
    try:
        await producer.start()
    except BaseException:
        await close(producer.stop())
        raise
    return producer


async def _send_singly(producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> list[Any]:
    """Hands records to the producer's own batches; returns what to await for acknowledgement."""
    counts = await _partition_counts(producer, records)
    return [
        await producer.send(
            r.topic, r.value, r.key.encode(), partition=partition_of(r.key, counts[r.topic])
        )
        for r in records
    ]


async def _send_in_batches(producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> list[Any]:
    """Fills batches by partition, which is cheaper for many; returns what to await."""
    counts = await _partition_counts(producer, records)
    by_partition: dict[TopicPartition, list[Outgoing]] = defaultdict(list)
    for record in records:
        partition = partition_of(record.key, counts[record.topic])
        by_partition[TopicPartition(record.topic, partition)].append(record)
    return [
        asyncio.ensure_future(_send_to(producer, part, found))
        for part, found in by_partition.items()
    ]


async def _partition_counts(
    producer: AIOKafkaProducer, records: Sequence[Outgoing]
) -> dict[str, int]:
    topics = {record.topic for record in records}
    return {topic: len(await producer.partitions_for(topic)) for topic in topics}


async def _send_to(
    producer: AIOKafkaProducer, part: TopicPartition, records: list[Outgoing]
) -> None:
    """Sends records to one partition in full batches and waits for their acknowledgement."""
    topic, partition = part
    acknowledged = []
    batch = producer.create_batch()
    for record in records:
        key = record.key.encode()
        if batch.append(key=key, value=record.value, timestamp=None) is None:
            acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            if batch.append(key=key, value=record.value, timestamp=None) is None:  # larger than any
                acknowledged.append(
                    await producer.send(topic, record.value, key, partition=partition)
                )
    if batch.record_count():
        acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*acknowledged)
