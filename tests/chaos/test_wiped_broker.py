"""A broker that is wiped and provisioned anew under load: what was applied stays, what lay unread
is named, nobody who refuses on the new one gets mail, no mail goes out twice (N6, N11, O3, O4).
"""

import asyncio
import os
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.provision import provision
from services.ops.commands.status import Status, read
from services.ops.commands.verify import verify
from services.ops.embedded import mail_sink as sink
from services.shared.contracts.events import TOPICS
from services.shared.db import open_engine, rows
from services.shared.http.keys import new_key
from tests.support import present
from tests.support.ports import free_port
from tests.support.processes import Process, settings_of
from tests.support.servers import Kafka, Postgres

PACE_S = 0.05
UNREAD_S = 3.0  # so long before the wipe an event may have lain unread


class World:
    """A system on servers of its own, and people who post all the time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = Kafka(folder / "kafka", free_port())
        self.postgres = Postgres(folder / "postgres", free_port())
        self.keys = {scope: new_key() for scope in ("secret", "public", "query")}
        self.services: dict[str, Process] = {}
        self.accepted: dict[str, float] = {}  # when, by id
        self.going_on = True

    async def start(self) -> None:
        await asyncio.to_thread(self.kafka.start)
        self.postgres.start()
        self.mail = await sink.serve(self.folder / "mail")
        variables = {
            "RIPELINE_ENVIRONMENT": "test",
            "RIPELINE_CLOCK": str(present.CLOCK),
            "RIPELINE_DATABASE_URL": self.postgres.url,
            "RIPELINE_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "RIPELINE_KAFKA_SESSION_TIMEOUT_MS": "6000",
            "RIPELINE_KAFKA_PARTITIONS": "4",
            "RIPELINE_PEPPER": "chaos",
            "RIPELINE_SMTP_URL": f"smtp://{sink.address(self.mail)}",
            "RIPELINE_SMTP_IS_SINK": "true",
            "RIPELINE_SPOOL_DIR": str(self.folder / "spool"),
            **{f"RIPELINE_{scope.upper()}_KEY": key for scope, key in self.keys.items()},
        }
        self.settings = settings_of(variables)
        await provision(self.settings)
        self.engine: AsyncEngine = open_engine(self.settings)
        for name in ("ingest", "scorer", "scorer-2", "nurture"):
            module = f"services.{name.partition('-')[0]}"
            self.services[name] = Process(module, variables, self.folder / f"{name}.log")
            await self.services[name].start()
        await asyncio.gather(*(process.ready() for process in self.services.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(process.stop() for process in self.services.values()))
        await self.engine.dispose()
        self.mail.close()
        await asyncio.to_thread(self.kafka.kill)
        self.postgres.stop()

    async def wipe(self) -> None:
        """The broker crashes, loses its disk and comes back empty; then it gets its topics."""
        self.kafka.kill()
        await asyncio.gather(*map(self.says_that_the_broker_is_away, self.services))
        await asyncio.to_thread(shutil.rmtree, self.kafka.directory / "data")
        await asyncio.sleep(1)
        await asyncio.to_thread(self.kafka.start)
        await asyncio.sleep(1)
        await provision(self.settings)

    async def says_that_the_broker_is_away(self, name: str) -> None:
        """Within 10 s its readiness does, with the reason; ingest goes on without it."""
        give_up = time.monotonic() + 10
        async with aiohttp.ClientSession() as http:
            while True:
                async with http.get(f"{self.services[name].url}/health/ready") as answer:
                    said = await answer.json()
                if not said["parts"]["broker"]:
                    break
                assert time.monotonic() < give_up, said
                await asyncio.sleep(0.2)
        assert "has not answered" in said["why"]["broker"]
        expected = (200, "degraded") if name == "ingest" else (503, "waiting")
        assert (answer.status, said["status"]) == expected

    async def post(self, http: aiohttp.ClientSession, **event: Any) -> None:
        """Posts an event until it has its 2xx."""
        event = {"id": uuid.uuid4().hex} | event
        headers = {"Authorization": f"Bearer {self.keys['secret']}"}
        url = f"{self.services['ingest'].url}/v1/events"
        while True:
            try:
                async with http.post(url, json=event, headers=headers) as answer:
                    if answer.status == 200:
                        self.accepted[event["id"]] = time.monotonic()
                        return
                    assert answer.status == 503, await answer.text()
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)

    async def post_on(self, http: aiohttp.ClientSession, name: str) -> None:
        """A stream of people, each of whom permits mail and asks for a demo."""
        number = 0
        while self.going_on:
            await self.post(http, **request(f"{name}{number}@firm{number}.example"))
            number += 1
            await asyncio.sleep(PACE_S)

    async def ask(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement, **values)

    async def idle(self, seconds: float = 60) -> Status:
        """Waits until nothing is left that can be done: what was announced on the wiped broker and
        lay unread there stays undecided.
        """
        give_up, calm = time.monotonic() + seconds, 0
        while True:
            state = await read(self.settings)
            left = [*state.lag.values(), *state.outbox.values(), state.due, state.sending]
            calm = 0 if any(left) else calm + 1
            if calm == 2:
                return state
            assert time.monotonic() < give_up, state
            await asyncio.sleep(0.5)

    def mails(self) -> list[Any]:
        return [
            message_from_bytes(file.read_bytes()) for file in (self.folder / "mail").glob("*.eml")
        ]


def request(email: str) -> dict[str, Any]:
    """Somebody who permitted mail, where it is day, asked for a demo and left the site."""
    return {
        "occurred_at": present.ago(hours=2),
        "type": "demo_requested",
        "email": email,
        "traits": {"timezone": present.midday_zone()},
        "consent": [{"channel": "email", "purpose": "marketing", "state": "given"}],
    }


@pytest.fixture
async def world(scratch: Path) -> AsyncIterator[World]:
    folder = scratch / "wiped"
    folder.mkdir()
    os.chmod(folder, 0o755)
    world = World(folder)
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


async def test_a_wiped_broker_overtakes_no_refusal_and_hides_nothing(world: World) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(15)) as http:
        posting = [asyncio.create_task(world.post_on(http, name)) for name in "abcd"]
        await asyncio.sleep(5)
        wiped = time.monotonic()
        await world.wipe()
        await asyncio.gather(*(process.ready(60) for process in world.services.values()))

        # far more was read of the topics before than these hold; nurture reads none of it yet
        nurture = world.services["nurture"]
        nurture.signal(signal.SIGSTOP)
        refusing = [f"refusing{n}@firm.example" for n in range(8)]
        for email in refusing:
            await world.post(http, **request(email))
        for email in refusing:
            await world.post(
                http, type="unsubscribed", email=email,
                consent=[{"channel": "email", "purpose": "marketing", "state": "withdrawn"}],
            )  # fmt: skip
        await asyncio.sleep(2)
        lag = (await read(world.settings)).lag
        assert lag["nurture"] >= 2 * len(refusing)
        nurture.signal(signal.SIGCONT)
        world.going_on = False
        await asyncio.gather(*posting)
        state = await world.idle()

    assert set(state.gaps) == set(TOPICS)
    found = await world.ask("SELECT DISTINCT topic, why FROM scorer.gap")
    assert {row.why for row in found} == {"recreated"}
    ids = await world.ask(
        "SELECT topic, count(DISTINCT topic_id) AS n FROM scorer.progress GROUP BY 1"
    )
    assert {row.n for row in ids} == {2}

    applied = Counter(
        row.id for row in await world.ask("SELECT body::json->>'id' AS id FROM scorer.event")
    )
    ours = {id: n for id, n in applied.items() if id in world.accepted}
    assert set(ours.values()) == {1}
    missing = world.accepted.keys() - ours.keys()
    assert all(wiped - UNREAD_S < world.accepted[id] < wiped + 1 for id in missing)
    assert len(missing) < len(world.accepted) / 10
    assert (await verify(world.settings, lambda _: None)).mismatches == []

    mails = world.mails()
    sent = [mail["X-Ripeline-Touch"] for mail in mails]
    assert len(sent) == len(set(sent)) > 50
    assert not {mail["To"] for mail in mails} & set(refusing)
