"""What the outbox's relay does with records that no broker takes, on Apache Kafka and PostgreSQL
(O2, O4).
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.db import rows, value
from services.shared.errors import Reject, Retry
from services.shared.logs import configure_logs
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Extent, Log, Outgoing, Publisher, Subscription
from services.shared.messaging.outbox import OutboxRelay
from services.shared.settings import Settings
from services.shared.telemetry import OUTBOX_AGE, OUTBOX_SET_ASIDE
from tests.support.ports import free_port

MOST = 200_000  # bytes that the topic takes at once
KEY = "0" * 8


@pytest.fixture(scope="module", autouse=True)
def _plain_logs() -> None:
    configure_logs("scorer", "error")


class FromTheBeginning:
    """A ledger that has read nothing."""

    async def read(self, _: object) -> None:
        pass

    async def check(self, read_to: Mapping[Log, int]) -> None:
        pass

    async def place(self, _: None, extents: Mapping[Log, Extent]) -> Mapping[Log, int]:
        return {of: extent.begin for of, extent in extents.items()}


@dataclass
class Bench:
    """An outbox, its relay, and a topic that takes no record over `MOST` bytes."""

    settings: Settings
    engine: AsyncEngine
    publisher: Publisher
    topic: str

    @property
    def relay(self) -> OutboxRelay:
        return OutboxRelay(self.engine, self.publisher, "scorer", 0.05)

    async def enqueue(self, *values: bytes, key: str = KEY) -> None:
        async with self.engine.begin() as connection:
            records = [Outgoing(self.topic, key, value) for value in values]
            await outbox.enqueue(connection, "scorer", records)

    async def count(self, table: str) -> int:
        async with self.engine.connect() as connection:
            return int(await value(connection, f"SELECT count(*) FROM scorer.{table}"))

    async def published(self, count: int) -> list[bytes]:
        """Distinct values in the order of their first coming, once there are so many."""
        subscription = Subscription(self.settings, self.topic, [self.topic])
        await subscription.start(FromTheBeginning())
        found: dict[bytes, None] = {}
        give_up = time.monotonic() + 20
        while len(found) < count and time.monotonic() < give_up:
            polled = await subscription.poll(1000, 200)
            found |= {r.value: None for part in polled.records.values() for r in part}
        await subscription.close()
        return list(found)


@pytest.fixture
async def bench(settings: Settings, kafka: str, engine: AsyncEngine) -> AsyncIterator[Bench]:
    topic = f"test.{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    made = admin.create_topics([NewTopic(topic, 1, 1, config={"max.message.bytes": str(MOST)})])
    await asyncio.to_thread(made[topic].result)
    of_kafka = settings.model_copy(update={"kafka_bootstrap": kafka, "kafka_compression": "none"})
    publisher = Publisher(of_kafka)
    yield Bench(of_kafka, engine, publisher, topic)
    await publisher.close()


UNSENDABLE = {
    "too large for any broker": (b"x" * 1_400_000, KEY),
    "too large for this one": (b"x" * (MOST + 100), KEY),
    "a key that chooses no partition": (b"lost", "no hex!!"),
}


@pytest.mark.parametrize("what", UNSENDABLE)
async def test_a_record_that_no_broker_takes_is_set_aside_alone(bench: Bench, what: str) -> None:
    """The others go out in their order; it is kept with its reason, and counted."""
    before = OUTBOX_SET_ASIDE.labels("scorer")._value.get()
    sound = [b"%d" % n for n in range(60)]
    unsendable, key = UNSENDABLE[what]
    await bench.enqueue(*sound[:20])
    await bench.enqueue(unsendable, key=key)
    await bench.enqueue(*sound[20:])
    for _ in range(10):
        try:
            await bench.relay.publish_batch()
            break
        except Retry:
            await asyncio.sleep(0.1)
    assert await bench.published(60) == sound
    assert await bench.count("outbox") == 0
    async with bench.engine.connect() as connection:
        (aside,) = await rows(connection, "SELECT topic, key, value, reason FROM scorer.unsendable")
    assert (aside.topic, aside.key, aside.value) == (bench.topic, key, unsendable)
    assert aside.reason
    assert OUTBOX_SET_ASIDE.labels("scorer")._value.get() == before + 1


async def test_a_record_that_is_too_large_does_not_mean_that_the_broker_is_away(
    bench: Bench,
) -> None:
    with pytest.raises(Reject):
        await bench.publisher.publish([Outgoing(bench.topic, KEY, b"x" * (MOST + 100))])
    assert not bench.publisher.away
    await bench.publisher.publish([Outgoing(bench.topic, KEY, b"sound")])


async def test_the_age_of_the_oldest_record_is_measured_and_in_readiness(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the broker is away; once it is back all is well."""
    monkeypatch.setattr(outbox, "MEASURE_S", 0.0)
    await bench.enqueue(b"1")
    async with bench.engine.begin() as connection:
        old = "UPDATE scorer.outbox SET created_at = created_at - interval '40 seconds'"
        await connection.execute(text(old))
    away = Publisher(
        bench.settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{free_port()}"})
    )
    relay = OutboxRelay(bench.engine, away, "scorer", 0.05)
    assert not relay.problem
    running = asyncio.create_task(relay.run(lambda: None))
    async with asyncio.timeout(15):
        while not relay.problem:
            await asyncio.sleep(0.05)
    assert "the oldest record waits for 4" in relay.problem
    assert "did not acknowledge" in relay.problem
    assert OUTBOX_AGE.labels("scorer")._value.get() > 40
    relay._publisher = bench.publisher
    async with asyncio.timeout(15):
        while relay.problem:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])
    assert OUTBOX_AGE.labels("scorer")._value.get() == 0
    await away.close()
