"""The command line of `ripeline keys`."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands import keys
from services.ops.commands.keys import Made
from services.shared.db import open_engine
from services.shared.settings import Settings

T = TypeVar("T")
SPAN = re.compile(r"(\d{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Id = Annotated[
    str,
    typer.Argument(
        help="An id from `ripeline keys list`: the part of the key between its two underscores."
    ),
]


def command(current: Callable[[], Settings]) -> typer.Typer:
    """The group of commands; `current` finds the settings of the running system."""
    app = typer.Typer(
        no_args_is_help=True, help="API keys: what is changed here holds within a second."
    )

    def done(work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
        async def run() -> T:
            engine = open_engine(current())
            try:
                return await work(engine)
            finally:
                await engine.dispose()

        return asyncio.run(run())

    @app.command("new")
    def new(
        scope: Annotated[
            Literal["secret", "public", "query"], typer.Argument(help="What it opens.")
        ],
        name: Annotated[
            str,
            typer.Option(
                help="Stays the same through rotations: it is part of an event's identity."
            ),
        ] = "default",
        origins: Annotated[
            str,
            typer.Option(
                help="Comma-separated: where pages with this public key may "
                "stand, e.g. https://www.example.com"
            ),
        ] = "",
        expires: Annotated[
            datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="UTC.")
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Make a key and show it once."""
        if origins and scope != "public":
            raise typer.BadParameter(
                "only pages have an origin: use it with a public key", param_hint="--origins"
            )
        allowed = [one for one in origins.split(",") if one.strip()]
        until = expires.replace(tzinfo=UTC) if expires else None
        _show(done(lambda engine: keys.make(engine, name, scope, allowed, until)), as_json)

    @app.command("list")
    def listing(as_json: Json = False) -> None:
        """List the keys that are not revoked; the keys themselves are kept by nobody but their
        holders.
        """
        found = done(keys.listed)
        if as_json:
            return print(json.dumps(found))
        table = Table("id", "name", "scope", "origins", "created", "last used", "expires")
        for one in found:
            times = [_minute(one[name]) for name in ("created_at", "last_used_at", "expires_at")]
            table.add_row(
                one["id"],
                one["name"],
                one["scope"],
                "\n".join(one["origins"] or ["of the settings"]),
                *times,
            )
        return Console().print(table)

    @app.command("rotate")
    def rotate(
        number: Id,
        grace: Annotated[
            str, typer.Option(help="How long the old key serves on: 30m, 24h, 7d; 0s ends it now.")
        ] = "7d",
        as_json: Json = False,
    ) -> None:
        """Make another key of the same name, scope and origins; the old one expires after the grace
        period.
        """
        span = SPAN.fullmatch(grace)
        if not span:
            raise typer.BadParameter(
                "write a number and s, m, h or d, as in 24h", param_hint="--grace"
            )
        after = timedelta(**{UNITS[span[2]]: int(span[1])})
        _show(done(lambda engine: keys.rotate(engine, number, after)), as_json)

    @app.command("revoke")
    def revoke(number: Id) -> None:
        """Take a key out of force."""
        done(lambda engine: keys.revoke(engine, number))
        print(f"{number} is revoked")

    return app


def _show(made: Made, as_json: bool) -> None:
    print(json.dumps(made._asdict()) if as_json else made.key)


def _minute(time: Any) -> str:
    return str(time or "")[:16].replace("T", " ")
