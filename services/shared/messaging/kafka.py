"""Kafka: the only importer of aiokafka. Producing on batches with acknowledgement, consuming with
offsets by hand.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaError,
    OutOfOrderSequenceNumber,
    TopicAlreadyExistsError,
    UnknownProducerId,
)

from services.shared.contracts.events import TOPICS
from services.shared.errors import Retry
from services.shared.settings import Settings

__all__ = [
    "EndOffsets",
    "Outgoing",
    "Publisher",
    "Record",
    "Subscription",
    "TopicPartition",
    "make_topics",
]

log = structlog.get_logger()
ACKNOWLEDGE_SECONDS = 5.0
BATCH_BYTES = 128 * 1024
SINGLES = 32  # up to here records go one by one, which shares batches between requests
RETENTION_MS = 14 * 24 * 3600 * 1000


class Record(NamedTuple):
    """A consumed record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes


class Outgoing(NamedTuple):
    """A record to produce; the key is a keyed hash or an id, both even in their last hex digits."""

    topic: str
    key: str
    value: bytes


def partition_of(key: str, partitions: int) -> int:
    """Where records of this key go."""
    return int(key[-8:], 16) % partitions


class Publisher:
    """An idempotent producer that answers after all in-sync replicas have the records."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._asking = False
        self.away = False

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                compression = self._settings.kafka_compression
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.kafka_bootstrap,
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
                    await _quietly(producer.stop())
                    raise
                self._producer = producer
            return self._producer

    async def publish(
        self, records: Sequence[Outgoing], timeout: float = ACKNOWLEDGE_SECONDS
    ) -> None:
        """Returns when the broker has acknowledged every record; raises Retry when it could not in
        time.

        After Retry some records may still arrive: their ids catch the repetition. While the broker
        is away one call at a time asks for all, and the others raise at once: nobody waits in vain,
        and nothing piles up in the producer.
        """
        if not records:
            return
        if not self.away:
            await self._acknowledged(records, timeout)
            return
        if self._asking:
            raise Retry("the broker is away")
        self._asking = True
        try:
            await self._acknowledged(records, timeout)
        finally:
            self._asking = False

    async def _acknowledged(self, records: Sequence[Outgoing], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                producer = await self._open()
                waiting = await (self._one_by_one if len(records) <= SINGLES else self._in_batches)(
                    producer, records
                )
                await asyncio.gather(*waiting)
            self.away = False
        except (OutOfOrderSequenceNumber, UnknownProducerId) as error:
            await self.close()
            raise Retry("the producer lost its sequence") from error
        except (KafkaError, OSError, TimeoutError) as error:
            self.away = True
            raise Retry(f"the broker did not acknowledge: {type(error).__name__}") from error

    async def _one_by_one(
        self, producer: AIOKafkaProducer, records: Sequence[Outgoing]
    ) -> list[Any]:
        counts = {
            topic: len(await producer.partitions_for(topic))
            for topic in {record.topic for record in records}
        }
        return [
            await producer.send(
                r.topic, r.value, r.key.encode(), partition=partition_of(r.key, counts[r.topic])
            )
            for r in records
        ]

    async def _in_batches(
        self, producer: AIOKafkaProducer, records: Sequence[Outgoing]
    ) -> list[Any]:
        lanes: dict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        counts: dict[str, int] = {}
        for record in records:
            if record.topic not in counts:
                counts[record.topic] = len(await producer.partitions_for(record.topic))
            lanes[record.topic, partition_of(record.key, counts[record.topic])].append(record)
        return [
            asyncio.ensure_future(self._lane(producer, *lane, part)) for lane, part in lanes.items()
        ]

    async def _lane(
        self, producer: AIOKafkaProducer, topic: str, partition: int, records: list[Outgoing]
    ) -> None:
        acknowledged = []
        batch = producer.create_batch()
        for record in records:
            key = record.key.encode()
            if batch.append(key=key, value=record.value, timestamp=None) is None:
                acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                if batch.append(key=key, value=record.value, timestamp=None) is None:
                    acknowledged.append(
                        await producer.send(topic, record.value, key, partition=partition)
                    )
        if batch.record_count():
            acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*acknowledged)

    async def close(self) -> None:
        """Lets go of the producer; never hangs while the broker is away."""
        producer, self._producer = self._producer, None
        if producer:
            await _quietly(producer.stop())


class Subscription:
    """One member of a consumer group; nothing is committed but by `commit`."""

    def __init__(self, settings: Settings, group: str, topics: Iterable[str]) -> None:
        self._consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=settings.kafka_bootstrap,
            group_id=f"ripeline.{group}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=max(settings.kafka_session_timeout_ms // 4, 500),
            max_poll_interval_ms=120_000,
            fetch_max_wait_ms=100,
            metadata_max_age_ms=5_000,
            request_timeout_ms=max(settings.kafka_session_timeout_ms, 10_000) + 5_000,
        )

    async def start(self) -> None:
        """Joins the group; raises Retry while the broker is away."""
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await _quietly(self._consumer.stop())
            raise Retry(f"the broker is away: {type(error).__name__}") from error

    async def poll(self, limit: int, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        """At most `limit` records by partition, in order."""
        got = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=limit)
        return {
            part: [
                Record(part.topic, part.partition, r.offset, r.key, r.value or b"") for r in records
            ]
            for part, records in got.items()
        }

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Moves the group's resume point; a partition that was taken away in between is left to its
        new owner.
        """
        mine = {
            part: offset for part, offset in offsets.items() if part in self._consumer.assignment()
        }
        if not mine:
            return
        try:
            await asyncio.wait_for(self._consumer.commit(mine), 10)
        except (KafkaError, TimeoutError) as error:
            log.warning("offset_commit_failed", error=type(error).__name__)

    async def close(self) -> None:
        """Leaves the group."""
        await _quietly(self._consumer.stop())


class EndOffsets:
    """Asks the broker where its partitions end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None

    async def of(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        """The next offset of every partition of the topics. Raises Retry while the broker
        is away.
        """
        try:
            async with asyncio.timeout(10):
                if self._consumer is None:
                    consumer = AIOKafkaConsumer(
                        *TOPICS,
                        bootstrap_servers=self._settings.kafka_bootstrap,
                        enable_auto_commit=False,
                    )
                    self._consumer = consumer
                    await consumer.start()
                consumer = self._consumer
                parts = [
                    TopicPartition(t, p)
                    for t in topics
                    for p in consumer.partitions_for_topic(t) or ()
                ]
                ends = await consumer.end_offsets(parts) if parts else {}
                return {(part.topic, part.partition): offset for part, offset in ends.items()}
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise Retry(f"the broker is away: {type(error).__name__}") from error

    async def close(self) -> None:
        """Lets go of the connection."""
        consumer, self._consumer = self._consumer, None
        if consumer:
            await _quietly(consumer.stop())


async def make_topics(settings: Settings) -> list[str]:
    """Creates the missing topics; a broker that makes topics on first use (the in-memory one) is
    left alone.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    try:
        async with asyncio.timeout(20):
            await admin.start()
            existing = set(await admin.list_topics())
            config = {"retention.ms": str(RETENTION_MS), "cleanup.policy": "delete"}
            missing = [
                NewTopic(
                    t, settings.kafka_partitions, settings.kafka_replication, topic_configs=config
                )
                for t in TOPICS
                if t not in existing
            ]
            with suppress(TopicAlreadyExistsError):
                if missing:
                    await admin.create_topics(missing)
            return [topic.name for topic in missing]
    except AttributeError as error:  # aiokafka's answer to a cluster without controller
        return await _topics_on_first_use(settings, error)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Retry(f"the broker is away: {type(error).__name__}") from error
    finally:
        await _quietly(admin.close())


async def _topics_on_first_use(settings: Settings, error: Exception) -> list[str]:
    """A broker that makes topics when they are asked for needs no more; another without controller
    is not up yet.
    """
    ends = EndOffsets(settings)
    try:
        found = {topic for topic, _ in await ends.of(TOPICS)}
    finally:
        await ends.close()
    if found != set(TOPICS):
        raise Retry("the broker has no controller yet") from error
    return list(TOPICS)


async def _quietly(closing: Any) -> None:
    """Closes with a time limit: `stop()` hangs while the broker is away."""
    try:
        await asyncio.wait_for(closing, 3)
    except (KafkaError, OSError, TimeoutError, AttributeError, ValueError) as error:
        log.debug("kafka_close", error=type(error).__name__)
