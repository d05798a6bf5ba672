"""How far a service says that it has published what it makes of its topics (N6)."""

import uuid
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.messaging.kafka import Log
from services.shared.messaging.published import PublishedProgress, published

TOPIC = "lead.interactions"
THIS = Log(TOPIC, uuid.UUID(int=1), 0)


class Service:
    """A scorer's tables, written by hand."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.progress = PublishedProgress(engine, "scorer", [TOPIC])

    async def do(self, statement: str, **values: Any) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def applies(self, at: int, *, records: int = 0, of: Log = THIS) -> None:
        """A batch of interactions, with what it left in the outbox."""
        await self.do(
            "INSERT INTO scorer.progress (topic, topic_id, partition, next_offset) VALUES "
            "(:topic, :topic_id, :partition, :at) ON CONFLICT (topic, topic_id, partition) "
            "DO UPDATE SET next_offset = :at",
            **of._asdict(),
            at=at,
        )
        for _ in range(records):
            await self.do(
                "INSERT INTO scorer.outbox (topic, key, value) VALUES ('lead.changes', 'k', '')"
            )

    async def publishes(self, records: int) -> None:
        await self.do(
            "DELETE FROM scorer.outbox WHERE id IN "
            "(SELECT id FROM scorer.outbox ORDER BY id LIMIT :records)",
            records=records,
        )

    async def says(self) -> dict[Log, int]:
        await self.progress.note()
        async with self._engine.connect() as connection:
            return await published(connection, "scorer", TOPIC)


@pytest.fixture
def service(engine: AsyncEngine) -> Service:
    return Service(engine)


async def test_what_is_applied_counts_once_all_that_came_of_it_is_published(
    service: Service,
) -> None:
    assert await service.says() == {}
    await service.applies(5)
    assert await service.says() == {THIS: 5}
    await service.applies(9, records=2)
    assert await service.says() == {THIS: 5}
    await service.publishes(1)
    assert await service.says() == {THIS: 5}
    await service.publishes(1)
    assert await service.says() == {THIS: 9}


async def test_an_outbox_that_is_never_empty_holds_up_only_what_lies_in_it(
    service: Service,
) -> None:
    seen = []
    for at in range(1, 8):
        await service.applies(at, records=3)
        await service.publishes(2)
        seen.append((await service.says()).get(THIS, 0))
    assert seen == sorted(seen)
    assert 0 < seen[-1] < 7


async def test_two_processes_and_a_log_that_lost_its_end(
    service: Service, engine: AsyncEngine
) -> None:
    other = Service(engine)
    await service.applies(5, records=1)
    await service.says()
    await service.publishes(1)
    await service.applies(9)
    assert await other.says() == {THIS: 9}
    assert await service.says() == {THIS: 9}
    await service.applies(3)  # read again from where the broker's log ends
    assert await service.says() == {THIS: 3}
    again = THIS._replace(topic_id=uuid.UUID(int=2))
    await service.applies(1, of=again)
    assert await other.says() == {THIS: 3, again: 1}
