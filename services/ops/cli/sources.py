"""`ripeline sources`."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.ops.cli.options import Expires, Json, in_utc
from services.ops.commands import samples, sources
from services.ops.commands.current import current_settings

Name = Annotated[str, typer.Argument(help="A name from `ripeline sources`.")]
app = typer.Typer(
    invoke_without_command=True,
    help="List who can post here, with address, set-up and when it last posted. `ripeline "
    "sources show NAME` lists the steps.",
)


@app.callback()
def list_sources(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand:
        return None
    found = asyncio.run(sources.read_all(current_settings()))
    if as_json:
        return print(json.dumps([source._asdict() for source in found]))
    table = Table("source", "address", "brings", "last heard", "accepted", "refused")
    for source in found:
        refused = f"{source.refused} ({source.last_refusal})" if source.refused else "0"
        table.add_row(
            f"[bold]{source.name}[/]\n{escape(source.title)}",
            source.address,
            f"{source.secrets} secrets" if source.signs else "an API key",
            (source.last_heard_at or "")[:16].replace("T", " ") or "waiting …",
            str(source.accepted),
            refused,
        )
    Console().print(table)
    for source in found:
        for remark in source.remarks:
            print(_remark_line(source.name, remark))
    return None


def _remark_line(source: str, remark: dict[str, Any]) -> str:
    place = " ".join(filter(None, (remark["field"], remark["text"] and f"»{remark['text']}«")))
    return f"{source}: {remark['seen']} × {place or remark['kind']}: {remark['sentence']}"


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """How to set one source up, step by step."""
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
    """List the senders' secrets in force, without the secrets themselves."""
    found = asyncio.run(sources.secrets(current_settings()))
    if as_json:
        return print(json.dumps([secret._asdict() for secret in found]))
    table = Table("id", "source", "name", "since", "until")
    for secret in found:
        table.add_row(
            secret.id, secret.source, secret.name, secret.created_at, secret.expires_at or ""
        )
    Console().print(table)


@app.command()
def disconnect(
    ids: Annotated[list[str], typer.Argument(help="Ids from `ripeline sources secrets`.")],
) -> None:
    """Take secrets back; within a second they open nothing."""
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
    """Send a signed sample through ingest and follow it into a lead; exit code 1 where it does not
    arrive.
    """
    settings = current_settings()
    result = asyncio.run(samples.send(settings, sources.named(settings, name), url))
    if as_json:
        print(json.dumps(result.as_json()))
    else:
        _print_result(result)
    raise typer.Exit(0 if result.lead else 1)


def _print_result(result: samples.Result) -> None:
    print(f"{result.source} answered {result.status}: {json.dumps(result.answer)}")
    if result.lead:
        print(
            f"it is lead {result.lead.lead}, stage {result.lead.stage}, "
            f"{result.lead.events} events, after {result.seconds} s"
        )
    elif result.status == 200:
        print(
            "it was accepted, but no lead has come of it yet: is the scorer running? See "
            "`ripeline status`."
        )
