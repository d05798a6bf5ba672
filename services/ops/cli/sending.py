"""`ripeline nurture`, `brake`, `lead` and `spool`: what a person decides about sending, or about a
lead.
"""

import json
import uuid
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from services.ops.cli.options import DATES, Json, end, whole_table, with_engine
from services.ops.commands import held, overrides, spools
from services.ops.commands import rebuild as rebuilding
from services.ops.commands.current import current_settings
from services.ops.commands.held import Held
from services.shared.clock import Clock
from services.shared.playbook.loading import load

nurture = typer.Typer(
    no_args_is_help=True, help="Stop all sending within seconds, let it go on, see what is held."
)
brake = typer.Typer(no_args_is_help=True, help="The same as `ripeline nurture stop` and `start`.")
lead = typer.Typer(
    no_args_is_help=True, help="One lead: why it stands where it does, and what a person decides."
)

spool = typer.Typer(
    no_args_is_help=True,
    help="The ingests for whose spools sending waits, and those that are lost.",
)

LeadId = Annotated[uuid.UUID, typer.Argument(help="The lead's id.")]
Until = Annotated[
    datetime, typer.Option(formats=DATES, help="UTC; after it the decision holds no more.")
]


@nurture.command("stop")
def stop(as_json: Json = False) -> None:
    """Stop all sending, and say what is held. Decisions go on.

    Example: ripeline nurture stop
    """
    _say_held(with_engine(lambda engine: held.stop(engine, _clock())), as_json=as_json)


@nurture.command("start")
def start(as_json: Json = False) -> None:
    """Let sending go on: what is held goes out where it is still right.

    Example: ripeline nurture start
    """
    _say_held(with_engine(lambda engine: held.start(engine, _clock())), as_json=as_json)


@brake.command("on")
def brake_on(as_json: Json = False) -> None:
    """The same as `ripeline nurture stop`.

    Example: ripeline brake on
    """
    stop(as_json)


@brake.command("off")
def brake_off(as_json: Json = False) -> None:
    """The same as `ripeline nurture start`.

    Example: ripeline brake off
    """
    start(as_json)


@nurture.command("status")
def sending_status(as_json: Json = False) -> None:
    """Whether sending is stopped, and what waits to be sent, by channel and program.

    Example: ripeline nurture status --json
    """
    _say_held(with_engine(lambda engine: held.read(engine, _clock())), as_json=as_json)


@nurture.command("release")
def release_receiver(
    receiver: Annotated[str, typer.Argument(help="As `ripeline status` names it.")],
) -> None:
    """Let mails go to a receiver again that complaints, or its answers, have stopped. Its
    complaints count from this moment on.

    Example: ripeline nurture release google
    """
    now = _clock().now()
    if not with_engine(lambda engine: overrides.release_receiver(engine, receiver, now)):
        end(f"no receiver {receiver!r} has anything against our mails: see `ripeline status`")
    print(f"mails go to {receiver} again")


def _clock() -> Clock:
    return Clock.parse(current_settings().clock)


def _say_held(state: Held, *, as_json: bool) -> None:
    if as_json:
        waiting = [row._asdict() for row in state.waiting]
        return print(json.dumps(state._asdict() | {"waiting": waiting}))
    if state.stopped:
        print("sending is stopped; `ripeline nurture start` lets it go on")
    else:
        print("sending goes on; `ripeline nurture stop` stops it")
    if state.on_the_wire:
        print(f"{state.on_the_wire} touches are still on the wire")
    print(f"{state.held} touches are held, {state.planned} are planned for later")
    if state.waiting:
        table = whole_table("program", "channel", "held", "planned")
        for row in state.waiting:
            table.add_row(row.program, row.channel, str(row.held), str(row.planned))
        Console().print(table)


@lead.command("pause")
def pause(lead: LeadId, until: Until) -> None:
    """Send this lead nothing but what it asks for.

    Example: ripeline lead pause LEAD --until 2026-12-31
    """
    with_engine(lambda engine: overrides.pause_lead(engine, lead, until.replace(tzinfo=UTC)))
    print(f"paused until {until:%Y-%m-%d %H:%M} UTC; `ripeline lead release {lead}` takes it back")


@lead.command("assert")
def assert_stage(
    lead: LeadId,
    stage: Annotated[str, typer.Argument(help="The buying stage that a person knows it to be in.")],
    until: Until,
) -> None:
    """Nurture takes this stage for the lead's, whatever the estimate says; the estimate itself
    stays honest.

    Example: ripeline lead assert LEAD decision --until 2026-12-31
    """
    stages = load(current_settings().playbook).stages
    if stage not in stages:
        end(f"no stage {stage!r}: use one of {', '.join(stages)}", 2)
    utc = until.replace(tzinfo=UTC)
    with_engine(lambda engine: overrides.assert_stage(engine, lead, stage, utc))
    print(f"{stage} until {until:%Y-%m-%d %H:%M} UTC; `ripeline lead release {lead}` takes it back")


@lead.command("rebuild")
def rebuild(
    leads: Annotated[
        list[uuid.UUID] | None, typer.Argument(help="Leads' ids; all that fail where none is.")
    ] = None,
) -> None:
    """Have the scorer make leads again from their stored events, within seconds.

    Example: ripeline lead rebuild
    """
    count = with_engine(lambda engine: rebuilding.rebuild(engine, leads or []))
    if leads and count < len(set(leads)):
        end(f"{len(set(leads)) - count} of these are no leads, or were merged into others")
    print(f"{count} leads are made again; `ripeline status` says how many still fail")


@lead.command("release")
def release(lead: LeadId) -> None:
    """Take back a pause or a stage of a lead.

    Example: ripeline lead release LEAD
    """
    with_engine(lambda engine: overrides.release_lead(engine, lead))
    print("released")


@spool.command("list")
def list_spools(as_json: Json = False) -> None:
    """List every ingest with its spool: when it was last seen, and whether sending waits for it.

    Example: ripeline spool list
    """
    found = with_engine(spools.every)
    if as_json:
        return print(json.dumps([row._asdict() for row in found]))
    table = whole_table("ingest", "last seen", "holds records", "sending waits")
    for row in found:
        table.add_row(row.instance, row.last_seen, str(row.spooled), row.reason or "no")
    Console().print(table)


@spool.command("forget")
def forget(
    instance: Annotated[str, typer.Argument(help="The ingest, as `ripeline spool list` names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Sending waits no longer for an ingest that is lost. Refusals that lie in its spool are
    overtaken: do this only where its folder cannot be brought back.

    Example: ripeline spool forget ingest-2
    """
    if not yes:
        typer.confirm(
            f"Refusals in the spool of {instance} will not stop mails to those who refused. "
            "Is its folder lost for good?",
            abort=True,
        )
    if not with_engine(lambda engine: spools.forget(engine, instance)):
        end(f"no ingest {instance!r}: `ripeline spool list` names them")
    print(f"{instance} is forgotten; an ingest that comes back with its folder is known again")
