"""`ripeline demo`: the embedded system under seeded traffic of simulated people, live or measured
as JSON.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.ops.commands import status
from services.ops.commands.up import serve
from services.ops.embedded.state import Failed
from services.ops.embedded.system import Embedded, Wish
from services.ops.simulation import evaluation as reckoning
from services.ops.simulation import population as simulator
from services.ops.simulation.traffic import Refused, Traffic
from services.shared.clock import DAY, US, Clock
from services.shared.playbook.loading import InvalidFile, load
from services.shared.settings import Settings

DAYS = 60.0
FIRST_MINUTE_S = 60.0
# what the services take to start, during which the compressed clock stands still
HEAD_START_S = 4.0
IDLE_S = 180.0
LOOK_S = 1.0
DEFAULT_RATE, DEFAULT_SEED = 50.0, 7


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(demo)


def demo(
    seconds: Annotated[
        float | None, typer.Option(min=5, help="60 days in these seconds, then a report.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=1, max=2000, help="Events a second while time is compressed.")
    ] = DEFAULT_RATE,
    seed: Annotated[int, typer.Option(help="The same seed brings the same people.")] = DEFAULT_SEED,
    as_json: Annotated[
        bool, typer.Option("--json", help="The last line of stdout is the report as JSON.")
    ] = False,
    playbook: Annotated[
        Path | None, typer.Option(help="Folder of the playbook.", exists=True, file_okay=False)
    ] = None,
) -> None:
    """Nurture simulated people: live on a page until Ctrl-C, or for --seconds with a report."""
    if seconds is None:
        raise typer.Exit(serve(lambda: _live(rate, seed, playbook)))
    raise typer.Exit(serve(lambda: _measured(seconds, rate, seed, as_json, playbook), stopped=130))


@dataclass
class Stage:
    """A running system with its people before the door."""

    system: Embedded
    traffic: Traffic
    reader: reckoning.Reader
    world: simulator.World
    clock: Clock
    start_us: int
    began: float


@asynccontextmanager
async def _stage(
    seconds: float, rate: float, seed: int, playbook: Path | None, tell: Any
) -> AsyncIterator[Stage]:
    """Starts all, with a clock that runs 60 days in `seconds` and then is the wall clock."""
    began = time.monotonic()
    clocks: list[Clock] = []
    try:
        world = simulator.World.of(load(playbook or Settings().playbook))
    except InvalidFile as broken:
        raise Failed(f"the playbook is broken:\n{broken}", 2) from None

    def start_clock() -> str:
        clocks.append(Clock(round(time.time() + HEAD_START_S, 3), DAYS, seconds))
        return str(clocks[0])

    # a simulated person's mail never leaves this machine, whatever is set for real use
    environ = {"RIPELINE_ENVIRONMENT": "demo", "RIPELINE_SMTP_URL": ""}
    async with (
        Embedded(Wish(playbook=playbook), environ, start_clock, tell) as system,
        _http() as http,
    ):
        clock = clocks[0]
        start_us = int((clock.origin + clock.seconds - clock.days * 86_400) * US)
        people = simulator.population(world, seed, max(int(seconds * rate), 1), DAYS)
        line = system.line()
        traffic = Traffic(
            http, line["ingest"], line["keys"], clock, start_us, world, people,
            run=f"sim-{seed}-{int(clock.origin)}-", seed=seed, mail=system.mail,
        )  # fmt: skip
        reader = reckoning.Reader(http, line["scorer"], line["nurture"], line["keys"]["query"])
        yield Stage(system, traffic, reader, world, clock, start_us, began)


def _http() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=64),
        timeout=aiohttp.ClientTimeout(total=30),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _measured(
    seconds: float, rate: float, seed: int, as_json: bool, playbook: Path | None
) -> int:
    err = Console(stderr=True, highlight=False)
    async with _stage(
        seconds, rate, seed, playbook, lambda told: err.print(json.dumps(told))
    ) as stage:
        err.print(
            f"{len(stage.traffic.people)} simulated people; {DAYS:.0f} days pass in {seconds:g} s."
        )
        await _unless_broken(stage, stage.traffic.run(DAYS))
        state = await _idle(stage.system.settings)
        tally = stage.traffic.tally
        books = await stage.reader.books()
        accuracy = await reckoning.stage_accuracy(
            stage.reader,
            books,
            tally,
            stage.traffic.people,
            stage.world,
            stage.start_us,
            DAYS,
            seed,
        )
        run = stage.traffic.run_prefix
        result = reckoning.report(books, tally, run, int(state["dead_letters"]), accuracy)
        failings = reckoning.failings(books, tally, run) + [
            f"Refused by ingest: {one}" for one in set(tally.rejected)
        ]
    for sentence in failings:
        print(f"ripeline: {sentence}", file=sys.stderr)
    print(json.dumps(result) if as_json else _in_words(result), flush=True)
    return 1 if failings else 0


async def _unless_broken(stage: Stage, work: Any) -> None:
    """Does the work, unless the system falls under it. Raises `Failed`."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(stage.system.broken.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stage.system.broken.is_set():
            raise Failed(stage.system.reason)
        tasks[0].result()
    except BaseExceptionGroup as group:
        if refused := _leaves(group.subgroup(Refused)):
            raise Failed(f"ingest refused the traffic: {refused[0]}") from None
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _leaves(error: BaseException | None) -> list[BaseException]:
    """What an exception group holds, however deep."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error] if error else []


async def _idle(settings: Settings) -> dict[str, Any]:
    """Waits until twice nothing is left to do; returns the last status. Raises `Failed` after a
    while.
    """
    give_up = time.monotonic() + IDLE_S
    seen = 0
    while True:
        state: dict[str, Any] = await status.read(settings)
        seen = seen + 1 if state["idle"] else 0
        if seen == 2:
            return state
        if time.monotonic() > give_up:
            raise Failed(f"the system was not idle after {IDLE_S:.0f} s: {json.dumps(state)}")
        await asyncio.sleep(0.3)


def _in_words(result: dict[str, Any]) -> str:
    touches, ms = result["touches"], result["event_to_touch_ms"]
    withheld = (
        ", ".join(f"{count} {reason}" for reason, count in touches["withheld"].items()) or "none"
    )
    lines = [
        f"{result['accepted']} events accepted, {result['counted']} counted, "
        + f"{result['duplicates_sent']} sent twice, {result['dead_letters']} dead letters.",
        f"{result['leads']} leads, {result['transitions']} stage changes, "
        + f"{result['undecided_transitions']} undecided.",
        f"{touches['sent']} touches sent; withheld: {withheld}.",
        f"From event to touch: {ms['p50']} ms (p50), {ms['p95']} ms (p95), {ms['p99']} ms (p99).",
        f"Stage, on simulated people: macro recall {result['stage_accuracy']}, "
        + f"of the best plain points score {result['stage_accuracy_by_points']}.",
    ]
    return "\n".join(lines)


async def _live(rate: float, seed: int, playbook: Path | None) -> int:
    console = Console(highlight=False, soft_wrap=True)
    console.print("Starting PostgreSQL, an in-memory broker, ingest, scorer and nurture …")
    async with _stage(
        FIRST_MINUTE_S, rate, seed, playbook, lambda told: console.print(json.dumps(told))
    ) as stage:
        line = stage.system.line()
        console.print(f"\nThe page:  {line['scorer']}/sign-in?key={line['keys']['query']}")
        console.print(f"Post to:   {line['ingest']}/v1/events   mail lands in {line['mail']}")
        for scope, key in line["keys"].items():
            console.print(f"  {scope:<7} {key}")
        console.print(
            f"\n{len(stage.traffic.people)} people are simulated. "
            "Time is compressed: 60 days pass in the first minute, then it is now.\n"
            "Ctrl-C ends it and leaves nothing behind.\n"
        )
        await _unless_broken(stage, _both(stage.traffic.run(None), _summary(stage, console)))
    return 0


async def _both(*works: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


async def _summary(stage: Stage, console: Console) -> None:
    """A line each second, over itself on a terminal; the first touch gets a line of its own."""
    live = (
        Live(Text(""), console=console, auto_refresh=False, transient=True)
        if console.is_terminal
        else None
    )
    first = True
    with live or nullcontext():
        while True:
            began = time.monotonic()
            touches, leads = await _looked(stage)
            sent = [touch for touch in touches if touch["status"] == "sent"]
            if first and sent:
                first = False
                console.print(
                    f"The first touch went out {time.monotonic() - stage.began:.1f} "
                    "s after the start."
                )
            text = summary(stage, touches, sent, leads)
            if live:
                live.update(Text(text), refresh=True)
            else:
                console.print(text)
            took = time.monotonic() - began
            await asyncio.sleep(max(LOOK_S - took, took * 5))


async def _looked(stage: Stage) -> tuple[list[dict[str, Any]], int]:
    """Touches and the number of leads; nothing while a service is being started again."""
    try:
        return await stage.reader.touches(), await stage.reader.count_leads()
    except (aiohttp.ClientError, TimeoutError):
        return [], 0


def summary(
    stage: Stage, touches: list[dict[str, Any]], sent: list[dict[str, Any]], leads: int
) -> str:
    """The state of things in one line."""
    counts = Counter(touch["status"] for touch in touches)
    day = (stage.clock.now_us() - stage.start_us) / DAY
    pace = f"day {min(day, DAYS):4.1f} of {DAYS:.0f}" if stage.clock.compressed else "now"
    latest = max(sent, key=lambda touch: str(touch["sent_at"]), default=None)
    transitions = len({touch["announcement"] for touch in touches})
    return (
        f"{pace} · {len(stage.traffic.tally.accepted)} events · {leads} leads · "
        f"{transitions} stage changes · "
        f"touches {counts['sent']} sent, {counts['due']} due, {counts['withheld']} withheld"
        + (f" · latest: {latest['content']}" if latest else "")
    )
