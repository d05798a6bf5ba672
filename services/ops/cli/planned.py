"""`ripeline planned`: what goes out in the next days, and what a person decides about it."""

import getpass
import json
import uuid
from typing import Annotated, Literal

import typer
from rich.console import Console

from services.nurture.planned import DAYS
from services.nurture.planned_api import PlannedResponse
from services.nurture.store.planned import Action, Filter
from services.ops.cli.options import Json, PlaybookFolder, end, whole_table, with_engine
from services.ops.commands.current import current_settings
from services.ops.commands.planned import every, planned_touches
from services.shared.people.audit import command_line

app = typer.Typer(
    help="What goes out in the next days, and what you decide about it: hold, send, skip."
)
Touch = Annotated[uuid.UUID, typer.Argument(help="As `ripeline planned` lists it.")]
By = Annotated[str, typer.Option(help="Who decides; you by default.")]
Why = Annotated[str, typer.Option(help="Why; it is kept and shown.")]
State = Literal["planned", "held", "send-now", "skipped", ""]


@app.callback(invoke_without_command=True)
def listed(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, max=31, help="How far to look.")] = DAYS,
    lead: Annotated[uuid.UUID | None, typer.Option(help="Of one lead.")] = None,
    program: Annotated[str, typer.Option(help="Of one program.")] = "",
    channel: Annotated[str, typer.Option(help="email, webhook or call.")] = "",
    state: Annotated[State, typer.Option(help="In one state.")] = "",
    playbook: PlaybookFolder = None,
    as_json: Json = False,
) -> None:
    """Show what goes out in the next seven days, the earliest first, and all that is held.

    Example: ripeline planned --json
    """
    if context.invoked_subcommand:
        return None
    wanted = Filter(lead, program, channel, state)
    settings = current_settings()
    upcoming = with_engine(
        lambda engine: every(planned_touches(engine, settings, playbook), wanted, days)
    )
    found = [PlannedResponse.of(one) for one in upcoming]
    if as_json:
        return print(json.dumps({"planned": [one.model_dump() for one in found]}))
    if not found:
        return print(f"nothing is planned for the next {days} days")
    table = whole_table("id", "touch")
    for one in found:
        against = one.against and f"against it: {one.against}"
        when = f"{one.due_at or 'no moment'}: {one.channel} to {one.email or one.lead}"
        what = f"{one.title} ({one.program}), {one.state}"
        table.add_row(one.id, "\n".join(filter(None, (when, what, against, one.why))))
        table.add_section()
    Console().print(table)


@app.command()
def hold(touch: Touch, by: By = "", reason: Why = "", as_json: Json = False) -> None:
    """Do not send a touch until it is released.

    Example: ripeline planned hold TOUCH --reason "the case study is being rewritten"
    """
    _decide(touch, "hold", by, reason, as_json=as_json)


@app.command()
def release(touch: Touch, by: By = "", reason: Why = "", as_json: Json = False) -> None:
    """Take back that a touch is held, or that it is to be sent now.

    Example: ripeline planned release TOUCH
    """
    _decide(touch, "release", by, reason, as_json=as_json)


@app.command()
def send(touch: Touch, by: By = "", reason: Why = "", as_json: Json = False) -> None:
    """Send a touch without waiting for the lead's pace. Every other ground is examined again:
    refusals, caps, the kill switch, the hold-out, and quiet hours but for calls.

    Example: ripeline planned send TOUCH
    """
    _decide(touch, "send-now", by, reason, as_json=as_json)


@app.command()
def skip(touch: Touch, by: By = "", reason: Why = "", as_json: Json = False) -> None:
    """Never send a touch, and go on with the next item of its program.

    Example: ripeline planned skip TOUCH --reason "she knows it already"
    """
    _decide(touch, "skip", by, reason, as_json=as_json)


def _decide(touch: uuid.UUID, action: Action, by: str, reason: str, *, as_json: bool) -> None:
    who = by.strip() or f"{getpass.getuser()} at the command line"
    if "\0" in reason + who:
        end("a reason holds no NUL", 2)
    settings = current_settings()
    one = with_engine(
        lambda engine: planned_touches(engine, settings).decide(
            touch, action, who[:200], reason, command_line()
        )
    )
    shown = PlannedResponse.of(one)
    if as_json:
        return print(json.dumps(shown.model_dump()))
    waits = f", due {shown.due_at}" if shown.status == "due" and shown.due_at else ""
    print(f"{shown.title or shown.id}: {shown.state} ({shown.status}{waits})")
