"""What the services ask of a broker, on the in-memory one and on Apache Kafka alike."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from services.ops.embedded.processes import tied
from services.shared.contracts.events import CHANGES, INTERACTIONS, TOPICS
from services.shared.errors import Retry
from services.shared.messaging.kafka import (
    BrokerWatch,
    EndOffsets,
    Extent,
    Log,
    Outgoing,
    Publisher,
    Record,
    Subscription,
    TopicPartition,
    create_topics,
)
from services.shared.runtime import retry_with_backoff
from services.shared.settings import ROOT, Settings
from tests.support import present
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Kafka

PARTITIONS = 4


class Broker(Protocol):
    """A broker of a test."""

    bootstrap: str

    def start(self) -> None: ...

    def stop(self) -> None: ...


class InMemory:
    """The broker of the embedded system, in a process of its own."""

    bootstrap = ""

    def __init__(self, log: Path) -> None:
        self._log = log

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = tied([sys.executable, "-m", "services.ops.embedded.broker"])
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=present.environment(), stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout
        self.bootstrap = json.loads(self._process.stdout.readline())["bootstrap"]

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(10) == 0
        assert self._process.stdout
        self._process.stdout.close()


@pytest.fixture(scope="module", params=["in-memory", "kafka"])
def broker(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Broker]:
    """A broker of this module's own, with all topics."""
    folder = scratch / f"contract-{request.param}"
    folder.mkdir()
    broker: Broker = (
        InMemory(folder / "log") if request.param == "in-memory" else Kafka(folder, free_port())
    )
    broker.start()
    asyncio.run(create_topics(settings_for(broker.bootstrap)))
    yield broker
    broker.stop()


def settings_for(bootstrap: str) -> Settings:
    return Settings(
        kafka_bootstrap=bootstrap, kafka_partitions=PARTITIONS, kafka_session_timeout_ms=6000
    )


@pytest.fixture
def given(broker: Broker) -> Settings:
    return settings_for(broker.bootstrap)


@pytest.fixture
async def publisher(given: Settings) -> AsyncIterator[Publisher]:
    publisher = Publisher(given)
    yield publisher
    await publisher.close()


class Memory(dict[Log, int]):
    """A ledger in memory: reads from the beginning what it does not know."""

    async def read(self, _: Iterable[str]) -> None:
        pass

    async def check(self, read_to: Mapping[Log, int]) -> None:
        pass

    async def place(self, _: None, extents: Mapping[Log, Extent]) -> Mapping[Log, int]:
        return {of: self.get(of, extent.begin) for of, extent in extents.items()}


class Reader:
    """One consumer at a time of a group of its own, that keeps what it reads."""

    def __init__(self, settings: Settings, *topics: str) -> None:
        self._settings, self._group, self._topics = (
            settings,
            f"contract-{uuid.uuid4().hex}",
            topics or (INTERACTIONS,),
        )
        self._subscription: Subscription | None = None
        self.ledger = Memory()

    async def read(
        self, wanted: int, run: str, *, commit: bool = True, seconds: float = 20
    ) -> list[Record]:
        """The records of a run, until there are so many of them; commits behind every poll."""
        if self._subscription is None:
            self._subscription = Subscription(self._settings, self._group, self._topics)
            await self._subscription.start(self.ledger)
        found: list[Record] = []
        give_up = time.monotonic() + seconds
        while len(found) < wanted:
            assert time.monotonic() < give_up, f"{len(found)} of {wanted}"
            polled = await self._subscription.poll(1000, 200)
            found += [
                record
                for records in polled.records.values()
                for record in records
                if run.encode() in record.value[:100]
            ]
            if commit:
                self.ledger |= {
                    records[-1].log: records[-1].offset + 1 for records in polled.records.values()
                }
                await self._subscription.commit(
                    {part: records[-1].offset + 1 for part, records in polled.records.items()}
                )
        return found

    async def nothing_more(self, run: str, seconds: float = 1.0) -> bool:
        """Whether no further record of the run comes for a while."""
        assert self._subscription
        polled = await self._subscription.poll(1000, int(seconds * 1000))
        return not [
            record
            for records in polled.records.values()
            for record in records
            if run.encode() in record.value[:100]
        ]

    async def rewind(self, offsets: dict[TopicPartition, int]) -> None:
        """Reads on from these offsets."""
        assert self._subscription
        self._subscription.rewind(offsets)

    async def close(self) -> None:
        if self._subscription:
            await self._subscription.close()
            self._subscription = None


@pytest.fixture
async def reader(given: Settings) -> AsyncIterator[Reader]:
    reader = Reader(given)
    yield reader
    await reader.close()


def key(n: int) -> str:
    """A key as ours are: hex, evenly spread."""
    return f"{(n * 2654435761) % 2**32:08x}{n:024x}"


def numbered(run: str, count: int, keys: int = 7, padding: int = 0) -> list[Outgoing]:
    filling = os.urandom(padding).hex()[:padding].encode() if padding else b""
    return [
        Outgoing(INTERACTIONS, key(n % keys), f"{run} {n} ".encode() + filling)
        for n in range(count)
    ]


@pytest.fixture
def run() -> str:
    return uuid.uuid4().hex


def numbers(records: list[Record]) -> list[int]:
    return [int(record.value.split(b" ")[1]) for record in records]


async def test_what_was_acknowledged_is_consumed(publisher: Publisher, reader: Reader) -> None:
    """O4: by single sends and by whole batches, with keys, values and partitions as they were
    given.
    """
    for count in (1, 20, 32, 33, 500):
        run = uuid.uuid4().hex
        await publisher.publish(numbered(run, count))
        got = await reader.read(count, run)
        assert sorted(numbers(got)) == list(range(count))
        assert {record.topic for record in got} == {INTERACTIONS}
        assert all(
            record.key == key(n % 7).encode() for record, n in zip(got, numbers(got), strict=True)
        )
        assert await reader.nothing_more(run, 0.3)


async def test_records_of_one_key_keep_their_order(
    publisher: Publisher, reader: Reader, run: str
) -> None:
    """Also where singles and batches follow each other."""
    records = numbered(run, 300, keys=5)
    for start, end in ((0, 10), (10, 150), (150, 160), (160, 300)):
        await publisher.publish(records[start:end])
    got = await reader.read(300, run)
    by_key: dict[bytes | None, list[int]] = {}
    for record in got:
        by_key.setdefault(record.key, []).append(int(record.value.split(b" ")[1]))
    assert len(by_key) == 5
    assert all(order == sorted(order) for order in by_key.values())
    assert len({(record.key, record.partition) for record in got}) == 5


async def test_many_publishers_at_once_lose_nothing(
    publisher: Publisher, reader: Reader, run: str
) -> None:
    records = numbered(run, 640, keys=64)
    await asyncio.gather(
        *(publisher.publish(records[start : start + 10]) for start in range(0, 640, 10))
    )
    assert sorted(numbers(await reader.read(640, run))) == list(range(640))


async def test_large_records_and_batches_arrive_whole(publisher: Publisher, reader: Reader) -> None:
    """Records larger than a batch (128 KiB) too, alone and among others."""
    for count, padding in (
        (3, 300_000),
        (40, 60_000),
        (2, 130_000),
        (34, 131_072),
        (1, 512 * 1024),
    ):
        run = uuid.uuid4().hex
        sent = numbered(run, count, padding=padding)
        await publisher.publish(sent)
        got = await reader.read(count, run)
        assert sorted(record.value for record in got) == sorted(record.value for record in sent)


async def test_a_consumer_goes_on_where_its_predecessor_stopped(
    publisher: Publisher, reader: Reader, run: str
) -> None:
    await publisher.publish(numbered(run, 50))
    await reader.read(50, run)
    await reader.close()
    await publisher.publish(
        [Outgoing(INTERACTIONS, key(n), f"{run} {n} ".encode()) for n in range(50, 80)]
    )
    assert sorted(numbers(await reader.read(30, run))) == list(range(50, 80))
    assert await reader.nothing_more(run)


async def test_what_was_not_committed_is_read_again(
    publisher: Publisher, reader: Reader, run: str
) -> None:
    await publisher.publish(numbered(run, 40))
    await reader.read(40, run)
    await publisher.publish(
        [Outgoing(INTERACTIONS, key(n), f"{run} {n} ".encode()) for n in range(40, 60)]
    )
    assert sorted(numbers(await reader.read(20, run, commit=False))) == list(range(40, 60))
    await reader.close()
    assert sorted(numbers(await reader.read(20, run))) == list(range(40, 60))


async def test_a_consumer_can_go_back(publisher: Publisher, reader: Reader, run: str) -> None:
    await publisher.publish(numbered(run, 30))
    got = await reader.read(30, run, commit=False)
    first = {
        TopicPartition(record.topic, record.partition): record.offset for record in reversed(got)
    }
    await reader.rewind(first)
    assert sorted(numbers(await reader.read(30, run))) == list(range(30))


async def test_what_the_group_committed_says_nothing(
    publisher: Publisher, reader: Reader, run: str
) -> None:
    """O4: a ledger that was set back reads again what its group has long committed."""
    await publisher.publish(numbered(run, 40))
    await reader.read(40, run)
    await reader.close()
    reader.ledger.clear()
    assert sorted(numbers(await reader.read(40, run))) == list(range(40))


async def test_whether_the_broker_answers_is_known_within_seconds(
    given: Settings,
) -> None:
    """O4: also where it takes the connection and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            watch = BrokerWatch(settings_for(f"127.0.0.1:{port}"))
            began = time.monotonic()
            with pytest.raises(Retry):
                await watch.ask()
            assert "has not answered" in watch.problem
            assert time.monotonic() - began < 8
    watch = BrokerWatch(given)
    await watch.ask()
    assert watch.problem == ""
    await watch.close()


async def test_one_group_reads_several_topics_and_another_reads_them_all_again(
    publisher: Publisher, given: Settings, run: str
) -> None:
    await publisher.publish(
        [
            Outgoing(topic, key(1), f"{run} {n} ".encode())
            for n, topic in enumerate((INTERACTIONS, CHANGES))
        ]
    )
    for _ in range(2):
        both = Reader(given, INTERACTIONS, CHANGES)
        got = await both.read(2, run)
        assert {record.topic for record in got} == {INTERACTIONS, CHANGES}
        await both.close()


async def test_the_ends_move_by_what_was_published(
    publisher: Publisher, given: Settings, run: str
) -> None:
    """O2: lag is counted from these."""
    ends = EndOffsets(given)
    before = await ends.of([INTERACTIONS, CHANGES])
    assert {of.topic for of in before} == {INTERACTIONS, CHANGES}
    await publisher.publish(numbered(run, 90))
    after = await ends.of([INTERACTIONS, CHANGES])
    moved = {part: after[part] - before[part] for part in after}
    assert sum(moved.values()) == 90
    assert all(count == 0 for of, count in moved.items() if of.topic == CHANGES)
    await ends.close()
    assert await ends.of([INTERACTIONS]) == {
        of: end for of, end in after.items() if of.topic == INTERACTIONS
    }
    await ends.close()


async def test_making_topics_twice_is_making_them_once(given: Settings) -> None:
    await create_topics(given)
    again = await create_topics(given)
    assert again in ([], list(TOPICS))  # a broker that makes them on first use cannot tell
    ends = EndOffsets(given)
    parts = await ends.of(TOPICS)
    await ends.close()
    assert {of.topic for of in parts} == set(TOPICS)
    assert len(parts) == len(TOPICS) * PARTITIONS


async def test_a_broker_that_is_away_raises_retry_in_time_and_all_goes_on_once_it_is_back(
    broker: Broker, run: str
) -> None:
    """O4: nothing hangs: neither who publishes, nor who asks for ends, nor who joins a group, nor
    who closes.
    """
    proxy = Proxy(broker.bootstrap)
    away = settings_for(proxy.address)
    publisher, ends = Publisher(away), EndOffsets(away)
    for limit in (0.5, 2.0):
        began = time.monotonic()
        with pytest.raises(Retry):
            await publisher.publish(numbered(run, 1), limit)
        assert time.monotonic() - began < limit + 3.5
        assert publisher.away
    with pytest.raises(Retry):
        await ends.of([INTERACTIONS])
    subscription = Subscription(away, f"contract-{run}", [INTERACTIONS])
    with pytest.raises(Retry):
        await subscription.start(Memory())
    with pytest.raises(Retry):
        await create_topics(away)
    proxy.open()
    await publisher.publish(numbered(run, 2))
    assert not publisher.away
    assert await ends.of([INTERACTIONS])
    began = time.monotonic()
    await publisher.close()
    await ends.close()
    assert time.monotonic() - began < 7
    proxy.close()


async def test_while_the_broker_is_away_one_asks_for_all(run: str) -> None:
    """O4: the others fail at once, and once it is back all publish again."""
    publisher = Publisher(settings_for(f"127.0.0.1:{free_port()}"))
    with pytest.raises(Retry):
        await publisher.publish(numbered(run, 1), 0.5)
    asking = asyncio.create_task(publisher.publish(numbered(run, 1), 2.0))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(Retry):
            await publisher.publish(numbered(run, 1))
    assert time.monotonic() - began < 1
    with pytest.raises(Retry):
        await asking
    await publisher.close()


async def test_a_broker_that_goes_away_while_publishing_raises_retry_in_time(
    scratch: Path, broker: Broker, run: str
) -> None:
    """The producer was at work already; once Kafka is back, with its data and on its port, it goes
    on.
    """
    target: Broker = broker
    if isinstance(broker, InMemory):
        target = InMemory(scratch / f"away-{run}.log")
        target.start()
    publisher = Publisher(settings_for(target.bootstrap))
    await publisher.publish(numbered(run, 5))
    await asyncio.to_thread(target.stop)
    began = time.monotonic()
    with pytest.raises(Retry):
        await publisher.publish(numbered(run, 5), 2.0)
    assert time.monotonic() - began < 4
    if target is broker:
        await asyncio.to_thread(target.start)
        await retry_with_backoff(
            lambda: publisher.publish([Outgoing(INTERACTIONS, key(5), f"{run} 5 ".encode())]),
            "the broker",
        )
        reader = Reader(settings_for(target.bootstrap))
        found: set[int] = set()
        while found < set(range(6)):  # what was on its way may have come twice
            found |= set(numbers(await reader.read(1, run)))
        await reader.close()
    await publisher.close()
