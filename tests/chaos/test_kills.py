"""Nothing with a 2xx is lost, nothing counts twice, no touch goes out twice, through kill -9 of
anything, while a stranger posts what harms (O4, N11).
"""

import asyncio
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from services.ops.commands.provision import provision
from services.ops.commands.status import Status, read
from services.ops.commands.verify import verify
from services.ops.embedded import mail_sink as sink
from services.ops.embedded.processes import tied
from services.shared.contracts.events import encode_bytes
from services.shared.http.keys import new_key
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT
from tests.chaos import hostile
from tests.support import present
from tests.support.ports import free_port
from tests.support.processes import Process, settings_of
from tests.support.servers import Kafka, Postgres

EVENTS, DUPLICATES, PEOPLE = 2400, 0.2, 120
SESSION_MS = 6000


class World:
    """Servers, services, the naive control and the sender of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = Kafka(folder / "kafka", free_port())
        self.postgres = Postgres(folder / "postgres", free_port())
        self.keys = {scope: new_key() for scope in ("secret", "public", "query")}
        self.accepted: set[str] = set()
        self.hostile: set[str] = set()  # accepted from a stranger
        self.kills: Counter[str] = Counter()
        self.services: dict[str, Process] = {}
        self.naive: list[subprocess.Popen[bytes]] = []
        self.sending = True

    async def start(self) -> None:
        await asyncio.to_thread(self.kafka.start)
        self.postgres.start()
        self.mail = await sink.serve(self.folder / "mail")
        variables = self.variables()
        self.settings = settings_of(variables)
        await provision(self.settings)
        engine = create_async_engine(
            self.postgres.url.replace("postgresql://", "postgresql+asyncpg://")
        )
        async with engine.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE naive (counted bigint)")
            await connection.exec_driver_sql("INSERT INTO naive VALUES (0)")
        await engine.dispose()
        faults = {
            "scorer-0": "before_commit:4", "scorer-1": "between_database_and_offset_commit:5",
            "scorer-2": "between_publish_and_mark:3", "nurture-0": "between_sending_and_wire:2",
            "nurture-1": "between_database_and_offset_commit:4", "ingest-0": "",
        }  # fmt: skip
        for name, fault in faults.items():
            module, own = (
                f"services.{name.partition('-')[0]}",
                {"RIPELINE_SPOOL_DIR": str(self.folder / f"spool-{name}")},
            )
            self.services[name] = Process(
                module, variables | own, self.folder / f"{name}.log", fault
            )
        for process in self.services.values():
            await process.start()
        for _ in range(3):
            self._start_naive()
        await asyncio.gather(*(process.ready() for process in self.services.values()))

    def _start_naive(self) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.chaos.naive",
            self.kafka.bootstrap,
            self.postgres.url,
        ]
        with (self.folder / "naive.log").open("ab") as log:
            self.naive.append(
                subprocess.Popen(
                    tied(command), cwd=ROOT, env=present.environment(), stdout=log, stderr=log
                )
            )

    def variables(self) -> dict[str, str]:
        return {
            "RIPELINE_ENVIRONMENT": "test",
            "RIPELINE_CLOCK": str(present.CLOCK),
            "RIPELINE_DATABASE_URL": self.postgres.url,
            "RIPELINE_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "RIPELINE_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_MS),
            "RIPELINE_KAFKA_PARTITIONS": "6",
            "RIPELINE_PEPPER": "chaos",
            "RIPELINE_SMTP_URL": f"smtp://{sink.address(self.mail)}",
            "RIPELINE_SMTP_IS_SINK": "true",
            "RIPELINE_SENDING_TIMEOUT_S": "4",
            "RIPELINE_BATCH": "60",
            "RIPELINE_DATABASE_POOL": "4",
            **{f"RIPELINE_{scope.upper()}_KEY": key for scope, key in self.keys.items()},
        }

    async def stop(self) -> None:
        await asyncio.gather(*(process.stop() for process in self.services.values()))
        for process in self.naive:
            process.kill()
            process.wait()
        self.mail.close()
        await asyncio.to_thread(self.kafka.stop)
        self.postgres.stop()

    # -- kills ------------------------------------------------------------------------------------

    async def kill_in_turn(self, rng: random.Random) -> None:
        """Kills everything in turn while events come in."""
        plan = [
            "scorer",
            "nurture",
            "scorer",
            "postgres",
            "ingest",
            "kafka",
            "scorer",
            "stop",
            "nurture",
            "postgres",
            "scorer",
            "ingest",
        ]
        for victim in plan:
            await asyncio.sleep(rng.uniform(1.0, 2.0))
            await self._kill(victim, rng)

    async def _kill(self, victim: str, rng: random.Random) -> None:
        self.kills[victim] += 1
        if victim == "kafka":
            self.kafka.kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(self.kafka.start)
        elif victim == "postgres":
            self.postgres.kill()
            await asyncio.sleep(0.5)
            self.postgres.start()
        elif victim == "stop":
            zombie = self.services["scorer-0"]
            zombie.signal(signal.SIGSTOP)
            await asyncio.sleep(SESSION_MS / 1000 + 2)
            zombie.signal(signal.SIGCONT)
        else:
            rng.choice(
                [process for name, process in self.services.items() if name.startswith(victim)]
            ).signal(signal.SIGKILL)
            if victim == "scorer":
                naive = self.naive.pop(0)
                naive.kill()
                naive.wait()
                self._start_naive()

    # -- load -------------------------------------------------------------------------------------

    async def send(self, events: list[dict[str, Any]], rng: random.Random) -> None:
        """Posts until everything has its 2xx; whatever is not answered is posted again."""
        coming = events + rng.choices(events, k=int(len(events) * DUPLICATES))
        for i in range(len(coming) - 1, 0, -1):  # disorder within some distance
            j = max(0, i - rng.randrange(200))
            coming[i], coming[j] = coming[j], coming[i]
        batches = [coming[i : i + 20] for i in range(0, len(coming), 20)]
        pace = 24 / len(batches)
        async with aiohttp.ClientSession() as http:
            for batch in batches:
                await self._post(http, batch)
                await asyncio.sleep(pace)

    async def _post(self, http: aiohttp.ClientSession, batch: list[dict[str, Any]]) -> None:
        headers = {"Authorization": f"Bearer {self.keys['secret']}"}
        while True:
            try:
                url = f"{self.services['ingest-0'].url}/v1/events"
                async with http.post(
                    url, json=batch, headers=headers, timeout=aiohttp.ClientTimeout(15)
                ) as answer:
                    if answer.status == 200:
                        receipt = await answer.json()
                        assert not receipt["rejected"]
                        self.accepted |= set(receipt["ids"])
                        return
                    assert answer.status == 503, await answer.text()
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)

    async def attack(self, rng: random.Random) -> None:
        """Posts a stranger's bodies with the public key; a body that gets no answer or 503 is
        posted again.
        """
        coming = hostile.bodies(rng)
        async with aiohttp.ClientSession() as http:
            for number, body in enumerate(coming):
                if number % (len(coming) // 4) == 1:
                    for large in hostile.oversized():
                        assert not await self._ask(http, large)
                while (taken := await self._ask(http, body)) is None:
                    await asyncio.sleep(0.2)
                self.hostile |= taken
                await asyncio.sleep(20 / len(coming))

    async def _ask(self, http: aiohttp.ClientSession, body: hostile.Items) -> set[str] | None:
        """The ids of a stranger's items that were taken; None where the body has to come again, or
        is refused as a whole.
        """
        headers = {
            "Authorization": f"Bearer {self.keys['public']}",
            "Content-Type": "application/json",
        }
        url, data = f"{self.services['ingest-0'].url}/v1/events", io.BytesIO(encode_bytes(body))
        try:
            async with http.post(
                url, data=data, headers=headers, timeout=aiohttp.ClientTimeout(15)
            ) as answer:
                return set((await answer.json())["ids"]) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    # -- results ----------------------------------------------------------------------------------

    async def idle(self, seconds: float = 120) -> Status:
        """Waits until nothing is left to do, twice in a row."""
        calm, state, problem = 0, None, ""
        give_up = time.monotonic() + seconds
        while calm < 2 and time.monotonic() < give_up:
            try:
                state = await read(self.settings)
                calm = calm + 1 if state.idle else 0
            except Exception as error:
                problem = repr(error)
            await asyncio.sleep(0.7)
        logs = "\n".join(
            f"== {name}\n{process.tail()[-1500:]}" for name, process in self.services.items()
        )
        assert state, problem
        assert calm == 2, f"{state} {problem}\n{logs}"
        return state

    async def get(self, http: aiohttp.ClientSession, url: str, **params: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.keys['query']}"}
        async with http.get(url, params=params, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def pages(
        self, http: aiohttp.ClientSession, url: str, what: str, **params: Any
    ) -> list[Any]:
        out, cursor = [], ""
        while True:
            page = await self.get(http, url, **params, **({"cursor": cursor} if cursor else {}))
            out += page[what]
            cursor = page["next"]
            if not cursor:
                return out


def people(rng: random.Random, playbook: Playbook) -> list[dict[str, Any]]:
    """Events of people who were anonymous first, of the last days, where it is day, so that touches
    are due at once.
    """
    now, zone = present.now(), present.midday_zone()
    items = [item.id for item in playbook.content]
    events = []
    for n in range(EVENTS):
        i = rng.randrange(PEOPLE)
        known = rng.random() < 0.5
        event: dict[str, Any] = {
            "id": f"chaos-{n}",
            "type": rng.choice(
                [
                    "page_viewed",
                    "content_downloaded",
                    "pricing_viewed",
                    "demo_requested",
                    "webinar_attended",
                ]
            ),
            "occurred_at": (now - timedelta(minutes=rng.randrange(60, 9000))).isoformat(),
            "content_id": rng.choice(items),
            "anonymous_id": f"anon-{i}",
            "traits": {"timezone": zone},
        }
        if known:
            event["email"] = f"person{i}@firm{i}.example"
            event["consent"] = [{"channel": "email", "purpose": "marketing", "state": "given"}]
        events.append(event)
    return events


@pytest.fixture
async def world(scratch: Path) -> AsyncIterator[World]:
    folder = scratch / "chaos"
    folder.mkdir()
    os.chmod(folder, 0o755)
    world = World(folder)
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


async def test_nothing_is_lost_or_doubled_through_kills_of_everything(
    world: World, default_playbook: Playbook
) -> None:
    rng = random.Random(20)
    sending = asyncio.create_task(world.send(people(rng, default_playbook), rng))
    attacking = asyncio.create_task(world.attack(random.Random(21)))
    await world.kill_in_turn(rng)
    await asyncio.gather(sending, attacking)
    await asyncio.gather(*(process.ready() for process in world.services.values()))
    state = await world.idle()
    faults = {
        name: process.died_by_fault
        for name, process in world.services.items()
        if process.died_by_fault
    }
    assert len(faults) >= 4, f"named points that killed: {faults}"
    assert sum(world.kills.values()) - world.kills["stop"] + len(faults) >= 15
    assert state.dead_letters == 0
    assert state.undecided == 0
    assert state.failing_leads == 0
    assert len(world.accepted) == EVENTS
    assert len(world.hostile) > hostile.ENDLESS + hostile.RENEWALS

    async with aiohttp.ClientSession() as http:
        scorer, nurture = world.services["scorer-1"].url, world.services["nurture-1"].url
        leads = await world.pages(http, f"{scorer}/v1/leads", "leads", limit=500)
        counted: Counter[str] = Counter()
        announced: set[str] = set()
        for lead in leads:
            items = await world.pages(
                http, f"{scorer}/v1/leads/{lead['id']}/timeline", "items", limit=1000
            )
            events = {item["id"] for item in items if item["kind"] == "event"}
            assert not (events & world.accepted and events & world.hostile), "a stranger's event"
            counted.update(item["id"] for item in items if item["kind"] == "event")
            announced |= {item["id"] for item in items if item["kind"] == "announcement"}
        touches = await world.pages(http, f"{nurture}/v1/touches", "touches", limit=1000)
    assert set(counted) == world.accepted | world.hostile
    assert set(counted.values()) == {1}
    assert sum(lead["events_counted"] for lead in leads) == EVENTS + len(world.hostile)
    by_change = {touch["announcement"] for touch in touches if touch["program"] != "requested"}
    assert by_change - {None} == announced
    causes = {(touch["announcement"] or touch["follows"], touch["program"]) for touch in touches}
    assert len(causes) == len(touches)

    mails = [
        message_from_bytes(file.read_bytes())["X-Ripeline-Touch"]
        for file in (world.folder / "mail").glob("*.eml")
    ]
    assert mails
    assert len(mails) == len(set(mails))
    sent = {touch["id"] for touch in touches if touch["status"] == "sent"}
    unknown = {touch["id"] for touch in touches if touch["status"] == "unknown"}
    assert sent <= set(mails) <= sent | unknown
    checked = await verify(world.settings, lambda _: None)
    assert checked.mismatches == []

    engine = create_async_engine(
        world.postgres.url.replace("postgresql://", "postgresql+asyncpg://")
    )
    async with engine.connect() as connection:
        naive = (await connection.exec_driver_sql("SELECT counted FROM naive")).scalar()
    await engine.dispose()
    assert naive != EVENTS + len(world.hostile), (
        "the naive control came through: this run proves nothing"
    )
