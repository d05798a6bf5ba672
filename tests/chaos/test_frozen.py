"""A scorer that is frozen in the middle of a transaction keeps its row locks for a while only: the
others go on, and what it does once it thaws changes nothing (O4).
"""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from services.ops.commands.provision import provision
from services.ops.commands.status import read
from services.ops.commands.verify import verify
from services.shared.db import open_engine, value
from services.shared.http.keys import new_key
from tests.support.ports import free_port
from tests.support.processes import Process, settings_of
from tests.support.servers import Kafka, Postgres

EVENTS, PEOPLE, SCORERS = 600, 40, 3
SESSION_MS = 6_000
LIMITS_S = {"RIPELINE_DATABASE_IDLE_S": "4", "RIPELINE_DATABASE_LOCK_S": "2"}


class Group:
    """An ingest and three scorers, the first of which freezes before a commit."""

    def __init__(self, folder: Path, limits: dict[str, str]) -> None:
        self.kafka = Kafka(folder / "kafka", free_port())
        self.postgres = Postgres(folder / "postgres", free_port())
        self.key = new_key()
        self.variables = {
            "RIPELINE_ENVIRONMENT": "test",
            "RIPELINE_DATABASE_URL": self.postgres.url,
            "RIPELINE_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "RIPELINE_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_MS),
            "RIPELINE_KAFKA_PARTITIONS": "6",
            "RIPELINE_PEPPER": "chaos",
            "RIPELINE_SECRET_KEY": self.key,
            "RIPELINE_BATCH": "20",
            "RIPELINE_SPOOL_DIR": str(folder / "spool"),
            **limits,
        }
        self.settings = settings_of(self.variables)
        self.ingest = Process("services.ingest", self.variables, folder / "ingest.log")
        faults = ["before_commit:3:stop", *[""] * (SCORERS - 1)]
        self.scorers = [
            Process("services.scorer", self.variables, folder / f"scorer-{n}.log", fault)
            for n, fault in enumerate(faults)
        ]

    async def start(self) -> None:
        await asyncio.to_thread(self.kafka.start)
        self.postgres.start()
        await provision(self.settings)
        for process in (self.ingest, *self.scorers):
            await process.start()
        await asyncio.gather(*(process.ready() for process in (self.ingest, *self.scorers)))

    async def stop(self) -> None:
        await asyncio.gather(*(process.stop() for process in (self.ingest, *self.scorers)))
        await asyncio.to_thread(self.kafka.stop)
        self.postgres.stop()

    async def post(self) -> None:
        """Events of few people, so that all batches want the same leads."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            for first in range(0, EVENTS, 20):
                events = [
                    {
                        "id": uuid.uuid4().hex, "type": "page_viewed",
                        "email": f"person{number % PEOPLE}@firm.example",
                        "anonymous_id": f"device{number % (3 * PEOPLE)}",
                    }
                    for number in range(first, first + 20)
                ]  # fmt: skip
                async with http.post(f"{self.ingest.url}/v1/events", json=events) as answer:
                    assert answer.status == 200

    async def counted(self) -> int:
        """Events that are applied."""
        engine = open_engine(self.settings)
        try:
            async with engine.connect() as connection:
                return int(await value(connection, "SELECT count(*) FROM scorer.event"))
        finally:
            await engine.dispose()

    async def wait_until_all_counts(self, seconds: float) -> None:
        give_up = time.monotonic() + seconds
        while await self.counted() < EVENTS or (await read(self.settings)).lag["scorer"]:
            logs = "\n".join(scorer.tail() for scorer in self.scorers)
            assert time.monotonic() < give_up, f"{await self.counted()} of {EVENTS}\n{logs}"
            await asyncio.sleep(0.5)


def is_stopped(pid: int) -> bool:
    """Whether that process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.fixture
async def group(scratch: Path, request: pytest.FixtureRequest) -> AsyncIterator[Group]:
    folder = scratch / f"frozen-{uuid.uuid4().hex[:6]}"
    folder.mkdir()
    os.chmod(folder, 0o755)
    group = Group(folder, request.param)
    try:
        await group.start()
        yield group
    finally:
        await group.stop()


async def goes_on_beside_a_frozen_scorer(group: Group, seconds: float, frozen_s: float) -> None:
    began = time.monotonic()
    await group.post()
    frozen = group.scorers[0]
    while not is_stopped(frozen.pid):
        assert time.monotonic() - began < 30, frozen.tail()
        await asyncio.sleep(0.1)
    await group.wait_until_all_counts(seconds)
    assert is_stopped(frozen.pid)
    await asyncio.sleep(max(0.0, began + frozen_s - time.monotonic()))
    assert [scorer.deaths for scorer in group.scorers[1:]] == [0] * (SCORERS - 1)
    frozen.signal(signal.SIGCONT)
    await group.post()  # what it does with a lost transaction comes to nothing; it goes on
    await frozen.ready()
    give_up = time.monotonic() + 60
    while await group.counted() < 2 * EVENTS or (await read(group.settings)).lag["scorer"]:
        assert time.monotonic() < give_up, frozen.tail()
        await asyncio.sleep(0.5)
    assert await group.counted() == 2 * EVENTS
    state = await read(group.settings)
    assert state.dead_letters == 0
    assert (await verify(group.settings, lambda _: None)).mismatches == []


@pytest.mark.parametrize("group", [LIMITS_S], indirect=True, ids=["short"])
async def test_the_others_go_on_once_the_frozen_transaction_is_ended(group: Group) -> None:
    await goes_on_beside_a_frozen_scorer(group, seconds=40, frozen_s=0)


@pytest.mark.long
@pytest.mark.parametrize("group", [{}], indirect=True, ids=["as-delivered"])
async def test_two_minutes_in_a_transaction_hold_nobody_up_for_a_minute(group: Group) -> None:
    """The frozen scorer's watchdog, which was frozen too, ends it once it thaws."""
    await goes_on_beside_a_frozen_scorer(group, seconds=60, frozen_s=120)
    assert group.scorers[0].deaths == 1
