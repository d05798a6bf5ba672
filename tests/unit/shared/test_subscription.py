"""What a poll takes of what the broker has: all partitions, not only those that were read ahead."""

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import NoOffsetForPartitionError

from services.shared.messaging.kafka import Subscription
from services.shared.messaging.kafka.subscription import GATHER_MS
from services.shared.settings import Settings

READ_AHEAD, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


class Asked(NamedTuple):
    """One call of aiokafka's `getmany`."""

    timeout_ms: int
    max_records: int


class Broker:
    """aiokafka's consumer, which gives one answer after the other, the first `after` seconds."""

    def __init__(self, *answers: Any, after: float = 0.0) -> None:
        self._answers, self._after = list(answers), after
        self.asked: list[Asked] = []
        self.committed: list[dict[TopicPartition, int]] = []
        self.may_commit = asyncio.Event()

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[str]]:
        self.asked.append(Asked(timeout_ms, max_records))
        await asyncio.sleep(self._after)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def assignment(self) -> set[TopicPartition]:
        return {READ_AHEAD, OTHER}

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        await self.may_commit.wait()
        self.committed.append(offsets)

    async def stop(self) -> None:
        """Nothing is open."""


async def subscribed(broker: Broker) -> Subscription:
    subscription = Subscription(Settings(), "test", ["t"])
    await subscription.close()
    subscription._consumer = broker
    return subscription


@pytest.mark.parametrize(
    ("more", "polled"),
    [
        ({}, {READ_AHEAD: ["a", "b"]}),
        ({OTHER: ["x"]}, {READ_AHEAD: ["a", "b"], OTHER: ["x"]}),
        ({READ_AHEAD: ["c"], OTHER: ["x"]}, {READ_AHEAD: ["a", "b", "c"], OTHER: ["x"]}),
        (NoOffsetForPartitionError(), {READ_AHEAD: ["a", "b"]}),
    ],
)
async def test_the_other_partitions_join_what_was_read_ahead(more: Any, polled: Any) -> None:
    broker = Broker({READ_AHEAD: ["a", "b"]}, more)
    assert await (await subscribed(broker))._getmany(10, 200) == polled
    assert broker.asked == [Asked(200, 10), Asked(GATHER_MS, 8)]


@pytest.mark.parametrize(
    ("broker", "limit"),
    [
        (lambda: Broker({READ_AHEAD: ["a", "b"]}), 2),
        (lambda: Broker({}), 10),
        (lambda: Broker({READ_AHEAD: ["a"]}, after=0.05), 10),
    ],
    ids=["no room is left", "there is nothing", "it has waited for the broker's answer"],
)
async def test_nothing_more_is_waited_for_where(broker: Any, limit: int) -> None:
    asked = broker()
    await (await subscribed(asked))._getmany(limit, 200)
    assert asked.asked == [Asked(200, limit)]


async def test_offsets_are_committed_while_the_reading_goes_on_one_after_the_other() -> None:
    broker = Broker()
    subscription = await subscribed(broker)
    await subscription.commit({READ_AHEAD: 1})
    second = asyncio.create_task(subscription.commit({READ_AHEAD: 2}))
    await asyncio.sleep(0)
    assert not second.done()
    broker.may_commit.set()
    await second
    await subscription.close()
    assert broker.committed == [{READ_AHEAD: 1}, {READ_AHEAD: 2}]
