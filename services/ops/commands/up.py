"""`ripeline up`: the embedded system without traffic, for curl; one JSON line once all is ready."""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from services.ops.embedded.state import Failed
from services.ops.embedded.system import Embedded, Wish

NOTE = (
    "Embedded: for trying out. The in-memory broker serves one consumer a group, holds 5 MB a "
    "partition, "
    "and nothing in it outlives this command."
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(up)


def up(
    scorers: Annotated[
        int, typer.Option(help="Scorer processes; more than one needs RIPELINE_KAFKA_BOOTSTRAP.")
    ] = 1,
    nurtures: Annotated[int, typer.Option(help="Nurture processes; likewise.")] = 1,
    nurture: Annotated[
        bool, typer.Option("--nurture/--no-nurture", help="Leave nurture out.")
    ] = True,
    playbook: Annotated[
        Path | None, typer.Option(help="Folder of the playbook.", exists=True, file_okay=False)
    ] = None,
) -> None:
    """Start the embedded system and keep it running until Ctrl-C or SIGTERM."""
    wish = Wish(scorers, nurtures, nurture, playbook)
    raise typer.Exit(serve(lambda: _up(wish)))


async def _up(wish: Wish) -> int:
    async with Embedded(wish, tell=say) as system:
        if system.embeds_broker:
            print(NOTE, file=sys.stderr, flush=True)
        say(system.line())
        await system.broken.wait()
        raise Failed(system.reason)


def say(what: dict[str, Any]) -> None:
    """One JSON object on a line of stdout, at once."""
    print(json.dumps(what), flush=True)


def serve(command: Callable[[], Awaitable[int]], *, stopped: int = 0) -> int:
    """Runs a command until it ends, or SIGINT or SIGTERM ends it in order; returns the exit code.

    `Failed` is told on stderr: code 2 for what cannot be had, 1 for what broke.
    """
    try:
        return asyncio.run(_until_signal(command, stopped))
    except Failed as failure:
        print(f"ripeline: {failure}", file=sys.stderr, flush=True)
        return failure.code


async def _until_signal(command: Callable[[], Awaitable[int]], stopped: int) -> int:
    task = asyncio.ensure_future(command())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _cancel_once, task)
    try:
        return await task
    except asyncio.CancelledError:
        return stopped


def _cancel_once(task: "asyncio.Future[int]") -> None:
    """A second Ctrl-C does not cut the tidying short."""
    if isinstance(task, asyncio.Task) and not task.cancelling():
        task.cancel()
