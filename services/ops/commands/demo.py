"""The demo: the embedded system under the traffic of simulated people, while a compressed clock
runs.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from services.ops.commands import status
from services.ops.embedded.spec import SystemSpec
from services.ops.embedded.state import SystemFailed
from services.ops.embedded.supervision import Restarted
from services.ops.embedded.system import EmbeddedSystem
from services.ops.simulation import evaluation
from services.ops.simulation.mailbox import Mailbox
from services.ops.simulation.population import population
from services.ops.simulation.posting import IngestClient, Refused, Run
from services.ops.simulation.readback import QueryClient
from services.ops.simulation.salespeople import Salespeople
from services.ops.simulation.traffic import Traffic
from services.ops.simulation.world import World
from services.shared.clock import US, Clock
from services.shared.playbook.loading import InvalidFile, load
from services.shared.settings import Settings

DAYS = 60.0
# what the services take to start, during which the compressed clock stands still
HEAD_START_S = 4.0
IDLE_TIMEOUT_S = 180.0


class DemoOptions(NamedTuple):
    """`DAYS` pass in so many seconds, at so many events a second, with the people of a seed."""

    seconds: float
    rate: float
    seed: int
    playbook: Path | None


@dataclass
class Demo:
    """A running system with its simulated people; `started` is a `time.monotonic()`."""

    system: EmbeddedSystem
    client: IngestClient
    traffic: Traffic
    query: QueryClient
    world: World
    run: Run
    started: float
    salespeople: Salespeople

    async def play(self, days: float | None) -> None:
        """The traffic of so many days, while salespeople answer; without `days` on and on."""
        selling = asyncio.create_task(self.salespeople.run())
        try:
            await self.traffic.run(days)
        finally:
            selling.cancel()
            await asyncio.gather(selling, return_exceptions=True)


class Measured(NamedTuple):
    """The report of a run, and a sentence for each promise that was not kept."""

    report: dict[str, Any]
    failings: list[str]


@asynccontextmanager
async def start(
    options: DemoOptions, on_restart: Callable[[Restarted], None]
) -> AsyncIterator[Demo]:
    """Starts all, with a clock that runs `DAYS` in the given seconds and then is the wall clock.
    Raises `SystemFailed`.
    """
    started = time.monotonic()
    clocks: list[Clock] = []
    try:
        world = World.of(load(options.playbook or Settings.read().playbook))
    except InvalidFile as broken:
        raise SystemFailed(f"the playbook is broken:\n{broken}", 2) from None

    def start_clock() -> str:
        clocks.append(Clock(round(time.time() + HEAD_START_S, 3), DAYS, options.seconds))
        return str(clocks[0])

    # a simulated person's mail never leaves this machine, whatever is set for real use
    environ = {"RIPELINE_ENVIRONMENT": "demo", "RIPELINE_SMTP_URL": ""}
    spec = SystemSpec(playbook=options.playbook, command="demo")
    async with EmbeddedSystem(spec, environ, start_clock, on_restart) as system, _http() as http:
        clock, info = clocks[0], system.info()
        start_us = int((clock.origin + clock.seconds - clock.days * 86_400) * US)
        run = Run(options.seed, clock, start_us)
        events = max(int(options.seconds * options.rate), 1)
        people = population(world, options.seed, events, DAYS)
        client = IngestClient(http, info.ingest, info.keys, run)
        traffic = Traffic(client, run, world, people, Mailbox(system.mail))
        query = QueryClient(http, info.scorer, info.nurture, info.keys["query"])
        salespeople = Salespeople(query, clock, options.seed)
        yield Demo(system, client, traffic, query, world, run, started, salespeople)


def _http() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=64),
        timeout=aiohttp.ClientTimeout(total=30),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def measure(demo: Demo) -> Measured:
    """Runs the traffic of `DAYS`, waits until all is done, and judges it. Raises `SystemFailed`."""
    await unless_failed(demo.system, demo.play(DAYS))
    try:
        state = await status.wait_until_idle(demo.system.settings, IDLE_TIMEOUT_S)
    except status.NotIdle as error:
        raise SystemFailed(f"the system did not come to rest: {error}") from None
    tally, prefix = demo.client.tally, demo.run.prefix
    record = await demo.query.everything()
    sampled = evaluation.samples(demo.traffic.people, tally, DAYS, demo.run.seed)
    accuracy = await evaluation.stage_accuracy(
        demo.query, record, tally, demo.world, demo.run, sampled
    )
    return Measured(
        evaluation.report(record, tally, prefix, state.dead_letters, accuracy),
        evaluation.failings(record, tally, prefix)
        + [f"Refused by ingest: {problem}" for problem in set(tally.rejected)],
    )


async def unless_failed(system: EmbeddedSystem, work: Awaitable[Any]) -> None:
    """Does the work, unless the system fails meanwhile. Raises `SystemFailed`."""
    working = asyncio.ensure_future(work)
    failing = asyncio.ensure_future(system.wait_for_failure())
    try:
        await asyncio.wait([working, failing], return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            raise failing.result()
        working.result()
    except BaseExceptionGroup as group:
        if refused := _leaves(group.subgroup(Refused)):
            raise SystemFailed(f"ingest refused the traffic: {refused[0]}") from None
        raise
    finally:
        working.cancel()
        failing.cancel()
        await asyncio.gather(working, failing, return_exceptions=True)


def _leaves(error: BaseException | None) -> list[BaseException]:
    """What an exception group holds, however deep."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error] if error else []
