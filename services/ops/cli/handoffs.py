"""`ripeline handoffs`: what sales was handed over, and its answers."""

import json
import uuid
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from services.ops.cli.options import Json, end, whole_table, with_engine
from services.ops.commands.current import current_settings
from services.ops.commands.handoffs import WORDS, found
from services.ops.commands.handoffs import answer as answered
from services.scorer.handoffs.answers import Details

STATUSES = ("next", "open", "accepted", "rejected", "disqualified", "returned", "expired", "all")
app = typer.Typer(help="Hand-offs to sales: list and answer them.", no_args_is_help=True)


@app.command("list")
def list_handoffs(
    status: Annotated[str, typer.Option(help=f"One of {', '.join(STATUSES)}.")] = "open",
    owner: Annotated[str, typer.Option(help="Mail address of the owner.")] = "",
    as_json: Json = False,
) -> None:
    """List hand-offs, the oldest first.

    Example: ripeline handoffs list --status open --owner ana@example.com
    """
    if status not in STATUSES:
        end(f"no status {status!r}: use one of {', '.join(STATUSES)}")
    asked, settings = "" if status == "all" else status, current_settings()
    handoffs = with_engine(lambda engine: found(engine, settings, asked, owner))
    if as_json:
        print(json.dumps([msgspec.to_builtins(each) for each in handoffs]))
        return
    if not handoffs:
        print("nobody waits for sales")
        return
    table = whole_table("id", "hand-off")
    for each in handoffs:
        owner = f", {each.owner}" if each.owner else ""
        clock = f", respond by {each.respond_by[:16].replace('T', ' ')}" if each.respond_by else ""
        what = f"{each.kind.replace('_', ' ')}, {each.status}{owner}{clock}"
        table.add_row(each.id, "\n".join([what, *each.reasons]))
        table.add_section()
    Console().print(table)


@app.command("answer")
def answer(
    handoff: Annotated[uuid.UUID, typer.Argument(help="The hand-off's id.")],
    word: Annotated[str, typer.Argument(metavar="ANSWER", help=f"One of {', '.join(WORDS)}.")],
    by: Annotated[str, typer.Option(help="Who says it.")] = "",
    reason: Annotated[str, typer.Option(help="One of the playbook's reasons.")] = "",
    until: Annotated[str, typer.Option(help="A day, such as 2027-03-01.")] = "",
    note: Annotated[str, typer.Option(help="What else is to be known.")] = "",
    as_json: Json = False,
) -> None:
    """Answer a hand-off; the same answer again changes nothing.

    Example: ripeline handoffs answer ID return --reason bad_timing --until 2027-03-01
    """
    settings, details = current_settings(), Details(by, reason, until, note)
    shown = with_engine(lambda engine: answered(engine, settings, handoff, word, details))
    if as_json:
        print(json.dumps(msgspec.to_builtins(shown)))
        return
    print(
        f"{shown.id}: {shown.status}" + (f", again on {shown.again_on}" if shown.again_on else "")
    )
