"""`ripeline content`: what the library covers, and what might come into it."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture import previews
from services.nurture.library import ContentLibrary
from services.ops.cli.options import Json, PlaybookFolder, end, say, whole_table, with_engine
from services.ops.commands import content_import
from services.ops.commands.content import report
from services.ops.commands.current import current_settings
from services.shared.clock import Clock
from services.shared.people.audit import command_line
from services.shared.playbook.loading import load

app = typer.Typer(help="The library: its matrix, its gaps, and what might come into it.")


@app.callback(invoke_without_command=True)
def matrix(context: typer.Context, playbook: PlaybookFolder = None, as_json: Json = False) -> None:
    """Show the library by stage, persona and topic, with its gaps, what is too much, what ends
    within 14 days, and which readers will have had everything by then.

    Example: ripeline content --json
    """
    if context.invoked_subcommand:
        return None
    settings = current_settings()
    found = asyncio.run(report(settings, load(playbook or settings.playbook), datetime.now(UTC)))
    if as_json:
        return print(json.dumps(found))
    table = whole_table("stage", "persona", "items", "topics")
    for stage in found["stages"]:
        for persona in found["personas"]:
            cells = [c for c in found["cells"] if (c["stage"], c["persona"]) == (stage, persona)]
            counts = {cell["topic"]: len(cell["items"]) for cell in cells if cell["items"]}
            topics = ", ".join(f"{topic} {count}" for topic, count in counts.items())
            table.add_row(stage, persona, str(sum(counts.values())), topics or "none")
    Console().print(table)
    for gap in found["gaps"]:
        print(f"gap: {gap['stage']}, {gap['persona']}: {gap['why']}")
    for over in found["overload"]:
        print(f"overload: {over['stage']}, {over['persona']}: {over['why']}")
    for ending in found["ending"]:
        print(f"ends: {ending['item']}: valid until {ending['valid_until']}")
    for segment in found["exhausted"] or []:
        print(f"exhausted: {segment['says']}")
    if found["exhausted"] is None:
        say("no system answers: which readers will have had everything is not known")


@app.command("import")
def import_(
    place: Annotated[
        str, typer.Argument(metavar="SITEMAP|CSV", help="A file or URL; may be .gz or an index.")
    ],
    out: Annotated[Path | None, typer.Option(help="A new file for the YAML.")] = None,
    playbook: PlaybookFolder = None,
    limit: Annotated[
        int, typer.Option(min=1, max=content_import.MOST, help="Most pages.")
    ] = content_import.MOST,
    as_json: Json = False,
) -> None:
    """Propose stage, persona and topic for what you have, by words in paths and titles, each with
    its reason.

    The result is YAML of drafts, to be confirmed; nothing of it goes live by itself. A table has a
    column `url`, and may have `title`, `language`, `stage`, `persona` and `topic`.

    Example: ripeline content import https://www.example.com/sitemap.xml --out proposals.yaml
    """
    settings = current_settings()
    known = load(playbook or settings.playbook)
    found = asyncio.run(content_import.propose(place, known, settings, limit))
    if out:
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(content_import.as_yaml(found, place))
        except OSError as error:
            end(f"{out}: {error.strerror}; name a new file in a folder that exists", 2)
        say(f"{out} holds {len(found.items)} drafts; {len(found.left_out)} pages were left out")
    if as_json:
        return print(json.dumps(found.report()))
    if not out:
        print(content_import.as_yaml(found, place), end="")


Item = Annotated[str, typer.Argument(metavar="ITEM", help="The item's id.")]
Product = Annotated[str, typer.Option(help="Of which product the lead is taken; its first.")]


@app.command()
def preview(
    item: Item,
    lead: Annotated[uuid.UUID, typer.Option(help="The lead who would get it.")],
    product: Product = "",
    out: Annotated[Path | None, typer.Option(help="A file for the HTML.")] = None,
    playbook: PlaybookFolder = None,
    as_json: Json = False,
) -> None:
    """Show an item as one lead would get it, with plain links; nothing is sent or recorded.

    Example: ripeline content preview case-study-bottling --lead LEAD --out mail.html
    """
    known = load(playbook or current_settings().playbook)
    shown = with_engine(lambda e: previews.preview(e, known, item, lead, product))
    if out:
        try:
            out.write_text(shown.html, encoding="utf-8")
        except OSError as error:
            end(f"{out}: {error.strerror}; name a file in a folder that exists", 2)
        say(f"{out} holds the mail")
    if as_json:
        return print(json.dumps(shown.report()))
    if not out:
        print(f"Subject: {shown.subject}\n\n{shown.text}")


@app.command("send-test")
def send_test(
    item: Item,
    to: Annotated[str, typer.Option(help="Who gets the test: you.")],
    as_lead: Annotated[uuid.UUID, typer.Option("--as", help="The lead as whom it is rendered.")],
    product: Product = "",
    playbook: PlaybookFolder = None,
) -> None:
    """Send an item to yourself as one lead would get it, marked as a test.

    Its links are plain: no click counts, and nothing goes to the lead or is recorded of it.

    Example: ripeline content send-test case-study-bottling --to me@example.com --as LEAD
    """
    settings = current_settings()
    known = load(playbook or settings.playbook)

    async def send(engine: AsyncEngine) -> None:
        library = ContentLibrary(settings, engine, known, Clock.parse(settings.clock))
        await library.send_test(item, as_lead, product, to, command_line())

    with_engine(send)
    print(f"sent to {to}")
