"""What `ripeline learn` beside the running system costs: what ingest takes and what the scorer
applies while a model is learned ÷ without, in turn; and the memory of what learns.
"""

import itertools
import os
import sys
import time
from asyncio import CancelledError, create_subprocess_exec, create_task, sleep
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import psutil

from services.ops.cli.options import LOWEST
from services.shared.clock import DAY, Clock, from_us
from services.shared.settings import ROOT
from tests.bench import people
from tests.bench.ingest import CONNECTIONS, GOOD
from tests.bench.load import flood, request
from tests.bench.measure import Line, Measure, Outcome, alternate, line_of
from tests.bench.scoring import drained
from tests.bench.world import MIB, Progress, World
from tests.support import simulated
from tests.support.histories import BASE

LEADS, QUICK_LEADS = 8_000, 1_500
DAYS = 500
EVENTS, QUICK_EVENTS = 20_000, 8_000  # of one round
LEAST_KEPT = 0.9  # of intake
MEMORY_GOAL = 1_024  # MiB of what learns
LOOK_S = 0.1


class Learner:
    """`ripeline learn`, again and again; `rss_mib` is the most memory that it took."""

    def __init__(self, world: World) -> None:
        self._world, self.rss_mib, self._pid = world, 0.0, 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Learns until the end of the block."""
        task = create_task(self._learn())
        try:
            while not (self._is_learning() or task.done()):
                await sleep(LOOK_S)
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            with suppress(CancelledError):
                await task

    async def once(self) -> None:
        """Learns once, to the end."""
        command = [sys.executable, "-m", "services.ops", "learn", "--keep", "--no-curve", "--json"]
        log = self._world.folder / "learn.log"
        with log.open("ab") as errors:
            process = await create_subprocess_exec(
                *command, cwd=ROOT, env=self._world.variables, stdout=DEVNULL, stderr=errors
            )
        self._pid = process.pid
        watch = create_task(self._watch(process.pid))
        try:
            if await process.wait():
                raise AssertionError(f"learning ended:\n{log.read_text()[-2000:]}")
        finally:
            self._pid = 0
            watch.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _learn(self) -> None:
        while True:
            await self.once()

    def _is_learning(self) -> bool:
        """Whether the command has been loaded and works, at its low priority."""
        with suppress(OSError):
            threads = [int(each.name) for each in Path(f"/proc/{self._pid}/task").iterdir()]
            return any(os.getpriority(os.PRIO_PROCESS, each) == LOWEST for each in threads)
        return False

    async def _watch(self, pid: int) -> None:
        with suppress(psutil.Error):
            while True:
                used = psutil.Process(pid).memory_info().rss / MIB
                self.rss_mib = max(self.rss_mib, used)
                await sleep(LOOK_S)


async def slowed(world: World) -> Outcome:
    """An archive of simulated leads is learned from again and again while others post."""
    events = QUICK_EVENTS if world.quick else EVENTS
    bodies = (people.encode(people.item(n)) for n in itertools.count())
    posts = (request("POST", "/v1/events", body, world.keys["secret"]) for body in bodies)
    names, learner = itertools.count(), Learner(world)
    async with world.running("services.ingest", "services.scorer") as (ingest, scorer):
        progress = Progress(world)
        archived = await _fill(world, progress)

        async def applied() -> float:
            return await drained(world, scorer, progress, f"beside{next(names)}", events)

        async def taken() -> float:
            scorer_has = await progress.read()
            rate = await flood(ingest.url, posts, CONNECTIONS, world.seconds, GOOD)
            await progress.until(scorer_has + int(rate * world.seconds))
            return rate

        async def beside(measure: Measure) -> float:
            async with learner.running():
                return await measure()

        pairs = {
            "taken": await alternate(lambda: beside(taken), taken, world.rounds),
            "applied": await alternate(lambda: beside(applied), applied, world.rounds),
        }
        await progress.close()
        began = time.perf_counter()
        await learner.once()
        took = time.perf_counter() - began
    lines = [
        line_of("learn", f"events {name} beside learning from {archived:,} ÷ without", pair, "/s",
                LEAST_KEPT)
        for name, pair in pairs.items()
    ]  # fmt: skip
    used = f"{learner.rss_mib:.0f} MiB"
    memory = Line("learn", "what learns, at most", used, "", used, f"≤ {MEMORY_GOAL} MiB",
                  learner.rss_mib <= MEMORY_GOAL)  # fmt: skip
    ratios = {name: pair.as_json() for name, pair in pairs.items()}
    found = ratios | {"rss_mib": round(learner.rss_mib), "learned_in_s": round(took)}
    return Outcome(found, [*lines, memory])


async def _fill(world: World, progress: Progress) -> int:
    """Fills the archive by way of the topic; returns how many events it has."""
    rng = np.random.default_rng(1)
    process = simulated.unlike(world.playbook.model, rng, spread=0.8)
    leads = QUICK_LEADS if world.quick else LEADS
    found = simulated.archive(process, leads, rng, until_days=DAYS, title=True)
    shift = Clock().now_us() - DAY - BASE - DAYS * DAY
    said = [
        (from_us(each.at + shift), each.data)
        for each in simulated.occurrences(world.playbook, found)
    ]
    before = await progress.read()
    await world.publish(people.outgoing(said, b"bench"))
    await progress.until(before + len(said), 600)
    return len(said)
