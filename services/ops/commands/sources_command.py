"""The command line of `ripeline sources`."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.ops.commands import sources
from services.shared.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of a table.")]
Name = Annotated[str, typer.Argument(help="A name from `ripeline sources`.")]


def command(current: Callable[[], Settings]) -> typer.Typer:
    """The group of commands; `current` finds the settings of the running system."""
    app = typer.Typer(
        invoke_without_command=True,
        help="List who can post here, with address, set-up and when it last spoke. `ripeline "
        "sources show NAME` tells the steps.",
    )

    @app.callback()
    def listing(context: typer.Context, as_json: Json = False) -> None:
        if context.invoked_subcommand:
            return None
        found = asyncio.run(sources.listed(current()))
        if as_json:
            return print(json.dumps(found))
        table = Table("source", "address", "brings", "last heard", "accepted", "refused")
        for one in found:
            brings = f"{one['secrets']} secrets" if one["signs"] else "an API key"
            heard = (one["last_heard_at"] or "")[:16].replace("T", " ") or "waiting …"
            refused = f"{one['refused']} ({one['last_refusal']})" if one["refused"] else "0"
            table.add_row(
                f"[bold]{one['name']}[/]\n{escape(one['title'])}",
                one["address"],
                brings,
                heard,
                str(one["accepted"]),
                refused,
            )
        return Console().print(table)

    @app.command("show")
    def show(name: Name, as_json: Json = False) -> None:
        """How to set one source up, step by step."""
        settings = current()
        sources.named(settings, name)
        one = next(one for one in asyncio.run(sources.listed(settings)) if one["name"] == name)
        if as_json:
            return print(json.dumps(one))
        print(f"{one['title']}: {one['state']}\n{one['address']}\n")
        for number, step in enumerate(one["steps"], 1):
            print(f"{number}. {step}")
        if one["snippet"]:
            print(f"\n{one['snippet']}")

    @app.command("connect")
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
        called: Annotated[
            str,
            typer.Option(
                "--name", help="Tells two accounts of one sender apart; stays through rotations."
            ),
        ] = "default",
        expires: Annotated[
            datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="UTC.")
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Give a signing sender's secret; several may be in force at once, so rotate by connecting
        the new one first.
        """
        settings = current()
        source = sources.named(settings, name)
        given = secret_file.read_text().strip() if secret_file else secret
        until = expires.replace(tzinfo=UTC) if expires else None
        number, value = asyncio.run(sources.connect(settings, source, given, called, until))
        made = {} if given else {"secret": value}
        if as_json:
            return print(json.dumps({"id": number, "source": name, "name": called, **made}))
        if made:
            print(f"enter this at the sender, it is shown this once: {value}")
        print(f"connected as {number}; `ripeline sources disconnect {number}` takes it back")

    @app.command("secrets")
    def secrets(as_json: Json = False) -> None:
        """List the senders' secrets in force, without what they say."""
        found = asyncio.run(sources.secrets(current()))
        if as_json:
            return print(json.dumps(found))
        table = Table("id", "source", "name", "since", "until")
        for one in found:
            table.add_row(
                one["id"], one["source"], one["name"], one["created_at"], one["expires_at"] or ""
            )
        Console().print(table)

    @app.command("disconnect")
    def disconnect(
        ids: Annotated[list[str], typer.Argument(help="Ids from `ripeline sources secrets`.")],
    ) -> None:
        """Take secrets back; within a second they open nothing."""
        print(f"{asyncio.run(sources.disconnect(current(), ids))} taken back")

    @app.command("test")
    def test(
        name: Name,
        url: Annotated[
            str,
            typer.Option(help="Where ingest is reached from here, if not at its public address."),
        ] = "",
        as_json: Json = False,
    ) -> None:
        """Send a signed sample through the real door and follow it into a lead; exit code 1 where
        it does not arrive.
        """
        settings = current()
        found = asyncio.run(sources.tried(settings, sources.named(settings, name), url))
        if as_json:
            print(json.dumps(found))
        else:
            _tell(found)
        raise typer.Exit(0 if found["ok"] else 1)

    return app


def _tell(found: dict[str, Any]) -> None:
    print(f"{found['source']} answered {found['status']}: {json.dumps(found['answer'])}")
    if found["ok"]:
        print(
            f"it is lead {found['lead']}, stage {found['stage']}, {found['events']} events, "
            f"after {found['seconds']} s"
        )
    elif found["status"] == 200:
        print(
            "it was accepted, but no lead has come of it yet: is the scorer running? See "
            "`ripeline status`."
        )
