"""P9: one lead by its id, beside a route with one SELECT by primary key."""

import itertools
import time
from collections.abc import Iterator
from statistics import median

from services.shared.db import open_engine, rows
from tests.bench import people
from tests.bench.load import connect, request
from tests.bench.measure import Outcome, alternate, line_of
from tests.bench.world import Progress, World

LEADS, EACH = 1_000, 10
NEWEST = (
    "SELECT id FROM scorer.lead WHERE merged_into IS NULL ORDER BY created_at DESC LIMIT :leads"
)


async def one_lead(world: World) -> Outcome:
    """P9: time of `GET /v1/leads/{id}` ÷ time of the plain route, over one connection."""
    async with world.running("services.scorer", "tests.bench.limits") as (scorer, limits):
        progress = Progress(world)
        before = await progress.read()
        await world.publish(people.outgoing(people.people("read", LEADS, LEADS * EACH), b"bench"))
        await progress.until(before + LEADS * EACH)
        await progress.close()
        ids = await _leads(world)
        asks = itertools.cycle(
            [request("GET", f"/v1/leads/{lead}", key=world.keys["query"]) for lead in ids]
        )
        plain = itertools.cycle([request("GET", f"/leads/{lead}") for lead in ids])
        times = 150 if world.quick else 300
        pair = await alternate(
            lambda: _milliseconds(scorer.url, asks, times, b'"likelihood"'),
            lambda: _milliseconds(limits.url, plain, times, b'"version"'),
            world.rounds,
        )
    return Outcome(
        pair.as_json(), [line_of("P9", "GET /v1/leads/{id}", pair, "ms", 2, at_most=True)]
    )


async def _leads(world: World) -> list[str]:
    engine = open_engine(world.settings)
    async with engine.connect() as connection:
        found = await rows(connection, NEWEST, leads=LEADS)
    await engine.dispose()
    return [str(row.id) for row in found]


async def _milliseconds(url: str, requests: Iterator[bytes], times: int, good: bytes) -> float:
    client, taken = await connect(url), []
    for asked in itertools.islice(requests, times):
        began = time.perf_counter()
        answer = await client.ask(asked)
        taken.append(time.perf_counter() - began)
        if answer.status != 200 or good not in answer.body:
            raise AssertionError(f"answered {answer.status}: {answer.body[:500]!r}")
    client.close()
    return median(taken) * 1000
