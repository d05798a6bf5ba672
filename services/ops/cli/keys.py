"""`ripeline keys`."""

import json
import re
from datetime import timedelta
from typing import Annotated, Literal

import typer
from rich.console import Console

from services.ops.cli.options import Expires, Json, in_utc, whole_table, with_engine
from services.ops.commands import keys

DURATION = re.compile(r"(\d{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

KeyId = Annotated[
    str,
    typer.Argument(
        help="An id from `ripeline keys list`: the part of the key between its two underscores."
    ),
]
app = typer.Typer(
    no_args_is_help=True, help="API keys: what is changed here holds within a second."
)


@app.command()
def new(
    scope: Annotated[Literal["secret", "public", "query"], typer.Argument(help="What it opens.")],
    name: Annotated[
        str,
        typer.Option(help="Stays the same through rotations: it is part of an event's identity."),
    ] = "default",
    origins: Annotated[
        str,
        typer.Option(
            help="Comma-separated: where pages with this public key may "
            "stand, e.g. https://www.example.com"
        ),
    ] = "",
    expires: Expires = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it once.

    Example: ripeline keys new public --name website --origins https://www.example.com
    """
    if origins and scope != "public":
        raise typer.BadParameter(
            "only pages have an origin: use it with a public key", param_hint="--origins"
        )
    allowed = [origin for origin in origins.split(",") if origin.strip()]
    made = with_engine(lambda engine: keys.make(engine, name, scope, allowed, in_utc(expires)))
    _show(made, as_json=as_json)


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the keys that are not revoked; the keys themselves are kept by nobody but their
    holders.

    Example: ripeline keys list
    """
    found = with_engine(keys.in_force)
    if as_json:
        return print(json.dumps([key._asdict() for key in found]))
    table = whole_table("id", "name", "scope", "origins", "created", "last used", "expires")
    for key in found:
        origins = "\n".join(key.origins or ["of the settings"])
        times = map(_to_the_minute, (key.created_at, key.last_used_at, key.expires_at))
        table.add_row(key.id, key.name, key.scope, origins, *times)
    return Console().print(table)


@app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[
        str, typer.Option(help="How long the old key serves on: 30m, 24h, 7d; 0s ends it now.")
    ] = "7d",
    as_json: Json = False,
) -> None:
    """Make another key of the same name, scope and origins; the old one expires after the grace
    period.

    Example: ripeline keys rotate 1a2b3c4d5e6f --grace 24h
    """
    duration = DURATION.fullmatch(grace)
    if not duration:
        raise typer.BadParameter("write a number and s, m, h or d, as in 24h", param_hint="--grace")
    after = timedelta(**{UNITS[duration[2]]: int(duration[1])})
    _show(with_engine(lambda engine: keys.rotate(engine, key_id, after)), as_json=as_json)


@app.command()
def revoke(key_id: KeyId) -> None:
    """Take a key out of force.

    Example: ripeline keys revoke 1a2b3c4d5e6f
    """
    with_engine(lambda engine: keys.revoke(engine, key_id))
    print(f"{key_id} is revoked")


def _show(key: keys.NewKey, *, as_json: bool) -> None:
    print(json.dumps(key._asdict()) if as_json else key.key)


def _to_the_minute(time: str | None) -> str:
    return (time or "")[:16].replace("T", " ")
