"""`ripeline up`: the embedded system without traffic, for curl; once all is ready its addresses and
keys, on a terminal for people, else as one JSON line.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from services.ops.cli.options import PlaybookFolder, print_line, say
from services.ops.embedded.spec import SystemSpec
from services.ops.embedded.state import SystemFailed
from services.ops.embedded.supervision import Restarted
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
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines on a terminal too, as where it is piped.")
    ] = False,
) -> None:
    """Start the embedded system and keep it running until Ctrl-C or SIGTERM.

    Example: ripeline up --playbook my-playbook
    """
    spec = SystemSpec(scorers, nurtures, nurture, playbook)
    as_json = as_json or not sys.stdout.isatty()
    raise typer.Exit(run_until_signal(lambda: _up(spec, as_json=as_json)))


async def _up(spec: SystemSpec, *, as_json: bool) -> int:
    def on_restart(part: Restarted) -> None:
        if as_json:
            return print_line(part._asdict())
        return say(f"{part.service} died and was started again (pid {part.pid})")

    if not as_json:
        say("Starting PostgreSQL, an in-memory broker, ingest, scorer and nurture …")
    async with EmbeddedSystem(spec, on_restart=on_restart) as system:
        if system.embeds_broker:
            say(NOTE)
        for sentence in unexpected(system):
            say(sentence)
        if as_json:
            print_line(line_of(system))
        else:
            print(in_words(system), flush=True)
        raise await system.wait_for_failure()


def line_of(system: EmbeddedSystem) -> dict[str, Any]:
    """What curl needs to know; ports that others hold only where there are any."""
    taken = {"taken": system.taken_ports} if system.taken_ports else {}
    return {**msgspec.to_builtins(system.info()), **taken}


def unexpected(system: EmbeddedSystem) -> list[str]:
    """What is otherwise than people expect: ports that others hold, links that lead elsewhere."""
    info = system.info()
    found = [
        f"port {port} is taken by another program: {service} is at {getattr(info, service)} instead"
        for service, port in system.taken_ports.items()
    ]
    real, public = urlsplit(info.ingest), urlsplit(system.public_url)
    if public.hostname in ("127.0.0.1", "localhost") and public.port != real.port:
        found.append(
            f"links in mails lead to {system.public_url} (RIPELINE_PUBLIC_URL), but ingest is at "
            f"{info.ingest}"
        )
    return found


def in_words(system: EmbeddedSystem) -> str:
    """Addresses and keys for people, and lines to be pasted."""
    info = system.info()
    ingest, scorer, keys = info.ingest, info.scorer, info.keys
    return f"""
Ripeline runs. Ctrl-C ends it and leaves nothing behind.

The page:  {scorer}/sign-in?key={keys["query"]}
Post to:   {ingest}/v1/events
Import:    {ingest}/import
Mails:     {info.mail}/

In another terminal:

export SECRET={keys["secret"]} PUBLIC={keys["public"]} QUERY={keys["query"]}
curl -s {ingest}/v1/events -H "Authorization: Bearer $SECRET" \\
  -H 'Content-Type: application/json' -d '{{"type": "demo_requested", "email": "ada@acme.example"}}'
curl -s {scorer}/v1/leads -H "Authorization: Bearer $QUERY"
"""


def run_until_signal(command: Callable[[], Awaitable[int]], *, stopped: int = 0) -> int:
    """Runs a command until it ends, or SIGINT, SIGTERM or the end of its terminal (SIGHUP) ends it
    in order; returns its exit code, `stopped` after a signal.

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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _cancel_once, task)
    try:
        return await task
    except asyncio.CancelledError:
        return stopped


def _cancel_once(task: "asyncio.Future[int]") -> None:
    """A second Ctrl-C does not cut the cleaning up short."""
    if isinstance(task, asyncio.Task) and not task.cancelling():
        task.cancel()
