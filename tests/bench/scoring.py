"""P4 and the long lead: what the scorer applies, beside bulk statements that write the same
rows.
"""

import itertools
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import asyncpg

from services.scorer.processing.handler import Handler
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import Subscription
from tests.bench import people
from tests.bench.measure import Outcome, Pair, alternate, line_of
from tests.bench.world import Progress, World
from tests.support.processes import Process

TABLES = {
    "event": "uid, lead_id, anchor, weaker, occurred_at, received_at, source, digest, "
    "conflict, flags, body",
    "identifier": "kind, value, lead_id, home",
    "lead": "id, version, profile, provisional, excluded, engaged_at, publish_at",
    "lead_state": "lead_id, product, fold_hash, record, pending, last_at, last_uid, stage, "
    "likelihood, fit, engagement, "
    "qualified, listed, last_event_at, as_of, next_review_at, announced_stage, announced_seq, "
    "announced_at",
}
# of those that come again, and are written over
KEYS = {"lead": ["id"], "lead_state": ["lead_id", "product"]}
OWNED = "SELECT lead_id FROM scorer.identifier WHERE value LIKE $1"
EACH = 10  # events a lead


async def applying(world: World) -> Outcome:
    """P4: events a second of a scorer that finds its topic full ÷ the rows that it wrote, by bulk
    statements of equal batches.
    """
    events = 8_000 if world.quick else 20_000
    runs = itertools.count()
    prefix = ""
    limit = await Bulk.open(world)
    async with world.running("services.scorer") as (scorer,):
        progress = Progress(world)

        async def ours() -> float:
            nonlocal prefix
            prefix = f"apply{next(runs)}"
            return await drained(world, scorer, progress, prefix, events)

        async def theirs() -> float:
            return await limit.write(f"{prefix}-%")

        pair = await alternate(ours, theirs, world.rounds)
        await progress.close()
    await limit.close()
    return Outcome(
        pair.as_json(),
        [line_of("P4", f"{events:,} events on {events // EACH:,} new leads", pair, "/s", 0.70)],
    )


async def drained(
    world: World, scorer: Process, progress: Progress, prefix: str, events: int
) -> float:
    """Fills the topic while the scorer is held, lets it go, and returns events a second after its
    first batch.
    """
    interactions = people.people(prefix, events // EACH, events)
    before = await progress.read()
    scorer.signal(signal.SIGSTOP)
    await world.publish(people.outgoing(interactions, b"bench"))
    scorer.signal(signal.SIGCONT)
    seen = [point for point in await progress.until(before + events) if point[1] > before]
    (start, first), (end, last) = seen[0], seen[-1]
    return (last - first) / (end - start)


class Bulk:
    """Writes rows into a database of its own: the same tables and indexes, one transaction a batch,
    one connection.
    """

    def __init__(self, source: asyncpg.Connection, target: asyncpg.Connection, batch: int) -> None:
        self._source, self._target, self._batch = source, target, batch
        self._statements: dict[str, str] = {}

    @classmethod
    async def open(cls, world: World) -> "Bulk":
        """Makes the database."""
        settings = await world.database("bulk")
        source = await asyncpg.connect(world.postgres.url)
        target = await asyncpg.connect(
            settings.database_url.get_secret_value(), server_settings={"jit": "off"}
        )
        bulk = cls(source, target, settings.batch)
        for table, columns in TABLES.items():
            bulk._statements[table] = await bulk._statement(table, columns.split(", "))
        return bulk

    async def close(self) -> None:
        """Lets go of both."""
        await self._source.close()
        await self._target.close()

    async def write(self, owners: str) -> float:
        """Writes all rows of the leads that have an identifier like this; events a second."""
        leads = [row["lead_id"] for row in await self._source.fetch(OWNED, owners)]
        rows = {table: await self._read(table, leads) for table in TABLES}
        rows["event"].sort(key=lambda event: event["occurred_at"])
        batches = list(self._batches(rows))
        began = time.perf_counter()
        for batch in batches:
            async with self._target.transaction():
                for table, columns in batch.items():
                    await self._target.execute(self._statements[table], *columns)
        return len(rows["event"]) / (time.perf_counter() - began)

    async def _read(self, table: str, leads: list[uuid.UUID]) -> list[asyncpg.Record]:
        key = "id" if table == "lead" else "lead_id"
        found: list[asyncpg.Record] = await self._source.fetch(
            f"SELECT {TABLES[table]} FROM scorer.{table} WHERE {key} = ANY($1) ORDER BY {key}",
            leads,
        )
        return found

    def _batches(
        self, rows: dict[str, list[asyncpg.Record]]
    ) -> Iterator[dict[str, list[list[Any]]]]:
        """The columns of each batch of events, with its leads, their states, and their identifiers
        the first time.
        """
        known: set[uuid.UUID] = set()
        for start in range(0, len(rows["event"]), self._batch):
            events = rows["event"][start : start + self._batch]
            leads = {event["lead_id"] for event in events}
            some = {
                "event": events,
                "identifier": [
                    row for row in rows["identifier"] if row["lead_id"] in leads - known
                ],
                "lead": [row for row in rows["lead"] if row["id"] in leads],
                "lead_state": [row for row in rows["lead_state"] if row["lead_id"] in leads],
            }
            known |= leads
            yield {table: _columns(found) for table, found in some.items() if found}

    async def _statement(self, table: str, columns: list[str]) -> str:
        """The INSERT from one array a column; arrays in columns travel as texts."""
        found = await self._target.fetch(
            "SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute WHERE "
            "attrelid = $1::regclass",
            f"scorer.{table}",
        )
        types = {row["attname"]: row["type"] for row in found}
        arrays = [
            f"${n}::{types[c].replace('[]', '') if c != 'weaker' else 'text'}[]"
            for n, c in enumerate(columns, 1)
        ]
        taken = [f"CAST({c} AS {types[c]})" for c in columns]
        again = [f"{c} = excluded.{c}" for c in columns if c not in KEYS.get(table, columns)]
        conflict = (
            f"ON CONFLICT ({', '.join(KEYS[table])}) DO UPDATE SET {', '.join(again)}"
            if again
            else "ON CONFLICT DO NOTHING"
        )
        return (
            f"INSERT INTO scorer.{table} ({', '.join(columns)}) SELECT {', '.join(taken)} "
            f"FROM unnest({', '.join(arrays)}) AS n({', '.join(columns)}) {conflict}"
        )


def _columns(rows: Sequence[asyncpg.Record]) -> list[list[Any]]:
    return [
        [_text(value) if isinstance(value, list) else value for value in column]
        for column in zip(*rows, strict=True)
    ]


def _text(values: list[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


async def long_lead(world: World) -> Outcome:
    """What an in-order event costs on a lead of 20,000 events ÷ on a lead of 20, through the
    handler and one transaction.
    """
    settings = await world.database("long")
    engine, handler = open_engine(settings), Handler(Scoring.of(world.playbook, Clock()))
    consumer = Consumer(engine, no_broker, handler, "scorer", batch=1_000, on_commit=lambda _: None)
    each = 100 if world.quick else 300
    left = {}
    for name, before in (("long", 20_000), ("short", 20)):
        records = people.records(people.people(name, 1, before + each))
        for start in range(0, before, 1_000):
            await consumer.process(records[start : min(start + 1_000, before)], no_heartbeat)
        left[name] = iter(records[before:])
    taken: dict[str, list[float]] = {"long": [], "short": []}
    for _ in range(each):
        for name, rest in left.items():
            began = time.perf_counter()
            await consumer.process([next(rest)], no_heartbeat)
            taken[name].append((time.perf_counter() - began) * 1000)
    await engine.dispose()
    pair = Pair(*(median(ms[20:]) for ms in taken.values()))
    line = line_of("long lead", "an event on a lead of 20,000 ÷ of 20", pair, "ms", 2, at_most=True)
    return Outcome(pair.as_json(), [line])


def no_broker() -> Subscription:
    raise AssertionError("no broker here")


def no_heartbeat() -> None:
    """Nothing watches."""
