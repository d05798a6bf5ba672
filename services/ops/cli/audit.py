"""`ripeline audit`."""

import json
from datetime import datetime
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from services.ops.cli.options import DATES, Json, end, in_utc, whole_table, with_engine
from services.ops.commands import audit as reading
from services.shared.people.audit import ACTIONS
from services.shared.people.audit_log import AuditFilter

Day = Annotated[datetime | None, typer.Option(formats=DATES, help="UTC.")]


def audit(
    actor: Annotated[str, typer.Option(help="A name as the log shows it, or an id.")] = "",
    action: Annotated[str, typer.Option(help=f"One of {', '.join(ACTIONS)}.")] = "",
    subject: Annotated[str, typer.Option(help="As the log shows it, or its kind: lead.")] = "",
    since: Day = None,
    until: Day = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most lines, the newest.")] = 100,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout instead of text.")] = False,
    as_json: Json = False,
) -> None:
    """Show who did what, newest first: answers, notes, holds, pauses, assertions, imports, keys,
    publications, people and the brake. Nothing takes a line out again.

    Example: ripeline audit --action brake --since 2026-11-01
    """
    if action and action not in ACTIONS:
        end(f"no action {action!r}: use one of {', '.join(ACTIONS)}", 2)
    asked = AuditFilter(actor, action, subject, in_utc(since), in_utc(until))
    if as_csv:
        return with_engine(lambda engine: reading.write_csv(engine, asked))
    found = with_engine(lambda engine: reading.read(engine, asked, limit))
    if as_json:
        return print(json.dumps(msgspec.to_builtins(found)))
    table = whole_table("when (UTC)", "who", "what", "to what", "details")
    for line in found:
        details = ", ".join(f"{name}: {value}" for name, value in line.details.items())
        table.add_row(
            line.at[:19].replace("T", " "), line.actor, line.action, line.subject, details
        )
    return Console().print(table)
