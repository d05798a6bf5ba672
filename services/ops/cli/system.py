"""`ripeline settings`, `provision`, `status`, `gaps`, `verify` and `reviews`: the whole system at
once.
"""

import asyncio
import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from services.ops.cli.options import Json, end, with_engine
from services.ops.commands import gaps as lost_records
from services.ops.commands import provision as provisioning
from services.ops.commands import reviews as identity_reviews
from services.ops.commands import status as system_status
from services.ops.commands import verify as verification
from services.ops.commands.current import current_address, current_settings
from services.shared.db import is_away
from services.shared.errors import Retry
from services.shared.settings import Settings


def settings(as_json: Json = False) -> None:
    """List every setting with its variable, value and meaning."""
    current = current_settings()
    rows = [
        {
            "variable": f"RIPELINE_{name.upper()}",
            "secret_file": f"/run/secrets/ripeline_{name}",
            "value": str(getattr(current, name)),
            "meaning": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        return print(json.dumps(rows))
    table = Table("variable", "value", "meaning")
    for row in rows:
        table.add_row(row["variable"], row["value"], row["meaning"])
    Console().print(table)


def provision(as_json: Json = False) -> None:
    """Migrate the database, create topics and keys. May run twice."""
    done = asyncio.run(provisioning.provision(Settings.read()))
    if as_json:
        return print(json.dumps(done._asdict()))
    print(f"database migrated; topics created: {', '.join(done.topics) or 'none missing'}")
    for scope, key in done.keys.items():
        print(f"new {scope} key, shown this once: {key}")


def status(as_json: Json = False) -> None:
    """What is left to do: lag, outbox, due, undecided, spool, dead letters, gaps."""
    try:
        state = asyncio.run(system_status.read(current_settings()))
    except Exception as error:
        if isinstance(error, Retry) or is_away(error):
            end(f"nothing answers ({error or type(error).__name__}); start it with `ripeline up`")
        raise
    if as_json:
        return print(json.dumps(state._asdict() | {"system": current_address()}))
    table = Table("what", "now")
    for name, value in state._asdict().items():
        table.add_row(name, json.dumps(value))
    Console().print(table)


def gaps(
    accept: Annotated[
        bool, typer.Option("--accept", help="Answer for them: sending and `idle` go on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List records that the broker no longer had when they were to be read: deleted after its
    retention, or gone with a topic that was created again (then there may have been more).

    While consents are among them nothing is sent, as refusals may be lost.
    """
    found = with_engine(lost_records.open_gaps)
    if accept:
        with_engine(lambda engine: lost_records.accept_gaps(engine, found))
    if as_json:
        return print(json.dumps([gap._asdict() for gap in found], default=str))
    table = Table(*lost_records.OpenGap._fields)
    for gap in found:
        table.add_row(*map(str, gap))
    Console().print(table)


def verify(as_json: Json = False) -> None:
    """Fold every lead again from its events and compare with what is stored; exit code 1 on a
    mismatch.
    """
    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("leads folded again", total=None)
        result = asyncio.run(
            verification.verify(current_settings(), lambda n: progress.advance(task, n))
        )
    if as_json:
        mismatches = [mismatch._asdict() for mismatch in result.mismatches]
        print(json.dumps({"leads": result.leads, "mismatches": mismatches}))
    else:
        print(f"{result.leads} leads, {len(result.mismatches)} mismatches")
        for mismatch in result.mismatches[:20]:
            print(f"  {mismatch.lead}: {mismatch.what}")
    raise typer.Exit(1 if result.mismatches else 0)


def reviews(as_json: Json = False) -> None:
    """List addresses and external ids that were linked to several users: a person should say who is
    who.

    The answer is an event of the type `identity_reviewed` with `user_id`, and `other_user_id` and
    `verdict` (same or different) among its properties.
    """
    found = asyncio.run(identity_reviews.open_reviews(current_settings()))
    if as_json:
        return print(json.dumps([review._asdict() for review in found]))
    table = Table("identifier", "users")
    for review in found:
        table.add_row(review.identifier.replace("\t", " "), ", ".join(review.users))
    Console().print(table)
