"""Where a consumer goes on, on Apache Kafka and PostgreSQL: after a restored backup, a broker that
lost its offsets, a topic that was created again, records that were deleted before they were read
(O2, O3, O4).
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.ops.commands import status
from services.shared.contracts.events import INTERACTIONS
from services.shared.db import rows
from services.shared.errors import Reject, Retry
from services.shared.logs import configure_logs
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import (
    EndOffsets,
    Extent,
    Log,
    Outgoing,
    Publisher,
    Record,
    Subscription,
    create_topics,
    subscription,
)
from services.shared.messaging.progress import Progress
from services.shared.settings import Settings
from services.shared.telemetry import RECORDS_LOST

PARTITIONS = 3


@pytest.fixture(scope="module", autouse=True)
def _plain_logs() -> None:
    configure_logs("scorer", "error")


class Keeper:
    """A handler that keeps what it applies in the table `applied`; `bad` can never be applied."""

    def decode(self, record: Record) -> str:
        if record.value == b"bad":
            raise Reject("it is bad")
        return record.value.decode()

    async def apply(self, connection: AsyncConnection, decoded: Sequence[str]) -> int:
        await connection.execute(
            text("INSERT INTO applied SELECT unnest(CAST(:what AS text[]))"), {"what": decoded}
        )
        return 0

    async def apply_apart(self, connection: AsyncConnection, decoded: str, error: Exception) -> int:
        raise error


class Topic:
    """A topic of a test's own, the database of its consumers, and what they have applied."""

    def __init__(self, settings: Settings, engine: AsyncEngine) -> None:
        self.settings, self.engine = settings, engine
        self.name = f"test.{uuid.uuid4().hex[:8]}"
        self.admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
        self.publisher = Publisher(settings)

    async def create(self) -> None:
        made = self.admin.create_topics([NewTopic(self.name, PARTITIONS, 1)])
        await asyncio.to_thread(made[self.name].result)

    async def delete(self) -> None:
        gone = self.admin.delete_topics([self.name])
        await asyncio.to_thread(gone[self.name].result)

    async def delete_records(self, partition: int, before: int) -> None:
        """As the broker does after the topic's retention."""
        asked = self.admin.delete_records([TopicPartition(self.name, partition, before)])
        for future in asked.values():
            await asyncio.to_thread(future.result)

    async def publish(self, values: Sequence[str], partition: int | None = None) -> None:
        """Spread over the partitions, or to one of them."""
        await self.publisher.publish(
            [
                Outgoing(self.name, f"{n if partition is None else partition:08x}", value.encode())
                for n, value in enumerate(values)
            ]
        )

    @asynccontextmanager
    async def consumed(self) -> AsyncIterator[Consumer[str]]:
        """While a consumer runs."""
        consumer: Consumer[str] = Consumer(
            self.engine,
            lambda: Subscription(self.settings, self.name, [self.name]),
            Keeper(),
            "scorer",
            batch=50,
            on_commit=lambda _: None,
        )
        running = asyncio.create_task(consumer.run(lambda: None))
        try:
            yield consumer
        finally:
            running.cancel()
            _, unended = await asyncio.wait([running], timeout=30)
            assert not unended

    async def ask(self, statement: str) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement)

    async def execute(self, statement: str) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement))

    async def applied(self) -> list[str]:
        return [row.what for row in await self.ask("SELECT what FROM applied")]

    async def wait_for(self, condition: Callable[[list[str]], bool], seconds: float = 25) -> None:
        give_up = time.monotonic() + seconds
        while not condition(found := await self.applied()):
            assert time.monotonic() < give_up, f"{len(found)} applied: {sorted(set(found))[:10]}"
            await asyncio.sleep(0.1)


@pytest.fixture
async def topic(settings: Settings, kafka: str, engine: AsyncEngine) -> AsyncIterator[Topic]:
    of_kafka = settings.model_copy(
        update={"kafka_bootstrap": kafka, "kafka_session_timeout_ms": 6000}
    )
    topic = Topic(of_kafka, engine)
    await topic.execute("CREATE TABLE applied (what text)")
    await topic.create()
    yield topic
    await topic.publisher.close()


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


async def test_a_restored_backup_is_read_on_from_where_it_stands(topic: Topic) -> None:
    """While the consumer is away, and while it runs: nothing is skipped, though the group has
    committed all of it.
    """
    first, second, third = named("a", 60), named("b", 60), named("c", 6)
    await topic.publish(first)
    async with topic.consumed():
        await topic.wait_for(lambda found: len(found) == 60)
    await topic.execute("TRUNCATE applied")
    await topic.execute("UPDATE scorer.progress SET next_offset = 0")
    async with topic.consumed():
        await topic.publish(second)
        await topic.wait_for(lambda found: set(first + second) == set(found))
        await topic.execute("TRUNCATE applied")
        await topic.execute("UPDATE scorer.progress SET next_offset = next_offset - 10")
        await topic.publish(third)
        await topic.wait_for(lambda found: len(set(found)) == 36 and set(third) < set(found))
        await topic.execute("DELETE FROM scorer.progress")
        await topic.publish(third)
        await topic.wait_for(lambda found: set(first + second + third) == set(found))
    assert await topic.ask("SELECT * FROM scorer.gap") == []


async def test_a_backup_that_is_restored_while_nothing_comes_is_noticed(topic: Topic) -> None:
    """The reading goes back though no record follows, in each of the partitions."""
    values = named("a", 30)
    await topic.publish(values)
    async with topic.consumed() as consumer:
        await topic.wait_for(lambda found: len(found) == 30)
        await topic.execute("TRUNCATE applied")
        await topic.execute("UPDATE scorer.progress SET next_offset = 0")
        await topic.wait_for(lambda found: set(found) == set(values))
        await topic.execute("TRUNCATE applied")
        await topic.execute("DELETE FROM scorer.progress WHERE partition = 1")
        await topic.wait_for(lambda found: set(found) == set(values[1::3]))
        await asyncio.sleep(1.5)
        assert consumer.problem == ""
    assert await topic.ask("SELECT * FROM scorer.gap") == []


async def test_a_poll_says_that_the_group_assigns_nothing(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that joins again gets no answer, though the broker answers else."""
    member = Subscription(topic.settings, topic.name, [topic.name])
    await member.start(Progress(topic.engine, "scorer"))
    try:
        assert (await member.poll(10, 100)).is_assigned
        monkeypatch.setattr(subscription, "ASSIGNED_S", 0.2)
        member._consumer._subscription.begin_reassignment()
        assert not (await member.poll(10, 100)).is_assigned
    finally:
        await member.close()


async def test_end_offsets_are_of_all_partitions_that_there_are(topic: Topic) -> None:
    """Also of those that were added a moment ago."""
    await create_topics(topic.settings)
    ends = EndOffsets(topic.settings)
    try:
        assert {of.partition for of in await ends.of([topic.name])} == set(range(PARTITIONS))
        made = topic.admin.create_partitions([NewPartitions(topic.name, PARTITIONS + 2)])
        await asyncio.to_thread(made[topic.name].result)
        found: set[int] = set()
        give_up = time.monotonic() + 2.5  # of the broker; a client's metadata are older
        while found != {*range(PARTITIONS + 2)}:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
            with suppress(Retry):  # they came meanwhile
                found = {of.partition for of in await ends.of([topic.name])}
    finally:
        await ends.close()


async def test_a_topic_that_is_created_again_while_it_is_asked_for_is_asked_for_again(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No id goes with the offsets of another incarnation."""
    await create_topics(topic.settings)
    ends, member = (
        EndOffsets(topic.settings),
        Subscription(topic.settings, topic.name, [topic.name]),
    )

    async def recreated(*_: Any) -> None:
        await topic.delete()
        await topic.create()
        await asyncio.sleep(1)  # until the broker names it

    try:
        before = {of.topic_id for of in await ends.of([topic.name])}
        assert ends._consumer
        with monkeypatch.context() as patched:
            patched.setattr(
                ends._consumer, "end_offsets", _followed(ends._consumer.end_offsets, recreated)
            )
            with pytest.raises(Retry, match="changed"):
                await ends.of([topic.name])
        assert {of.topic_id for of in await ends.of([topic.name])}.isdisjoint(before)
        await member.start(Progress(topic.engine, "scorer"))
        while not member._consumer.assignment():
            await asyncio.sleep(0.05)
        asked = _followed(member._consumer.end_offsets, recreated)
        monkeypatch.setattr(member._consumer, "end_offsets", asked)
        with pytest.raises(Retry, match="created again"):
            await member.poll(10, 100)
    finally:
        await ends.close()
        await member.close()


def _followed(call: Callable[..., Any], happens: Callable[[], Any]) -> Callable[..., Any]:
    """A call, after whose answer something happens."""

    async def later(*arguments: Any) -> Any:
        answer = await call(*arguments)
        await happens()
        return answer

    return later


async def test_of_a_topic_that_is_created_again_everything_is_read(topic: Topic) -> None:
    """Also where it is longer than the reading had come: the consumer runs meanwhile. Its dead
    letters are kept beside those of the topic before, and what was unread of that is a gap.
    """
    await topic.publish([*named("a", 29), "bad"])
    async with topic.consumed():
        await topic.wait_for(lambda found: len(found) == 29)
        await topic.execute("UPDATE scorer.progress SET log_end = log_end + 7 WHERE partition = 1")
        await topic.delete()
        await topic.create()
        again = [*named("b", 29), "bad", *named("c", 60)]
        await topic.publish(again)
        await topic.wait_for(lambda found: set(again) - {"bad"} <= set(found))
    letters = await topic.ask('SELECT topic_id, partition, "offset" FROM scorer.dead_letter')
    assert len(letters) == 2
    assert len({row.topic_id for row in letters}) == 2
    assert len({(row.partition, row.offset) for row in letters}) == 1
    gaps = await topic.ask("SELECT partition, log_end - first AS lost, why FROM scorer.gap")
    assert {(row.partition, row.lost) for row in gaps} == {(0, 0), (1, 7), (2, 0)}
    assert {row.why for row in gaps} == {"recreated"}


async def test_what_was_deleted_before_it_was_read_is_a_gap(topic: Topic) -> None:
    """Before the first reading, and while the consumer is away; the rest is applied."""
    lost = RECORDS_LOST.labels("scorer", topic.name)._value
    await topic.publish(named("a", 20), partition=0)
    await topic.delete_records(0, 7)
    async with topic.consumed():
        await topic.wait_for(lambda found: set(found) == set(named("a", 20)[7:]))
    await topic.publish(named("b", 20), partition=0)
    await topic.delete_records(0, 25)
    async with topic.consumed():
        await topic.wait_for(lambda found: len(found) == 13 + 15)
    gaps = await topic.ask("SELECT first, log_end, why FROM scorer.gap ORDER BY first")
    assert [tuple(row) for row in gaps] == [(0, 7, "deleted"), (20, 25, "deleted")]
    assert lost.get() == 12


async def test_consumers_that_take_turns_skip_nothing(topic: Topic) -> None:
    """Partitions go from one to the other while records come."""
    values = named("a", 600)

    async def publish() -> None:
        for start in range(0, 600, 20):
            await topic.publish(values[start : start + 20])
            await asyncio.sleep(0.05)

    publishing = asyncio.create_task(publish())
    async with topic.consumed():
        await asyncio.sleep(0.5)
        async with topic.consumed():
            await asyncio.sleep(0.5)
            async with topic.consumed():
                await asyncio.sleep(0.3)
        await publishing
        await topic.wait_for(lambda found: set(found) == set(values))
    assert await topic.ask("SELECT * FROM scorer.gap") == []


async def test_a_gap_is_in_the_status_ends_waiting_and_is_accepted_by_a_person(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O2: 779 records that the broker deleted before they were read."""
    await create_topics(topic.settings)
    log, progress = Log(INTERACTIONS, uuid.uuid4(), 0), Progress(topic.engine, "scorer")
    await progress.place(await progress.read([INTERACTIONS]), {log: Extent(779, 2000)})
    state = await status.read(topic.settings)
    assert state.gaps == {INTERACTIONS: 779}
    assert not state.idle
    began = time.monotonic()
    with pytest.raises(status.NotIdle, match=f"779 of {INTERACTIONS}; see `ripeline gaps`"):
        await status.wait_until_idle(topic.settings, 60)
    assert time.monotonic() - began < 30
    monkeypatch.setenv("RIPELINE_DATABASE_URL", topic.settings.database_url.get_secret_value())
    for arguments in (["gaps", "--json"], ["gaps", "--accept"]):
        shown = await asyncio.to_thread(CliRunner().invoke, command_line, arguments)
        assert shown.exit_code == 0, shown.output
        assert "779" in shown.output
        assert "deleted" in shown.output
    assert (await status.read(topic.settings)).gaps == {}
