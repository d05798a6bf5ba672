"""P1 and P2: what ingest takes in, beside plain producing of the same bytes."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from services.ingest import senders
from services.ingest.sources import sendgrid
from services.ingest.sources.contract import Sample
from services.shared.db import open_engine
from tests.bench import people
from tests.bench.load import connect, flood, request
from tests.bench.measure import Line, Outcome, Pair, alternate, line_of
from tests.bench.world import World

CONNECTIONS, BATCHES_AT_ONCE, BATCH = 64, 4, 1_000
GOOD, GOOD_SEGMENT = b'"accepted":1', b'"success":true'


async def singles(world: World) -> Outcome:
    """P1: single events on 64 connections ÷ a route that awaits one acknowledged produce of the
    same body.
    """
    bodies = [people.encode(people.item(n)) for n in range(5_000)]
    posts = _forever([request("POST", "/v1/events", body, world.keys["secret"]) for body in bodies])
    plain = _forever([request("POST", "/produce", body) for body in bodies])
    async with world.running("services.ingest", "tests.bench.limits", "tests.bench.echo") as (
        ingest,
        limits,
        echo,
    ):
        pair = await alternate(
            lambda: flood(ingest.url, posts, CONNECTIONS, world.seconds, GOOD),
            lambda: flood(limits.url, plain, CONNECTIONS, world.seconds, GOOD),
            world.rounds,
        )
        driver = await flood(echo.url, posts, CONNECTIONS, 1.0, GOOD)
    line = line_of(
        "P1", f"single events (the driver itself could send {driver:,.0f}/s)", pair, "/s", 0.80
    )
    return Outcome(pair.as_json() | {"driver": round(driver)}, [line])


async def batches(world: World) -> Outcome:
    """P2: events in batches of 1,000 ÷ `send()` of each one's bytes; SendGrid's with their
    signature.
    """
    key = world.keys["secret"]
    signer = await _connected(world)

    def canonical(items: list[bytes]) -> bytes:
        return request("POST", "/v1/events", _array(items), key)

    def segment(items: list[bytes]) -> bytes:
        return request("POST", "/v1/batch", b'{"batch":' + _array(items) + b"}", key)

    def signed(items: list[bytes]) -> bytes:
        sample = sendgrid.sign(
            Sample(_array(items), "application/json"), signer, "", datetime.now(UTC)
        )
        return request("POST", sendgrid.SOURCE.paths[0], sample.body, headers=sample.headers)

    pair, line = await _batches(world, "P2", people.item, canonical, GOOD, 0.70)
    others = {
        "segment": await _batches(world, "P2 Segment", people.call, segment, GOOD_SEGMENT, 0.40),
        "sendgrid": await _batches(world, "P2 SendGrid", people.mail_event, signed, GOOD, 0.40),
    }
    found = {name: other.as_json() for name, (other, _) in others.items()}
    return Outcome(pair.as_json() | found, [line, *(line for _, line in others.values())])


async def _batches(
    world: World,
    name: str,
    make: Callable[[int], Any],
    ask: Callable[[list[bytes]], bytes],
    good: bytes,
    goal: float,
) -> tuple[Pair, Line]:
    items = [[people.encode(make(20_000 * part + n)) for n in range(BATCH)] for part in range(20)]
    posts = _forever([ask(some) for some in items])
    plain = request("POST", f"/send?seconds={world.seconds}", b"\n".join(items[0]))
    async with world.running("services.ingest", "tests.bench.limits") as (ingest, limits):
        client = await connect(limits.url)

        async def ours() -> float:
            return await flood(ingest.url, posts, BATCHES_AT_ONCE, world.seconds, good) * BATCH

        async def limit() -> float:
            answer = await client.ask(plain)
            return float(people.decode(answer.body)["rate"])

        pair = await alternate(ours, limit, world.rounds)
    return pair, line_of(name, f"batches of {BATCH:,} events", pair, "/s", goal)


async def _connected(world: World) -> str:
    """What signs as SendGrid, once its other half is known here."""
    signer, verifier = sendgrid.new_secret()
    engine = open_engine(world.settings)
    async with engine.begin() as connection:
        await senders.connect(
            connection,
            senders.Vault(world.settings.pepper.get_secret_value().encode()),
            "sendgrid",
            verifier,
        )
    await engine.dispose()
    return signer


def _array(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def _forever(requests: list[bytes]) -> Iterator[bytes]:
    return itertools.cycle(requests)
