"""Without a broker: forms and beacons are kept, who repeats is put off, and nothing that was
acknowledged is missing (O4).
"""

import asyncio
import json
import resource
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import httpx
import pytest

from tests.support.databases import new_database
from tests.support.ingest_process import IngestProcess, create_topics_on
from tests.support.ports import free_port
from tests.support.refusals import refused, visit
from tests.support.running_system import wait_until
from tests.support.servers import Kafka, Postgres

PEOPLE, PACE_S = 8, 0.25  # of each kind; seconds between two of a person's posts
THANKS = "https://www.example.com/thanks"


class Outage:
    """A broker that is away for a while, people who go on posting, and how they were answered."""

    def __init__(self, ingest: IngestProcess, kafka: Kafka) -> None:
        self.ingest, self.kafka = ingest, kafka
        # ids by person, in the order of the answers
        self.acknowledged: dict[str, list[str]] = defaultdict(list)
        # while the broker was away, by kind of sender
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)
        self.seconds: list[float] = []  # that people in front of browsers waited meanwhile
        self.away = False
        self.going_on = True

    def last(self, seconds: float) -> None:
        """Lets everybody post before, while and after the broker is away for so long."""
        with ThreadPoolExecutor(1) as people:
            posting = people.submit(asyncio.run, self.everybody())
            time.sleep(2)
            self.kafka.kill()
            self.away = True
            time.sleep(seconds)
            self.away = False
            self.kafka.start()
            time.sleep(3)
            self.going_on = False
            posting.result()

    async def everybody(self) -> None:
        """All people of all kinds, at once."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as http:
            kinds: list[Callable[..., Awaitable[int]]] = [self.form, self.beacon, self.sender]
            await asyncio.gather(
                *(
                    self.post_on(http, f"{kind.__name__}-{number}", kind)
                    for kind in kinds
                    for number in range(PEOPLE)
                )
            )

    async def post_on(
        self, http: aiohttp.ClientSession, person: str, kind: Callable[..., Awaitable[int]]
    ) -> None:
        """One post after the other; whoever is put off says the same again."""
        name = uuid.uuid4().hex
        while self.going_on:
            away, began = self.away, time.monotonic()
            status = await kind(http, person, name)
            if away and self.away:
                self.statuses[kind.__name__][status] += 1
                if kind != self.sender:
                    self.seconds.append(time.monotonic() - began)
            if status in (200, 303):
                self.acknowledged[person].append(name)
                name = uuid.uuid4().hex
            await asyncio.sleep(PACE_S)

    async def form(self, http: aiohttp.ClientSession, person: str, name: str) -> int:
        """A form of a page, with the page that follows it."""
        fields = {
            "_id": name,
            "_anonymous_id": person,
            "_key": self.ingest.keys["public"],
            "_next": THANKS,
        }
        async with http.post(
            f"{self.ingest.url}/v1/forms/demo", data=fields, allow_redirects=False
        ) as answer:
            return answer.status

    async def beacon(self, http: aiohttp.ClientSession, person: str, name: str) -> int:
        """What `navigator.sendBeacon` posts."""
        call = {
            "messageId": name,
            "anonymousId": person,
            "event": "Seen",
            "writeKey": self.ingest.keys["public"],
        }
        headers = {"Content-Type": "text/plain"}
        async with http.post(
            f"{self.ingest.url}/v1/track", data=json.dumps(call), headers=headers
        ) as answer:
            return answer.status

    async def sender(self, http: aiohttp.ClientSession, person: str, name: str) -> int:
        """A program that repeats."""
        body = {"id": name, "type": "seen", "anonymous_id": person}
        async with http.post(
            f"{self.ingest.url}/v1/events", json=body, headers=self.ingest.key("secret")
        ) as answer:
            if answer.status == 503:
                assert int(answer.headers["Retry-After"]) > 0
                assert (await answer.json())["type"].endswith("#away")
            return answer.status


@pytest.fixture(scope="module")
def broker(scratch: Path) -> Iterator[Kafka]:
    """Kafka of this module's own."""
    kafka = Kafka(scratch / "away-kafka", free_port())
    kafka.start()
    create_topics_on(kafka.bootstrap)
    yield kafka
    if kafka.running:
        kafka.stop()


@pytest.fixture
def start(
    scratch: Path, postgres: Postgres, broker: Kafka
) -> Iterator[Callable[..., IngestProcess]]:
    """Makes an ingest on that broker, started."""
    made: list[IngestProcess] = []

    def make(**settings: str) -> IngestProcess:
        folder = scratch / f"away-{uuid.uuid4().hex[:6]}"
        made.append(IngestProcess(folder, new_database(postgres), broker.bootstrap, **settings))
        return made[-1].start()

    broker.start()
    yield make
    broker.start()
    for ingest in made:
        ingest.stop()


def drained(ingest: IngestProcess) -> bool:
    """Whether nothing waits on disk any more."""
    return ingest.metric("ripeline_spool_records") == 0


@pytest.mark.parametrize(
    "seconds", [60, pytest.param(600, marks=pytest.mark.long)], ids=["a minute", "ten minutes"]
)
def test_nothing_acknowledged_is_missing_after(
    start: Callable[..., IngestProcess],
    broker: Kafka,
    seconds: float,
    record_testsuite_property: Callable[[str, Any], None],
) -> None:
    """I2, O4: under load, with the broker killed; people wait for nothing, their order stays, the
    spool empties by itself.
    """
    outage = Outage(start(allowed_pages=json.dumps([THANKS])), broker)
    outage.last(seconds)
    assert outage.statuses["form"].keys() == {303}
    assert outage.statuses["beacon"].keys() == {200}
    assert outage.statuses["sender"].keys() <= {503}
    assert sum(outage.statuses["sender"].values()) > 0
    wait_until(lambda: drained(outage.ingest), 60)

    times: dict[str, dict[str, datetime]] = defaultdict(dict)
    for at, interaction in outage.ingest.interactions():
        times[interaction.anonymous_id].setdefault(interaction.id, at)
    assert outage.acknowledged.keys() <= times.keys()
    for person, names in outage.acknowledged.items():
        assert set(names) <= times[person].keys()
        in_order = [times[person][name] for name in names]
        assert in_order == sorted(in_order), person
    assert sum(map(len, outage.acknowledged.values())) > 2 * PEOPLE * seconds

    cuts = quantiles(outage.seconds, n=100)
    record_testsuite_property(
        "answered_while_away_s", {"posts": len(outage.seconds), "p50": cuts[49], "p99": cuts[98]}
    )
    assert cuts[49] < 0.3
    assert cuts[98] < 1.5


def test_a_full_spool_is_reported_and_survives_kill_9(
    start: Callable[..., IngestProcess], broker: Kafka
) -> None:
    """503 `spool-full`, a metric, not ready; then kill -9, and everything that was acknowledged
    arrives.
    """
    ingest = start(spool_max_bytes="200000")
    owners = [ingest.new_key("public", name=f"page-{number}") for number in range(6)]
    time.sleep(1)
    broker.kill()
    acknowledged, answers = [], []
    for number in range(300):
        body = visit(url="x" * 2000)
        key = {"Authorization": f"Bearer {owners[number % len(owners)]}"}
        answers.append(ingest.http.post(f"{ingest.url}/v1/events", json=body, headers=key))
        if answers[-1].status_code == 200:
            acknowledged.append(body["id"])
            assert ingest.http.get(f"{ingest.url}/health/ready").status_code == 200
        else:
            break
    refused(answers[-1], 503, "spool-full")
    assert int(answers[-1].headers["retry-after"]) > 0
    assert ingest.metric("ripeline_spool_full_total") == 1
    assert ingest.http.get(f"{ingest.url}/health/ready").status_code == 503
    assert ingest.metric("ripeline_spool_records") == len(acknowledged) > 50

    ingest.kill()
    ingest.start()
    assert ingest.metric("ripeline_spool_records") == len(acknowledged)
    broker.start()
    wait_until(lambda: drained(ingest), 60)
    assert set(acknowledged) <= {interaction.id for _, interaction in ingest.interactions()}
    assert ingest.http.get(f"{ingest.url}/health/ready").status_code == 200


def test_a_full_disk_is_reported_and_harms_nothing_that_is_on_it(
    start: Callable[..., IngestProcess], broker: Kafka
) -> None:
    """The operating system refuses to write: 503 and the alarm metric; with room again all goes on,
    and nothing half stays.
    """
    ingest = start()
    broker.kill()
    acknowledged = []

    def post() -> httpx.Response:
        body = visit()
        answer = ingest.post("/v1/events", "public", json=body)
        if answer.status_code == 200:
            acknowledged.append(body["id"])
        return answer

    assert [post().status_code for _ in range(5)] == [200] * 5
    _, hard = resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, (10, hard))
    for _ in range(5):
        answer = post()
        refused(answer, 503, "spool-full")
        assert int(answer.headers["retry-after"]) > 0
    assert ingest.metric("ripeline_spool_full_total") == 5
    assert ingest.http.get(f"{ingest.url}/health/ready").status_code == 503
    assert ingest.metric("ripeline_spool_records") == 5
    resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert [post().status_code for _ in range(5)] == [200] * 5
    assert ingest.http.get(f"{ingest.url}/health/ready").status_code == 200
    broker.start()
    wait_until(lambda: drained(ingest), 60)
    found = {interaction.id for _, interaction in ingest.interactions()}
    assert set(acknowledged) <= found
    assert len(acknowledged) == 10
