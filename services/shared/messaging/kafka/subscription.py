"""Consumes topics as a member of a group, from where its reader's own ledger says."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from services.shared.errors import Retry
from services.shared.messaging.kafka.closing import CLOSE_S, close
from services.shared.messaging.kafka.records import Extent, Log, Record
from services.shared.messaging.kafka.topic_ids import topic_ids
from services.shared.settings import Settings

log = structlog.get_logger()
ASK_S = 10.0
COMMIT_S = 10.0
WAITED_S = 0.002  # a poll that took longer waited for the broker's answer, and has all of it
GATHER_MS = 10  # that the rest of what the broker has may take
ASSIGNED_S = 10.0  # a poll waits no longer for the group to assign its partitions
COMPARE_S = 1.0  # between looks at the topics' ids
COMPARED_S = 3.0  # such a look gives up


class Ledger(Protocol):
    """How far a reader has come."""

    async def read(self, topics: Iterable[str]) -> Any:
        """What is known of the topics, before the broker is asked."""
        ...

    async def check(self, read_to: Mapping[Log, int]) -> None:
        """Raises Retry where less is known than was read of these logs."""
        ...

    async def place(self, known: Any, extents: Mapping[Log, Extent]) -> Mapping[Log, int]:
        """Where to go on in each log that the broker has. Raises Retry while nobody can tell."""
        ...


class Polled(NamedTuple):
    """Records by partition, in order; of each log, the offset from which they were read, and the
    end that the broker named with them. None come while the group assigns no partitions.
    """

    records: dict[TopicPartition, list[Record]]
    starts: dict[Log, int]
    ends: dict[Log, int]
    is_assigned: bool = True


NOTHING = Polled({}, {}, {})


class Subscription(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of a consumer group. Each partition that it is assigned is read from where the
    ledger says, whatever the group's offset is; that is committed by `commit` for others to see.
    """

    def __init__(self, settings: Settings, group: str, topics: Iterable[str]) -> None:
        self._topics = tuple(topics)
        self._ledger: Ledger | None = None
        self._ids: dict[str, UUID] = {}
        self._compared = 0.0
        self._generation = 0  # of the assignment
        self._placed = -1  # the generation whose partitions have their positions
        self._positions: dict[TopicPartition, int] = {}
        self._committing: asyncio.Task[None] | None = None
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap,
            group_id=f"ripeline.{group}",
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=settings.kafka_session_timeout_ms,
            heartbeat_interval_ms=max(settings.kafka_session_timeout_ms // 4, 500),
            max_poll_interval_ms=120_000,
            fetch_max_wait_ms=100,
            metadata_max_age_ms=5_000,
            request_timeout_ms=max(settings.kafka_session_timeout_ms, 10_000) + 5_000,
        )

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """aiokafka's call before the group assigns its partitions again."""
        self._generation += 1
        self._positions = {}

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """aiokafka's call after it."""
        self._generation += 1
        self._positions = {}

    async def start(self, ledger: Ledger) -> None:
        """Joins the group; raises Retry while the broker is away."""
        self._ledger = ledger
        try:
            self._consumer.subscribe(self._topics, listener=self)
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await close(self._consumer.stop())
            raise Retry(f"the broker is away: {type(error).__name__}") from error

    async def poll(self, limit: int, timeout_ms: int) -> Polled:
        """Up to `limit` records; waits `timeout_ms` for the first. Raises Retry where the reading
        has to begin again: a topic was created again, its records are not those expected, or the
        ledger knows less than was read.
        """
        if self._placed != self._generation:
            await self._place()
        elif time.monotonic() - self._compared > COMPARE_S:
            await self._compare_ids()
            await self._compare_ledger()
        try:
            polled = await self._getmany(limit, timeout_ms)
        except TimeoutError:  # the group does not answer
            return NOTHING._replace(is_assigned=False)
        except NoOffsetForPartitionError:  # of the group: before the ledger's is there
            return NOTHING
        except OffsetOutOfRangeError as error:
            raise Retry("the broker does not have the offset to go on at") from error
        except KafkaError as error:
            raise Retry(f"the broker does not let us read: {type(error).__name__}") from error
        return self._taken(polled)

    async def _getmany(self, limit: int, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        """What aiokafka has read ahead, which is of one answer of the broker, and then what the
        broker has of the other partitions: else that would wait for two batches.
        """
        began = time.monotonic()
        async with asyncio.timeout(timeout_ms / 1000 + ASSIGNED_S):
            polled = dict(await self._consumer.getmany(timeout_ms=timeout_ms, max_records=limit))
        room = limit - sum(map(len, polled.values()))
        if not polled or room <= 0 or time.monotonic() - began > WAITED_S:
            return polled
        try:
            async with asyncio.timeout(ASSIGNED_S):
                more = await self._consumer.getmany(timeout_ms=GATHER_MS, max_records=room)
        except (TimeoutError, NoOffsetForPartitionError):  # the group assigns its partitions again
            return polled  # which aiokafka gives once
        for part, found in more.items():
            polled[part] = [*polled.get(part, ()), *found]
        return polled

    def _taken(self, polled: Mapping[TopicPartition, list[Any]]) -> Polled:
        """What was polled from the ledger's positions on; the rest is read again from there."""
        taken = Polled({}, {}, {})
        for part, found in polled.items():
            if part not in self._positions:
                continue
            topic, partition = part
            topic_id = self._ids[topic]
            of = Log(topic, topic_id, partition)
            taken.records[part] = [
                Record(topic, partition, r.offset, r.key, r.value or b"", topic_id) for r in found
            ]
            taken.starts[of] = self._positions[part]
            taken.ends[of] = self._consumer.highwater(part) or 0
            self._positions[part] = found[-1].offset + 1
        return taken

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Reads these partitions again from there, where they are still ours."""
        for part, offset in offsets.items():
            if part in self._positions:
                self._consumer.seek(part, offset)
                self._positions[part] = offset

    async def _place(self) -> None:
        """Puts each assigned partition where the ledger says."""
        assert self._ledger is not None, "poll comes after start"
        generation, assigned = self._generation, self._consumer.assignment()
        known = await self._ledger.read(self._topics)
        try:
            async with asyncio.timeout(ASK_S):
                self._ids = await self._asked_ids()
                begins = await self._consumer.beginning_offsets(assigned) if assigned else {}
                ends = await self._consumer.end_offsets(assigned) if assigned else {}
                after = await self._asked_ids()
        except (KafkaError, OSError, TimeoutError) as error:
            raise Retry(f"the broker is away: {type(error).__name__}") from error
        if after != self._ids:
            raise Retry("a topic was created again")
        extents = {
            Log(part.topic, self._ids[part.topic], part.partition): Extent(begins[part], ends[part])
            for part in assigned
        }
        starts = await self._ledger.place(known, extents)
        if generation != self._generation:
            return  # the next poll asks again
        self._positions = {TopicPartition(of.topic, of.partition): at for of, at in starts.items()}
        for part, offset in self._positions.items():
            self._consumer.seek(part, offset)
        self._placed, self._compared = generation, time.monotonic()

    async def _compare_ids(self) -> None:
        """Raises Retry where a topic is another one than that whose offsets we know; a broker that
        does not answer says nothing about it.
        """
        self._compared = time.monotonic()
        try:
            async with asyncio.timeout(COMPARED_S):
                ids = await self._asked_ids()
        except (KafkaError, OSError, TimeoutError):
            return
        if ids != self._ids:
            raise Retry("a topic was created again")

    async def _compare_ledger(self) -> None:
        """Raises Retry where the ledger knows less than was read, as after a restored backup."""
        assert self._ledger is not None, "poll comes after start"
        await self._ledger.check(
            {
                Log(part.topic, self._ids[part.topic], part.partition): at
                for part, at in self._positions.items()
            }
        )

    async def _asked_ids(self) -> dict[str, UUID]:
        ids = await topic_ids(self._consumer._client, self._topics)
        if missing := [topic for topic in self._topics if topic not in ids]:
            raise Retry(f"topics are missing: {', '.join(missing)}; run `ripeline provision`")
        return ids

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Has the next offsets committed while the reading goes on; waits for the commit before.
        Those of partitions that were reassigned in between are left to their new owner. A failure
        is logged only, as correctness does not rest on it.
        """
        if self._committing:
            await self._committing
        self._committing = asyncio.create_task(self._commit(offsets))

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        assigned = {
            part: offset for part, offset in offsets.items() if part in self._consumer.assignment()
        }
        if not assigned:
            return
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._consumer.commit(assigned)
        except (KafkaError, TimeoutError) as error:
            log.warning("offset_commit_failed", error=type(error).__name__)

    async def close(self) -> None:
        """Leaves the group, after the commit under way."""
        if self._committing:
            await asyncio.wait([self._committing], timeout=CLOSE_S)
        await close(self._consumer.stop())
