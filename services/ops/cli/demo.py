"""`ripeline demo`: simulated people, live until Ctrl-C, or measured with a report."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.ops.cli.options import PlaybookFolder
from services.ops.cli.up import run_until_signal, unexpected
from services.ops.commands.demo import DAYS, Demo, DemoOptions, measure, start, unless_failed
from services.ops.simulation.readback import TouchRow

FIRST_MINUTE_S = 60.0
SUMMARY_S = 1.0  # between two summaries, at least
DEFAULT_RATE, DEFAULT_SEED = 50.0, 7


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
    playbook: PlaybookFolder = None,
) -> None:
    """Nurture simulated people: live on a page until Ctrl-C, or for --seconds with a report.

    Example: ripeline demo --seconds 20 --rate 20 --seed 7 --json
    """
    options = DemoOptions(seconds or FIRST_MINUTE_S, rate, seed, playbook)
    if seconds is None:
        raise typer.Exit(run_until_signal(lambda: _live(options)))
    raise typer.Exit(run_until_signal(lambda: _measured(options, as_json), stopped=130))


async def _measured(options: DemoOptions, as_json: bool) -> int:
    console = Console(stderr=True, highlight=False)
    async with start(options, lambda part: console.print(json.dumps(part._asdict()))) as demo:
        console.print(
            f"{len(demo.traffic.people)} simulated people; "
            f"{DAYS:.0f} days pass in {options.seconds:g} s."
        )
        measured = await measure(demo)
    for sentence in measured.failings:
        print(f"ripeline: {sentence}", file=sys.stderr)
    print(json.dumps(measured.report) if as_json else _in_words(measured.report), flush=True)
    return 1 if measured.failings else 0


def _in_words(report: dict[str, Any]) -> str:
    touches, ms, sales = report["touches"], report["event_to_touch_ms"], report["handoffs"]
    withheld = (
        ", ".join(f"{count} {reason}" for reason, count in touches["withheld"].items()) or "none"
    )
    return "\n".join(
        (
            f"{report['accepted']} events accepted, {report['counted']} counted, "
            f"{report['duplicates_sent']} sent twice, {report['dead_letters']} dead letters.",
            f"{report['leads']} leads, {report['transitions']} stage changes, "
            f"{report['undecided_transitions']} undecided.",
            f"{touches['sent']} touches sent; withheld: {withheld}.",
            f"{sales['opened']} hand-offs to sales: {sales['accepted']} accepted, "
            f"{sales['returned']} given back, {sales['expired']} not answered in time.",
            f"From event to touch: {ms['p50']} ms (p50), {ms['p95']} ms (p95), "
            f"{ms['p99']} ms (p99).",
            f"Stage, on simulated people: macro recall {report['stage_accuracy']}, "
            f"of the best plain points score {report['stage_accuracy_by_points']}.",
        )
    )


async def _live(options: DemoOptions) -> int:
    console = Console(highlight=False, soft_wrap=True)
    console.print("Starting PostgreSQL, an in-memory broker, ingest, scorer and nurture …")
    async with start(options, lambda part: console.print(json.dumps(part._asdict()))) as demo:
        info = demo.system.info()
        for sentence in unexpected(demo.system):
            console.print(sentence)
        console.print(f"\nThe page:  {info.scorer}/sign-in?key={info.keys['query']}")
        console.print(f"Post to:   {info.ingest}/v1/events   mail is kept in {info.mail}")
        for scope, key in info.keys.items():
            console.print(f"  {scope:<7} {key}")
        console.print(
            f"\n{len(demo.traffic.people)} people are simulated. "
            "Time is compressed: 60 days pass in the first minute, then it is now.\n"
            "Ctrl-C ends it and leaves nothing behind.\n"
        )
        work = _together(demo.play(None), _print_summaries(demo, console))
        await unless_failed(demo.system, work)
    return 0


async def _together(*works: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


async def _print_summaries(demo: Demo, console: Console) -> None:
    """A line each second, over itself on a terminal; the first touch gets a line of its own."""
    live = (
        Live(Text(""), console=console, auto_refresh=False, transient=True)
        if console.is_terminal
        else None
    )
    has_sent = False
    with live or nullcontext():
        while True:
            began = time.monotonic()
            touches, leads = await _read(demo)
            if not has_sent and any(touch.status == "sent" for touch in touches):
                has_sent = True
                after = time.monotonic() - demo.started
                console.print(f"The first touch went out {after:.1f} s after the start.")
            text = summary(demo, touches, leads)
            if live:
                live.update(Text(text), refresh=True)
            else:
                console.print(text)
            took = time.monotonic() - began
            await asyncio.sleep(max(SUMMARY_S - took, took * 5))


async def _read(demo: Demo) -> tuple[list[TouchRow], int]:
    """Touches and the number of leads; nothing while a service is being started again."""
    try:
        return await demo.query.touches(), await demo.query.count_leads()
    except (aiohttp.ClientError, TimeoutError):
        return [], 0


def summary(demo: Demo, touches: Sequence[TouchRow], leads: int) -> str:
    """The state of things in one line."""
    counts = Counter(touch.status for touch in touches)
    sent = [touch for touch in touches if touch.status == "sent"]
    latest = max(sent, key=lambda touch: str(touch.sent_at), default=None)
    day = min(demo.run.day(), DAYS)
    time_of = f"day {day:4.1f} of {DAYS:.0f}" if demo.run.clock.compressed else "now"
    return (
        f"{time_of} · {len(demo.client.tally.accepted)} events · {leads} leads · "
        f"{len({touch.announcement for touch in touches})} stage changes · "
        f"touches {counts['sent']} sent, {counts['due']} due, {counts['withheld']} withheld"
        + (f" · latest: {latest.content}" if latest else "")
    )
