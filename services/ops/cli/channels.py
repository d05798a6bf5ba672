"""`ripeline channel`: channels whose server cannot be used."""

import json
from typing import Annotated

import typer
from rich.console import Console

from services.ops.cli.options import Json, end, whole_table, with_engine
from services.ops.commands import channels

channel = typer.Typer(no_args_is_help=True, help="Channels that are paused, and why.")


@channel.command("list")
def list_channels(as_json: Json = False) -> None:
    """List the channels over which nothing goes out, because their server or endpoint cannot be
    used, and when it is tried again.

    Example: ripeline channel list
    """
    found = with_engine(channels.paused)
    if as_json:
        return print(json.dumps([row._asdict() for row in found]))
    table = whole_table("channel", "why", "since", "tried again")
    for row in found:
        table.add_row(row.channel, row.why, row.since, row.retry_at)
    Console().print(table if found else "no channel is paused")


@channel.command("resume")
def resume(
    name: Annotated[str, typer.Argument(help="As `ripeline channel list` names it.")],
) -> None:
    """Try a channel at once, instead of at its next probe.

    Example: ripeline channel resume webhook
    """
    if not with_engine(lambda engine: channels.resume(engine, name)):
        end(f"{name!r} is not paused: `ripeline channel list` names those that are")
    print(f"{name} is tried at once; if it fails, it is paused again")
