"""Which records of a batch are buried, which wait, and what holds up others, on a real database
(O3).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import rows
from services.shared.errors import Reject, Retry
from services.shared.logs import configure_logs
from services.shared.messaging import batches
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import Record
from services.shared.telemetry import BATCHES_WAITING

INSERT = "INSERT INTO applied SELECT unnest(CAST(:what AS text[]))"


@pytest.fixture(scope="module", autouse=True)
def _plain_logs() -> None:
    configure_logs("scorer", "error")


class Keeper:
    """A handler that keeps what it applies in the table `applied`; PostgreSQL takes no text that
    begins with `bad`, as it ends with a zero byte.
    """

    def __init__(self) -> None:
        self.transactions = 0
        self.before: Callable[[AsyncConnection, Sequence[str]], Any] | None = None

    def decode(self, record: Record) -> str:
        if record.value == b"deep":
            raise RecursionError("too deep")
        if record.value == b"zero":
            raise Reject("no\0 text\ud800")
        if record.value == b"memory":
            raise MemoryError
        return record.value.decode()

    async def apply(self, connection: AsyncConnection, decoded: Sequence[str]) -> int:
        self.transactions += 1
        if self.before:
            await self.before(connection, decoded)
        what = [value + "\0" if value.startswith("bad") else value for value in decoded]
        await connection.execute(text(INSERT), {"what": what})
        return 0

    async def apply_apart(self, connection: AsyncConnection, decoded: str, error: Exception) -> int:
        raise error


class Bench:
    """A consumer without a broker, and its database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine, self.handler, self.heartbeats = engine, Keeper(), 0

        def never() -> Any:
            raise AssertionError("no broker here")

        self.consumer: Consumer[str] = Consumer(
            engine, never, self.handler, "scorer", batch=100, on_commit=lambda _: None
        )

    def _heartbeat(self) -> None:
        self.heartbeats += 1

    async def take(self, *records: Record) -> None:
        await asyncio.wait_for(self.consumer.process(list(records), self._heartbeat), 15)

    async def ask(self, statement: str) -> list[Any]:
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await rows(connection, statement)]

    async def applied(self) -> set[str]:
        return {what for (what,) in await self.ask("SELECT what FROM applied")}

    async def progress(self) -> list[Any]:
        return await self.ask(
            "SELECT topic, partition, next_offset FROM scorer.progress ORDER BY topic, partition"
        )

    async def buried(self) -> int:
        return len(await self.ask("SELECT * FROM scorer.dead_letter"))


@pytest.fixture
async def bench(engine: AsyncEngine) -> Bench:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE applied (what text)"))
    return Bench(engine)


def records(values: Sequence[str], partition: int = 0, topic: str = "t") -> list[Record]:
    """Records of one partition, of a key each."""
    return [
        Record(topic, partition, offset, f"{partition}-{offset}".encode(), value.encode())
        for offset, value in enumerate(values)
    ]


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


# -- whose fault it is ----------------------------------------------------------------------------


async def test_bad_records_of_one_partition_hold_up_no_other(bench: Bench) -> None:
    await bench.take(
        *records(named("bad", 8)), *records(named("a", 20), 1), *records(named("b", 20), 2)
    )
    assert await bench.applied() == {*named("a", 20), *named("b", 20)}
    assert await bench.progress() == [("t", 0, 8), ("t", 1, 20), ("t", 2, 20)]
    assert await bench.buried() == 8


async def test_bad_records_of_one_key_hold_up_no_other_of_their_partition(bench: Bench) -> None:
    bad = [record._replace(key=b"k") for record in records(named("bad", 30))]
    good = [record._replace(offset=30 + record.offset) for record in records(named("a", 20))]
    await bench.take(*bad, *good)
    assert await bench.applied() == {*named("a", 20)}
    assert await bench.progress() == [("t", 0, 50)]
    assert await bench.buried() == 30


async def test_a_topic_that_fails_in_all_partitions_waits_beside_a_sound_one(bench: Bench) -> None:
    parts = [record for part in range(3) for record in records(named("bad", 10), part)]
    with pytest.raises(Retry):
        await bench.take(*records(named("a", 20), 0, "s"), *parts)
    assert await bench.applied() == {*named("a", 20)}
    assert [row for row in await bench.progress() if row[0] == "s"] == [("s", 0, 20)]
    assert all(at == 0 for topic, _, at in await bench.progress() if topic == "t")
    assert await bench.buried() == 0


async def test_each_attempt_gives_a_heartbeat(bench: Bench) -> None:
    mixed = [f"bad{n}" if n % 2 else f"a{n}" for n in range(40)]
    await bench.take(*records(mixed))
    assert await bench.buried() == 20
    assert bench.heartbeats >= bench.handler.transactions > 40


# -- what cannot be read --------------------------------------------------------------------------


async def test_what_fails_while_it_is_decoded_is_buried(bench: Bench) -> None:
    await bench.take(*records(["a", "deep", "zero", "b"]))
    assert await bench.applied() == {"a", "b"}
    found = await bench.ask('SELECT reason FROM scorer.dead_letter ORDER BY "offset"')
    assert found == [("RecursionError: too deep",), ("no text?",)]
    with pytest.raises(MemoryError):
        await bench.take(*records(["memory"]))


async def test_a_dead_letter_is_logged_once_and_after_it_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []

    class Log:
        def error(self, event: str, **_: Any) -> None:
            logged.append(event)

    async def retry_once(_: AsyncConnection, __: Sequence[str]) -> None:
        assert "dead_letter" not in logged
        bench.handler.before = None
        raise Retry("not now")

    bench.handler.before = retry_once
    monkeypatch.setattr(batches, "log", Log())
    await bench.take(*records(["a", "zero"]))
    assert logged == ["dead_letter"]


# -- what a batch brings about --------------------------------------------------------------------


async def test_a_batch_that_takes_too_long_is_halved(bench: Bench) -> None:
    async def slow(connection: AsyncConnection, decoded: Sequence[str]) -> None:
        await connection.execute(text("SET LOCAL statement_timeout = 100"))
        await connection.execute(text(f"SELECT pg_sleep({0.04 * len(decoded)})"))

    bench.handler.before = slow
    await bench.take(*records(named("a", 4)))
    assert await bench.applied() == {*named("a", 4)}
    assert await bench.progress() == [("t", 0, 4)]


async def test_a_single_record_that_takes_too_long_waits(bench: Bench) -> None:
    async def slow(connection: AsyncConnection, _: Sequence[str]) -> None:
        bench.handler.before = None
        await connection.execute(text("SET LOCAL statement_timeout = 20"))
        await connection.execute(text("SELECT pg_sleep(1)"))

    bench.handler.before = slow
    await bench.take(*records(["a"]))
    assert (await bench.applied(), await bench.buried()) == ({"a"}, 0)


async def test_a_batch_that_writes_a_row_twice_is_halved(bench: Bench) -> None:
    async def upsert(connection: AsyncConnection, decoded: Sequence[str]) -> None:
        await connection.execute(
            text("INSERT INTO once SELECT 1 FROM unnest(CAST(:what AS text[])) "
                 "ON CONFLICT (n) DO UPDATE SET n = excluded.n"),
            {"what": decoded},
        )  # fmt: skip

    async with bench.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE once (n int PRIMARY KEY)"))
    bench.handler.before = upsert
    await bench.take(*records(named("a", 4)))
    assert (await bench.applied(), await bench.buried()) == ({*named("a", 4)}, 0)


# -- readiness ------------------------------------------------------------------------------------


async def test_a_handler_that_asks_to_wait_is_a_problem_and_counted(bench: Bench) -> None:
    async def wait(_: AsyncConnection, __: Sequence[str]) -> None:
        raise Retry("the types are others")

    bench.handler.before = wait
    counted = BATCHES_WAITING.labels("scorer", "database")._value
    before = counted.get()
    waiting = asyncio.create_task(bench.take(*records(["a"])))
    async with asyncio.timeout(5):
        while counted.get() == before:
            await asyncio.sleep(0.01)
    assert "the types are others" in bench.consumer._batches.problem
    bench.handler.before = None
    await waiting
    assert "the types are others" not in bench.consumer._batches.problem
