"""`ripeline sources`."""

import asyncio
import json
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer
from rich.console import Console

from services.ops.cli.options import Expires, Json, in_utc, whole_table
from services.ops.commands import samples, sources
from services.ops.commands.current import current_address, current_settings

WIDTH = 80
Name = Annotated[str, typer.Argument(help="A name from `ripeline sources`.")]
app = typer.Typer(
    invoke_without_command=True,
    help="List who can post here, with address and when it last posted; below it what was taken "
    "otherwise than as it was written.\n\nExample: ripeline sources; ripeline sources show segment",
)


@app.callback()
def list_sources(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand:
        return None
    found = asyncio.run(sources.read_all(current_settings()))
    if as_json:
        return print(json.dumps([source._asdict() for source in found]))
    for source in found:
        print(_block(source))
    return None


def _block(source: sources.SourceStatus) -> str:
    """A source in lines of its own, so that addresses stay whole however narrow the terminal is."""
    brings = _secrets(source.secrets) if source.signs else "brings an API key"
    refused = f"{source.refused} refused"
    if source.refused and source.last_refusal:
        refused += f" (last: {source.last_refusal})"
    latest = (source.last_heard_at or "")[:16].replace("T", " ")
    came = f"last heard {latest} UTC, {source.accepted} accepted, {refused}"
    if not (latest or source.refused):
        came = "waiting for the first event"
    lines = [f"{source.name}: {source.title}", f"    {source.address}"]
    lines += wrap(f"{brings}; {came}", WIDTH, initial_indent="    ", subsequent_indent="    ")
    for remark in source.remarks:
        lines += wrap(
            _remark_line(remark), WIDTH, initial_indent="    ! ", subsequent_indent="      "
        )
    return "\n".join(lines)


def _secrets(count: int) -> str:
    if not count:
        return "no secret is connected"
    return f"{count} {'secret is' if count == 1 else 'secrets are'} connected"


def _remark_line(remark: dict[str, Any]) -> str:
    text = remark["text"] and f"»{remark['text']}«"
    place = " ".join(filter(None, (remark["field"], text)))
    return f"{remark['seen']} × {place or remark['kind']}: {remark['sentence']}"


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """How to set one source up, step by step.

    Example: ripeline sources show segment
    """
    settings = current_settings()
    sources.named(settings, name)
    found = asyncio.run(sources.read_all(settings))
    source = next(source for source in found if source.name == name)
    if as_json:
        return print(json.dumps(source._asdict()))
    print(f"{source.title}: {source.state}\n{source.address}\n")
    for number, step in enumerate(source.steps, 1):
        print(f"{number}. {step}")
    if source.snippet:
        print(f"\n{source.snippet}")


@app.command()
def connect(
    name: Name,
    secret: Annotated[
        str,
        typer.Option(
            help="What the sender shows you; without it a new one is made and shown once."
        ),
    ] = "",
    secret_file: Annotated[
        Path | None, typer.Option(help="A file that holds it.", exists=True, dir_okay=False)
    ] = None,
    account: Annotated[
        str,
        typer.Option(
            "--name", help="Distinguishes two accounts of one sender; stays through rotations."
        ),
    ] = "default",
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Give a signing sender's secret; several may be in force at once, so rotate by connecting
    the new one first.

    Example: ripeline sources connect typeform --secret …
    """
    settings = current_settings()
    source = sources.named(settings, name)
    given = secret_file.read_text().strip() if secret_file else secret
    connected = asyncio.run(sources.connect(settings, source, given, account, in_utc(expires)))
    new = {} if given else {"secret": connected.secret}
    if as_json:
        return print(json.dumps({"id": connected.id, "source": name, "name": account, **new}))
    if new:
        print(f"enter this at the sender, it is shown this once: {connected.secret}")
    print(
        f"connected as {connected.id}; `ripeline sources disconnect {connected.id}` takes it back"
    )


@app.command()
def secrets(as_json: Json = False) -> None:
    """List the senders' secrets in force, without the secrets themselves.

    Example: ripeline sources secrets
    """
    found = asyncio.run(sources.secrets(current_settings()))
    if as_json:
        return print(json.dumps([secret._asdict() for secret in found]))
    table = whole_table("id", "source", "name", "since", "until")
    for secret in found:
        table.add_row(
            secret.id, secret.source, secret.name, secret.created_at, secret.expires_at or ""
        )
    Console().print(table)


@app.command()
def disconnect(
    ids: Annotated[list[str], typer.Argument(help="Ids from `ripeline sources secrets`.")],
) -> None:
    """Take secrets back; within a second they open nothing.

    Example: ripeline sources disconnect 1a2b3c4d
    """
    print(f"{asyncio.run(sources.disconnect(current_settings(), ids))} taken back")


@app.command("test")
def send_sample(
    name: Name,
    url: Annotated[
        str,
        typer.Option(help="Where ingest is reached from here, if not at its public address."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Send a sample as this source would, signed with its connected secret, and follow it to what
    the scorer makes of it; exit code 1 where it does not arrive.

    The sample is marked as a test: no lead of it remains.

    Example: ripeline sources test segment
    """
    settings = current_settings()
    result = asyncio.run(samples.send(settings, sources.named(settings, name), url))
    if as_json:
        print(json.dumps(result.as_json() | {"system": current_address()}))
    else:
        _print_result(result)
    raise typer.Exit(0 if result.lead else 1)


def _print_result(result: samples.Result) -> None:
    print(result.note)
    print(f"{result.source} answered {result.status}: {json.dumps(result.answer)}")
    if result.lead:
        count = result.lead.events
        print(
            f"the scorer made a lead of it, stage {result.lead.stage}, {count} "
            f"{'event' if count == 1 else 'events'}, after {result.seconds} s; it was a test: no "
            "lead remains"
        )
    elif result.status == 200:
        print(
            "it was accepted, but the scorer has made nothing of it yet: is it running? See "
            "`ripeline status`."
        )
