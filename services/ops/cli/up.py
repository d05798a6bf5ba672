"""`ripeline up`: the embedded system without traffic, for curl; one JSON line once all is ready."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import typer

from services.ops.cli.options import PlaybookFolder, print_line, say
from services.ops.embedded.spec import SystemSpec
from services.ops.embedded.state import SystemFailed
from services.ops.embedded.system import EmbeddedSystem

NOTE = (
    "Embedded: for trying out. The in-memory broker serves one consumer a group, holds 5 MB a "
    "partition, "
    "and nothing in it outlives this command."
)


def up(
    scorers: Annotated[
        int, typer.Option(help="Scorer processes; more than one needs RIPELINE_KAFKA_BOOTSTRAP.")
    ] = 1,
    nurtures: Annotated[int, typer.Option(help="Nurture processes; likewise.")] = 1,
    nurture: Annotated[
        bool, typer.Option("--nurture/--no-nurture", help="Leave nurture out.")
    ] = True,
    playbook: PlaybookFolder = None,
) -> None:
    """Start the embedded system and keep it running until Ctrl-C or SIGTERM."""
    spec = SystemSpec(scorers, nurtures, nurture, playbook)
    raise typer.Exit(run_until_signal(lambda: _up(spec)))


async def _up(spec: SystemSpec) -> int:
    system = EmbeddedSystem(spec, on_restart=lambda part: print_line(part._asdict()))
    async with system:
        if system.embeds_broker:
            say(NOTE)
        print_line(msgspec.to_builtins(system.info()))
        raise await system.wait_for_failure()


def run_until_signal(command: Callable[[], Awaitable[int]], *, stopped: int = 0) -> int:
    """Runs a command until it ends, or SIGINT or SIGTERM ends it in order; returns its exit code,
    `stopped` after a signal.

    `SystemFailed` becomes a sentence on stderr and its own exit code.
    """
    try:
        return asyncio.run(_until_signal(command, stopped))
    except SystemFailed as failure:
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
    """A second Ctrl-C does not cut the cleaning up short."""
    if isinstance(task, asyncio.Task) and not task.cancelling():
        task.cancel()
