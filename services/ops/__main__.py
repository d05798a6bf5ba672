"""`ripeline`: the command line."""

import asyncio
import json
import os
import sys
import uuid
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import text

from services.ops.commands import importing
from services.ops.commands.keys_command import command as keys_command
from services.ops.commands.provision import provision as make_ready
from services.ops.commands.reviews import open_reviews
from services.ops.commands.sources_command import command as sources_command
from services.ops.commands.status import read
from services.ops.commands.verify import verify as compare
from services.ops.embedded.state import found
from services.scorer.model.stage_filter import StageModel
from services.shared.db import is_transient, open_engine
from services.shared.errors import Reject, Retry
from services.shared.playbook.loading import InvalidFile, load
from services.shared.settings import ROOT, Settings
from services.shared.telemetry import configure_logs

app = typer.Typer(
    name="ripeline",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ripeline turns warm leads into sales-ready ones. Begin with `ripeline demo`; see "
    "`COMMAND --help`.",
)
playbook_app = typer.Typer(
    no_args_is_help=True, help="The playbook: what the company decided about its leads."
)
brake_app = typer.Typer(no_args_is_help=True, help="Stop and release all sending, within seconds.")
lead_app = typer.Typer(no_args_is_help=True, help="A person's word on one lead, until a date.")
app.add_typer(playbook_app, name="playbook")
app.add_typer(brake_app, name="brake")
app.add_typer(lead_app, name="lead")
# production images hold no embedded parts
if find_spec("aiosmtpd") and find_spec("confluent_kafka"):
    from services.ops.commands import demo, up

    up.register(app)
    demo.register(app)
console = Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of a table.")]


def current() -> Settings:
    """The settings of the system that runs for this user, unless the environment names another
    database; else its own.
    """
    state, named = found(), os.environ.get("RIPELINE_DATABASE_URL")
    if state and named and named != state["environ"].get("RIPELINE_DATABASE_URL"):
        state = None
    return Settings.of((state or {}).get("environ", {}))


app.add_typer(sources_command(current), name="sources")
app.add_typer(keys_command(current), name="keys")
importing.register(app, current)


@app.command()
def settings(as_json: Json = False) -> None:
    """List every setting with its variable, value and meaning."""
    held = current()
    rows = [
        {
            "variable": f"RIPELINE_{name.upper()}",
            "secret_file": f"/run/secrets/ripeline_{name}",
            "value": str(getattr(held, name)),
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


@app.command()
def provision(as_json: Json = False) -> None:
    """Migrate the database, create topics and keys. May run twice."""
    held = Settings()
    done = asyncio.run(make_ready(held))
    if as_json:
        return print(json.dumps(done))
    print(f"database migrated; topics created: {', '.join(done['topics']) or 'none missing'}")
    for scope, key in done["keys"].items():
        print(f"new {scope} key, shown this once: {key}")


@app.command()
def status(as_json: Json = False) -> None:
    """What is left to do: lag, outbox, due, undecided, spool, dead letters."""
    try:
        state = asyncio.run(read(current()))
    except Exception as error:
        if isinstance(error, Retry) or is_transient(error):
            _end(f"nothing answers ({error or type(error).__name__}); start it with `ripeline up`")
        raise
    if as_json:
        return print(json.dumps(state))
    table = Table("what", "now")
    for name, value in state.items():
        table.add_row(name, json.dumps(value))
    Console().print(table)


@app.command()
def verify(as_json: Json = False) -> None:
    """Fold every lead again from its events and compare with what is stored; exit code 1 on a
    mismatch.
    """
    with Progress(console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("leads folded again", total=None)
        result = asyncio.run(compare(current(), lambda n: progress.advance(task, n)))
    if as_json:
        print(json.dumps(result))
    else:
        print(f"{result['leads']} leads, {len(result['mismatches'])} mismatches")
        for one in result["mismatches"][:20]:
            print(f"  {one['lead']}: {one['what']}")
    raise typer.Exit(1 if result["mismatches"] else 0)


@app.command()
def reviews(as_json: Json = False) -> None:
    """List addresses and external ids that were linked to several users: a person should say who is
    who.

    The answer is an event of the type `identity_reviewed` with `user_id`, and `other_user_id` and
    `verdict` (same or different) among its properties.
    """
    found = asyncio.run(open_reviews(current()))
    if as_json:
        return print(json.dumps(found))
    table = Table("identifier", "users")
    for one in found:
        table.add_row(one["identifier"].replace("\t", " "), ", ".join(one["users"]))
    Console().print(table)


@playbook_app.command("check")
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of the playbook.")] = ROOT
    / "deploy"
    / "playbook",
    as_json: Json = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write the model's eigenbasis into model.json.")
    ] = False,
) -> None:
    """Validate a playbook: every problem with file, line and remedy; exit code 1 where there is
    one.
    """
    try:
        playbook = load(folder)
    except InvalidFile as broken:
        if as_json:
            print(json.dumps({"problems": [vars(one) for one in broken.problems]}))
        else:
            for one in broken.problems:
                print(one)
        raise typer.Exit(1) from None
    model = StageModel(playbook.model)
    if write and (held := model.held_eigenbasis()):
        file = folder / "model.json"
        body = json.loads(file.read_text()) | {"eigenbasis": held.model_dump()}
        file.write_text(json.dumps(body, indent=1) + "\n")
    basis = playbook.model.eigenbasis
    stale = (
        model.basis is not None
        and (basis is None or basis.of != playbook.model.parameters_hash)
        and not write
    )
    if as_json:
        return print(
            json.dumps(
                {"problems": [], "content": len(playbook.content), "fold_hash": playbook.fold_hash}
            )
        )
    print(
        f"{folder.name}: {len(playbook.content)} items, {len(playbook.programs)} programs, "
        "no problems"
    )
    if stale:
        print(
            "model.json holds no eigenbasis of its parameters: run with --write, so that two "
            "machines agree bit for bit"
        )


@brake_app.command("on")
def brake_on() -> None:
    """Stop all sending."""
    asyncio.run(_execute("INSERT INTO nurture.brake (held) VALUES (true) ON CONFLICT DO NOTHING"))
    print("sending is stopped; `ripeline brake off` releases it")


@brake_app.command("off")
def brake_off() -> None:
    """Release the brake."""
    asyncio.run(_execute("DELETE FROM nurture.brake"))
    print("sending goes on")


Until = Annotated[
    datetime,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="UTC; after it the word is void."
    ),
]


@lead_app.command("pause")
def pause(lead: Annotated[uuid.UUID, typer.Argument(help="The lead's id.")], until: Until) -> None:
    """Send this lead nothing but what it asks for."""
    _override(lead, until, paused=True, stage="")
    print(f"paused until {until:%Y-%m-%d %H:%M} UTC; `ripeline lead release {lead}` takes it back")


@lead_app.command("assert")
def assert_stage(
    lead: Annotated[uuid.UUID, typer.Argument(help="The lead's id.")],
    stage: Annotated[str, typer.Argument(help="The buying stage that a person knows it to be in.")],
    until: Until,
) -> None:
    """Nurture takes this stage for the lead's, whatever the estimate says; the estimate itself
    stays honest.
    """
    stages = load(current().playbook).stages
    if stage not in stages:
        _end(f"no stage {stage!r}: use one of {', '.join(stages)}", 2)
    _override(lead, until, paused=False, stage=stage)
    print(f"{stage} until {until:%Y-%m-%d %H:%M} UTC; `ripeline lead release {lead}` takes it back")


@lead_app.command("release")
def release(lead: Annotated[uuid.UUID, typer.Argument(help="The lead's id.")]) -> None:
    """Take back what was said of a lead."""
    asyncio.run(_execute("DELETE FROM nurture.override WHERE lead_id = :lead", lead=lead))
    print("released")


def _override(lead: uuid.UUID, until: datetime, *, paused: bool, stage: str) -> None:
    statement = (
        "INSERT INTO nurture.override VALUES (coalesce((SELECT into_lead FROM nurture.merged "
        "WHERE lead_id = :lead), :lead), "
        ":stage, :paused, :until) ON CONFLICT (lead_id) DO UPDATE SET stage = CASE WHEN "
        "excluded.paused THEN override.stage "
        "ELSE excluded.stage END, paused = override.paused OR excluded.paused, until = "
        "excluded.until"
    )
    asyncio.run(
        _execute(statement, lead=lead, stage=stage, paused=paused, until=until.replace(tzinfo=UTC))
    )


async def _execute(statement: str, **values: Any) -> None:
    engine = open_engine(current())
    try:
        async with engine.begin() as connection:
            await connection.execute(text(statement), values)
    finally:
        await engine.dispose()


def _end(sentence: str, code: int = 1) -> None:
    console.print(sentence)
    raise typer.Exit(code)


def main() -> None:
    """The console script: errors that people can mend come as sentences."""
    configure_logs("ops", "warning")
    try:
        app()
    except ValidationError as error:
        problems = "; ".join(
            f"RIPELINE_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()
        )
        sys.exit(f"a setting is wrong: {problems}")
    except (Reject, InvalidFile) as error:
        sys.exit(str(error))
    except Exception as error:
        if is_transient(error):
            sys.exit(
                f"the database does not answer: {type(error).__name__}; is it running, "
                "and is RIPELINE_DATABASE_URL right?"
            )
        raise


if __name__ == "__main__":
    main()
