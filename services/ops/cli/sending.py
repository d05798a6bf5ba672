"""`ripeline brake`, `lead` and `spool`: what a person decides about sending, or about a lead."""

import json
import uuid
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from services.ops.cli.options import DATES, Json, end, whole_table, with_engine
from services.ops.commands import overrides, spools
from services.ops.commands import rebuild as rebuilding
from services.ops.commands.current import current_settings
from services.shared.playbook.loading import load

brake = typer.Typer(no_args_is_help=True, help="Stop and release all sending, within seconds.")
lead = typer.Typer(no_args_is_help=True, help="What a person decides on one lead.")

spool = typer.Typer(
    no_args_is_help=True,
    help="The ingests for whose spools sending waits, and those that are lost.",
)

LeadId = Annotated[uuid.UUID, typer.Argument(help="The lead's id.")]
Until = Annotated[
    datetime, typer.Option(formats=DATES, help="UTC; after it the decision holds no more.")
]


@brake.command("on")
def brake_on() -> None:
    """Stop all sending.

    Example: ripeline brake on
    """
    with_engine(overrides.stop_sending)
    print("sending is stopped; `ripeline brake off` releases it")


@brake.command("off")
def brake_off() -> None:
    """Release the brake.

    Example: ripeline brake off
    """
    with_engine(overrides.resume_sending)
    print("sending goes on")


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
