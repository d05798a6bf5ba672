"""`python -m tests.bench.loading`: how fast imported files become lead states, and what a row costs
each process.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import uvloop

from services.shared.contracts.events import (
    INTERACTIONS,
    ExternalId,
    Interaction,
    envelope,
    keyed_hash,
)
from services.shared.messaging.kafka import Outgoing
from tests.bench.measure import report_progress
from tests.bench.people import ACTS
from tests.bench.world import Progress, World

EACH = 7.5  # events a lead in the files of events
COUNTRIES = ("DE", "FR", "GB", "NL", "US")
TITLES = ("Head of Marketing", "CTO", "Buyer", "Managing Director", "student")
Row = tuple[datetime, Interaction]


def leads(file: str, rows: int) -> Iterator[Row]:
    """One row a lead: an address and its traits, all at the file's moment."""
    rng, moment = random.Random(1), datetime.now(UTC) - timedelta(days=1)
    for n in range(rows):
        yield moment, _lead(f"{file}-{n}", rng)


def linked(file: str, rows: int) -> Iterator[Row]:
    """The like from a CRM: each row brings the CRM's own id beside the address."""
    for n, (moment, data) in enumerate(leads(file, rows)):
        yield moment, _with_id(data, f"{file}-{n}")


def spread(file: str, rows: int) -> Iterator[Row]:
    """One row an event, as a log is written: by time, the rows of a lead all over the file."""
    yield from sorted(together(file, rows), key=lambda row: row[0])


def together(file: str, rows: int) -> Iterator[Row]:
    """One row an event, lead by lead, each lead's in order of time."""
    rng, start = random.Random(1), datetime.now(UTC) - timedelta(days=90)
    people = max(1, round(rows / EACH))
    owners = sorted([*range(people), *(rng.randrange(people) for _ in range(rows - people))])
    made = itertools.count()
    for person, theirs in itertools.groupby(owners):
        for day in sorted(rng.uniform(0, 89) for _ in theirs):
            yield (
                start + timedelta(days=day),
                _event(f"{file}-{next(made)}", f"{file}-{person}", rng),
            )


SHAPES = {"leads": leads, "linked": linked, "spread": spread, "together": together}


def _lead(id: str, rng: random.Random) -> Interaction:
    return Interaction(
        id=id,
        type="identified",
        email=f"{id}@firm{rng.randrange(5000)}.example",
        company=f"Firm {rng.randrange(5000)}",
        source="file",
        traits={
            "first_name": "Ada",
            "last_name": f"Number {rng.randrange(9999)}",
            "title": rng.choice(TITLES),
            "country": rng.choice(COUNTRIES),
            "employees": rng.randrange(2000),
        },
    )


def _with_id(data: Interaction, id: str) -> Interaction:
    return Interaction(
        id=data.id, type=data.type, email=data.email, external_id=ExternalId("crm", id),
        company=data.company,
        source=data.source, traits=data.traits,
    )  # fmt: skip


def _event(id: str, person: str, rng: random.Random) -> Interaction:
    return Interaction(
        id=id,
        type=rng.choice(ACTS),
        email=f"{person}@firm.example",
        url=f"https://www.example.com/articles/{rng.randrange(40)}",
        source="file",
    )


def outgoing(rows: Iterator[Row]) -> list[Outgoing]:
    """As the importer writes them."""
    now = datetime.now(UTC)
    return [
        Outgoing(
            INTERACTIONS,
            keyed_hash(b"bench", f"email:{data.email}"),
            envelope(
                data, source="import:bench", occurred_at=at, received_at=now, posted_at=time.time()
            )[1],
        )
        for at, data in rows
    ]


class Loaded(NamedTuple):
    """Rows a second, and µs of processor a row by process."""

    rate: float
    scorer: float
    postgres: float
    kafka: float


async def load(world: World, shape: str, file: str, rows: int) -> Loaded:
    """Fills the topic, starts a scorer, and measures from its first batch to its last."""
    progress = Progress(world)
    before = await progress.read()
    await world.publish(outgoing(SHAPES[shape](file, rows)))
    async with world.running("services.scorer") as (scorer,):
        while (first := await progress.read()) == before:
            await asyncio.sleep(0.02)
        began, spent = time.perf_counter(), _processor(world, scorer.pid)
        while (last := await progress.read()) < before + rows:
            await asyncio.sleep(0.1)
        seconds, used = time.perf_counter() - began, _processor(world, scorer.pid)
    await progress.close()
    each = [1e6 * (after - then) / (last - first) for then, after in zip(spent, used, strict=True)]
    return Loaded((last - first) / seconds, *each)


def _processor(world: World, scorer: int) -> list[float]:
    """Seconds of processor that scorer, PostgreSQL and Kafka have used."""
    return [_family(pid) for pid in (scorer, world.postgres.pid, world.kafka.pid)]


def _family(pid: int) -> float:
    total = 0.0
    for process in (parent := psutil.Process(pid), *parent.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


async def measure(shapes: list[str], rows: int, rounds: int) -> dict[str, Any]:
    """Loads each shape so often into one installation."""
    found: dict[str, Any] = {shape: [] for shape in shapes}
    with tempfile.TemporaryDirectory(prefix="ripeline-loading-") as folder:
        os.chmod(folder, 0o755)  # the server's own user passes through it
        world = World(Path(folder), quick=False)
        await world.start()
        try:
            for turn, shape in itertools.product(range(rounds), shapes):
                loaded = await load(world, shape, f"{shape}{turn}", rows)
                found[shape].append(
                    {name: round(value, 1) for name, value in loaded._asdict().items()}
                )
                report_progress(f"{shape}: {loaded.rate:,.0f} rows/s; µs a row: scorer "
                f"{loaded.scorer:.0f}, PostgreSQL "
                     f"{loaded.postgres:.0f}, Kafka {loaded.kafka:.0f}")  # fmt: skip
        finally:
            await world.stop()
    return found | {"rss_mib": world.rss_mib}


def main() -> None:
    """Parses, measures, reports."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.loading", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of each file")
    parser.add_argument("--rounds", type=int, default=1, help="files of each shape")
    parser.add_argument("--only", default=",".join(SHAPES), help=f"some of {','.join(SHAPES)}")
    asked = parser.parse_args()
    load_average = [round(os.getloadavg()[0], 2)]
    found = uvloop.run(measure(asked.only.split(","), asked.rows, asked.rounds))
    load_average.append(round(os.getloadavg()[0], 2))
    print(json.dumps({**found, "load_average": load_average}))


if __name__ == "__main__":
    main()
