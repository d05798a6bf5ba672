"""`ripeline audience`: lists of people for other tools, by what each has agreed to."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.rules.grounds import Rules
from services.ops.cli.options import Json, PlaybookFolder, end, say, whole_table, with_engine
from services.ops.commands import audiences
from services.ops.commands.current import current_settings
from services.shared.clock import Clock
from services.shared.playbook.loading import load
from services.shared.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="Lists of people for other tools: newsletter, ads, suppression."
)


@app.command("list")
def list_audiences(playbook: PlaybookFolder = None, as_json: Json = False) -> None:
    """List the audiences of the playbook, with the consent that each asks for.

    Example: ripeline audience list
    """
    known = load(playbook or current_settings().playbook).audiences
    if as_json:
        return print(json.dumps([audiences.about(each) for each in known]))
    table = whole_table("audience", "name", "purpose", "consent", "addresses")
    for each in known:
        addresses = "SHA-256" if each.hashed else "plain"
        table.add_row(each.id, each.name, each.purpose, ":".join(each.asks), addresses)
    Console().print(table if known else "the playbook has no `audiences`")


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `audience list` shows it.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout; the default.")] = False,
    as_json: Json = False,
    webhook: Annotated[bool, typer.Option(help="Post it to RIPELINE_WEBHOOK_URL.")] = False,
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
    playbook: PlaybookFolder = None,
) -> None:
    """Write who is in an audience: who has given its consent and fits its filters; of a suppression
    list all who have refused. Everybody who goes out is told of on `nurture.touches`.

    Example: ripeline audience export newsletter --csv --out newsletter.csv
    """
    if as_csv + as_json + webhook > 1:
        end("choose one of --csv, --json and --webhook", 2)
    settings = current_settings()
    rules = Rules.of(load(playbook or settings.playbook), sink=settings.smtp_is_sink)
    done = with_engine(
        lambda engine: _export(engine, settings, rules, name, as_json=as_json, webhook=webhook)
    )
    if webhook:
        return say(f"{len(done.members)} people went out")
    written = json.dumps(done.report()) + "\n" if as_json else done.table()
    if out is None:
        return print(written, end="")
    try:
        out.write_text(written, encoding="utf-8", newline="")
    except OSError as error:
        end(f"{out}: {error.strerror}; name a file in a folder that exists", 2)
    say(f"{out} holds {len(done.members)} people")


async def _export(
    engine: AsyncEngine,
    settings: Settings,
    rules: Rules,
    name: str,
    *,
    as_json: bool,
    webhook: bool,
) -> audiences.Export:
    now = Clock.parse(settings.clock).now()
    done = await audiences.export(engine, settings, rules, audiences.audience_of(rules, name), now)
    if webhook:
        await audiences.post(engine, settings, done)
    else:
        await audiences.publish(engine, done, done.members, "json" if as_json else "csv")
    return done
