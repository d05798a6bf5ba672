"""Consumes topics as a member of a group."""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.shared.errors import Retry
from services.shared.messaging.kafka.closing import close
from services.shared.messaging.kafka.records import Record
from services.shared.settings import Settings

log = structlog.get_logger()
COMMIT_S = 10.0


class Subscription:
    """One member of a consumer group; offsets are committed by `commit` alone."""

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
            await close(self._consumer.stop())
            raise Retry(f"the broker is away: {type(error).__name__}") from error

    async def poll(self, limit: int, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        """Up to `limit` records by partition, in order; waits `timeout_ms` for the first."""
        polled = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=limit)
        return {
            part: [
                Record(part.topic, part.partition, r.offset, r.key, r.value or b"") for r in records
            ]
            for part, records in polled.items()
        }

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commits the next offsets; those of partitions that were reassigned in between are left to
        their new owner. A failure is logged only, as correctness does not rest on it.
        """
        assigned = {
            part: offset for part, offset in offsets.items() if part in self._consumer.assignment()
        }
        if not assigned:
            return
        try:
            await asyncio.wait_for(self._consumer.commit(assigned), COMMIT_S)
        except (KafkaError, TimeoutError) as error:
            log.warning("offset_commit_failed", error=type(error).__name__)

    async def close(self) -> None:
        """Leaves the group."""
        await close(self._consumer.stop())
